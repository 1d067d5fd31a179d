"""What differs between two states of a database, for people."""

from collections.abc import Iterable

from kubectl_cnpg_backup.model import difference
from kubectl_cnpg_backup.model.difference import Change
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.output.details import full_name
from kubectl_cnpg_backup.output.tables import Column, Table

_COLUMNS = (
    Column("CHANGE"),
    Column("TYPE"),
    Column("OBJECT", wraps=True),
    Column("ROWS BEFORE", importance=2, right=True),
    Column("ROWS AFTER", importance=3, right=True),
)
_STYLES = {
    difference.ADDED: tables.GOOD,
    difference.GONE: tables.WRONG,
    difference.CHANGED: tables.CAREFUL,
    difference.ROWS: tables.QUIET,
}


def table(changes: Iterable[Change]) -> Table:
    """Return what differs, one object a line."""
    every = list(changes)
    rows = [
        [
            one.what,
            one.type.lower(),
            _name(one),
            "" if one.rows_before is None else str(one.rows_before),
            "" if one.rows_after is None else str(one.rows_after),
        ]
        for one in every
    ]
    return Table(_COLUMNS, rows, {(number, 0): _STYLES[one.what] for number, one in enumerate(every)})


def _name(one: Change) -> str:
    if one.type == "TABLE" or (one.schema and one.type in ("VIEW", "SEQUENCE", "MATERIALIZED VIEW")):
        return full_name({"schema": one.schema, "name": one.name})
    return f"{one.schema}: {one.name}" if one.schema else one.name
