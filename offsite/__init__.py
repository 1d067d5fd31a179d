"""Copies of the backups outside the cluster: encrypted at the source, carried by rclone, kept by the retention rule."""
