"""The Python steps of the pods, a module each, and the files that they read and write outside the volume."""
