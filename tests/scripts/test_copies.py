"""A copy to staging: nobody sees it before its SQL files ran, and if anything fails the copy before is as it was."""
# ruff: noqa: F811

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.conftest import PASSWORD, RESTORE, Session, wait_for, wait_until
from tests.scripts.test_in_place import Place, shell  # noqa: F401 # fixture
from tests.scripts.test_swap import _WAITS, backed_up, stand_in

STAGING = "shop_staging"
ANONYMISE = "UPDATE public.people SET mail = 'someone-' || id || '@example.org';\n"


@pytest.fixture
def place(tmp_path: Path, server: Server, shell: str) -> Iterator[Place]:
    """A database with people whose addresses only its users may see."""
    people = "CREATE TABLE people AS SELECT id, 'real-' || id || '@example.com' AS mail FROM generate_series(1, 10) id"
    comment = "COMMENT ON DATABASE shop IS 'the shop itself'"
    with backed_up(tmp_path, server, shell, "shop", f"{people}; {comment}") as place:
        yield place


def files(place: Place, **contents: str) -> str:
    """A folder as a ConfigMap is mounted: links to files in a folder of another name."""
    folder = place.pod.folder / "sql"
    data = folder / "..data"
    data.mkdir(parents=True, exist_ok=True)
    for link in folder.glob("*.sql"):
        link.unlink()
    for name, content in contents.items():
        (data / f"{name}.sql").write_text(content)
        (folder / f"{name}.sql").symlink_to(f"..data/{name}.sql")
    return str(folder)


def options(sql: str, **more: str) -> dict[str, str]:
    return {
        "RESTORE_COPY": "yes", "RESTORE_WAY": "beside", "RESTORE_REPLACE": "no", "RESTORE_INTO": STAGING,
        "RESTORE_SQL": sql, **more,
    }  # fmt: skip


def copy(place: Place, sql: str, expect: int = 0, /, *, superuser: bool = True, **more: str) -> str:
    return place.restore(expect, superuser=superuser, **options(sql, **more))


def names(place: Place) -> list[str]:
    return [name for (name,) in place.server.sql("SELECT datname FROM pg_database WHERE datname ~ '^shop' ORDER BY 1")]


def mails(place: Place, dbname: str = STAGING) -> set[str]:
    return {re.sub(r"\d+", "", mail) for (mail,) in place.server.sql("SELECT mail FROM public.people", dbname)}


@pytest.mark.parametrize("superuser", [True, False])
def test_a_copy_is_made_again_and_again_and_only_the_newest_is_there(place: Place, superuser: bool) -> None:
    sql = files(
        place, a=ANONYMISE, b="CREATE TABLE public.made_by_the_owner (); DELETE FROM public.people WHERE id > 5"
    )
    for rows in (10, 20):
        log = copy(place, sql, superuser=superuser)
        assert "2 SQL files ran before anybody could connect" in log
        assert names(place) == ["shop", STAGING]
        assert mails(place) == {"someone-@example.org"}
        assert place.server.value("SELECT count(*) FROM public.people", STAGING) == "5"
        owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'made_by_the_owner'"
        assert place.server.value(owner, STAGING) == "shop"
        place.sql(f"INSERT INTO people SELECT id, 'new' FROM generate_series({rows + 1}, {rows + 10}) id")
        place.back_up()
    assert mails(place, "shop") == {"real-@example.com", "new"}, "the original"
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '%s'"
    made = r"cnpg-backup: copy of shop, shop-20260101-000000\.dump, made .*Z; the next run replaces it"
    assert re.fullmatch(made, place.server.value(comment % STAGING))
    assert place.server.value(comment % "shop") == "the shop itself"
    assert place.server.value(f"SELECT datconnlimit FROM pg_database WHERE datname = '{STAGING}'") == "-1"


