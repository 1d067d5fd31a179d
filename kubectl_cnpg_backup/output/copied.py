"""Copies of databases, for people."""

from collections.abc import Iterable
from datetime import datetime

from kubectl_cnpg_backup.model.copies import FAILED, MISSED, OK, Copy
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.output.tables import Column, Table

WRONG = tables.WRONG
COLUMNS = (
    Column("NAME", key="name"),
    Column("DATABASE", key="database"),
    Column("CLUSTER", importance=3, key="cluster"),
    Column("INTO", importance=4, key="into"),
    Column("STATE", key="state"),
    Column("LAST", importance=5, right=True, key="last"),
    Column("NEXT", importance=2, right=True, key="next"),
    Column("SCHEDULE", importance=1, key="schedule"),
    Column("BACKUP", key="backup", wide=True),
    Column("SQL", key="sql_config_map", wide=True),
    Column("JOB", key="job", wide=True),
)
_STYLES = {OK: tables.GOOD, FAILED: tables.WRONG, MISSED: tables.WRONG}


def table(found: Iterable[Copy], now: datetime) -> Table:
    """Return the copies, one a line."""
    every = list(found)
    rows = [
        [
            one.name,
            one.database,
            one.cluster or "its own",
            one.into or "the same",
            one.state,
            tables.since(one.last, now),
            tables.since(one.next_run, now),
            one.cronjob.schedule,
            one.backup,
            one.sql or "-",
            one.job or "-",
        ]
        for one in every
    ]
    return Table(
        COLUMNS, rows, {(number, 4): _STYLES.get(one.state, tables.CAREFUL) for number, one in enumerate(every)}
    )
