"""Which backups to keep. Values in, values out: nothing here reads a disk, a clock or the environment."""
