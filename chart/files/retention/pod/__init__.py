"""The Python half of each pod, a module a container, and what they read and write beside the volume."""
