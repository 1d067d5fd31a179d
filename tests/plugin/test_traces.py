"""A run that was faked, or kept from starting, is reported within one `status`, and nothing of it counts."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from kubectl_cnpg_backup.model.release import BACKUP, INSPECTOR, Release, read_runs, releases
from kubectl_cnpg_backup.model.schedule import MARGIN, assess
from kubectl_cnpg_backup.model.status import Status, VolumeReport, describe
from tests.plugin.common import MOUNTING, NOW, THREE, ago, job, objects, pod, release

CRONJOB = "cnpg-pg-dump-backup"
GOOD = "1 databases done\nkutt ok (newest 2026-11-22 14:00Z): published kutt-20261122-140002.dump"
OWN = {"containers": [{"name": "main"}]}
"""A pod's spec without the claim."""


def stranger(name: str, component: str, **changes: Any) -> dict[str, Any]:
    """A CronJob with the release's labels and without its claim."""
    made = deepcopy(next(one for one in objects("CronJob") if component in str(one["metadata"])))
    made["metadata"] |= {"name": name, "creationTimestamp": ago(days=40)}
    made["spec"]["jobTemplate"]["spec"]["template"]["spec"] = {**OWN, **changes}
    return made


OTHER_CLAIM = {"volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": "mine"}}]}


@pytest.mark.parametrize("changes", [{}, OTHER_CLAIM, {"volumes": [{"name": "backups", "emptyDir": {}}]}])
@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_cronjob_with_the_releases_labels_alone_is_no_template(name: str, changes: dict[str, Any]) -> None:
    """Older than the release, so that its age proves nothing either."""
    (found,) = releases([*objects("CronJob"), stranger(name, INSPECTOR, **changes)], "default")
    assert found.claim == "cnpg-backups-pvc"
    assert name not in [one.name for one in found.cronjobs]
    assert found.template(INSPECTOR).name == "cnpg-backup-inspect"
    result = describe(found, {}, [], None, NOW)
    assert "does not mount claim cnpg-backups-pvc" in next(
        one.problem for one in result.problems if one.subject == f"cronjob/{name}"
    )


@pytest.mark.parametrize("name", ["nightly", "a-release-with-a-name-of-fifty-three-characters-in-it"])
def test_every_cronjob_of_a_release_is_its_own_whatever_its_name(name: str) -> None:
    made = objects("CronJob", "two-images", name)
    fake = {**stranger("aaa", INSPECTOR, **OTHER_CLAIM)}
    fake["metadata"]["labels"] = {**fake["metadata"]["labels"], "app": name}
    (found,) = releases([*made, fake], "default")
    assert len(found.cronjobs) == len(made)
    assert found.strangers == ("aaa",)


def test_labels_alone_are_no_release() -> None:
    assert releases([stranger("aaa", INSPECTOR)], "default") == []


def described(
    jobs: list[dict[str, Any]], pods: list[dict[str, Any]], found: Release | None = None, newest: int | None = None
) -> Status:
    """What `status` says; with the seconds of the newest backup, after a look at the volume."""
    found = found or release()
    entry = {"database": "kutt", "result": "ok", "newest_age_seconds": newest, "backups": 3, "bytes": 9}
    report = None if newest is None else VolumeReport([entry], [], None, None)
    return describe(found, {CRONJOB: THREE}, read_runs(jobs, pods, found), report, NOW)


def problems(status: Status) -> str:
    return "\n".join(f"{one.subject}: {one.problem}" for one in status.problems)


def ran(name: str = "run", **more: Any) -> dict[str, Any]:
    return job(name, CRONJOB, started=ago(minutes=30), finished=ago(minutes=28)) | more


@pytest.mark.parametrize(
    ("spec", "owner", "why"),
    [
        (OWN, {}, "does not mount claim cnpg-backups-pvc"),
        (OTHER_CLAIM, {}, "does not mount claim cnpg-backups-pvc"),
        (MOUNTING, {"uid": "another"}, f"its owner is another CronJob {CRONJOB}"),
    ],
)
def test_a_job_with_the_releases_labels_alone_is_no_run(spec: Any, owner: dict[str, str], why: str) -> None:
    forged = deepcopy(ran("forged", spec={"template": {"spec": spec}}))
    forged["metadata"]["ownerReferences"][0] |= owner
    status = described([forged], [pod("forged", 0, GOOD)])
    assert "job/forged: it has the labels of a run of cnpg-backup" in problems(status)
    assert why in problems(status)
    assert {one.state for one in status.databases} == {"late"} or not any(one.state == "ok" for one in status.databases)


