"""What differs between two states of a database: their definitions, as pg_dump writes them, and their rows."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ADDED, GONE, CHANGED, ROWS = "added", "gone", "changed", "rows"
"""What may have become of an object; `rows` where only the number of a table's rows is another one."""

_HEADER = re.compile(
    r"^--\n-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*?); Owner: .*\n--\n",
    re.MULTILINE,
)
_BETWEEN = re.compile(
    r"^(?:SET (?:default_tablespace|default_table_access_method|SESSION AUTHORIZATION) ?.*;|\\unrestrict \w+|--|"
    r"-- PostgreSQL database dump complete)$"
)
"""Lines after an object that belong to the next one, or to the end."""

Key = tuple[str, str, str]
"""Type, schema and name of an object."""


@dataclass(frozen=True, slots=True)
class State:
    """A state of a database.

    Attributes:
        title: What it is, such as the name of an archive.
        objects: The statement of each object.
        rows: The rows of each table, by schema and name; empty where they were not counted.
    """

    title: str
    objects: Mapping[Key, str]
    rows: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Change:
    """An object that differs; `before` and `after` are its statements, empty where it does not exist."""

    what: str
    type: str
    schema: str
    name: str
    before: str = ""
    after: str = ""
    rows_before: int | None = None
    rows_after: int | None = None


def read_objects(text: str) -> dict[Key, str]:
    """Return the statement of each object in what `pg_dump --schema-only` or `pg_restore --schema-only` print."""
    found: dict[Key, str] = {}
    headers = list(_HEADER.finditer(text))
    for number, header in enumerate(headers):
        end = headers[number + 1].start() if number + 1 < len(headers) else len(text)
        lines = text[header.end() : end].strip("\n").split("\n")
        while lines and (not lines[-1] or _BETWEEN.match(lines[-1])):
            lines.pop()
        schema = "" if header["schema"] == "-" else header["schema"]
        key = (header["type"], schema, header["name"])
        statement = "\n".join(lines)
        # Comments and rights of several columns have the same key.
        found[key] = f"{found[key]}\n{statement}" if key in found else statement
    return found


def compare(before: State, after: State) -> list[Change]:
    """Return what differs, tables first."""
    changes = []
    for key in before.objects.keys() | after.objects.keys():
        kind, schema, name = key
        old, new = before.objects.get(key), after.objects.get(key)
        rows = before.rows.get((schema, name)), after.rows.get((schema, name))
        if kind != "TABLE":
            rows = None, None
        if old is None:
            what = ADDED
        elif new is None:
            what = GONE
        elif old != new:
            what = CHANGED
        elif rows[0] is not None and rows[1] is not None and rows[0] != rows[1]:
            what = ROWS
        else:
            continue
        changes.append(Change(what, kind, schema, name, old or "", new or "", *rows))
    return sorted(changes, key=lambda one: (one.type != "TABLE", one.schema, one.name, one.type))


def statement_diff(change: Change) -> list[str]:
    """Return how a definition has changed, line by line."""
    lines = difflib.unified_diff(change.before.split("\n"), change.after.split("\n"), lineterm="", n=1)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def live_query() -> str:
    """Return a script for psql that counts the rows of each table of a database, one line of JSON each."""
    return (
        "SET search_path = pg_catalog, pg_temp; SET default_transaction_read_only = on; SET lock_timeout = '10s';\n"
        "SELECT format('SELECT json_build_array(%L, %L, count(*)) FROM ONLY %I.%I', n.nspname, c.relname, n.nspname, "
        "c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND "
        "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend d WHERE "
        "d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')\n\\gexec\n"
    )


def document(before: State, after: State, changes: Iterable[Change]) -> dict[str, Any]:
    """Return the differences for programs."""
    return {
        "before": before.title,
        "after": after.title,
        "changes": [
            {
                "change": one.what,
                "type": one.type,
                "schema": one.schema,
                "name": one.name,
                "rows_before": one.rows_before,
                "rows_after": one.rows_after,
                "before": one.before or None,
                "after": one.after or None,
            }
            for one in changes
        ],
    }
