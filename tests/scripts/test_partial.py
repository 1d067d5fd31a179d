"""Archives that pg_restore cannot restore as a whole: carefully, as far as it goes; and only some tables."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server, identifier
from tests.matrix.site import differences
from tests.scripts.test_in_place import Make, Place, make, shell  # noqa: F401 # fixtures
from tests.scripts.unrestorable import group

CAREFUL = group("careful")
VIEW_OF_ITSELF = group("itself")["a view of itself"]
# A check of `data` that reads the table `dict`.
DICT = "CREATE TABLE dict (val text PRIMARY KEY); INSERT INTO dict VALUES ('a');"
KNOWN = (
    "CREATE FUNCTION known(p text) RETURNS boolean LANGUAGE sql STABLE AS "
    "'SELECT EXISTS (SELECT FROM dict WHERE val = p)';"
)


def plain(place: Place, dbname: str) -> list[str]:
    """A database as SQL."""
    return Place(place.pod, dbname).plain()


@pytest.fixture
def other(server: Server) -> Iterator[str]:
    """The name of a database that does not exist yet."""
    yield "other one"
    for (dbname,) in server.sql("SELECT datname FROM pg_database WHERE datname LIKE 'other one%'"):
        server.drop_database(dbname)


_SHORT = ("a check in PL/pgSQL", "partitions", "a function after a table, which reads one that takes longer to fill")
_KINDS = [kind if kind in _SHORT else pytest.param(kind, marks=pytest.mark.long) for kind in CAREFUL]


@pytest.mark.parametrize("way", ["beside", "in-place"])
@pytest.mark.parametrize("kind", _KINDS)
def test_archive_that_pg_restore_cannot_restore_is_restored_in_full(make: Make, kind: str, way: str) -> None:  # noqa: F811
    place = make(CAREFUL[kind])
    good = place.plain()
    place.sql("DROP TABLE IF EXISTS dict CASCADE")
    log = place.restore(
        superuser=way == "beside", RESTORE_WAY=way, RESTORE_KEEP="no", RESTORE_JOBS="1" if "later" in kind else "2"
    )
    assert "once more, with a search_path" in log, "pg_restore alone can restore it: this tests nothing"
    # PostgreSQL 17 cannot analyze an index over such a function, wherever it is.
    assert "warning" not in re.sub(r"warning: ANALYZE failed: .* function once\(text\) does not exist", "", log)
    assert differences(good, place.plain()) == []
    assert len(place.server.sql("SELECT 1 FROM pg_database WHERE datname ~ '_restoring_'")) == 0


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_check_that_the_rows_do_not_meet_comes_back_unvalidated(make: Make, way: str) -> None:  # noqa: F811
    place = make(
        f'{DICT} {KNOWN} CREATE TABLE data (val text CONSTRAINT "1%" CHECK (known(val)));'
        "INSERT INTO data VALUES ('a'); DELETE FROM dict"
    )
    good = place.plain()
    log = place.restore(superuser=way == "beside", RESTORE_WAY=way, RESTORE_KEEP="no")
    assert 'warning: the check "1%" of TABLE public.data is restored as NOT VALID: check constraint "1%"' in log
    changed = [line for line in differences(good, place.plain()) if "1%" in line]
    assert any("NOT VALID" in line for line in changed), changed
    assert place.sql("SELECT val FROM data") == "a\n"


def test_search_path_option_names_the_schemas_where_functions_look(make: Make) -> None:  # noqa: F811
    """One that neither the function's own schema nor public would be."""
    sql = (
        'CREATE SCHEMA "it\'s ""here"""; SET search_path = "it\'s ""here""", public;'
        f"{DICT} RESET search_path; SET check_function_bodies = off; {KNOWN}"
        "SET search_path = 'it''s \"here\"', public; CREATE TABLE public.data (val text CHECK (known(val)));"
        "INSERT INTO public.data VALUES ('a')"
    )
    place = make(sql)
    good = place.plain()
    log = place.restore(1)
    assert "remedy: a function (known) finds names only through a search_path" in log
    assert "RESTORE_SEARCH_PATH" in log
    for superuser, way in ((True, "beside"), (False, "in-place")):
        log = place.restore(
            superuser=superuser, RESTORE_WAY=way, RESTORE_KEEP="no", RESTORE_SEARCH_PATH='"it\'s ""here""", public'
        )
        assert "once more" not in log
        assert differences(good, place.plain()) == []


