"""The files of the backups on the volume, and every change to them."""