FAILS = {
    "an error": (
        "SELECT 1;\n\nUPDATE public.peple SET mail = '';\n",
        'b.sql, line 3: relation "public.peple" does not exist',
    ),
    "a quote that is not closed": (
        "UPDATE public.people SET mail = 'x;\n",
        "b.sql, line 1: unterminated quoted string",
    ),
    "a comment that is not closed": (
        "/* UPDATE public.people SET mail = '';\n",
        "b.sql, line 1: unterminated /* comment",
    ),
    "a transaction that fails": ("BEGIN;\nSELECT 1/0;\nCOMMIT;\n", "b.sql, line 2: division by zero"),
    "a deferred constraint": (
        "ALTER TABLE public.people ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED;\nBEGIN;\n"
        "UPDATE public.people SET id = 1;\n",
        "b.sql: duplicate key value violates unique constraint",
    ),
    "a program of this pod": (
        "SELECT 1;\n\\! touch $HOME/was-here\n",
        "b.sql, line 2: backslash commands are restricted",
    ),
    "a program on the first line": ("\\! touch $HOME/was-here\n", "b.sql, line 1: backslash commands are restricted"),
    "errors that are ignored": ("\\set ON_ERROR_STOP off\nSELECT 1/0;\n", "b.sql, line 1: backslash commands"),
    "another lock": ("\\unrestrict x\n", "b.sql, line 1: \\unrestrict: wrong key"),
}


@pytest.mark.parametrize("what", FAILS)
def test_a_file_that_fails_leaves_the_copy_before_and_nothing_of_the_new_one(place: Place, what: str) -> None:
    copy(place, files(place, a=ANONYMISE))
    place.server.psql("UPDATE public.people SET mail = 'of staging'", STAGING)
    oid = place.server.value(f"SELECT oid FROM pg_database WHERE datname = '{STAGING}'")
    content, said = FAILS[what]
    termination_log = place.pod.folder / "termination-log"
    sql = files(place, a=ANONYMISE, b=content, c="SELECT 1")
    log = copy(place, sql, 1, RESTORE_TERMINATION_LOG=str(termination_log))
    assert f"FAILED: {said}" in log
    assert f"nothing was changed: '{STAGING}' is as it was" in log
    assert f"FAILED: {said}" in termination_log.read_text()
    assert "running c.sql" not in log
    assert names(place) == ["shop", STAGING]
    assert mails(place) == {"of staging"}
    assert place.server.value(f"SELECT oid FROM pg_database WHERE datname = '{STAGING}'") == oid
    assert not list(place.pod.folder.rglob("was-here"))


def test_work_that_a_file_has_begun_and_not_ended_is_not_lost(place: Place) -> None:
    copy(place, files(place, a=f"BEGIN;\n{ANONYMISE}"))
    assert mails(place) == {"someone-@example.org"}


def test_a_file_may_do_as_the_superuser_what_its_owner_may_not(place: Place) -> None:
    place.server.psql("CREATE TABLE secrets AS SELECT 1 AS n", place.name)
    place.back_up()
    assert "a.sql, line 1: permission denied for table secrets" in copy(
        place, files(place, a="TRUNCATE public.secrets;"), 1
    )
    copy(place, files(place, a="RESET ROLE;\nTRUNCATE public.secrets;\nVACUUM public.secrets;\n"))
    assert place.server.value("SELECT count(*) FROM public.secrets", STAGING) == "0"


@pytest.mark.parametrize("folder", ["nothing", "no sql"])
def test_files_that_are_missing_stop_the_copy(place: Place, folder: str) -> None:
    sql = files(place)
    if folder == "nothing":
        sql += "/missing"
    else:
        (place.pod.folder / "sql" / "README.md").write_text("here they will be")
    log = copy(place, sql, 1)
    assert "FAILED: there is no SQL file for this copy" in log
    assert names(place) == ["shop"]


def test_without_files_the_copy_is_as_the_original(place: Place) -> None:
    copy(place, "")
    assert mails(place) == {"real-@example.com"}


STRANGERS = {
    "someone's own": "CREATE DATABASE shop_staging; \\c shop_staging\nCREATE TABLE of_somebody ();",
    "a copy of another database": "CREATE DATABASE shop_staging; COMMENT ON DATABASE shop_staging IS"
    " 'cnpg-backup: copy of shop2, shop2-20260101-000000.dump'; \\c shop_staging\nCREATE TABLE t ();",
    "one that is closed": "CREATE DATABASE shop_staging ALLOW_CONNECTIONS false;",
}


@pytest.mark.parametrize("what", STRANGERS)
def test_only_a_copy_is_replaced(place: Place, what: str) -> None:
    place.server.psql(STRANGERS[what])
    oid = place.server.value(f"SELECT oid FROM pg_database WHERE datname = '{STAGING}'")
    log = copy(place, files(place, a=ANONYMISE), 3, RESTORE_REPLACE="yes")
    assert f"refused: database '{STAGING}'" in log
    assert place.server.value(f"SELECT oid FROM pg_database WHERE datname = '{STAGING}'") == oid
    assert names(place) == ["shop", STAGING]


