"""All rows of the matrix."""

from __future__ import annotations

from tests.matrix import access, outside, programs, tables
from tests.matrix.kind import Kind
from tests.scripts.migrations import MIGRATIONS

LATER: frozenset[str] = frozenset(
    {
        "500 tables",
        "2500 tables",
        "an empty database",
        "an extension newer than the archive",
        "a prepared transaction",
        "type used anew (migration)",
        "partitioned since (migration)",
        "schema dropped (migration)",
        "schema renamed (migration)",
        "schema with a blank in its name (migration)",
        "schema of a long name (migration)",
        "table with line ends in its name (migration)",
        "public dropped and made again (migration)",
        "public dropped (migration)",
        "public dropped, with an extension in it (migration)",
        "public of its own owner, rights and comment (migration)",
        "rights on public, with an extension in it (migration)",
        "default privileges (migration)",
        "row type in a function, trigger (migration)",
        "row type in a function, index and check (migration)",
        "row type in a function, policy (migration)",
        "function that returns rows, view with INSTEAD OF (migration)",
        "view that groups by a key got a column (migration)",
        "view that groups by a key became materialized (migration)",
        "everything dropped (migration)",
        "kitchen sink (migration)",
        "kitchen sink, with extensions in public (migration)",
        "comment on an extension of the superuser (migration)",
        "extension dropped (migration)",
        "rights on an extension of the superuser (migration)",
        "schema of the superuser (migration)",
        "foreign server of the superuser (migration)",
        "foreign server of the owner (migration)",
        "publication of all tables (migration)",
        "row security forced (migration)",
        "circular foreign keys (migration)",
        "range types (migration)",
    }
)
"""Rows that are not on the page yet: take a name out and run `make matrix ARGS='-k …'`."""

_THEMES = {
    "Tables, types and rows": tables.KINDS,
    "Views, functions and triggers": programs.KINDS,
    "Owners, rights and policies": access.KINDS,
    "Outside of schemas, and states of the database": outside.KINDS,
    "Migrations gone wrong": [
        Kind(f"{name} (migration)", "", migration.schema, migration.superuser, since=migration.migration)
        for name, migration in MIGRATIONS.items()
    ],
}
KINDS = {theme: {kind.name: kind for kind in kinds if kind.name not in LATER} for theme, kinds in _THEMES.items()}
ALL = {name: kind for kinds in KINDS.values() for name, kind in kinds.items()}
