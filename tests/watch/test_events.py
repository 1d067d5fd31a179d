"""Kubernetes Events: one for each change, about the CronJob that it concerns, and nothing depends on them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention import message
from retention.message import FAILED, Line
from tests.lab.chart import ROOT
from tests.watch.histories import CRONJOB, HOUR, MINUTE, START, cronjob_object, job_object, pod_object
from tests.watch.test_notify import DAY, HOSTILE, PLACE, database, noticed, tick
from tests.watch.test_serve import NOW, Cluster, cluster, settings_text  # noqa: F401 - a fixture
from tests.watch.test_standing import good, ran
from watch import events
from watch.events import EVENTS, REASONS, Involved, events_of
from watch.notices import Notice, Told
from watch.problems import SEVERITY, Problem
from watch.serve import Watcher
from watch.settings import read
from watch.targets import test_notice as notice_of_a_test

DRILL = f"{CRONJOB}-drill"


def settings_with_drills() -> Any:
    found = {"cluster": "c", "namespace": "default", "dbname": "d"}
    its = {"databases": {"app": found, "blog": found}, "entries": {}}
    cronjobs = {
        CRONJOB: {"component": "backup", **its, "staleAfter": 18600},
        DRILL: {"component": "drill", **its},
    }
    return read(settings_text(cronjobs=cronjobs, events=True, drillStaleAfter=30 * 86400))


@pytest.fixture
def watcher(cluster: Cluster) -> Watcher:  # noqa: F811 - the fixture
    cluster.lists["cronjobs"] = [cronjob_object(), cronjob_object(DRILL, component="drill")]
    return Watcher(settings_with_drills(), cluster.api, clock=lambda: NOW)


def looked(watcher: Watcher, now: datetime) -> None:
    """Look once, and notify, as the watcher's threads do."""
    watcher.clock = lambda: now
    watcher.step(now)
    watcher.couriers.notify(EVENTS, watcher.look(now))


def said(cluster: Cluster) -> list[tuple[str, str, str]]:  # noqa: F811 - the fixture
    return [(one["involvedObject"]["name"], one["type"], one["reason"]) for one in cluster.events.values()]


def runs(cluster: Cluster, name: str, started: datetime, *lines: Line) -> None:  # noqa: F811 - the fixture
    job, pod = ran(name, list(lines), started=started)
    cluster.lists["jobs"].append(job)
    cluster.lists["pods"].append(pod)


def drills(cluster: Cluster, name: str, finished: datetime, result: str) -> None:  # noqa: F811 - the fixture
    text = message.write_drills([message.Drill("app", result, "x.dump", 12)]).decode()
    failed = result == FAILED
    cluster.lists["jobs"].append(job_object(name, finished - MINUTE, finished, failed=failed, cronjob=DRILL))
    cluster.lists["pods"].append(pod_object(name, text, code=int(failed)))


def test_each_change_is_one_event_about_its_cronjob_whatever_the_rounds_and_restarts(
    watcher: Watcher,
    cluster: Cluster,  # noqa: F811 - the fixture
) -> None:
    at = START + 2 * HOUR
    failed = [Line(name, FAILED, START + MINUTE, "no password", {"kept": 1}) for name in ("app", "blog")]
    looked(watcher, START + HOUR)
    assert said(cluster) == [], "all is well, and was before"
    runs(cluster, "run-2", at, *failed)
    for minute in range(6, 60, 10):
        looked(watcher, at + minute * MINUTE)
        if minute == 26:
            watcher.step(at + minute * MINUTE)
            watcher = Watcher(watcher.settings, cluster.api)
    assert said(cluster) == [(CRONJOB, "Warning", "BackupFailed")], "one for both databases, and once"
    drills(cluster, "drill-1", at + HOUR, FAILED)
    runs(cluster, "run-3", at + HOUR, good("app", at + HOUR), good("blog", at + HOUR))
    for minute in (70, 80):
        looked(watcher, at + minute * MINUTE)
    assert said(cluster)[1:] == [
        (DRILL, "Warning", "DrillFailed"),
        (CRONJOB, "Normal", "BackupRecovered"),
    ]
    drills(cluster, "drill-2", at + 2 * HOUR, "proved")
    looked(watcher, at + 2 * HOUR)
    assert said(cluster)[3:] == [(DRILL, "Normal", "DrillRecovered")]
    assert set(cluster.events) == {
        name for name in cluster.events if name.startswith(f"{CRONJOB}") and name.rpartition(".")[2].isalnum()
    }


def test_backup_that_gets_too_old_is_an_event_once_and_no_reminder_follows(
    watcher: Watcher,
    cluster: Cluster,  # noqa: F811 - the fixture
) -> None:
    for hours in (1, 7, 8, 40, 80):
        looked(watcher, START + hours * HOUR)
    assert said(cluster) == [(CRONJOB, "Warning", "BackupStale")]
    (event,) = cluster.events.values()
    assert event["involvedObject"]["uid"] == f"uid-{CRONJOB}", "by it kubectl describe finds the Event"
    assert event["involvedObject"]["namespace"] == event["metadata"]["namespace"] == "default"
    assert event["message"].startswith("2 of them: app has no new backup: the newest is 6h old. blog has")


