"""All rows of the matrix."""

from __future__ import annotations

from tests.matrix import access, outside, programs, tables
from tests.matrix.kind import Kind
from tests.scripts.migrations import MIGRATIONS

_THEMES = {
    "Tables, types and rows": tables.KINDS,
    "Views, functions and triggers": programs.KINDS,
    "Owners, rights and policies": access.KINDS,
    "Outside of schemas, and states of the database": outside.KINDS,
    "Migrations gone wrong": [
        Kind(
            f"{name} (migration)",
            "",
            migration.schema,
            migration.superuser,
            since=migration.migration,
            # Row security that is forced hides rows from the owner's own dump.
            dumped_by="superuser" if "FORCE ROW LEVEL SECURITY" in migration.schema else "owner",
        )
        for name, migration in MIGRATIONS.items()
    ],
}
KINDS = {theme: {kind.name: kind for kind in kinds} for theme, kinds in _THEMES.items()}
ALL = {name: kind for kinds in KINDS.values() for name, kind in kinds.items()}
