"""What tests, demo and bench share: throwaway PostgreSQL servers, their data, and a runner for the rendered pod."""
