"""The real operator, API server and kubelet on a node of the tests' own."""
