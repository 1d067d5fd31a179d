"""What differs between two states of a database, for people."""

from collections.abc import Iterable

from kubectl_cnpg_backup.model import difference
from kubectl_cnpg_backup.model.difference import Change
from kubectl_cnpg_backup.model.row_difference import Compared
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.output.details import full_name
from kubectl_cnpg_backup.output.tables import Column, Table
from retention.text import shown

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


_ROW_COLUMNS = (Column("CHANGE"), Column("KEY", wraps=True), Column("COLUMNS", importance=1, wraps=True))


def rows(compared: Compared) -> Table:
    """Return the rows that differ, one a line."""
    every = [
        [
            one.what,
            shown(", ".join(f"{name}={'NULL' if value is None else value}" for name, value in one.key.items())),
            ", ".join(map(shown, one.columns)),
        ]
        for one in compared.rows
    ]
    styles = {(number, 0): _STYLES[one.what] for number, one in enumerate(compared.rows)}
    return Table(_ROW_COLUMNS, every, styles)


def row_counts(compared: Compared) -> str:
    """Return how many rows are the same, and how many differ."""
    counts = ", ".join(f"{number} {what}" for what, number in compared.counts.items() if number)
    left_out = compared.differ - len(compared.rows)
    more = f"; {left_out} of them are not shown, --show shows more" if left_out else ""
    return f"{compared.same} rows are the same, {counts or 'none differ'}{more}"


def row_notes(compared: Compared) -> list[str]:
    """Return which columns are not compared."""
    return [
        f"columns that only the {side} has, not compared: {', '.join(map(shown, names))}"
        for side, names in zip(("first", "second"), compared.only, strict=True)
        if names
    ]
