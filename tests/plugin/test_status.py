"""`status`: what counts as wrong, from what the API server knows alone, and with the volume."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from kubectl_cnpg_backup.model import status
from kubectl_cnpg_backup.model.release import read_runs
from kubectl_cnpg_backup.model.status import Problem, Status, VolumeReport, days_until_full, describe
from kubectl_cnpg_backup.output import tables
from tests.plugin.common import NOW, THREE, ago, backup, evicted, job, pod, release

CRONJOB = "cnpg-pg-dump-backup"
DRILL_CRONJOB = "cnpg-backup-drill"
CONFIGURED = {CRONJOB: THREE}
GOOD = "\n".join(
    [
        "3 databases done",
        *(f"{name} ok (newest 2026-11-22 14:00Z): published {name}-20261122-140002.dump" for name in THREE),
    ]
)


def described(message: str, *, report: VolumeReport | None = None, values: str = "default", **options: Any) -> Status:
    state = "Failed" if "failed" in message else "Complete"
    started = options.get("started", timedelta(minutes=30))
    finished = started - timedelta(minutes=2)
    jobs = [
        job(
            "run",
            CRONJOB,
            state=state,
            started=ago(minutes=started.total_seconds() / 60),
            finished=ago(minutes=finished.total_seconds() / 60),
        )
    ]
    runs = read_runs(jobs, [pod("run", int(state == "Failed"), message)])
    return describe(release(values), options.get("configured", CONFIGURED), runs, report, NOW)


def entry(name: str = "authelia", **more: Any) -> dict[str, Any]:
    return {
        "database": name,
        "result": "ok",
        "newest_age_seconds": 1800,
        "backups": 15,
        "bytes": 1000,
        "bad": [],
        "last_success": ago(minutes=28),
        "problems": [],
        "refused": None,
        "warnings": [],
        "drill": None,
        **more,
    }


def test_a_good_run_is_seen_without_a_pod_on_the_volume() -> None:
    result = described(GOOD)
    assert result.problems == ()
    assert [(one.name, one.state) for one in result.databases] == [(name, "ok") for name in THREE]
    first = result.databases[0]
    assert first.newest == NOW - timedelta(minutes=30)
    assert first.last_success == NOW - timedelta(minutes=28)
    assert first.next_run == NOW.replace(hour=16, minute=0)
    document = status.document(result, NOW)
    assert document["ok"] is True
    assert document["databases"][0]["rpo_seconds"] == 1800
    assert document["volume"] is None
    json.dumps(document)


def test_a_failed_database_is_wrong_and_says_why() -> None:
    result = described("1 of 3 databases failed\nkutt failed (newest 2026-11-22 12:00Z): no Secret\n" + GOOD)
    assert [(one.subject, one.problem) for one in result.problems] == [("kutt", "failed: no Secret")]
    assert status.document(result, NOW)["ok"] is False


def test_a_database_whose_backups_have_stopped_is_late_though_its_last_run_was_good() -> None:
    result = described(GOOD.replace("14:00Z", "08:00Z"))
    assert {one.state for one in result.databases} == {"late"}
    assert len(result.problems) == 3


def test_a_new_release_is_not_late() -> None:
    fresh = release()
    made = [
        {**one.source, "metadata": {**one.source["metadata"], "creationTimestamp": ago(hours=1)}}
        for one in fresh.cronjobs
    ]
    (found,) = releases_of(made)
    result = describe(found, CONFIGURED, [], None, NOW)
    assert result.problems == ()
    assert {one.state for one in result.databases} == {"unknown"}


def releases_of(cronjobs: list[dict[str, Any]]) -> Any:
    from kubectl_cnpg_backup.model.release import releases

    return releases(cronjobs, "default")


def test_a_suspended_schedule_is_wrong_and_no_reason_to_be_late() -> None:
    result = described(GOOD.replace("14:00Z", "08:00Z"), values="suspended", started=timedelta(hours=6.5))
    assert [one.problem for one in result.problems] == ["its schedule is suspended; its last run was 30m ago"]
    table = tables.status(result, NOW)
    assert {row[4] for row in table.rows} == {"suspended"}
    assert all(one.next_run is None for one in result.databases)


def test_a_run_that_kubernetes_ended_is_wrong_though_it_said_nothing() -> None:
    jobs = [job("run", CRONJOB, state="Failed", started=ago(hours=2), finished=ago(hours=1), reason="DeadlineExceeded")]
    result = describe(release(), {}, read_runs(jobs, []), None, NOW)
    assert "job/run, failed: DeadlineExceeded" in result.problems[0].problem


def test_the_volume_beats_the_last_run() -> None:
    report = VolumeReport([entry(bad=["authelia-20261122-120000.dump.bad"], result="failed")], [], None, None)
    result = described(GOOD, report=report)
    assert result.problems[0].problem == "failed: bad archives: authelia-20261122-120000.dump.bad"
    assert result.databases[0].backups == 15


def test_a_failed_drill_is_wrong() -> None:
    drill = {"result": "failed", "at": ago(days=1), "problem": "table t cannot be read", "remedy": "restore another"}
    result = described(GOOD, report=VolumeReport([entry(drill=drill, result="failed")], [], None, None))
    assert [(one.problem, one.remedy) for one in result.problems] == [
        ("its last drill failed: table t cannot be read", "restore another")
    ]


def after_drill(*pods: dict[str, Any], with_volume: bool = True, **times: Any) -> list[Problem]:
    """What is wrong with a release after its last drill, whose Job is only there if its pod is."""
    made = job("drill-1", DRILL_CRONJOB, state="Failed", started=ago(hours=5), finished=ago(hours=4), reason="Backoff")
    report = VolumeReport([entry(drill={"result": "proved"})], [], None, None) if with_volume else None
    result = describe(release(**times), CONFIGURED, read_runs([made] if pods else [], pods), report, NOW)
    return [problem for problem in result.problems if problem.subject == f"cronjob/{DRILL_CRONJOB}"]


@pytest.mark.parametrize("with_volume", [True, False])
def test_a_drill_that_was_evicted_is_wrong_though_it_recorded_nothing(with_volume: bool) -> None:
    (problem,) = after_drill(evicted("drill-1"), with_volume=with_volume)
    assert "job/drill-1, failed: Evicted: Pod ephemeral local storage" in problem.problem


def test_a_drill_that_ended_by_itself_is_known_from_the_volume() -> None:
    own = pod("drill-1", 1, "1 of 2 archives failed")
    assert after_drill(own) == []
    assert "drill-1" in after_drill(own, with_volume=False)[0].problem


def test_a_drill_of_which_no_job_is_left_and_that_did_not_succeed_is_wrong() -> None:
    lost: dict[str, Any] = {"lastScheduleTime": ago(hours=10.75), "lastSuccessfulTime": ago(days=9)}
    assert "left no success and no Job" in after_drill(**lost)[0].problem
    assert after_drill(**{**lost, "lastSuccessfulTime": ago(hours=10)}) == []
    assert after_drill(lastScheduleTime=ago(hours=1)) == [], "it may still be running"


def test_a_database_that_no_run_has_any_more_is_shown_and_not_wrong() -> None:
    result = described(GOOD, report=VolumeReport([entry("old", newest_age_seconds=9_000_000)], [], None, None))
    assert "old" in [one.name for one in result.databases]
    assert result.problems == ()


def test_a_volume_that_is_full_soon_is_wrong() -> None:
    day = timedelta(days=1)
    backups = [backup("new", timedelta(0), 3000), backup("mid", day, 2500), backup("old", 2 * day, 1000)]
    listing = [{"full_bytes": 30_000, "backups": backups}]
    assert days_until_full(listing, 30_000) == pytest.approx(3), "ten places, each a thousand a day"
    assert days_until_full([{"full_bytes": 16, "backups": backups[:1]}], 1) is None
    shrinking = [{"full_bytes": 160, "backups": [backup("new", timedelta(0), 10), backup("old", 2 * day, 20)]}]
    assert days_until_full(shrinking, 1) is None

    def on_volume(total: int) -> Status:
        return described(GOOD, report=VolumeReport([entry()], listing, total, 6500))

    assert [one.problem for one in on_volume(80_000).problems] == [
        "the volume will be full in 5 days at the current growth"
    ]
    assert status.document(on_volume(80_000), NOW)["volume"]["days_until_full"] == 5.0
    assert on_volume(150_000).problems == ()
    (small,) = on_volume(29_000).problems
    assert small.problem.startswith("the volume is too small: once all tiers are full a run needs about 29.3 KiB")
