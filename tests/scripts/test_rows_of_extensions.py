"""Rows that an extension brings itself and the archive holds too: the archive's are restored, and only once."""
# ruff: noqa: F811

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.test_drill import DrillPod, open_pod
from tests.scripts.test_in_place import Make, Place, make  # noqa: F401 # a fixture
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

SCRIPTS = {
    # Row 2 is the extension's own from version 2 on; rows of another table refer to it.
    "growing--1.sql": """
      CREATE TABLE "gro w"."it's" (id int PRIMARY KEY, "a b" text, UNIQUE ("a b") INCLUDE (id));
      CREATE TABLE "gro w".part (id int REFERENCES "gro w"."it's" ON DELETE CASCADE, v text);
      INSERT INTO "gro w"."it's" VALUES (1, 'built in'); INSERT INTO "gro w".part VALUES (1, 'of 1');
      SELECT pg_catalog.pg_extension_config_dump('"gro w"."it''s"', 'WHERE id > 1');
      GRANT ALL ON ALL TABLES IN SCHEMA "gro w" TO PUBLIC;""",
    "growing--2.sql": """
      CREATE TABLE "gro w"."it's" (id int PRIMARY KEY, "a b" text, UNIQUE ("a b") INCLUDE (id));
      CREATE TABLE "gro w".part (id int REFERENCES "gro w"."it's" ON DELETE CASCADE, v text);
      INSERT INTO "gro w"."it's" VALUES (1, 'built in'), (2, 'built in, too'), (5, 'COPY x FROM stdin;');
      INSERT INTO "gro w".part VALUES (1, 'of 1'), (2, 'of 2');
      SELECT pg_catalog.pg_extension_config_dump('"gro w"."it''s"', 'WHERE id NOT IN (1, 2, 5)');
      GRANT ALL ON ALL TABLES IN SCHEMA "gro w" TO PUBLIC;""",
    "growing--1--2.sql": """
      INSERT INTO "gro w"."it's" VALUES (2, 'built in, too'), (5, 'COPY x FROM stdin;')
        ON CONFLICT (id) DO UPDATE SET "a b" = excluded."a b";
      INSERT INTO "gro w".part VALUES (2, 'of 2');
      SELECT pg_catalog.pg_extension_config_dump('"gro w"."it''s"', 'WHERE id NOT IN (1, 2, 5)');""",
    "keyless--1.sql": """
      CREATE TABLE keyless (v text); INSERT INTO keyless VALUES ('built in'), ('built in');
      SELECT pg_catalog.pg_extension_config_dump('keyless', ''); GRANT ALL ON keyless TO PUBLIC;""",
}
ROWS = """SELECT id, "a b" FROM "gro w"."it's" ORDER BY 1"""
MINE = [["1", "built in"], ["2", "mine"], ["3", "COPY x FROM stdin;"]]
"""A row of the user's has the unique value of what becomes the extension's row 5."""


@pytest.fixture(name="pod")
def drill_pod(server: Server) -> DrillPod:
    return open_pod(server)


@pytest.fixture(autouse=True)
def _extensions(server: Server) -> Iterator[None]:
    folder = Path(server.installation.run("pg_config", "--sharedir").stdout.strip()) / "extension"
    files = {
        **SCRIPTS,
        "growing.control": "default_version = '2'\nschema = 'gro w'\n",
        "keyless.control": "default_version = '1'\nschema = public\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    yield
    for name in files:
        (folder / name).unlink()


@pytest.fixture
def growing(make: Make) -> Place:
    """Backed up with version 1, in which row 2 is the user's; the server has version 2."""
    place = make(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1)",
        'CREATE SCHEMA "gro w"; GRANT USAGE ON SCHEMA "gro w" TO PUBLIC; CREATE EXTENSION growing VERSION \'1\';'
        """INSERT INTO "gro w"."it's" VALUES (2, 'mine'), (3, 'COPY x FROM stdin;')""",
    )
    assert place.server.sql(ROWS, place.name) == MINE
    return place


def part(place: Place, dbname: str = "") -> list[list[str]]:
    return place.server.sql('SELECT v FROM "gro w".part ORDER BY 1', dbname or place.name)


@pytest.mark.parametrize("into", ["", "growing elsewhere"], ids=["beside", "into another name"])
@pytest.mark.parametrize("careful", [False, True], ids=["at once", "carefully"])
def test_row_of_the_users_wins_over_one_of_a_newer_extension(growing: Place, into: str, careful: bool) -> None:
    server = growing.server
    options = {"RESTORE_SEARCH_PATH": "public"} if careful else {}
    try:
        log = growing.restore(superuser=True, RESTORE_WAY="beside", RESTORE_INTO=into, **options)
        assert "it failed" not in log
        there = into or growing.name
        assert server.value("SELECT extversion FROM pg_extension WHERE extname = 'growing'", there) == "2"
        assert server.sql(ROWS, there) == MINE
        assert part(growing, there) == [["of 1"], ["of 2"]], "a foreign key has deleted along"
        assert server.sql("SELECT id FROM t", there) == [["1"]]
    finally:
        server.psql('DROP DATABASE IF EXISTS "growing elsewhere"')


def test_row_of_the_users_wins_in_place_after_an_update_of_the_extension(growing: Place) -> None:
    growing.server.psql("""DELETE FROM "gro w"."it's" WHERE id = 3; ALTER EXTENSION growing UPDATE""", growing.name)
    log = growing.restore(superuser=True)
    assert "once more, with the archive's rows of extensions in place of those that have their keys" in log
    assert growing.server.sql(ROWS, growing.name) == MINE
    assert part(growing) == [["of 1"], ["of 2"]], "a foreign key has deleted along"
    assert growing.server.value("SHOW session_replication_role", growing.name) == "origin"


def test_owner_never_deletes_an_extensions_own_rows_along(growing: Place) -> None:
    """Only a superuser can keep the foreign key from that."""
    growing.server.psql("""DELETE FROM "gro w"."it's" WHERE id = 3; ALTER EXTENSION growing UPDATE""", growing.name)
    good = growing.plain()
    log = growing.restore(1)
    assert "remedy: a row of the archive has a key that is taken, as by a row of an extension's own" in log
    assert "nothing was changed" in log
    assert growing.plain() == good
    assert part(growing) == [["of 1"], ["of 2"]]


def test_drill_restores_them_as_a_restore_does(growing: Place, pod: DrillPod) -> None:
    name = growing.name
    ca = {"ca": True} if growing.server.ca else {"sslmode": "disable"}
    pod.add(name, user="postgres", password=SUPERUSER_PASSWORD, **ca)
    growing.archive.unlink()
    pod.run()
    (pod.folder / "config" / f"{name}.assertions").write_text(
        """SELECT array_agg("a b" ORDER BY id) = '{built in,mine,COPY x FROM stdin;}' FROM "gro w"."it's"\n"""
    )
    log = pod.drill()
    assert pod.sidecar(pod.archives(name)[-1])["result"] == "proved", log


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_rows_without_a_key_are_not_there_twice(make: Make, way: str) -> None:
    place = make(
        "CREATE TABLE t (id int)",
        "CREATE EXTENSION keyless; INSERT INTO keyless VALUES ('mine'); DELETE FROM keyless WHERE ctid = '(0,1)'",
    )
    place.restore(superuser=True, RESTORE_WAY=way)
    assert place.server.sql("SELECT v FROM keyless ORDER BY 1", place.name) == [["built in"], ["mine"]]
