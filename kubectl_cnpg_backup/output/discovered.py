"""Databases that were found, for people."""

from collections.abc import Iterable
from datetime import datetime

from kubectl_cnpg_backup.model import discover
from kubectl_cnpg_backup.model.discover import Found
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.output.tables import Column, Table

COLUMNS = (
    Column("NAMESPACE", key="namespace"),
    Column("CLUSTER", key="cluster"),
    Column("DATABASE", key="database"),
    Column("STATE", key="state"),
    Column("SIZE", importance=2, right=True, key="bytes"),
    Column("BACKED UP BY", importance=4, key="backed_up_by[0].name"),
    Column("LAST SUCCESS", importance=3, right=True, key="backed_up_by[0].last_success"),
    Column("WAL ARCHIVE", key="wal_archive", wide=True),
    Column("OWNER", key="owner", wide=True),
    Column("FOUND IN", key="found_in[0]", wide=True),
    Column("WHY", importance=1, wraps=True, key="why"),
)
_STYLES = {
    discover.BACKED_UP: tables.GOOD,
    discover.UNPROTECTED: tables.WRONG,
    discover.UNKNOWN: tables.WRONG,
    discover.SUSPENDED: tables.CAREFUL,
    discover.GONE: tables.CAREFUL,
    discover.EXCLUDED: tables.QUIET,
    discover.COPY: tables.QUIET,
}


def table(found: Iterable[Found], now: datetime) -> Table:
    """Return the databases, one a line."""
    every = list(found)
    rows = [
        [
            one.namespace,
            one.cluster,
            one.database,
            one.state,
            tables.size(one.bytes),
            ", ".join(_protector(one, by) for by in one.by) or "-",
            _last_success(one, now),
            "yes" if one.wal_archive else "no",
            one.owner or "-",
            ", ".join(one.found_in) or "-",
            one.why,
        ]
        for one in every
    ]
    return Table(COLUMNS, rows, {(number, 3): _STYLES[one.state] for number, one in enumerate(every)})


def _protector(one: Found, by: discover.Protector) -> str:
    """Return the release and its name of the database, with the namespace if that is another one."""
    where = "" if by.namespace == one.namespace else f"{by.namespace}/"
    return f"{where}{by.release}: {by.name}"


def _last_success(one: Found, now: datetime) -> str:
    moments = [by.last_success for by in one.by if by.last_success]
    return f"{tables.since(max(moments), now)} ago" if moments else "-"
