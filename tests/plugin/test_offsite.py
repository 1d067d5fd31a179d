"""Jobs about copies outside: those of the chart, and no more than was asked for."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import kubernetes_validate
import pytest

from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.model.offsite import (
    LOOKS,
    Outside,
    copies_outside,
    fetching,
    identity_secret,
    looking,
    problem_of,
)
from kubectl_cnpg_backup.model.release import BACKUP, COMPONENT_LABEL, FETCH, OFFSITE, Run, read_runs
from kubectl_cnpg_backup.model.status import describe, document
from kubectl_cnpg_backup.output import tables
from retention import message
from retention.message import FAILED, OK, Line
from tests.chart import common
from tests.chart.common import KYVERNO
from tests.chart.test_access import GRANTING, POLICIES, World
from tests.lab import access, chart
from tests.plugin.common import NOW, ago, job, pod, release


@pytest.mark.parametrize("action", LOOKS)
def test_a_look_reads_the_store_and_not_the_volume(action: str) -> None:
    (cronjob,) = release("offsite").of(OFFSITE)
    job = looking(job_from(cronjob, "look-1"), action)
    kubernetes_validate.validate(job, "1.34", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == action
    assert "/backups" not in container["args"]
    assert job["metadata"]["labels"][COMPONENT_LABEL] == f"offsite-{action}", "it would count as a run that copies"
    pod = job["spec"]["template"]["metadata"]["labels"]
    assert pod[COMPONENT_LABEL] == "offsite", "the NetworkPolicy would not let it reach the store"
    (before,) = job_from(cronjob, "look-1")["spec"]["template"]["spec"]["containers"]
    assert before["args"][0] == "copy", "the template itself was changed"


def test_a_fetch_is_of_one_backup_and_by_one_key() -> None:
    (cronjob,) = release("offsite").of(FETCH)
    job = fetching(job_from(cronjob, "fetch-1"), "kutt", "newest before 2026-01-31", "my-key")
    kubernetes_validate.validate(job, "1.34", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert (values["FETCH_DATABASE"], values["FETCH_BACKUP"]) == ("kutt", "newest before 2026-01-31")
    assert identity_secret(job) == "my-key"
    assert (
        identity_secret(fetching(job_from(cronjob, "fetch-1"), "kutt", "newest", "")) == "cnpg-backup-offsite-identity"
    )


def test_a_release_without_copies_has_no_template_for_them() -> None:
    assert release().of(OFFSITE) == release().of(FETCH) == ()


@pytest.mark.parametrize("layer", GRANTING)
def test_pods_of_these_jobs_are_admitted(layer: str) -> None:
    manifests = chart.render(chart.merge(common.OFFSITE, access.VALUES[layer]), api_versions=KYVERNO)
    world = World(layer)
    world.policies = [manifest for manifest in manifests if manifest["kind"] in POLICIES]
    found = release("offsite")
    (copies,), (fetches,) = found.of(OFFSITE), found.of(FETCH)
    asked = []
    for cronjob, made in (
        (copies, job_from(copies, "run-1")),
        *((copies, looking(job_from(copies, "look-1"), action)) for action in LOOKS),
        (copies, looking(job_from(copies, "look-2"), "verify", "--database=kutt", "--backup=newest before 2026-01-31")),
        (fetches, fetching(job_from(fetches, "fetch-1"), "kutt", "newest", "my-key")),
    ):
        place = dataclasses.replace(world.place, cronjob=chart.merge(cronjob.source, {"spec": {"jobTemplate": made}}))
        asked.append((access.JOBS, access.create(place, access.job_pod(place, "run-x", "run"))))
    assert world.answers(asked) == [[]] * len(asked)


COPIES, CRONJOB = "cnpg-backup-offsite", "cnpg-pg-dump-backup"
BACKED_UP = "kutt ok (newest 2026-11-22 14:00Z): published kutt-20261122-140002.dump"
HALF_AN_HOUR = timedelta(minutes=30)


def copied(*lines: Line, minutes: int = 40, failed: bool = False) -> list[Run]:
    """A run that copied, that long ago."""
    name = f"copy-{minutes}"
    state = "Failed" if failed else "Complete"
    made = job(name, COPIES, state=state, started=ago(minutes=minutes), finished=ago(minutes=minutes - 1))
    made["metadata"]["labels"][COMPONENT_LABEL] = OFFSITE
    text = message.write(lines, done="copied").decode()
    return read_runs([made], [pod(name, int(failed), text)])


def line(newest: timedelta | None, result: str = OK, why: str = "copied", **numbers: float) -> Line:
    time = None if newest is None else NOW - newest
    its = {} if time is None else {"newest": int(time.timestamp())}
    return Line("kutt", result, time, why, {"kept": 3, **its, **numbers})


@pytest.mark.parametrize("number", [10**23, -(10**23)])
def test_numbers_that_are_no_moment_end_in_no_traceback(number: int) -> None:
    runs = copied(line(timedelta(hours=1), proved=number, slot=number))
    found = copies_outside(runs)["kutt"]
    assert (found.copies, found.restored is not None) == (3, True)
    assert wrong(runs, timedelta(0), found) is not None


DAILY = 86400


def wrong(runs: list[Run], newest: timedelta, outside: Outside | None = None) -> str:
    """What is wrong with the copies of a database whose newest backup is that old."""
    (copies,), (backs,) = release("offsite").of(OFFSITE), release("offsite").of(BACKUP)
    found = problem_of(outside or copies_outside(runs)["kutt"], copies, backs, NOW - newest, runs, NOW)
    return "" if found is None else str(found)


def test_age_and_verification_of_the_newest_copy_are_read_from_the_runs() -> None:
    (found,) = copies_outside(copied(line(HALF_AN_HOUR))).values()
    assert (found.newest, found.verified, found.copies) == (NOW - HALF_AN_HOUR, "etag", 3)
    (found,) = copies_outside(copied(line(HALF_AN_HOUR, read=1.0))).values()
    assert found.verified == "readback"


def test_a_run_that_could_not_read_the_store_hides_no_copy_and_no_failure() -> None:
    blind = Line("kutt", FAILED, None, "the store does not answer")
    runs = [*copied(blind, minutes=20, failed=True), *copied(line(HALF_AN_HOUR), minutes=80)]
    (found,) = copies_outside(runs).values()
    assert (found.result, found.newest, found.copies) == (FAILED, NOW - HALF_AN_HOUR, 3)
    assert "outside the cluster failed: the store does not answer" in wrong(runs, HALF_AN_HOUR)


@pytest.mark.parametrize(
    ("copy", "newest", "late"),
    [
        (timedelta(minutes=30), timedelta(minutes=30), False),
        # The run of 13:45 had no chance to copy the backup of 14:00; that of 14:45 is still to come.
        (timedelta(hours=2, minutes=30), timedelta(minutes=30), False),
        (timedelta(hours=9), timedelta(minutes=30), True),
        # Nothing new was made: that is said about the backups, not about the copies.
        (timedelta(hours=9), timedelta(hours=9), False),
        (None, timedelta(hours=3), True),
    ],
)
def test_a_copy_is_late_if_two_runs_have_left_a_backup_behind(
    copy: timedelta | None, newest: timedelta, late: bool
) -> None:
    runs = copied(line(copy) if copy else line(None, kept=0))
    found = wrong(runs, newest)
    assert ("outside the cluster" in found) == late, found
    assert not late or "kubectl cnpg-backup offsite check" in found


@pytest.mark.parametrize(
    ("copy", "slot", "late"),
    [
        # One backup of each day is copied: the newest copy may be a day behind, and two runs more.
        (timedelta(hours=9), DAILY, False),
        (timedelta(hours=23), DAILY, False),
        (timedelta(hours=32), DAILY, True),
        (timedelta(hours=23), 12 * 3600, True),
        (None, DAILY, True),
    ],
)
def test_a_copy_of_each_day_is_late_a_day_later(copy: timedelta | None, slot: int, late: bool) -> None:
    found = wrong(copied(line(copy, slot=slot) if copy else line(None, kept=0, slot=slot)), HALF_AN_HOUR)
    assert ("outside the cluster" in found) == late, found


def test_a_new_release_is_given_time_for_its_first_copy() -> None:
    (copies,), (backs,) = release("offsite").of(OFFSITE), release("offsite").of(BACKUP)
    young = {**copies.source, "metadata": {**copies.source["metadata"], "creationTimestamp": ago(minutes=50)}}
    found = copies_outside(runs := copied(line(None, kept=0)))["kutt"]
    late = problem_of(found, dataclasses.replace(copies, source=young), backs, NOW - HALF_AN_HOUR, runs, NOW)
    assert late is None


def test_status_shows_the_copies_and_what_is_wrong_with_them() -> None:
    its = release("offsite", lastScheduleTime=ago(minutes=30))
    made = job("run", CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))
    backed_up = read_runs([made], [pod("run", 0, f"1 databases done\n{BACKED_UP}")])
    for runs, cell, problems in (
        (copied(line(HALF_AN_HOUR, read=1.0)), "30m readback", 0),
        (copied(line(timedelta(hours=9))), "9h etag", 1),
        (copied(line(None, kept=0)), "none", 1),
    ):
        found = describe(its, {CRONJOB: ("kutt",)}, [*backed_up, *runs], None, NOW)
        table = tables.status(found, NOW)
        column = [one.header for one in table.columns].index("OFFSITE")
        assert table.rows[0][column] == cell
        assert len([one for one in found.problems if "outside" in one.problem]) == problems, found.problems
        assert document(found, NOW)["databases"][0]["offsite"]["copies"] == (0 if cell == "none" else 3)


def test_without_copies_outside_there_is_no_column_for_them() -> None:
    made = job("run", CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))
    runs = read_runs([made], [pod("run", 0, f"1 databases done\n{BACKED_UP}")])
    found = describe(release(), {CRONJOB: ("kutt",)}, runs, None, NOW)
    assert "OFFSITE" not in [one.header for one in tables.status(found, NOW).fitted(300).columns]
    assert document(found, NOW)["databases"][0]["offsite"] is None