def test_a_check_that_reads_a_table_which_is_filled_later_is_restored_by_several_connections(make: Make) -> None:  # noqa: F811
    """One connection restores it plainly. With two, pg_restore adds the check as soon as its own table is full.

    The check waits for a table that pg_restore is filling, since pg_restore empties it first and so holds a lock.
    A partition that is chosen by the hash of an enumeration is filled through its parent, without that lock: what the
    check reads is still empty, as is any table that no connection has begun with. A column that takes seconds to work
    out makes sure of that.
    """
    sql = CAREFUL["a function after a table, which reads one that takes longer to fill"]
    for plain, slow in (
        (
            "CREATE TABLE dict (val text);",
            "CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_catalog.pg_sleep(5); RETURN $1; END';"
            "CREATE TYPE side AS ENUM ('only');"
            "CREATE TABLE dict (val text, late text GENERATED ALWAYS AS (slow(val)) STORED, side side DEFAULT 'only')"
            " PARTITION BY HASH (side);"
            "CREATE TABLE dict_0 PARTITION OF dict FOR VALUES WITH (MODULUS 1, REMAINDER 0);",
        ),
        ("INSERT INTO dict SELECT md5(n::text) FROM generate_series(1, 400000) n;", ""),
        ("LANGUAGE plpgsql AS 'DECLARE", "LANGUAGE plpgsql SET search_path = public AS 'DECLARE"),
    ):
        assert plain in sql
        sql = sql.replace(plain, slow)
    place = make(sql)
    good = place.plain()

    def is_careful(jobs: str) -> bool:
        log = place.restore(superuser=True, RESTORE_WAY="beside", RESTORE_KEEP="no", RESTORE_JOBS=jobs)
        assert differences(good, place.plain()) == []
        return "is violated by some row" in log

    assert not is_careful("1")
    assert is_careful("2"), "pg_restore alone can restore it: this tests nothing"


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_statements_of_the_archive_never_see_that_search_path(make: Make, way: str) -> None:  # noqa: F811
    """Only functions that the archive brings do: nothing in public stands in for PostgreSQL's own."""
    place = make(
        f"{DICT} {KNOWN} CREATE TABLE data (val text CHECK (known(val))); INSERT INTO data VALUES ('a');"
        "CREATE TABLE path (val text DEFAULT current_setting('search_path'), n int,"
        " CHECK (current_setting('search_path') = ''));"
        "SELECT set_config('search_path', '', false); INSERT INTO public.path VALUES (DEFAULT, 1)"
    )
    place.restore(superuser=True, RESTORE_WAY=way, RESTORE_SEARCH_PATH="public")
    assert place.sql("SELECT count(*) FROM path") == "1\n", "its check would have failed"


_TWO_FAIL = (
    f"{VIEW_OF_ITSELF} CREATE TABLE good (id int PRIMARY KEY, v text);"
    "INSERT INTO good SELECT n, 'x' FROM generate_series(1, 50) n; CREATE TABLE a_ref (id int REFERENCES good);"
    "CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int); INSERT INTO hidden.t VALUES (1);"
    "CREATE TABLE checked (id int); INSERT INTO checked VALUES (1);"
    "CREATE FUNCTION hidden.f(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n; END';"
    "CREATE INDEX failing ON hidden.t (hidden.f(id));"
    "ALTER TABLE checked ADD CONSTRAINT failing CHECK (hidden.f(id) = 1);"
    "CREATE OR REPLACE FUNCTION hidden.f(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
    " 'BEGIN RAISE ''it fails'' USING DETAIL = ''secret-detail'', HINT = ''ask the owner''; END';"
)


