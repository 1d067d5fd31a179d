"""What lies on the volume, and every change to it."""
