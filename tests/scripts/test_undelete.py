"""RESTORE_UNDELETE: rows that are gone come back, all others stay as they are, and an error changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.scripts.test_in_place import Make, Place, make, shell  # noqa: F401 # fixtures

ITEMS = (
    "CREATE TABLE items (id int PRIMARY KEY, code text UNIQUE, note text);"
    "INSERT INTO items SELECT n, 'c' || n, 'old' FROM generate_series(1, 100000) n;"
)


def undelete(place: Place, table: str, expect: int = 0, /, **environment: str) -> str:
    options = {"RESTORE_REPLACE": "no", "RESTORE_WAY": "auto", "RESTORE_UNDELETE": table, **environment}
    # The superuser's Secret is there, and must not be used: the table's triggers would run as the superuser.
    return place.restore(expect, superuser=True, **options)


def state(place: Place, table: str = "items") -> str:
    return place.sql(f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t")


@pytest.mark.sample(1)
def test_rows_that_are_gone_come_back_and_conflicts_are_left_out_and_counted(make: Make) -> None:  # noqa: F811
    place = make(ITEMS)
    before = state(place)
    place.sql(
        "DELETE FROM items WHERE id <= 1000; UPDATE items SET note = 'new' WHERE id IN (2000, 2001);"
        "INSERT INTO items SELECT n + 200000, 'c' || n, 'takes its code' FROM generate_series(1, 10) n"
    )
    changed = state(place)
    log = undelete(place, "items", RESTORE_DRY_RUN="yes")
    assert state(place) == changed, "a dry run changes nothing"
    for line in (
        'the archive has 100000 rows of "public"."items"; 1000 of them are gone from the table',
        "2 rows have changed since; would be left as they are",
        "10 rows conflict with another unique constraint, or a trigger kept them out; would be left out",
        "990 rows would be copied back",
        "nothing was changed, because RESTORE_DRY_RUN=yes",
    ):
        assert line in log, log
    log = undelete(place, "items")
    assert "990 rows copied back" in log
    assert place.sql("SELECT count(*) FROM items WHERE id <= 1000") == "990\n"
    assert place.sql("SELECT string_agg(note, ' ') FROM items WHERE id IN (2000, 2001)") == "new new\n"
    place.sql("DELETE FROM items WHERE id > 200000; UPDATE items SET note = 'old'")
    undelete(place, "items")
    assert state(place) == before
    assert "0 of them are gone" in undelete(place, "items"), "a second time copies nothing twice"


def test_a_condition_says_which_rows(make: Make) -> None:  # noqa: F811
    place = make(ITEMS)
    place.sql("DELETE FROM items WHERE id <= 100")
    log = undelete(place, "items", RESTORE_WHERE="id % 2 = 0 AND note ~ '^\\w+$' AND code LIKE 'c%'", RESTORE_SHOW="2")
    assert "50000 of them meet the condition; 50 of them are gone" in log
    assert "50 rows copied back" in log
    assert re.findall(r"gone: (.*)", log) == ["(10)", "(100)"]
    assert "gone: " not in undelete(place, "items", RESTORE_DRY_RUN="yes"), "logs hold no data unless you ask for them"
    for wrong in ("true; DROP TABLE items", "true) IS NULL; COMMIT; --", "id = 1\nOR true"):
        assert "one condition" in undelete(place, "items", 2, RESTORE_WHERE=wrong)
    error = undelete(place, "items", 1, RESTORE_WHERE="nothing = 1")
    assert 'column "nothing" does not exist' in error
    assert "nothing was changed" in error


ODD = '"Odd; ""schema"""."T able"'


def test_every_kind_of_column_and_name_comes_back(make: Make) -> None:  # noqa: F811
    place = make(
        f'CREATE SCHEMA "Odd; ""schema"""; CREATE TABLE {ODD} ("K, 1" text, "k""2" int,'
        "id int GENERATED ALWAYS AS IDENTITY,"
        'twice int GENERATED ALWAYS AS ("k""2" * 2) STORED NOT NULL, j json, a int[], t timestamptz, '
        'PRIMARY KEY ("K, 1", "k""2"));'
        f"INSERT INTO {ODD} (\"K, 1\", \"k\"\"2\", j, a, t) VALUES (E'tab\\tline\\nend\\\\.', 1, '{{}}', '{{1,2}}',"
        "now()),"
        "('it''s', 2, 'null', NULL, NULL), ('', 3, NULL, '{}', 'infinity')"
    )
    before = state(place, ODD)
    place.sql(f"DELETE FROM {ODD}; ALTER TABLE {ODD} ADD COLUMN late int DEFAULT 7")
    undelete(place, ODD)
    assert place.sql(f"SELECT DISTINCT late FROM {ODD}") == "7\n"
    place.sql(f"ALTER TABLE {ODD} DROP COLUMN late")
    assert state(place, ODD) == before


