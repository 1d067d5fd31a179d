"""What has become of an extension since the backup: restored as it was, or refused before anything changes, by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.apps import App, Kind, Make, debian_pod, debian_server, differences, make_app

__all__ = ["debian_pod", "debian_server", "make_app"]

CONFIGURED = Kind(
    "CREATE EXTENSION growing; INSERT INTO growing.job (v) VALUES ('mine')",
    "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1)",
)


@pytest.fixture(autouse=True, scope="module")
def _growing(server: Server) -> None:
    """An extension with rows of its own and the user's, whose second version has a column more."""
    folder = Path(server.installation.run("pg_config", "--sharedir").stdout.strip()) / "extension"
    (folder / "growing.control").write_text("default_version = '2'\nschema = growing\n")
    (folder / "growing--1.sql").write_text(
        "CREATE TABLE growing.job (id serial PRIMARY KEY, v text); GRANT SELECT ON growing.job TO PUBLIC;"
        "INSERT INTO growing.job (v) VALUES ('built in');"
        "SELECT pg_catalog.pg_extension_config_dump('growing.job', E'WHERE id > 1\\n  -- not the built-in one\\n');"
        "SELECT pg_catalog.pg_extension_config_dump('growing.job_id_seq', '');"
    )
    (folder / "growing--1--2.sql").write_text("ALTER TABLE growing.job ADD w int;")


@pytest.fixture
def app(make: Make) -> App:
    return make(CONFIGURED)


def unchanged(app: App, refusal: str, /, *, superuser: bool, **environment: str) -> str:
    """A restore is refused, and the database is as it was."""
    before = app.plain()
    log = app.restore(1, superuser=superuser, **environment)
    assert re.search(refusal, log), log
    assert f"nothing was changed: '{app.name}' is as it was" in log
    assert differences(before, app.plain()) == []
    return log


def test_configuration_rows_replace_those_that_are_there_for_a_superuser_and_stay_for_the_owner(app: App) -> None:
    good = app.plain()
    app.admin("UPDATE growing.job SET v = 'changed' WHERE id = 2; INSERT INTO growing.job (v) VALUES ('newer')")
    changed = app.plain()
    assert "rows of growing job" in app.restore(superuser=False, RESTORE_DRY_RUN="yes")
    log = app.restore(superuser=False)
    assert "rows of growing job" in log
    app.drop_old(log)
    assert differences(changed, app.plain()) == []
    app.drop_old(app.restore(RESTORE_WAY="in-place"))
    assert differences(good, app.plain()) == []
    assert app.admin("SELECT string_agg(v, ' ' ORDER BY id) FROM growing.job").strip() == "built in mine"


def test_extension_that_was_dropped_comes_back_for_a_superuser_and_is_named_to_the_owner(app: App) -> None:
    good = app.plain()
    app.admin("DROP EXTENSION growing; DROP SCHEMA growing")
    unchanged(app, "extension 'growing' is in the archive, and only a superuser may create it", superuser=False)
    app.drop_old(app.restore(RESTORE_WAY="in-place"))
    assert differences(good, app.plain()) == []


@pytest.mark.long
def test_extension_that_is_newer_than_the_archive_stays(app: App) -> None:
    app.admin("CREATE EXTENSION pageinspect; CREATE EXTENSION hstore SCHEMA growing")
    app.sql("DROP TABLE t")
    log = app.restore(superuser=False)
    app.drop_old(log)
    assert app.admin("SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension").strip() == (
        "growing hstore pageinspect plpgsql"
    )
    assert app.admin("SELECT count(*) FROM t").strip() == "1"


def test_extension_that_was_moved_is_moved_back_or_named(make: Make) -> None:
    app = make(
        Kind("CREATE EXTENSION citext", "CREATE TABLE names (n citext PRIMARY KEY); INSERT INTO names VALUES ('A')")
    )
    good = app.plain()
    app.admin('CREATE SCHEMA "Else Where"; ALTER EXTENSION citext SET SCHEMA "Else Where"')
    unchanged(app, 'extension citext is in schema "Else Where", and the archive has it in public', superuser=False)
    log = app.restore(RESTORE_WAY="in-place")
    app.drop_old(log)
    app.admin('DROP SCHEMA IF EXISTS "Else Where"')
    assert differences(good, app.plain()) == []