def test_keep_restores_all_else_and_lists_what_failed(make: Make, other: str) -> None:  # noqa: F811
    place = make(_TWO_FAIL)
    good = place.plain()
    failed = place.restore(1, superuser=True, RESTORE_WAY="auto", RESTORE_INTO=other)
    assert "RESTORE_ON_ERROR=keep" in failed
    last_words = place.pod.folder / "termination-log"
    keep = {"RESTORE_ON_ERROR": "keep", "RESTORE_TERMINATION_LOG": str(last_words)}
    log = place.restore(1, superuser=True, RESTORE_WAY="auto", RESTORE_INTO=other, **keep)
    listed = re.findall("not restored: (.*)", log)
    assert len(listed) == 3, log
    assert listed[0].startswith('VIEW public itself: ERROR:  relation "public.itself" does not exist'), listed
    assert listed[1] == "INDEX hidden failing: ERROR:  it fails (hint: ask the owner)"
    assert listed[2] == "CHECK: ERROR:  it fails"
    assert f"INCOMPLETE: '{other}' lacks what 3 entries" in log
    assert "secret" not in log
    lacking = differences(good, plain(place, other))
    assert all(line.startswith("-") or line == "+    id integer" for line in lacking), lacking
    assert {word for word in ("itself", "failing") if any(word in line for line in lacking)} == {"itself", "failing"}
    assert place.server.value("SELECT count(*) FROM good, checked", other) == "50"
    assert differences(good, place.plain()) == []
    assert "INCOMPLETE" in last_words.read_text()


def test_keep_of_an_archive_without_faults_is_a_restore_like_any_other(make: Make, other: str) -> None:  # noqa: F811
    place = make(CAREFUL["a check reads a table that is restored later"])
    good = place.plain()
    log = place.restore(superuser=True, RESTORE_WAY="auto", RESTORE_INTO=other, RESTORE_ON_ERROR="keep")
    assert "INCOMPLETE" not in log
    assert differences(good, plain(place, other)) == []


def test_keep_never_touches_a_database_that_is_there(make: Make) -> None:  # noqa: F811
    place = make(VIEW_OF_ITSELF)
    good = place.plain()
    keep = {"RESTORE_ON_ERROR": "keep"}
    assert "name a new database for it in RESTORE_INTO" in place.restore(2, superuser=True, **keep)
    assert "RESTORE_INTO" in place.restore(2, superuser=True, **keep, RESTORE_INTO=place.name)
    assert "new database" in place.restore(2, superuser=True, **keep, RESTORE_INTO="x", RESTORE_WAY="in-place")
    assert "neither stop nor keep" in place.restore(2, RESTORE_ON_ERROR="go on")
    log = place.restore(3, superuser=True, **keep, RESTORE_INTO="postgres", RESTORE_WAY="auto")
    assert "only fills a new one" in log
    assert differences(good, place.plain()) == []


def test_keep_of_a_damaged_archive_keeps_nothing(make: Make, server: Server) -> None:  # noqa: F811
    place = make(
        "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n; CREATE TABLE u AS SELECT 1 AS a"
    )
    body = place.archive.read_bytes()
    place.archive.write_bytes(body[:-2000])
    log = place.restore(1, superuser=True, RESTORE_WAY="auto", RESTORE_INTO="lost", RESTORE_ON_ERROR="keep")
    assert "INCOMPLETE" not in log
    assert server.sql("SELECT 1 FROM pg_database WHERE datname ~ 'lost'") == []


