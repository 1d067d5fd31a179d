# Comments are left out here; they are in watch/__init__.py of the project.
pass
