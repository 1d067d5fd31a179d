"""Real extensions: what they hold is neither lost nor there twice, by whichever way a database is restored."""

from __future__ import annotations

import pytest

from tests.scripts.apps import CRON, JOBS, KINDS, TOGETHER, Kind, Make, debian_pod, debian_server, differences, make_app

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
