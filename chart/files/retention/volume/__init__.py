# Comments are left out here; they are in retention/volume/__init__.py of the project.
pass