def test_a_row_is_the_same_by_the_columns_of_a_key(make: Make) -> None:  # noqa: F811
    place = make(
        "CREATE TABLE plain (a int NOT NULL, b int NOT NULL, c int, UNIQUE (b, a));"
        "INSERT INTO plain SELECT n, n, n FROM generate_series(1, 9) n;"
        "CREATE TABLE none (a int); INSERT INTO none VALUES (1)"
    )
    place.sql("DELETE FROM plain WHERE a < 4")
    assert "has no primary key" in undelete(place, "plain", 1)
    assert "has no unique constraint on exactly the columns" in undelete(place, "plain", 1, RESTORE_KEY="a")
    assert "has no primary key" in undelete(place, "none", 1)
    assert "3 rows copied back" in undelete(place, "plain", RESTORE_KEY="a, b")


def test_an_error_changes_nothing(make: Make) -> None:  # noqa: F811
    place = make(
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (2);"
        "CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO child VALUES (1, 1), (2, 2)"
    )
    place.sql("DELETE FROM child; DELETE FROM parent WHERE id = 2")
    for dry in ("yes", "no"):
        log = undelete(place, "child", 1, RESTORE_DRY_RUN=dry)
        assert "violates foreign key constraint" in log
        assert "nothing was changed" in log
        assert place.sql("SELECT count(*) FROM child") == "0\n"
    undelete(place, "parent")
    undelete(place, "child")
    assert place.sql("SELECT count(*) FROM child") == "2\n"


def test_an_archive_that_ends_early_changes_nothing(make: Make) -> None:  # noqa: F811
    place = make(
        "CREATE TABLE items (id int PRIMARY KEY, v text);"
        "INSERT INTO items SELECT n, md5(n::text) FROM generate_series(1, 90000) n"
    )
    place.sql("DELETE FROM items")
    place.archive.write_bytes(place.archive.read_bytes()[:-400000])
    assert ".dump cannot be read: " in undelete(place, "items", 1)
    assert place.sql("SELECT count(*) FROM items") == "0\n"


def test_triggers_run_as_the_owner_and_row_security_hides_nothing(make: Make) -> None:  # noqa: F811
    place = make(
        "CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1), (2);"
        "CREATE TABLE seen (who text, super bool);"
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO public.seen SELECT session_user, rolsuper FROM pg_roles WHERE rolname = session_user;"
        "RETURN CASE WHEN NEW.id = 2 THEN NULL ELSE NEW END; END $$;"
        "CREATE TRIGGER look BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION look()"
    )
    place.sql("DELETE FROM items")
    log = undelete(place, "items")
    assert "1 rows conflict with another unique constraint, or a trigger kept them out" in log
    assert place.sql("SELECT DISTINCT super FROM seen") == "f\n"
    assert place.sql("SELECT DISTINCT who FROM seen") == f"{place.name}\n"
    place.sql(
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY few ON items USING (id > 1)"
    )
    log = undelete(place, "items", 1)
    assert "row-level security" in log, "a row that is only hidden is not gone"


def test_what_cannot_be_done_is_said_before(make: Make) -> None:  # noqa: F811
    place = make(
        "CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1);"
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);"
        "INSERT INTO p VALUES (1), (2)"
    )
    assert "the archive has no rows of 'public.itms'" in undelete(place, "itms", 1)
    place.sql("DELETE FROM p WHERE id = 1")
    assert "1 rows copied back" in undelete(place, "p1")
    assert "leave out RESTORE_INTO" in undelete(place, "items", 2, RESTORE_INTO="other")
    place.sql("DROP TABLE items")
    assert "has no table" in undelete(place, "items", 1)


