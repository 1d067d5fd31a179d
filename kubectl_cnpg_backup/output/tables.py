"""Tables, as values: what they show, and which columns stay in a narrow terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model.findings import Finding, Level
from kubectl_cnpg_backup.model.status import Database, Status
from kubectl_cnpg_backup.model.versions import Versions, lines
from kubectl_cnpg_backup.model.words import meant
from kubectl_cnpg_backup.output import jsonpath
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
"""The least width of a column of sentences."""
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        header: Its title.
        importance: In a narrow terminal, columns with the lowest number are dropped first; 0 for one that always stays.
        wraps: Whether it holds sentences, which may be broken into lines.
        right: Whether it is aligned to the right, as numbers are.
        key: Where a document for programs has its value, as a JSONPath; empty where rows cannot be sorted by it.
        wide: Whether only `-o wide` shows it.
    """

    header: str
    importance: int = 0
    wraps: bool = False
    right: bool = False
    key: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under columns; `styles` has the style of a cell by row and column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    styles: Mapping[tuple[int, int], str]

    def fitted(self, width: int) -> "Table":
        """Return the table without columns that are empty, or for which a terminal of this width has no room."""
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
        return self._only(kept)

    def narrow(self) -> "Table":
        """Return the table without the columns that only `-o wide` shows."""
        return self._only([index for index, column in enumerate(self.columns) if not column.wide])

    def _only(self, kept: Sequence[int]) -> "Table":
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


def sort_path(columns: Sequence[Column], wanted: str) -> jsonpath.Path:
    """Return by which field of the documents `--sort-by` sorts: that of a column, or a JSONPath.

    Raises:
        UsageError: When it is neither.
    """
    if wanted[:1] in (".", "[", "{", "$"):
        return jsonpath.parse_path(wanted)
    keys = {column.header.lower().replace(" ", "-"): column.key for column in columns if column.key}
    key = keys.get(wanted.lower().replace(" ", "-").replace("_", "-"))
    if key is None:
        raise UsageError(
            f"--sort-by {wanted!r} is not a column",
            f"{meant(wanted.lower(), keys)}give one of {', '.join(keys)}, or a JSONPath of an entry, such as .bytes",
        )
    return jsonpath.parse_path(key)