def test_a_pod_that_ended_the_job_in_place_of_its_own_is_reported_and_says_nothing() -> None:
    cuckoo = {**pod("run", 0, GOOD), "spec": OWN}
    (run,) = read_runs([ran()], [cuckoo], release())
    assert (run.state, run.verdicts) == ("failed", ())
    assert "pod run-abcde ended it, which does not mount claim" in problems(described([ran()], [cuckoo]))
    killed = pod("run", 137, "")
    assert read_runs([ran()], [killed, cuckoo], release())[0].state == "failed"
    (fair,) = read_runs([ran()], [pod("run", 0, GOOD), cuckoo], release())
    assert (fair.state, [one.database for one in fair.verdicts]) == ("succeeded", ["kutt"])


def test_a_success_that_left_no_backup_is_no_success() -> None:
    # A Job that is complete, of which neither pod nor result is left.
    status = described([ran()], [], newest=8000)
    assert "kutt: late: job/run ended 28m ago as a success and left no backup" in problems(status)
    assert "left no backup" not in problems(described([ran()], [], newest=1790))
    older = GOOD.replace("14:00Z", "12:00Z")
    assert "left no backup" in problems(described([ran()], [pod("run", 0, older)]))


def test_a_success_for_other_databases_needs_no_backup_of_this_one() -> None:
    items = [{"key": "authelia.conf", "path": "authelia.conf"}, {"key": "policy.json", "path": "policy.json"}]
    spec = {"volumes": [*MOUNTING["volumes"], {"name": "config", "configMap": {"name": "c", "items": items}}]}
    limited = ran(spec={"template": {"spec": spec}})
    assert "left no backup" not in problems(described([limited], [], newest=4000))


@pytest.mark.parametrize(("year", "reported"), [("2027", True), ("2026", False)])
def test_a_newest_backup_in_the_future_is_reported(year: str, reported: bool) -> None:
    status = described([ran()], [pod("run", 0, GOOD.replace("2026", year))])
    assert ("which is in the future" in problems(status)) is reported


@pytest.mark.parametrize(("seconds", "reported"), [(0, False), (3600, True), (31_536_000, True)])
def test_a_backup_in_the_future_is_reported_from_the_volume(seconds: int, reported: bool) -> None:
    """The newest backup by age is the newest of the past; one that is dated ahead is named next to it."""
    entry = {"database": "kutt", "result": "warning", "newest_age_seconds": 1790, "ahead_seconds": seconds}
    status = describe(release(), {CRONJOB: THREE}, [], VolumeReport([entry], [], None, None), NOW)
    assert ("kutt: its newest backup is dated" in problems(status)) is reported


def test_a_run_that_did_not_start_is_reported_after_the_first_one() -> None:
    last = {"lastScheduleTime": ago(hours=2.5)}
    (backup,) = release(**last).of(BACKUP)
    due = NOW - timedelta(minutes=30)
    assert assess(backup, [], due + MARGIN - timedelta(seconds=1)).missed is None
    found = assess(backup, [], due + MARGIN + timedelta(seconds=1))
    assert found.missed == due
    missing = found.missing()
    assert missing is not None
    assert f"{CRONJOB}-{int(due.timestamp()) // 60}" in missing.remedy, "the Job that could have taken its name"
    assert "did not start" in problems(described([], [], release(**last)))
    assert "did not start" in problems(described([], [], release(lastScheduleTime=None))), "it has never run"


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"time": ago(minutes=20), "fieldsV1": {"f:spec": {"f:schedule": {}}}}, False),
        ({"time": ago(minutes=20), "fieldsV1": {"f:metadata": {"f:annotations": {}}}}, True),
        ({"time": ago(minutes=20), "fieldsV1": {"f:spec": {}}, "subresource": "status"}, True),
    ],
)
def test_a_schedule_that_was_changed_since_has_missed_nothing(change: dict[str, Any], missed: bool) -> None:
    """An annotation, which anyone may write, is no such change."""
    (backup,) = release(lastScheduleTime=ago(hours=2.5)).of(BACKUP)
    source = {**backup.source, "metadata": {**backup.source["metadata"], "managedFields": [change]}}
    (found,) = [one for one in releases([source], "default")[0].cronjobs if one.component == BACKUP]
    assert (assess(found, [], NOW).missed is not None) is missed


@pytest.mark.parametrize(
    ("times", "missed"),
    [
        ({"state": "", "started": ago(hours=1)}, False),
        ({"started": ago(hours=1), "finished": ago(minutes=2)}, False),
        ({"started": ago(hours=1), "finished": ago(minutes=20)}, True),
        ({"started": ago(hours=2), "finished": ago(hours=1)}, True),
    ],
)
def test_a_run_that_still_works_keeps_the_next_from_starting(times: dict[str, Any], missed: bool) -> None:
    (backup,) = release(lastScheduleTime=ago(hours=2.5)).of(BACKUP)
    assert (assess(backup, read_runs([job("run", CRONJOB, **times)], []), NOW).missed is not None) is missed