@pytest.mark.parametrize("moment", ["at once", "at the end"])
def test_keep_without_the_messages_of_pg_restore_keeps_nothing(make: Make, tmp_path: Path, moment: str) -> None:  # noqa: F811
    """Only they say what failed. What reads them is killed before it has opened anything, or when all is restored."""
    place = make(_TWO_FAIL)
    kill = "kill -KILL $$" if moment == "at once" else '/usr/bin/awk "$@" >/dev/null; kill -KILL $$'
    (tmp_path / "awk").write_text(
        f'#!/bin/sh\ncase "$1" in *"from TOC entry"*) {kill} ;; esac\nexec /usr/bin/awk "$@"\n'
    )
    (tmp_path / "awk").chmod(0o755)
    options = {"RESTORE_INTO": "unheard", "RESTORE_ON_ERROR": "keep", "RESTORE_WAY": "auto"}
    path = f"{tmp_path}:{place.pod.environment()['PATH']}"
    log = place.restore(1, superuser=True, PATH=path, **options)
    assert "FAILED: " in log
    assert "remedy: " in log
    assert place.server.sql("SELECT 1 FROM pg_database WHERE datname ~ 'unheard'") == []


@pytest.mark.parametrize("value", ['"open', "pg_catalog", "public, pg_temp", 'a"b', 'public,""'])
def test_search_path_that_is_not_a_list_of_schemas_is_a_usage_error(make: Make, value: str) -> None:  # noqa: F811
    place = make("CREATE TABLE t (id int)")
    assert "RESTORE_SEARCH_PATH" in place.restore(2, RESTORE_SEARCH_PATH=value)


NAMES = [
    "My Table",
    "a.b",
    "x,y",
    'q"q',
    "two\nlines",
    "Users",
    "users",
    "users app",
    "tab\tand\rreturn",
    "ü",
    "-",
    "TABLE DATA",
]


def named() -> str:
    """A table of each name in each schema, with one row."""
    tables = [f"{identifier(schema)}.{identifier(name)}" for schema in ("public", "S, 1", "users") for name in NAMES]
    return "".join(f"CREATE TABLE {table} (id int); INSERT INTO {table} VALUES (1);" for table in tables)


def selected(place: Place, dbname: str, **options: str) -> set[tuple[str, str]]:
    """Restore a selection; return the schema and the name of each table that has rows."""
    place.restore(superuser=True, RESTORE_WAY="auto", RESTORE_INTO=dbname, RESTORE_REPLACE="yes", **options)
    found = place.server.value(
        "SELECT json_agg(ARRAY[nspname, relname]) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname !~ '^(pg_|info)' AND (xpath('/row/c/text()', query_to_xml(format("
        "'SELECT count(*) AS c FROM %I.%I', nspname, relname), false, true, '')))[1]::text::int > 0",
        dbname,
    )
    return {(schema, name) for schema, name in json.loads(found or "[]")}


def test_any_table_can_be_named_and_no_other_one_is_taken_for_it(make: Make, other: str) -> None:  # noqa: F811
    place = make(f'CREATE SCHEMA "S, 1"; CREATE SCHEMA users; {named()}')
    for separator in (" ", ",", "\n"):
        names = separator.join(identifier(name) for name in NAMES if name != "users")
        assert selected(place, other, RESTORE_TABLES=names) == {("public", name) for name in NAMES if name != "users"}
    for name in ("Users", "-"):
        assert selected(place, other, RESTORE_TABLES=name) == {("public", name)}
        assert selected(place, other, RESTORE_TABLES=f'"S, 1".{name}') == {("S, 1", name)}
    assert selected(place, other, RESTORE_TABLES='users.a.b "S, 1"."two\nlines"') == {
        ("users", "a.b"),
        ("S, 1", "two\nlines"),
    }
    assert selected(place, other, RESTORE_SCHEMAS='"S, 1"') == {("S, 1", name) for name in NAMES}
    assert selected(place, other, RESTORE_SCHEMAS="users", RESTORE_TABLES='"q""q"') == {
        *(("users", name) for name in NAMES), ("public", 'q"q')
    }  # fmt: skip


