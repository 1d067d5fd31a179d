"""Tables, as values: what is in them, and which columns stay when a terminal is narrow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from retention.text import format_age, format_size

GOOD, CAREFUL, WRONG, QUIET = "green", "yellow", "red", "dim"
_STYLES = {
    "ok": GOOD,
    "good": GOOD,
    "proved": GOOD,
    "warning": CAREFUL,
    "refused": CAREFUL,
    "late": CAREFUL,
    "running": CAREFUL,
}
_WRAPPING_WIDTH = 24
"""The fewest characters that a column of sentences gets."""
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        header: Its title.
        importance: Columns of the lowest number go first where the terminal is narrow; 0 for one that always stays.
        wraps: Whether it holds sentences, which are broken into lines.
        right: Whether it holds numbers.
    """

    header: str
    importance: int = 0
    wraps: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under columns; the style of a row's cell stands in `styles` by row and column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    styles: Mapping[tuple[int, int], str]

    def fitted(self, width: int) -> "Table":
        """Return the table without columns that are empty, or that a terminal of this width has no room for."""
        kept = [
            index
            for index, column in enumerate(self.columns)
            if not column.importance or any(row[index] for row in self.rows)
        ]
        while self._width(kept) > width:
            droppable = [index for index in kept if self.columns[index].importance]
            if not droppable:
                break
            kept.remove(min(droppable, key=lambda index: (self.columns[index].importance, -index)))
        position = {index: place for place, index in enumerate(kept)}
        return Table(
            [self.columns[index] for index in kept],
            [[row[index] for index in kept] for row in self.rows],
            {(row, position[column]): style for (row, column), style in self.styles.items() if column in position},
        )

    def _width(self, kept: Sequence[int]) -> int:
        total = _GAP * max(0, len(kept) - 1)
        for index in kept:
            longest = max((len(row[index]) for row in self.rows), default=0)
            if self.columns[index].wraps:
                longest = min(longest, _WRAPPING_WIDTH)
            total += max(longest, len(self.columns[index].header))
        return total


