"""`describe` and `tables` for people: everything that is known, nothing that is not, and names that restore takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kubectl_cnpg_backup.output import details, tables
from tests.plugin.common import NOW

NAME = "authelia-20261122-140002.dump"
DOCUMENT: dict[str, Any] = {
    "database": "authelia",
    "backup": {
        "name": NAME,
        "time": "2026-11-22T14:00:02+00:00",
        "age_seconds": 1798,
        "bytes": 5_000_000,
        "tables": 12,
        "sha256": "a" * 64,
        "tier": "Hourly",
        "reason": "newest of its slot",
        "verified": "2026-11-22T14:00:09+00:00",
        "drill": {"result": "proved", "finished": "2026-11-22T14:20:00+00:00", "restore_seconds": 3, "rows": 99},
        "pin": {"reason": "audit", "expires": None, "holds": True},
    },
    "metadata": {
        "cluster": "authelia-postgresql-cnpg",
        "namespace": "default",
        "dbname": "authelia",
        "host": "authelia-rw.default.svc",
        "role": "primary",
        "server_version": "16.10",
        "client_version": "17.2",
        "chart_version": "0.1.0",
        "database_bytes": 20_000_000,
        "rows": 99,
        "compression": "zstd:1",
        "globals": True,
        "dump_seconds": 4,
        "attempts": 2,
        "verification": {"method": "pg_restore read it in full", "seconds": 1},
        "warnings": ["tables fell to less than half"],
    },
    "files": [{"name": NAME, "bytes": 5_000_000}, {"name": "authelia-20261122-140002.json", "bytes": 900}],
    "deletion": {
        "expected": "2026-11-23T02:00:02+00:00",
        "reason": "replaced by a newer backup of its slot",
        "not_before": "2026-11-23T02:00:02+00:00",
        "assumes_run_every_seconds": 7200,
    },
    "prune_refused": None,
}


def rows(document: dict[str, Any]) -> dict[str, str]:
    return {row[0]: row[1] for row in details.described(document, NOW).rows}


def test_everything_that_is_known_is_shown() -> None:
    found = rows(DOCUMENT)
    assert found["database"] == "authelia (cluster default/authelia-postgresql-cnpg, named 'authelia' there)"
    assert found["taken"] == "2026-11-22 14:00:02Z (29m ago) in 4 s and 2 attempts"
    assert found["contents"].startswith("12 tables, 99 rows, with roles")
    assert found["versions"] == "server 16.10, pg_dump 17.2, chart 0.1.0"
    assert found["verified"] == "2026-11-22 14:00Z (pg_restore read it in full)"
    assert found["drilled"] == "proved 10m ago; restored in 3 s; 99 rows"
    assert found["pin"] == "forever (audit)"
    assert found["tier"] == "Hourly: newest of its slot"
    assert found["deleted"].startswith("about 2026-11-23 02:00:02Z (in 11h), if a run succeeds every 2h: replaced")
    assert found["warnings"] == "tables fell to less than half"
    assert "prune" not in found


def test_an_adopted_archive_of_which_little_is_known_is_described_without_guesses() -> None:
    backup = {**DOCUMENT["backup"], "drill": None, "pin": None, "tables": None}
    metadata = {"adopted": True, "dbname": "authelia", "rows": None, "dump_seconds": None, "globals": None}
    found = rows({**DOCUMENT, "backup": backup, "metadata": metadata, "deletion": None})
    assert "None" not in " ".join(found.values())
    assert found["drilled"] == "never"
    assert found["deleted"] == "never by a run: its database is not configured"
    assert found["verified"].startswith("adopted: made by someone else")
    assert found["contents"].startswith("- tables, rows were not counted;")
    assert "source" not in found
    assert rows({**DOCUMENT, "metadata": None})["tier"] == "Hourly: newest of its slot"


def test_a_backup_that_stays_says_why() -> None:
    deletion = {"expected": None, "reason": "its pin has no end", "not_before": None, "assumes_run_every_seconds": 7200}
    assert rows({**DOCUMENT, "deletion": deletion})["deleted"] == "never by a run: its pin has no end"
    deletion["not_before"] = (NOW + timedelta(days=900)).isoformat()
    assert rows({**DOCUMENT, "deletion": deletion})["deleted"].startswith("not before 2029-05-10 14:30:00Z")


def test_names_of_tables_are_those_that_restore_takes() -> None:
    for schema, name, shown in (
        ("public", "items", "public.items"),
        ("public", "Items", 'public."Items"'),
        ("My Schema", 'a"b', '"My Schema"."a""b"'),
        ("public", "ä", 'public."ä"'),
    ):
        assert details.full_name({"schema": schema, "name": name}) == shown


def test_rows_are_shown_only_where_they_were_counted() -> None:
    found = [
        {"schema": "public", "name": "items", "bytes": 2048, "entry": 7},
        {"schema": "public", "name": "parted", "bytes": 0, "entry": None},
    ]
    document = {"name": NAME, "large_objects_bytes": 0, "tables": details.with_rows(found, {})}
    assert [column.header for column in details.tables_of(document).columns] == ["SIZE", "TABLE"]
    counted = {**document, "tables": details.with_rows(found, details.read_rows("7\t1234\nodd\n8\tx\n"))}
    assert list(details.tables_of(counted).rows) == [["2.0 KiB", "1234", "public.items"], ["-", "-", "public.parted"]]
    assert tables.sort_path(tables.TABLES, "rows")
