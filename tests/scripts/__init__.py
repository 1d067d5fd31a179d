"""The programs of the pods, with a real PostgreSQL, in the shells of the images."""