def test_an_empty_database_is_taken_and_kept(place: Place) -> None:
    """Its cluster may have been made with it."""
    place.server.create_database(STAGING, owner=place.name)
    log = copy(place, files(place, a=ANONYMISE))
    assert mails(place) == {"someone-@example.org"}
    (old,) = [name for name in names(place) if "_before_" in name]
    assert f"is kept as '{old}'" in log


@pytest.mark.parametrize(
    "wrong",
    [
        {"RESTORE_INTO": "shop"}, {"RESTORE_INTO": ""}, {"RESTORE_WAY": "auto"}, {"RESTORE_COPY": "maybe"},
        {"RESTORE_TABLES": "people"}, {"RESTORE_ON_ERROR": "keep"},
    ],
    ids=str,
)  # fmt: skip
def test_a_copy_in_the_place_of_its_original_or_in_part_is_refused(place: Place, wrong: dict[str, str]) -> None:
    log = place.restore(2, superuser=True, **options(files(place, a=ANONYMISE), **wrong))
    assert "restore.sh: " in log
    assert names(place) == ["shop"]
    assert mails(place, "shop") == {"real-@example.com"}


@pytest.mark.parametrize("superuser", [True, False])
def test_nobody_connects_to_a_copy_while_its_files_run(place: Place, superuser: bool) -> None:
    server = place.server
    # Roles are the server's, not the database's: the file waits for one.
    sql = files(place, a="DO $$ BEGIN FOR n IN 1..600 LOOP PERFORM pg_sleep(0.1); EXIT WHEN EXISTS "
                "(SELECT FROM pg_roles WHERE rolname = 'shop_go'); END LOOP; END $$;\n", b=ANONYMISE)  # fmt: skip
    place.restore(2, superuser=superuser, RESTORE_JOBS="0")
    process = place.pod.start(RESTORE, **options(sql))
    try:
        query = "SELECT datname FROM pg_stat_activity WHERE query ~ 'shop_go' AND datname ~ '_restoring_'"
        wait_until(lambda: bool(server.sql(query)), "the file", 120)
        new = server.value(query)
        assert new.startswith("shop_staging_restoring_")
        asks = {"PGUSER": "backup", "PGPASSWORD": PASSWORD, "PGHOST": "localhost", "PGPORT": str(server.port)}
        done = subprocess.run(
            [server.bin / "psql", "-XAtc", "SELECT mail FROM people"],
            env={"PATH": os.defpath, **asks, "PGDATABASE": new}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert re.search("too many connections for database|permission denied for database", done.stderr), done
        assert STAGING not in names(place)
        server.psql("CREATE ROLE shop_go")
        log = wait_for(process, 120)
        assert process.returncode == 0, log
    finally:
        process.kill()
        server.psql("DROP ROLE IF EXISTS shop_go")
    assert mails(place) == {"someone-@example.org"}


def test_a_killed_copy_is_removed_by_the_next(place: Place, tmp_path: Path) -> None:
    copy(place, files(place, a=ANONYMISE))
    place.restore(2, superuser=True, RESTORE_JOBS="0")
    path = stand_in(tmp_path, place.server, "pg_restore", _WAITS)
    environment = {**options(files(place, a=ANONYMISE)), "PATH": f"{path}:{place.pod.environment()['PATH']}"}
    process = place.pod.start(RESTORE, **environment)
    wait_until((tmp_path / "filling").exists, "pg_restore")
    process.terminate()
    log = wait_for(process, 60)
    assert process.returncode == 143, log
    assert names(place) == ["shop", STAGING]
    assert mails(place) == {"someone-@example.org"}


def test_a_copy_that_cannot_be_swapped_is_dropped(place: Place) -> None:
    copy(place, files(place, a=ANONYMISE))
    place.server.psql("UPDATE public.people SET mail = 'of staging'", STAGING)
    # No session is in the way for good: the swap itself fails, since someone took the name that the old one would get.
    session = Session(place.server, STAGING)
    session.sql("SELECT 1")
    place.restore(2, superuser=False, RESTORE_JOBS="0")
    for path in (place.pod.folder / "credentials" / place.name).glob("superuser-*"):
        path.unlink()
    log = copy(place, files(place, a=ANONYMISE), 1, superuser=False, RESTORE_SWAP_TRIES="1")
    session.close()
    assert "cannot be renamed" in log
    assert names(place) == ["shop", STAGING]
    assert mails(place) == {"of staging"}
