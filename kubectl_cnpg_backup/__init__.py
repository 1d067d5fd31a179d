"""`kubectl cnpg-backup`: the chart's backups from a terminal.

The package is thin. Every Job that it starts is made from one of the chart's CronJobs, and what it knows about the
volume comes from `python3 -m retention` in a pod of the chart's inspector.

`commands` has a module for each command; they use `model` (values in, values out), `cluster` (everything that speaks to
the API server) and `output` (tables, and the screen).
"""