@pytest.mark.parametrize("answer", [403, 500, 429])
def test_event_that_is_refused_stops_nothing_and_is_made_later(
    watcher: Watcher,
    cluster: Cluster,  # noqa: F811 - the fixture
    answer: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster.posts = answer
    looked(watcher, START + 7 * HOUR)
    assert f"events was not notified: POST /api/v1/namespaces/default/events: {answer}" in capsys.readouterr().err
    assert {one.state for one in watcher.standing(START + 7 * HOUR).databases} == {"late"}
    assert watcher.couriers.sent() == {(EVENTS, "failed"): 1}
    cluster.posts = 201
    looked(watcher, START + 8 * HOUR)
    assert said(cluster) == [(CRONJOB, "Warning", "BackupStale")]


def test_second_attempt_after_a_lost_answer_makes_no_second_event(
    watcher: Watcher,
    cluster: Cluster,  # noqa: F811 - the fixture
) -> None:
    looked(watcher, START + HOUR)
    looked(watcher, START + 7 * HOUR)
    (state,) = watcher.couriers.memory().values()
    assert isinstance(state, dict)
    # As if the answer had not come: it is known since when, and not that it was said.
    watcher.couriers.remember({EVENTS: {name: [alert, since, None] for name, (alert, since, _) in state.items()}})
    looked(watcher, START + 7 * HOUR + MINUTE)
    assert len(cluster.events) == 1
    assert cluster.requests.count(("POST", "/api/v1/namespaces/default/events")) == 2
    assert watcher.couriers.sent() == {(EVENTS, "ok"): 2}, "one that is there is as good"


def test_no_event_is_made_and_no_right_is_used_unless_values_say_so(cluster: Cluster) -> None:  # noqa: F811
    watcher = Watcher(read(settings_text()), cluster.api)
    assert EVENTS not in watcher.couriers.all
    assert not read(settings_text()).events


def about(subject: str, is_drill: bool) -> Involved:
    return Involved(f"cronjob-{is_drill}", f"uid-{len(subject)}")


def test_every_problem_has_a_reason_of_its_own_which_the_monitoring_page_lists() -> None:
    assert set(REASONS) == set(SEVERITY)
    assert len(set(REASONS.values())) == len(REASONS)
    table = (ROOT / "docs" / "monitoring.md").read_text().split("\n## Events\n")[1].split("\n## ")[0]
    for reason in (*REASONS.values(), events.RECOVERED, events.DRILL_RECOVERED):
        assert f"`{reason}`" in table


@settings(deadline=None)
@given(st.lists(HOSTILE, min_size=1, max_size=60, unique=True), HOSTILE)
def test_message_is_one_that_the_api_server_takes_whatever_the_names_are(names: list[str], why: str) -> None:
    problems = [Problem(name, "CnpgBackupFailing", f"was not backed up: {why * 30}") for name in names]
    notice, _, _ = tick({}, problems, NOW)
    assert notice is not None
    made = events_of(notice, PLACE, NOW, lambda _name, _drill: Involved("c", "u"))
    assert len(made) == 1
    assert 0 < len(made[0]["message"]) <= 1024
    assert made[0]["message"].isprintable()
    if len(names) > 30:
        assert " more." in made[0]["message"]


def test_event_of_a_cronjob_that_does_not_exist_has_no_uid() -> None:
    notice = noticed(database(result=FAILED))
    (made,) = events_of(notice, PLACE, NOW, lambda _name, _drill: Involved("c", ""))
    assert "uid" not in made["involvedObject"]
    assert made["message"].endswith(
        "was not backed up: no Secret kutt-app. What to do: https://wiki.example.org/runbooks/CnpgBackupFailing.md"
    )


def test_another_problem_at_another_time_is_another_event() -> None:
    notice = noticed(database(result=FAILED))
    later = replace(notice, begun=[(one, since + DAY) for one, since in notice.begun])
    other = noticed(database("shop", FAILED))
    names = {
        made["metadata"]["name"]
        for one in (notice, later, other)
        for made in events_of(one, PLACE, NOW + timedelta(seconds=5), about)
    }
    assert len(names) == 3


def test_test_message_and_a_removed_database_are_said_as_they_are() -> None:
    (made,) = events_of(notice_of_a_test("all is well"), PLACE, NOW, about)
    assert (made["type"], made["reason"]) == ("Normal", "Test")
    over = Notice("recovery", recovered=[("kutt", Told("CnpgBackupDrillStale", NOW, NOW))])
    (made,) = events_of(over, PLACE, NOW, about)
    assert (made["reason"], made["message"]) == (
        "DrillRecovered",
        "kutt is not backed up by this release any more.",
    )