def make(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose verdicts are coloured."""
    lines = [list(row) for row in rows]
    styles = {}
    for number, row in enumerate(lines):
        for column, cell in enumerate(row):
            if columns[column].header in ("RESULT", "STATE"):
                styles[number, column] = _STYLES.get(cell, WRONG if cell not in ("", "-", "unknown") else QUIET)
    return Table(columns, lines, styles)


def age(seconds: object) -> str:
    """Return a number of seconds for people; `-` for none."""
    if not isinstance(seconds, (int, float)):
        return "-"
    return format_age(timedelta(seconds=seconds))


def since(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, `in …` for one to come, `-` for none."""
    return "-" if moment is None else format_age(now - moment)


def size(number: object) -> str:
    """Return a number of bytes for people; `-` for none."""
    return format_size(number) if isinstance(number, int) else "-"


def pinned(pin: object) -> str:
    """Return how a backup is pinned: `-`, `for ever`, the moment until which, or `expired`."""
    if not isinstance(pin, Mapping):
        return "-"
    if not pin.get("holds", True):
        return "expired"
    expires = pin.get("expires")
    return "for ever" if expires is None else f"to {str(expires)[:16].replace('T', ' ')}Z"


def adopted_lines(entry: Mapping[str, Any]) -> list[str]:
    """Return what became, or would become, of the archives of a database that lack sidecars; one line each."""
    lines = []
    for one in entry["archives"]:
        why = f": {one['reason']}; {one['remedy']}" if one["reason"] else ""
        lines.append(f"{one['result']} {one['name']} ({size(one['bytes'])}){why}")
    if any(one["result"] != "refused" for one in entry["archives"]):
        lines.append(f"{entry['database']}: {entry['next_prune']['told']}")
    return lines


def drilled(drill: object, now: datetime) -> str:
    """Return how the last drill of a backup ended, and how long ago; `-` when there was none."""
    if not isinstance(drill, Mapping) or not drill:
        return "-"
    result = str(drill.get("result") or "?")
    if result == "none":
        return "-"
    moment = drill.get("finished") or drill.get("at")
    try:
        ago = f" {format_age(now - datetime.fromisoformat(str(moment)))}"
    except (ValueError, TypeError):
        ago = ""
    return f"{result}{ago}"


_LIST = (
    Column("AGE", right=True),
    Column("SIZE", importance=6, right=True),
    Column("TIER", importance=5),
    Column("VERIFIED", importance=3),
    Column("DRILLED", importance=2),
    Column("PINNED", importance=4),
    Column("NAME"),
    Column("WHY", importance=1, wraps=True),
)


def backups(entry: Mapping[str, Any], now: datetime) -> Table:
    """Return the backups of one database, as `retention list` tells them."""
    return make(
        _LIST,
        (
            (
                age(backup.get("age_seconds")),
                size(backup.get("bytes")),
                str(backup.get("tier") or "-"),
                verified(backup),
                drilled(backup.get("drill"), now),
                pinned(backup.get("pin")),
                str(backup["name"]),
                str(backup.get("reason") or ""),
            )
            for backup in entry["backups"]
        ),
    )


def verified(backup: Mapping[str, Any]) -> str:
    """Return when a backup was read whole and compared with its sha256; every published one was, once at least."""
    moment = backup.get("verified")
    return str(moment)[:16].replace("T", " ") + "Z" if moment else "at publication"


_PLAN = (
    Column("ACTION"),
    Column("AGE", importance=3, right=True),
    Column("TIER", importance=2),
    Column("NAME"),
    Column("WHY", importance=1, wraps=True),
)


def plan(entry: Mapping[str, Any], ages: Mapping[str, timedelta]) -> Table:
    """Return what the next prune would do with one database's backups, newest first."""
    rows = [
        *(("keep", str(kept["tier"]), str(kept["name"]), str(kept["reason"])) for kept in entry["keep"]),
        *(("delete", "-", str(gone["name"]), str(gone["reason"])) for gone in entry["delete"]),
    ]
    rows.sort(key=lambda row: ages.get(row[2], timedelta.max))
    lines = [
        (action, format_age(ages[name]) if name in ages else "-", tier, name, why) for action, tier, name, why in rows
    ]
    styles = {(number, 0): CAREFUL for number, row in enumerate(lines) if row[0] == "delete"}
    return Table(_PLAN, [list(line) for line in lines], styles)


_CHECKED = (Column("RESULT"), Column("ARCHIVE"), Column("WHY", importance=1, wraps=True))


def checked(documents: Iterable[Mapping[str, Any]]) -> Table:
    """Return what reading archives again has found."""
    return make(
        _CHECKED,
        (
            (str(one["result"]), str(one["name"]), str(one["reason"]))
            for entry in documents
            for one in entry["archives"]
        ),
    )


_RUN = (
    Column("DATABASE"),
    Column("RESULT"),
    Column("NEWEST", importance=4),
    Column("KEPT", importance=3, right=True),
    Column("DELETED", importance=1, right=True),
    Column("SECONDS", importance=2, right=True),
    Column("WHY", wraps=True),
)


def parse_run_table(lines: Sequence[str]) -> list[list[str]]:
    """Return the rows of the table that ends a run's log; none when the log ends in something else."""
    for number in range(len(lines) - 1, -1, -1):
        starts = run_table_starts(lines[number])
        if starts:
            rows = []
            for line in lines[number + 1 :]:
                if not is_row(line, starts):
                    break
                rows.append(_cut(line, starts))
            return rows
    return []


def run_table_starts(line: str) -> list[int]:
    """Return where the columns of the table that ends a run begin, if a line is its header; nothing otherwise."""
    headers = [column.header for column in _RUN]
    return [line.index(header) for header in headers] if line.split() == headers else []


def is_row(line: str, starts: Sequence[int]) -> bool:
    """Tell whether a line has gaps where the columns begin; what follows a table has none."""
    return bool(line.strip()) and all(line[start - _GAP : start].isspace() for start in starts[1:])


def _cut(line: str, starts: Sequence[int]) -> list[str]:
    ends = [*starts[1:], len(line)]
    return [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def run(rows: Iterable[Sequence[str]]) -> Table:
    """Return the table that ends a run."""
    return make(_RUN, rows)