PARTITIONED = (
    "CREATE TABLE m (at date, id int, v text, UNIQUE (at, v), PRIMARY KEY (at, id)) PARTITION BY RANGE (at);"
    "CREATE TABLE m_1 (v text, id int NOT NULL, at date NOT NULL);"
    "ALTER TABLE m ATTACH PARTITION m_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');"
    'CREATE SCHEMA "Old ""ones"""; CREATE TABLE "Old ""ones"""."m 2" PARTITION OF m FOR VALUES '
    "FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY RANGE (at);"
    'CREATE TABLE m_2a PARTITION OF "Old ""ones"""."m 2" DEFAULT;'
    "CREATE TABLE m_3 PARTITION OF m FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');"
    "INSERT INTO m SELECT d, n, 'COPY ' || n || E'\\n\\\\.' FROM generate_series(1, 100) n, "
    "unnest('{2026-01-10,2026-02-10}'::date[]) d;"
)


def test_rows_of_all_partitions_come_back_into_the_table(make: Make) -> None:  # noqa: F811
    place = make(PARTITIONED)
    before = state(place, "m")
    place.sql(
        "DELETE FROM m WHERE id <= 30; UPDATE m SET v = 'new' WHERE id = 50;"
        "INSERT INTO m SELECT '2026-02-10', 1000 + n, 'COPY ' || n || E'\\n\\\\.' FROM generate_series(1, 10) n"
    )
    changed = state(place, "m")
    log = undelete(place, "m", RESTORE_DRY_RUN="yes")
    assert 'the archive has 200 rows of "public"."m"; 60 of them are gone from the table' in log
    assert state(place, "m") == changed
    log = undelete(place, "m")
    assert "2 rows have changed since" in log
    assert "10 rows conflict with another unique constraint" in log
    assert "50 rows copied back" in log
    place.sql("DELETE FROM m WHERE id > 1000 OR v = 'new'")
    undelete(place, "m")
    assert state(place, "m") == before
    place.sql("DELETE FROM m WHERE id <= 30")
    assert "30 rows copied back" in undelete(place, '"Old ""ones"""."m 2"'), "a partition that is partitioned"


def test_no_partition_of_a_partition_is_left_out_by_late_removals(make: Make, tmp_path: Path) -> None:  # noqa: F811
    place = make(PARTITIONED)
    place.sql("DELETE FROM m WHERE id <= 30")
    folder = tmp_path / "late"
    folder.mkdir()
    # As on a busy machine: a file is removed a little later, and another one is read a little later still.
    late = {
        "rm": 'case "$*" in *list.sql*) sleep 0.2 ;; esac; exec /bin/rm "$@"',
        "pg_restore": f'{place.server.bin}/pg_restore "$@" || exit; case "$*" in *list.sql*) sleep 0.6 ;; esac',
    }
    for program, script in late.items():
        (folder / program).write_text(f"#!/bin/sh\n{script}\n")
        (folder / program).chmod(0o755)
    log = undelete(place, "m", PATH=f"{folder}:{place.pod.environment()['PATH']}")
    assert "60 rows copied back" in log


def test_a_partition_that_is_gone_is_said_and_nothing_is_copied(make: Make) -> None:  # noqa: F811
    place = make(PARTITIONED)
    place.sql("DROP TABLE m_1; DELETE FROM m WHERE id = 7")
    log = undelete(place, "m", 1)
    assert "no partition of relation" in log
    assert "create a partition for these rows first, or leave them out with a condition" in log
    assert place.sql("SELECT count(*) FROM m") == "99\n"
    assert "1 rows copied back" in undelete(place, "m", RESTORE_WHERE="at > '2026-02-01'")


def test_a_table_that_was_partitioned_since_gets_its_rows_back(make: Make) -> None:  # noqa: F811
    place = make("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, n FROM generate_series(1, 9) n")
    place.sql(
        "ALTER TABLE t RENAME TO plain; ALTER TABLE plain RENAME CONSTRAINT t_pkey TO plain_pkey;"
        "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);"
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (1) TO (100); INSERT INTO t SELECT * FROM plain WHERE id > 4"
    )
    log = undelete(place, "t")
    assert "4 of them are gone from the table" in log
    assert "4 rows copied back" in log
