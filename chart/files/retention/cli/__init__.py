# Comments are left out here; they are in retention/cli/__init__.py of the project.
pass
