"""docs/restore-matrix.md: written from computed cells, and read again by the tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.matrix.kind import COLUMNS, Kind
from tests.matrix.kinds import KINDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "restore-matrix.md"
Cells = Mapping[str, str]

_HEAD = """# What comes back

Each row is a kind of database, and often what has happened to it since its backup. Each column is a way to restore it.
`make matrix` makes every database on a real PostgreSQL server, backs it up with the chart's own scripts, restores it
in each way, and writes this page. {total} kinds, {cells} cells: {identical} identical, {refused} refused{others}.

* **identical**: a plain dump of the restored database has the same lines as one of the database when it was backed up:
  definitions, rows, owners, rights, comments and settings. Materialized views hold the same rows, and each role may do
  the same. Where the server writes an expression in other words after any restore, a bare `pg_restore` of the same
  archive is the measure. In place, what was there before is complete in the schemas that it was moved to, and the
  statement that the restore prints drops all of it. Beside, the old database is unchanged under its new name.
* **stays** names what is newer than the archive and belongs to an extension, or is only for a superuser to change: in
  place it is left as it was.
* **refused**: before anything changed, the restore named what PostgreSQL does not allow this role to do, or cannot do
  at all, and what to do about it. A run with `RESTORE_DRY_RUN=yes` gives the same answer. The database is as it was. A
  drill fails with the same words, before it restores anything.
{legend}
The columns: **beside** restores into a new database and then swaps both by name, **in place** restores into the
existing one. The superuser is the one of the superuser's Secret. The owner may create databases for *beside* and may
not for *in place*; what an owner restores belongs to the owner. **Into another name** is `RESTORE_INTO`, as the
superuser. A **drill** restores into a server of its own. See [restore.md](restore.md).
"""
_LEGEND = {
    "named": """* **named**: identical but for this, which the role may not bring back. The restore said so before it
  changed anything, with the statement for a superuser that brings it back; after that, the database is identical.
""",
    "wrong": "* **wrong**: known to be wrong, and how.\n",
}


def render(rows: Mapping[str, Cells]) -> str:
    """The page."""
    cells = [cell for row in rows.values() for cell in row.values()]
    count = {word: sum(cell.startswith(word) for cell in cells) for word in ("identical", "refused", *_LEGEND)}
    others = [word for word in _LEGEND if count[word]]
    text = _HEAD.format(
        total=len(rows), cells=len(cells), identical=count["identical"], refused=count["refused"],
        others="".join(f", {count[word]} {word}" for word in others), legend="".join(_LEGEND[word] for word in others),
    )  # fmt: skip
    for theme, kinds in KINDS.items():
        text += f"\n## {theme}\n\n| database | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1) + "\n"
        text += "".join(_line(kind, rows[kind.name]) for kind in kinds.values())
    return text


def _line(kind: Kind, cells: Cells) -> str:
    about = f": {kind.about}" if kind.about else ""
    return "| " + " | ".join([f"**{kind.name}**{about}", *(_escaped(cells[column]) for column in COLUMNS)]) + " |\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def read(text: str) -> dict[str, dict[str, str]]:
    """The cells of a page, by row and column."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if match := re.match(r"\| \*\*(.*?)\*\*.*? \| (.*) \|$", line):
            cells = [cell.replace("\\|", "|").replace("&lt;", "<") for cell in re.split(r"(?<!\\) \| ", match[2])]
            found[match[1]] = dict(zip(COLUMNS, cells, strict=True))
    return found
