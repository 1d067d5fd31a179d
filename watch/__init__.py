"""The watcher: reads a release's CronJobs, Jobs and pods, and says how its backups are.

It touches neither the volume nor a database, and has no credentials of either.
"""
