# Comments are left out here; they are in retention/rule/__init__.py of the project.
pass
