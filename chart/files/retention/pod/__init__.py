# Comments are left out here; they are in retention/pod/__init__.py of the project.
pass
