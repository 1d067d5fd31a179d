"""The destination, reached through rclone: `rclone rcd` on a unix socket, in a container of its own.

rclone carries bytes and holds the credentials. It decides nothing: what it says is compared with what was meant.
"""