def make(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table with coloured results and states."""
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


def count(number: object) -> str:
    """Return a number for people; `-` for none."""
    return "-" if number is None else str(number)


def pinned(pin: object) -> str:
    """Return how a backup is pinned: `-`, `forever`, until when, or `expired`."""
    if not isinstance(pin, Mapping):
        return "-"
    if not pin.get("holds", True):
        return "expired"
    expires = pin.get("expires")
    return "forever" if expires is None else f"to {str(expires)[:16].replace('T', ' ')}Z"


def adopted_lines(entry: Mapping[str, Any]) -> list[str]:
    """Return what happened, or would happen, to the archives of a database that lack sidecar files; one line each."""
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


LIST = (
    Column("AGE", right=True, key="age_seconds"),
    Column("SIZE", importance=6, right=True, key="bytes"),
    Column("TABLES", importance=6, right=True, key="tables", wide=True),
    Column("TIER", importance=5, key="tier"),
    Column("VERIFIED", importance=3, key="verified"),
    Column("DRILLED", importance=2, key="drill.finished"),
    Column("PINNED", importance=4, key="pin.expires"),
    Column("NAME", key="name"),
    Column("SHA256", importance=1, wide=True),
    Column("WHY", importance=1, wraps=True, key="reason"),
)


TABLES = (
    Column("SIZE", right=True, key="bytes"),
    Column("ROWS", right=True, key="rows"),
    Column("TABLE", key="name"),
)


def backups(entry: Mapping[str, Any], now: datetime) -> Table:
    """Return the backups of one database, as `retention list` reports them."""
    return make(
        LIST,
        (
            (
                age(backup.get("age_seconds")),
                size(backup.get("bytes")),
                count(backup.get("tables")),
                str(backup.get("tier") or "-"),
                verified(backup),
                drilled(backup.get("drill"), now),
                pinned(backup.get("pin")),
                str(backup["name"]),
                str(backup.get("sha256") or "-"),
                str(backup.get("reason") or ""),
            )
            for backup in entry["backups"]
        ),
    )


def verified(backup: Mapping[str, Any]) -> str:
    """Return when a backup was last read in full and compared with its sha256, which publishing it does as well."""
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


STATUS = (
    Column("DATABASE", key="database"),
    Column("STATE", key="state"),
    Column("LAST SUCCESS", importance=4, right=True, key="last_success"),
    Column("RPO NOW", right=True, key="rpo_seconds"),
    Column("NEXT RUN", importance=6, right=True, key="next_run"),
    Column("BACKUPS", importance=2, right=True, key="backups"),
    Column("SIZE", importance=3, right=True, key="bytes"),
    Column("LAST DRILL", importance=5, key="last_drill.finished"),
    Column("RESTORE", importance=7, key="restore.method"),
    Column("OFFSITE", importance=8, key="offsite.newest"),
    Column("CRONJOB", importance=1, key="cronjob", wide=True),
    Column("WHY", importance=1, wraps=True, key="why"),
)


def status(found: Status, now: datetime) -> Table:
    """Return the databases of a release, one a line."""
    return make(
        STATUS,
        (
            (
                database.name,
                database.state,
                f"{since(database.last_success, now)} ago" if database.last_success else "-",
                since(database.newest, now),
                _next_run(database, now),
                count(database.backups),
                size(database.bytes),
                drilled(database.last_drill, now),
                "-" if database.restore is None else database.restore.method,
                _outside(database, now),
                "-" if database.cronjob is None else database.cronjob.name,
                database.why,
            )
            for database in found.databases
        ),
    )


def _outside(database: Database, now: datetime) -> str:
    """Return the age of the newest copy outside the cluster, and how it is verified; nothing where none are made."""
    found = database.outside
    if found is None:
        return ""
    if found.newest is None:
        return "none" if found.copies is not None else "?"
    restored = "" if found.restored is None else f", restored {format_age(now - found.restored)} ago"
    return f"{format_age(now - found.newest)} {found.verified}{restored}"


def _next_run(database: Database, now: datetime) -> str:
    if database.cronjob is not None and database.cronjob.suspended:
        return "suspended"
    return since(database.next_run, now)


def restore_lines(found: Status, clusters: Mapping[str, str]) -> list[str]:
    """Return how a restore would go, a line for each database that would not be restored beside.

    Args:
        found: The status.
        clusters: The cluster of each database.
    """
    lines = []
    for database in found.databases:
        ahead = database.restore
        if ahead is not None and (better := ahead.improvement(clusters.get(database.name, ""))):
            lines.append(f"{database.name}: {ahead.text}; {better}")
    return lines


def volume_line(found: Status) -> str:
    """Return the state of the volume, as one line."""
    volume = found.volume
    if volume is None:
        return ""
    growth = "with no growth seen so far"
    if volume.days_until_full is not None:
        growth = f"and at the current growth the volume is too small in {volume.days_until_full:.0f} days"
    free, total = size(volume.bytes - volume.used), size(volume.bytes)
    return (
        f"claim {found.release.claim}: {free} of {total} free; full tiers will use about {size(volume.full)}, {growth}"
    )


_VERSIONS = (Column("WHAT"), Column("VERSION"), Column("DETAIL", importance=1, wraps=True))


def versions(found: Versions) -> Table:
    """Return versions, one a line."""
    return make(_VERSIONS, lines(found))


_DOCTOR = (
    Column("RESULT"),
    Column("WHAT"),
    Column("FOUND", wraps=True),
    Column("REMEDY", importance=1, wraps=True),
)
_LEVELS = {Level.GOOD: GOOD, Level.UNKNOWN: QUIET, Level.CAREFUL: CAREFUL, Level.WRONG: WRONG}


def doctor(findings: Sequence[Finding]) -> Table:
    """Return findings, one a line."""
    rows = [[finding.level.value, finding.subject, finding.found, finding.remedy] for finding in findings]
    return Table(_DOCTOR, rows, {(number, 0): _LEVELS[finding.level] for number, finding in enumerate(findings)})


def remedies(findings: Iterable[Finding]) -> list[str]:
    """Return the remedy of each finding that has one, for a terminal in which their column has no room."""
    return [f"\n{finding.subject}: {finding.remedy}" for finding in findings if finding.remedy]
