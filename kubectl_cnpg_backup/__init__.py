"""`kubectl cnpg-backup`: what people do with the chart's backups, from a terminal.

The package is thin. Every Job that it starts is made from one of the chart's CronJobs, and what it knows of the volume
`python3 -m retention` tells it in a pod of the chart's inspector.

Two halves: pure modules that turn values into values (`release`, `schedule`, `jobs`, `standing`, `doctor`, `tables`),
and the edge, which alone speaks to the cluster (`cluster`, `follow`, `inspector`, `download`, `commands`).
"""
