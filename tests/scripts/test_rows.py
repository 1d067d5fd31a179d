"""Rows counted in an archive while it is read, and compared with what a restore or a drill brings back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.data import fingerprint
from tests.lab.postgres import Server
from tests.scripts.conftest import PASSWORD, Pod, drop_owner
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

# Rows and names that look like what surrounds rows; a comment in the data section that looks like a COPY.
_ODDITIES = r"""
CREATE TABLE plain (t text);
INSERT INTO plain VALUES (E'\\.'), (E'\\\\.'), (E'a\n\\.\nb'), (E'COPY plain FROM stdin;'), (''),
  (E'x\nCOPY plain FROM stdin;'), (NULL), ('--'), (E'it''s "so'), (E'\r'), (E'\t');
CREATE TABLE "it's" (t text); INSERT INTO "it's" SELECT n FROM generate_series(1, 7) n;
CREATE TABLE "a""b
COPY c FROM stdin;
" (id int, "x FROM stdin;
y" int);
INSERT INTO "a""b
COPY c FROM stdin;
" VALUES (1, 2), (3, 4);
CREATE TABLE empty_one (t text);
CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
CREATE TABLE parts (id int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts SELECT generate_series(1, 15);
CREATE UNLOGGED TABLE unlogged (t text); INSERT INTO unlogged VALUES ('u');
CREATE TABLE generated (id int GENERATED ALWAYS AS IDENTITY, d int GENERATED ALWAYS AS (1) STORED);
INSERT INTO generated SELECT FROM generate_series(1, 5);
CREATE MATERIALIZED VIEW seen AS SELECT * FROM plain;
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS E'SELECT ''\nCOPY plain FROM stdin;\n''';
SELECT lo_from_bytea(4711, 'COPY plain FROM stdin;');
COMMENT ON LARGE OBJECT 4711 IS E'it''s "a\n\\.\nCOPY plain (t) FROM stdin;\nx\n';
COMMENT ON TABLE plain IS E'\nCOPY plain (t) FROM stdin;\n';
"""
_ROWS = 11 + 7 + 2 + 0 + 2 + 3 + 15 + 1 + 5


@pytest.fixture
def odd(server: Server, pod: Pod) -> Iterator[Callable[..., str]]:
    """Make a database of oddities of an owner's own, and configure it."""
    made: list[str] = []

    def make(sql: str = _ODDITIES, **conf: Any) -> str:
        name = f"n{uuid.uuid4().hex[:7]}"
        made.append(name)
        server.create_role(name, PASSWORD)
        server.create_database(name, owner=name)
        server.psql(f"SET ROLE {name}; {sql}", name)
        pod.add(name, **{"user": name, "count_rows": "true", **conf})
        return name

    yield make
    for name in made:
        drop_owner(server, name)


@pytest.fixture
def shell(request: pytest.FixtureRequest, shell_paths: dict[str, str]) -> str:
    """The pod's own shell and awk, unless a test asks for others."""
    return shell_paths[getattr(request, "param", "busybox")]


def say_rows(archive: Path, rows: int) -> None:
    """Change the number of rows in an archive's metadata."""
    path = archive.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": rows}, indent=2) + "\n")


@pytest.mark.parametrize("shell", ["busybox", "dash"], indirect=True)
def test_rows_are_counted_whatever_is_in_them_and_around_them(pod: Pod, odd: Callable[..., str]) -> None:
    name = odd()
    pod.run()
    (archive,) = pod.archives(name)
    assert pod.metadata(archive)["rows"] == _ROWS


@pytest.mark.parametrize(
    "extra", ["--load-via-partition-root", "--exclude-table-data=plain", "--quote-all-identifiers"]
)
def test_rows_are_those_of_the_archive_and_not_of_the_database(pod: Pod, odd: Callable[..., str], extra: str) -> None:
    name = odd(extra_args=[extra])
    pod.run()
    (archive,) = pod.archives(name)
    assert pod.metadata(archive)["rows"] == (_ROWS - 11 if "plain" in extra else _ROWS)


def test_rows_are_not_counted_unless_asked(pod: Pod, odd: Callable[..., str]) -> None:
    name = odd(count_rows="false")
    pod.run()
    assert pod.metadata(pod.archives(name)[0])["rows"] is None


def test_rows_that_belong_to_an_extension_do_not_count(pod: Pod, odd: Callable[..., str]) -> None:
    """A restore cannot distinguish them from those that the extension creates."""
    name = odd(
        "CREATE TABLE a (t text); INSERT INTO a VALUES ('a'); CREATE TABLE z (t text); INSERT INTO z VALUES ('z')"
    )
    pod.server.psql(
        "CREATE EXTENSION pg_trgm; CREATE TABLE k (t text); INSERT INTO k VALUES ('k'), ('k');"
        "ALTER EXTENSION pg_trgm ADD TABLE k;"
        "UPDATE pg_extension SET extconfig = ARRAY['k'::regclass], extcondition = '{\"\"}' WHERE extname = 'pg_trgm'",
        name,
    )
    pod.add(name, user="backup", count_rows="true")
    pod.run()
    assert pod.metadata(pod.archives(name)[0])["rows"] == 2


def test_archive_that_is_cut_off_fails_with_rows_wanted_too(pod: Pod, odd: Callable[..., str]) -> None:
    name = odd()
    fake = pod.folder / "fake"
    fake.mkdir()
    (fake / "pg_dump").write_text(
        f'#!/bin/sh\n{pod.server.bin}/pg_dump "$@" || exit\n'
        'while [ $# -gt 0 ] && [ "$1" != -f ]; do shift; done\n'
        '[ $# -eq 0 ] || truncate -s $(($(stat -c %s "$2") - 300)) "$2"\n'
    )
    (fake / "pg_dump").chmod(0o755)
    pod.dump(PATH=f"{fake}:{pod.environment()['PATH']}")
    assert "cannot be read back" in pod.result(name)["error"]
    assert pod.archives(name) == []
    assert pod.unpublished(name) == []


def test_counter_that_dies_costs_the_count_and_not_the_backup(pod: Pod, odd: Callable[..., str]) -> None:
    name = odd()
    fake = pod.folder / "fake"
    fake.mkdir()
    dies = "case $* in *apostrophe*) read -r _; exit 137;; esac"
    (fake / "awk").write_text(f'#!/bin/sh\n{dies}\nexec /usr/bin/awk "$@"\n')
    (fake / "awk").chmod(0o755)
    pod.dump(PATH=f"{fake}:{pod.environment()['PATH']}")
    pod.finish(expect=0)
    (archive,) = pod.archives(name)
    pod.check(archive)
    assert pod.metadata(archive)["rows"] is None


def owner(pod: Pod, name: str) -> None:
    secret = pod.folder / "credentials" / name
    (secret / "owner-username").write_text(name)
    (secret / "owner-password").write_text(PASSWORD)


def aside(pod: Pod, name: str) -> str:
    """The schema that a restore in place has set aside; another name where there is none."""
    found = pod.server.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ '^public_before_'", name)
    return found[0][0] if found else "no_such_schema"


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_restore_compares_the_rows_and_a_mismatch_leaves_all_as_it_was(
    pod: Pod, odd: Callable[..., str], way: str
) -> None:
    name = odd()
    pod.run()
    (archive,) = pod.archives(name)
    owner(pod, name)
    pod.server.psql(f"ALTER ROLE {name} CREATEDB")
    good = fingerprint(pod.server, name)
    pod.server.psql("CREATE TABLE newer (id int); INSERT INTO newer VALUES (1), (2); DELETE FROM plain", name)
    before = fingerprint(pod.server, name)
    say_rows(archive, _ROWS + 1)
    log = pod.restore(name, 1, RESTORE_REPLACE="yes", RESTORE_WAY=way)
    assert f"it has {_ROWS} rows, the archive held {_ROWS + 1} when it was made\n" in log, log
    assert before.differences(fingerprint(pod.server, name)) == []
    assert len(pod.server.sql(f"SELECT datname FROM pg_database WHERE datname LIKE '{name}%'")) == 1
    say_rows(archive, _ROWS)
    log = pod.restore(name, RESTORE_REPLACE="yes", RESTORE_WAY=way)
    assert (f", {_ROWS} rows as in the archive" in log) is (way == "beside")
    pod.server.psql(f"DROP SCHEMA IF EXISTS {aside(pod, name)} CASCADE", name)
    assert good.differences(fingerprint(pod.server, name)) == []


def test_rows_that_row_security_hides_are_not_compared(pod: Pod, odd: Callable[..., str]) -> None:
    name = odd("CREATE TABLE t (v text); INSERT INTO t VALUES ('a'), ('b')")
    pod.run()
    pod.server.psql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY", name)
    pod.add(name, user="postgres", password=SUPERUSER_PASSWORD, count_rows="true")
    pod.server.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
    pod.run()
    owner(pod, name)
    pod.server.psql(f"ALTER ROLE {name} CREATEDB")
    for way in ("beside", "in-place"):
        log = pod.restore(name, RESTORE_REPLACE="yes", RESTORE_WAY=way)
        assert pod.server.value("SELECT count(*) FROM t", name) == "2"
        assert "warning: rows are not compared: row security hides some" in log
