"""Which rows of a table differ between two states of a database, by what pg_dump and pg_restore print of it.

Of each row its key and a digest of every column are kept. So what differs is shown by key and column, without values.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubectl_cnpg_backup.errors import NotFoundError, PluginError, UsageError
from kubectl_cnpg_backup.model.difference import ADDED, CHANGED, GONE, Key, State
from kubectl_cnpg_backup.model.words import meant

MOST = 2_000_000
"""Rows of one side that are compared at most: their keys and digests are held in memory."""

_DIGEST = 6
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\s"(),.;]+)'
_NAME = re.compile(rf"({_IDENTIFIER})(?:\.({_IDENTIFIER}))?")
_COPY = re.compile(rf"COPY ({_IDENTIFIER})\.({_IDENTIFIER}) (?:\((.*)\))? ?FROM stdin;")
_ATTACH = re.compile(
    rf"ALTER TABLE ONLY ({_IDENTIFIER})\.({_IDENTIFIER}) ATTACH PARTITION ({_IDENTIFIER})\.({_IDENTIFIER}) "
)
_PRIMARY = re.compile(rf"PRIMARY KEY \(((?:{_IDENTIFIER}|[\s,])+)\)")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

Table = tuple[str, str]
"""Schema and name."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs.

    Attributes:
        what: added, gone or changed.
        key: The value of each column of the key; None for NULL.
        columns: The columns that differ, of a changed row.
    """

    what: str
    key: Mapping[str, str | None]
    columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """What differs between the rows of a table.

    Attributes:
        same: How many rows are the same.
        counts: How many rows are added, gone and changed.
        rows: The first of them, by key.
        only: The columns that only one state has, which are not compared: those of before, those of after.
    """

    same: int
    counts: Mapping[str, int]
    rows: Sequence[Difference]
    only: tuple[Sequence[str], Sequence[str]]

    @property
    def differ(self) -> int:
        """How many rows differ."""
        return sum(self.counts.values())


@dataclass
class Rows:
    """The rows of a table, or of its partitions, as they are printed.

    Attributes:
        title: Whose they are, for messages.
        tables: The tables whose rows count.
        key: The columns by which a row is the same one.
    """

    title: str
    tables: frozenset[Table]
    key: Sequence[str]
    columns: Sequence[str] = ()
    found: dict[bytes, bytes] = field(default_factory=dict)
    _rest: bytes = b""
    _places: Sequence[int] | None = None
    _order: Sequence[int] = ()

    def feed(self, chunk: bytes) -> None:
        """Read what has arrived.

        Raises:
            PluginError: When the rows cannot be compared.
        """
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        if self._places is None:
            if line.startswith(b"COPY "):
                self._begin(line.decode(errors="replace"))
            return
        if line == b"\\.":
            self._places = None
            return
        if not self._order:
            return
        fields = line.split(b"\t")
        key = b"\t".join([fields[place] for place in self._places])
        if key in self.found:
            raise PluginError(
                f"{self.title}: several rows of the table have the key {self.shown(key)}",
                "name other columns with --key",
            )
        if len(self.found) >= MOST:
            raise PluginError(
                f"{self.title}: the table has more than {MOST} rows, and no more are compared",
                "compare its partitions one by one, or `open` the backup and compare there",
            )
        self.found[key] = b"".join(hashlib.blake2b(fields[n], digest_size=_DIGEST).digest() for n in self._order)

    def _begin(self, line: str) -> None:
        match = _COPY.fullmatch(line)
        self._places, self._order = (), ()
        if match is None or (unquoted(match[1]), unquoted(match[2])) not in self.tables:
            return
        columns = [unquoted(name) for name in re.findall(_IDENTIFIER, match[3] or "")]
        missing = [name for name in self.key if name not in columns]
        if missing:
            raise UsageError(
                f"{self.title}: the table has no column {missing[0]!r}",
                f"{meant(missing[0], columns)}its columns: {', '.join(columns)}",
            )
        # Partitions may have their columns in another order.
        self.columns = self.columns or columns
        if set(columns) != set(self.columns):
            raise PluginError(f"{self.title}: the partitions have different columns", "compare them one by one")
        self._places = [columns.index(name) for name in self.key]
        self._order = [columns.index(name) for name in self.columns]

    def shown(self, key: bytes) -> str:
        """Return a key for people."""
        return ", ".join(f"{name}={'NULL' if value is None else value}" for name, value in self.read(key).items())

    def read(self, key: bytes) -> dict[str, str | None]:
        """Return the value of each column of a key."""
        return dict(zip(self.key, map(_value, key.split(b"\t")), strict=True))


def _value(text: bytes) -> str | None:
    if text == b"\\N":
        return None
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text.decode(errors="replace"))


def unquoted(name: str) -> str:
    """Return the name that an identifier of SQL stands for; without quotes it counts as it is."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def quoted(table: Table) -> str:
    """Return a table as SQL, and as a pattern of pg_dump that means this one alone."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in table)


def table_named(text: str, states: Iterable[State]) -> Table:
    """Return the table that a name means.

    Raises:
        UsageError: When it is not a name, or means several tables.
        NotFoundError: When there is none.
    """
    match = _NAME.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--table {text!r} is not the name of a table", 'name it as in SQL: items, "My Table", audit.log'
        )
    parts = [unquoted(part) for part in match.groups() if part]
    there = {key[1:] for state in states for key in state.objects if key[0] == "TABLE"}
    found = sorted(table for table in there if list(table[-len(parts) :]) == parts)
    if len(found) > 1:
        raise UsageError(
            f"--table {text!r} means several tables",
            f"name one: {', '.join(f'{schema}.{name}' for schema, name in found)}",
        )
    if not found:
        names = sorted(f"{schema}.{name}" for schema, name in there)
        wanted = ".".join(parts) if len(parts) > 1 else f"public.{parts[0]}"
        raise NotFoundError(f"there is no table {text}", f"{meant(wanted, names)}`tables` lists those of a backup")
    return found[0]


def leaves(table: Table, objects: Mapping[Key, str]) -> frozenset[Table]:
    """Return the tables that hold the rows of a table: itself, or its partitions down to the last."""
    children: dict[Table, list[Table]] = {}
    for (kind, _, _), statement in objects.items():
        match = _ATTACH.match(statement) if kind == "TABLE ATTACH" else None
        if match is not None:
            names = [unquoted(part) for part in match.groups()]
            children.setdefault((names[0], names[1]), []).append((names[2], names[3]))

    def below(one: Table) -> Iterator[Table]:
        if one not in children:
            yield one
        for child in children.get(one, ()):
            yield from below(child)

    return frozenset(below(table))


def key_of(table: Table, wanted: str, states: Iterable[State]) -> list[str]:
    """Return the columns by which a row is the same one: those that were named, or the primary key.

    Raises:
        UsageError: When none are named, and the table has no primary key.
    """
    if wanted:
        return [unquoted(name) for name in re.findall(_IDENTIFIER, wanted)]
    for state in states:
        for (kind, schema, name), statement in state.objects.items():
            primary = _PRIMARY.search(statement) if kind == "CONSTRAINT" else None
            if primary is not None and schema == table[0] and name.startswith(f"{table[1]} "):
                return [unquoted(column) for column in re.findall(_IDENTIFIER, primary[1])]
    raise UsageError(
        f"table {table[0]}.{table[1]} has no primary key, so it is not known which rows are the same ones",
        "name the columns that make a row the same one with --key",
    )


def compare(before: Rows, after: Rows, most: int) -> Compared:
    """Return what differs.

    Args:
        before: The rows of the first state.
        after: Those of the second.
        most: How many of the rows that differ are returned.
    """
    # A state whose table has no rows has no columns either.
    common = [name for name in before.columns or after.columns if name in (after.columns or before.columns)]
    places = [_places(rows.columns, common) for rows in (before, after)]
    counts, differing = {ADDED: 0, GONE: 0, CHANGED: 0}, []
    for key, old in before.found.items():
        new = after.found.get(key)
        if new is None:
            counts[GONE] += 1
            differing.append((key, GONE))
        elif (old != new or before.columns != after.columns) and _picked(old, places[0]) != _picked(new, places[1]):
            counts[CHANGED] += 1
            differing.append((key, CHANGED))
    for key in after.found.keys() - before.found.keys():
        counts[ADDED] += 1
        differing.append((key, ADDED))
    rows = []
    for key, what in sorted(differing, key=lambda one: _sortable(one[0]))[:most]:
        columns: list[str] = []
        if what == CHANGED:
            pairs = zip(_picked(before.found[key], places[0]), _picked(after.found[key], places[1]), strict=True)
            columns = [name for name, (old_one, new_one) in zip(common, pairs, strict=True) if old_one != new_one]
        rows.append(Difference(what, before.read(key), columns))
    only = [[name for name in own.columns if name not in common] for own in (before, after)]
    same = len(before.found) - counts[GONE] - counts[CHANGED]
    return Compared(same, counts, rows, (only[0], only[1]))


def _places(columns: Sequence[str], common: Sequence[str]) -> list[int]:
    return [columns.index(name) * _DIGEST for name in common] if columns else []


def _picked(digests: bytes, places: Sequence[int]) -> list[bytes]:
    return [digests[place : place + _DIGEST] for place in places]


def _sortable(key: bytes) -> list[tuple[int, float, bytes]]:
    """Numbers by size, before texts."""
    return [
        (0, float(part), part) if re.fullmatch(rb"-?\d{1,15}(\.\d+)?", part) else (1, 0.0, part)
        for part in key.split(b"\t")
    ]


def document(before: State, after: State, table: Table, key: Sequence[str], found: Compared) -> dict[str, Any]:
    """Return the difference for programs."""
    return {
        "before": before.title,
        "after": after.title,
        "schema": table[0],
        "table": table[1],
        "key": list(key),
        "same": found.same,
        **found.counts,
        "columns_only_before": list(found.only[0]),
        "columns_only_after": list(found.only[1]),
        "rows": [{"change": one.what, "key": dict(one.key), "columns": list(one.columns)} for one in found.rows],
        "left_out": found.differ - len(found.rows),
    }
