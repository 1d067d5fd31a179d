"""Real extensions: what they hold is neither lost nor there twice, by whichever way a database is restored."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.apps import (
    CRON,
    JOBS,
    KINDS,
    TOGETHER,
    App,
    Kind,
    Make,
    debian_pod,
    debian_server,
    differences,
    make_app,
)
from tests.scripts.conftest import PASSWORD
from tests.scripts.test_drill import open_pod
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

__all__ = ["debian_pod", "debian_server", "make_app"]

ALONE = [pytest.param(kind, id=name, marks=pytest.mark.long) for name, kind in KINDS.items()]
ALL = [pytest.param(TOGETHER, id="together"), *ALONE]

DAMAGE = "CREATE TABLE newer (i int); DROP TABLE IF EXISTS places, users CASCADE"


@pytest.mark.parametrize("kind", ALL)
def test_extensions_are_restored_beside_and_under_another_name(make: Make, kind: Kind) -> None:
    app = make(kind)
    good = app.plain()
    app.sql(DAMAGE)
    app.restore(RESTORE_WAY="beside")
    assert differences(good, app.plain()) == []
    other = f"{app.name}_into"
    app.restore(RESTORE_INTO=other)
    assert differences(good, app.plain(other)) == []


@pytest.mark.parametrize("superuser", [True, False], ids=["superuser", "owner"])
@pytest.mark.parametrize("kind", ALL)
def test_extensions_are_restored_in_place(make: Make, kind: Kind, superuser: bool) -> None:
    app = make(kind)
    good = app.plain()
    app.sql(DAMAGE)
    log = app.restore(superuser=superuser, RESTORE_WAY="in-place")
    app.drop_old(log)
    assert differences(good, app.plain()) == []


@pytest.mark.parametrize("kind", ALL)
def test_extensions_are_drilled(make: Make, kind: Kind) -> None:
    app = make(kind)
    log = app.pod.drill()
    assert app.pod.sidecar(app.pod.archives(app.name)[-1])["result"] == "proved", log
    assert "warning" not in log


def test_pg_cron_is_drilled_and_none_of_its_jobs_runs(make: Make) -> None:
    app = make(JOBS, CRON)
    (app.pod.folder / "config" / f"{CRON}.assertions").write_text(
        "SELECT current_setting('cron.database_name') = current_database()\n"
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type ~ 'cron'\n"
        "SELECT count(*) = 1 FROM cron.job\n"
    )
    log = app.pod.drill()
    assert app.pod.sidecar(app.pod.archives(CRON)[-1])["result"] == "proved", log
    assert "warning" not in log


def test_pg_cron_is_restored_in_its_own_database_and_left_out_of_any_other(make: Make) -> None:
    """The new database of a restore beside has a name where pg_cron cannot be."""
    app = make(JOBS, CRON)
    good = app.plain()
    app.admin(
        "SELECT cron.schedule('newer', '0 4 * * *', 'SELECT 1'); UPDATE cron.job SET command = 'x'; DROP TABLE orders"
    )
    log = app.restore(1, RESTORE_WAY="beside")
    assert "leave out RESTORE_WAY" in log
    assert "nothing was changed" in log
    log = app.restore()
    assert "extension 'pg_cron' can only be in database 'jobsapp' itself, so this restore is in place" in log
    app.drop_old(log)
    assert differences(good, app.plain()) == []
    log = app.restore(RESTORE_INTO="jobsapp_other")
    assert "warning: extension 'pg_cron' and its jobs are left out" in log
    there = differences(good, app.plain("jobsapp_other"))
    assert [line for line in there if line.startswith("+")] == []
    assert not [line for line in app.plain("jobsapp_other") if "cron" in line]
    assert app.server.value("SELECT count(*) FROM orders", "jobsapp_other") == "30"


def test_owner_restores_around_pg_cron_and_its_jobs_stay(make: Make) -> None:
    app = make(JOBS, CRON)
    good = app.plain()
    app.sql("DROP TABLE orders; CREATE TABLE newer (i int)")
    log = app.restore(superuser=False)
    assert "rows of cron job" in log
    app.drop_old(log)
    assert differences(good, app.plain()) == []


@pytest.fixture(scope="module")
def other_server() -> Iterator[Server]:
    """One whose pg_cron is in another database than the one that was backed up."""
    with Server(
        debian=True, settings={"shared_preload_libraries": "pg_cron", "cron.database_name": "elsewhere"}
    ) as running:
        running.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
        yield running


@pytest.fixture
def moved(make: Make, other_server: Server) -> Iterator[App]:
    """The backup of a database with pg_cron, on the other server."""
    app = make(JOBS, CRON)
    pod = open_pod(other_server)
    other_server.create_role(CRON, PASSWORD)
    other_server.create_database(CRON, owner=CRON)
    pod.add(CRON, user="postgres", password=SUPERUSER_PASSWORD, ca=True)
    shutil.copytree(app.pod.root / CRON, pod.root / CRON)
    yield App(pod, CRON)
    for name in (CRON, "elsewhere", "third"):
        other_server.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    other_server.psql(f"DROP ROLE {CRON}")


def test_pg_cron_of_another_database_is_refused_and_both_remedies_help(moved: App) -> None:
    server = moved.server
    for dry in ("yes", "no"):
        log = moved.restore(1, RESTORE_DRY_RUN=dry)
        assert "'pg_cron' can only be in the database that cron.database_name names, which is 'elsewhere'" in log
        assert f"remedy: set cron.database_name to '{CRON}' in the cluster's PostgreSQL parameters" in log
        assert f"nothing was changed: '{CRON}' is as it was" in log
    assert server.sql("SELECT datname FROM pg_database WHERE datname ~ 'jobs|where' ORDER BY 1") == [[CRON]]
    log = moved.restore(RESTORE_INTO="third")
    assert "warning: extension 'pg_cron' and its jobs are left out" in log
    assert server.value("SELECT count(*) FROM orders", "third") == "30"
    assert server.sql("SELECT 1 FROM pg_extension WHERE extname = 'pg_cron'", "third") == []


def test_pg_cron_comes_back_into_the_database_that_the_server_names(moved: App) -> None:
    server = moved.server
    log = moved.restore(1, RESTORE_INTO="elsewhere")
    assert "and not in a new database that is renamed later" in log
    assert "remedy: create 'elsewhere' empty, then restore again: it is then restored in place" in log
    server.create_database("elsewhere", owner=CRON)
    log = moved.restore(1, RESTORE_INTO="elsewhere", RESTORE_TABLES="orders")
    assert "a selection of tables needs a new database, and extension 'pg_cron' can only be in 'elsewhere'" in log
    assert "remedy: set RESTORE_INTO to the name of a new database" in log
    log = moved.restore(RESTORE_INTO="elsewhere")
    assert "extension 'pg_cron' can only be in database 'elsewhere' itself, so this restore is in place" in log
    assert server.sql("SELECT jobname, command FROM cron.job", "elsewhere") == [["nightly", "VACUUM"]]
    assert server.value("SELECT count(*) FROM orders", "elsewhere") == "30"


def test_lost_database_with_pg_cron_is_restored_as_the_remedy_says(make: Make) -> None:
    app = make(JOBS, CRON)
    good = app.plain()
    app.server.drop_database(CRON)
    log = app.restore(1)
    assert "can only be created in 'jobsapp', and not in a new database that is renamed later" in log
    app.server.create_database(CRON, owner=CRON)
    app.drop_old(app.restore())
    assert differences(good, app.plain()) == []


@pytest.fixture
def broken(server: Server) -> Iterator[str]:
    """An extension whose library is in the image, names shared_preload_libraries, and cannot be loaded."""
    folders = [
        Path(server.installation.run("pg_config", option).stdout.strip()) for option in ("--sharedir", "--pkglibdir")
    ]
    files = {
        folders[0] / "extension" / "broken.control": "default_version = '1'\n",
        folders[0] / "extension" / "broken--1.sql": "CREATE TABLE broken_rows (i int);\n",
        folders[1] / "broken.so": "must be loaded via shared_preload_libraries\n",
    }
    for path, text in files.items():
        path.write_text(text)
    yield "CREATE EXTENSION broken"
    for path in files:
        path.unlink()


def test_drill_goes_on_without_a_library_that_keeps_its_server_from_starting(make: Make, broken: str) -> None:
    """And with all others: pg_cron could not be created without its own."""
    app = make(Kind(f"{JOBS.superuser}; {broken}", JOBS.owner), CRON)
    log = app.pod.drill()
    assert app.pod.sidecar(app.pod.archives(CRON)[-1])["result"] == "proved", log
    (why,) = re.findall("warning: the server does not start with broken preloaded, and goes without: (.*)", log)
    assert re.search("could not load library .*broken", why), why


def test_drill_without_a_library_that_the_archive_needs_proves_nothing(make: Make, server: Server) -> None:
    """Neither proved nor bad: the library of pg_cron is replaced by one that cannot be loaded."""
    app = make(JOBS, CRON)
    library = Path(server.installation.run("pg_config", "--pkglibdir").stdout.strip()) / "pg_cron.so"
    aside = library.with_name("pg_cron.aside")
    library.rename(aside)
    try:
        library.write_text("must be loaded via shared_preload_libraries\n")
        log = app.pod.drill(1)
    finally:
        aside.replace(library)
    assert "warning: the server does not start with pg_cron preloaded, and goes without: could not load library" in log
    assert app.pod.sidecar(app.pod.archives(CRON)[-1])["result"] == "unproved", log
    assert "set image of this database to one that has it" in log or "drill.postgresql" in log
