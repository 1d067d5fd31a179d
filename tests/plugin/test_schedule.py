"""When a run is due, and when a backup is late, in time zones that change their clocks, too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.doctor import examine
from kubectl_cnpg_backup.model.release import BACKUP, read_runs
from kubectl_cnpg_backup.model.schedule import due_before, is_late, next_run
from kubectl_cnpg_backup.model.status import describe
from tests.plugin.common import NOW, ago, job, release
from tests.plugin.test_doctor import healthy


def test_the_next_run_is_the_schedules_in_its_own_zone() -> None:
    assert next_run("0 */2 * * *", "Etc/UTC", NOW) == NOW.replace(hour=16, minute=0)
    assert next_run("0 3 * * *", "Europe/Zurich", NOW) == datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    summer = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert next_run("0 3 * * *", "Europe/Zurich", summer) == datetime(2026, 7, 2, 1, 0, tzinfo=UTC)
    assert next_run("@hourly", "Etc/UTC", NOW) == NOW.replace(hour=15, minute=0)
    assert next_run("@midnight", "Etc/UTC", NOW) == next_run("0 0 ? * ?", "Etc/UTC", NOW)


def test_the_run_that_was_due_last_may_still_be_under_way() -> None:
    assert due_before("0 */2 * * *", "Etc/UTC", NOW, 1) == NOW.replace(hour=14, minute=0)
    before = NOW.replace(hour=12, minute=0)
    assert due_before("0 */2 * * *", "Etc/UTC", NOW, 2) == before
    assert not is_late(before, "0 */2 * * *", "Etc/UTC", NOW)
    assert not is_late(before - timedelta(minutes=10), "0 */2 * * *", "Etc/UTC", NOW), "it started a little early"
    assert is_late(before - timedelta(minutes=16), "0 */2 * * *", "Etc/UTC", NOW)
    assert is_late(None, "0 */2 * * *", "Etc/UTC", NOW)


@pytest.mark.parametrize(("expression", "zone"), [("0 25 * * *", "Etc/UTC"), ("0 * * * *", "Etc/Nowhere")])
def test_a_schedule_that_means_nothing_is_one_line(expression: str, zone: str) -> None:
    with pytest.raises(PluginError, match="schedule"):
        next_run(expression, zone, NOW)


@pytest.mark.parametrize("what", ["suspended", "failed"])
def test_status_and_doctor_say_the_same_about_a_cronjob(what: str) -> None:
    found = release("suspended" if what == "suspended" else "default", lastScheduleTime=ago(minutes=30))
    (cronjob,) = found.of(BACKUP)
    state = "Complete" if what == "suspended" else "Failed"
    runs = read_runs([job("run", cronjob.name, state=state, started=ago(hours=1), finished=ago(minutes=50))], [])
    finding = next(one for one in examine(replace(healthy(), release=found, runs=runs)) if "cronjob" in one.subject)
    problems = describe(found, {cronjob.name: ()}, runs, None, NOW).problems
    assert (finding.subject, finding.found, finding.remedy) in {
        (one.subject, one.problem, one.remedy) for one in problems
    }
    assert what in finding.found