def test_extension_that_is_elsewhere_and_cannot_be_moved_is_named(app: App) -> None:
    app.admin("DROP EXTENSION growing; CREATE SCHEMA other")
    folder = Path(app.server.installation.run("pg_config", "--sharedir").stdout.strip()) / "extension"
    control, text = folder / "growing.control", (folder / "growing.control").read_text()
    control.write_text(text.replace("schema = growing", "schema = other"))
    script = folder / "growing--1.sql"
    sql = script.read_text()
    script.write_text(sql.replace("growing.", "other."))
    step = folder / "growing--1--2.sql"
    step.write_text("ALTER TABLE other.job ADD w int;")
    try:
        app.admin("CREATE EXTENSION growing")
        unchanged(app, "extension growing is in schema other, and the archive has it in growing", superuser=True,
                  RESTORE_WAY="in-place")  # fmt: skip
    finally:
        control.write_text(text)
        script.write_text(sql)
        step.write_text("ALTER TABLE growing.job ADD w int;")


@pytest.mark.parametrize("archived", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_extension_of_another_version_stays_and_takes_the_rows_that_fit(make: Make, archived: str) -> None:
    now = "1" if archived == "2" else "2"
    app = make(
        Kind(
            f"CREATE EXTENSION growing VERSION '{archived}'; INSERT INTO growing.job (v) VALUES ('mine')",
            CONFIGURED.owner,
        )
    )
    app.admin(f"DROP EXTENSION growing; CREATE EXTENSION growing VERSION '{now}'")
    if now == "1":
        log = unchanged(app, 'column "w" of relation "job" does not exist', superuser=True, RESTORE_WAY="in-place")
        assert "ALTER EXTENSION … UPDATE" in log
    else:
        app.restore(RESTORE_WAY="in-place")
        assert app.admin("SELECT string_agg(v, ' ' ORDER BY id) FROM growing.job").strip() == "built in mine"


@pytest.mark.parametrize("action", [pytest.param("NO ACTION", marks=pytest.mark.long), "CASCADE"])
def test_rows_that_a_foreign_key_refers_to_are_not_replaced_below_it(app: App, action: str) -> None:
    """Deleting them would delete rows of what is set aside."""
    app.admin(f"CREATE TABLE uses (job int REFERENCES growing.job ON DELETE {action}); INSERT INTO uses VALUES (2)")
    unchanged(app, "foreign key uses_job_fkey of table public.uses", superuser=True, RESTORE_WAY="in-place")


def test_owner_who_may_create_databases_keeps_the_extension_that_is_there(make: Make) -> None:
    app = make(CONFIGURED, options="LOGIN CREATEDB")
    good = app.plain()
    app.sql("DROP TABLE t")
    log = app.restore(superuser=False)
    assert "only a superuser can create extension 'growing' in a new database, so the one that is there is kept" in log
    app.drop_old(log)
    assert differences(good, app.plain()) == []


def test_trusted_extension_keeps_its_owner_beside(make: Make) -> None:
    """Its owner could otherwise no longer update or drop it."""
    sql = "CREATE EXTENSION pg_trgm; CREATE SCHEMA more; CREATE EXTENSION hstore SCHEMA more;"
    sql += "CREATE TABLE t (h more.hstore)"
    app = make(Kind("SELECT 1", sql))
    good = app.plain()
    app.restore()
    assert differences(good, app.plain()) == []
    owners = "SELECT DISTINCT extowner::regrole FROM pg_extension WHERE extname IN ('pg_trgm', 'hstore')"
    assert app.admin(owners).strip() == app.name
    app.sql("COMMENT ON EXTENSION hstore IS 'mine'; DROP EXTENSION pg_trgm")