_RELATED = """
CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1);
CREATE TABLE b (a_id int CONSTRAINT "b to a" REFERENCES a, c int CONSTRAINT own CHECK (c > 0));
COMMENT ON CONSTRAINT "b to a" ON b IS 'on a foreign key'; COMMENT ON CONSTRAINT own ON b IS 'on a check';
CREATE TABLE "part" (id int PRIMARY KEY, a_id int REFERENCES a) PARTITION BY RANGE (id);
CREATE TABLE "part one" PARTITION OF part FOR VALUES FROM (0) TO (10); CREATE TABLE part2 PARTITION OF part DEFAULT;
INSERT INTO part VALUES (1, 1); COMMENT ON CONSTRAINT part_a_id_fkey ON part IS 'of a partitioned table';
CREATE TABLE "My Users" (id int); INSERT INTO "My Users" VALUES (1); CREATE SCHEMA audit; CREATE TABLE audit.a (id int);
"""


@pytest.mark.parametrize("shell", ["busybox", "dash", "bash"], indirect=True)
def test_comments_on_foreign_keys_are_left_out_with_them(make: Make, other: str) -> None:  # noqa: F811
    place = make(_RELATED)
    assert selected(place, other, RESTORE_TABLES='"part one"') == {("public", "part one")}
    comments = place.server.sql("SELECT description FROM pg_description WHERE objoid >= 16384 ORDER BY 1", other)
    assert ["on a check"] in comments
    assert ["on a foreign key"] not in comments


@pytest.mark.parametrize(
    ("options", "error", "remedy"),
    [
        (
            {"TABLES": "part"},
            "'public.part', which is partitioned",
            'name its partitions: public."part one", public.part2',
        ),
        ({"TABLES": "my_users"}, "'public.my_users'", "name a table of the archive: "),
        ({"TABLES": '"my users"'}, "'public.\"my users\"'", 'name a table of the archive: public."My Users"$'),
        ({"TABLES": "other.a"}, "'other.a'", "name a table of the archive: audit.a, public.a"),
        ({"SCHEMAS": "Audit"}, "in schema '\"Audit\"'", "name another schema: audit$"),
    ],
)
def test_unknown_name_is_refused_with_those_that_resemble_it(
    make: Make,  # noqa: F811
    options: dict[str, str],
    error: str,
    remedy: str,
) -> None:
    place = make(_RELATED)
    wanted = {f"RESTORE_{key}": value for key, value in options.items()}
    log = place.restore(1, superuser=True, RESTORE_WAY="auto", RESTORE_INTO="nowhere", **wanted)
    (failed,) = re.findall(
        "FAILED: the archive has no rows (?:of|in schema) (.*)", log.replace("in schema", "of in schema")
    )
    assert error.removeprefix("in schema ") in failed
    assert re.search(f"remedy: {re.escape(remedy).replace(re.escape('$'), '$')}", log, re.MULTILINE), log


@pytest.mark.parametrize("value", ['"open', '"a".', "a.", '"a"b', 'x"y'])
def test_what_is_not_a_name_is_a_usage_error(make: Make, value: str) -> None:  # noqa: F811
    place = make("CREATE TABLE t (id int)")
    log = place.restore(2, RESTORE_INTO="nowhere", RESTORE_TABLES=f"t, {value} z")
    assert f"RESTORE_TABLES has something that is not a name: {value}" in log


def test_pg_restore_lists_what_an_entry_depends_on(make: Make) -> None:  # noqa: F811
    """In all majors: by this the comments on foreign keys are found."""
    place = make(_RELATED)
    done = subprocess.run(
        [str(place.server.bin / "pg_restore"), "-l", "-v", str(place.archive)],
        env={"PATH": os.defpath}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(
        r"(?m)^(\d+); .* FK CONSTRAINT public b b to a .*\n(?:;.*\n)*(?:.*\n)*?;\tdepends on: \1$", done.stdout
    )
