"""Who is notified, of what, and when: of each change once, in words that a stranger understands, whatever hangs."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from retention.message import FAILED, OK, REFUSED, WARNING, Line
from tests.watch.histories import HOUR, MINUTE, START, cronjob_object
from tests.watch.sink import Sink, sink  # noqa: F401 - a fixture
from tests.watch.test_metrics import of, parse
from tests.watch.test_serve import NOW, Cluster, cluster, served, settings_text  # noqa: F401 - a fixture
from tests.watch.test_standing import good, ran
from watch import notices, targets
from watch.api import ApiError
from watch.memory import UNKNOWN, Drilled, Record
from watch.notices import BEGUN, RECOVERED, REMINDER, Notice, Place, State, from_json, to_json
from watch.problems import SEVERITY, VOLUME, WATCHER, Problem, problem_of, problems_of, summary
from watch.sender import SendError, read_url, send
from watch.serve import TEST, TESTED, Watcher
from watch.settings import read
from watch.standing import LATE, Database, Standing
from watch.targets import ALERTMANAGER, NTFY, SLACK, TARGETS, WEBHOOK, Post, post_to

DAY = timedelta(days=1)
PLACE = Place("apps", "cnpg-backup", "prod", "https://backups.example.org", "https://wiki.example.org/runbooks/")
STALE = timedelta(hours=5)


def database(name: str = "kutt", result: str = OK, age: timedelta | None = HOUR, **changes: Any) -> Database:
    """A database whose last run ended in some way, with a newest backup of some age."""
    key = (NOW - MINUTE, "uid", True)
    numbers = {"bad": changes.pop("bad", 0), "kept": 3}
    newest = None if age is None else NOW - age
    record = Record(key, result, "no Secret kutt-app", key, newest, numbers, NOW, NOW)
    made = Database(name, "c", "pg", "apps", "d", False, result, "no Secret kutt-app", record, None, NOW + HOUR, STALE)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("one", "alert", "words"),
    [
        (database(), None, ""),
        (database(result=WARNING), None, ""),
        (database(result=FAILED), "CnpgBackupFailing", "was not backed up: no Secret kutt-app"),
        (database(result=FAILED, age=6 * HOUR), "CnpgBackupStale", "the newest is 6h old; the last run failed: no Sec"),
        (database(result=OK, age=6 * HOUR, state=LATE), "CnpgBackupStale", "has no new backup: the newest is 6h old"),
        (database(age=None, state=LATE), "CnpgBackupNone", "has no backup"),
        (database(result=REFUSED), "CnpgBackupPruneRefused", "old ones are not deleted"),
        (database(bad=2), "CnpgBackupBadArchive", "2 archives on the volume are bad or damaged"),
        (database(bad=1, result=FAILED, age=6 * HOUR), "CnpgBackupBadArchive", "1 archive on the volume is"),
        (
            database(drilled=Drilled((NOW, "u", True), FAILED), state=FAILED),
            "CnpgBackupDrillFailed",
            "could not be restored",
        ),
        (
            database(drilled=Drilled((NOW, "u", True), "proved", NOW - 20 * DAY, 5), drill_stale=NOW - 20 * DAY),
            "CnpgBackupDrillStale",
            "was last restored by a drill 20.0d ago: it is not known whether its backups restore",
        ),
        (database(drill_stale=NOW - 20 * DAY), "CnpgBackupDrillStale", "has never been restored by a drill"),
        (database(drill_stale=NOW - 20 * DAY, result=FAILED), "CnpgBackupFailing", "was not backed up"),
        (
            database(drill_stale=NOW - 20 * DAY, drilled=Drilled((NOW, "u", True), FAILED), state=FAILED),
            "CnpgBackupDrillFailed",
            "could not be restored",
        ),
        (database(suspended=True, age=9 * HOUR), "CnpgBackupSuspended", "is not backed up: its schedule is suspended"),
        (database(suspended=True, drill_stale=NOW - 20 * DAY), "CnpgBackupDrillStale", "has never been restored"),
        (database(record=None, state=UNKNOWN), "CnpgBackupNone", "may have no backup"),
        (database(state=UNKNOWN, why="CronJob c does not exist"), "CnpgBackupNone", "CronJob c does not exist"),
    ],
)
def test_each_thing_that_can_be_wrong_is_one_problem_with_the_runbook_that_helps(
    one: Database, alert: str | None, words: str
) -> None:
    found = problem_of(one, NOW)
    assert (found.alert if found else None) == alert
    assert words in (found.what if found else "")


def test_every_problem_has_a_runbook_and_the_severity_of_its_alert() -> None:
    table = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text().split("\n## Alerts\n")[1]
    for alert, severity in SEVERITY.items():
        assert f"[{alert}](runbooks/{alert}.md) | {severity} |" in table


def test_drill_that_is_too_old_is_said_after_an_hour_as_by_the_alert_and_again_when_it_is_over() -> None:
    found = problem_of(database(drill_stale=NOW - 20 * DAY), NOW)
    assert found is not None
    state: State = {}
    said = []
    for minutes in range(0, 180, 10):
        problems = [found] if minutes < 120 else []
        notice, _, state = tick(state, problems, NOW + minutes * MINUTE)
        said += [(minutes, notice.event)] if notice else []
    assert said == [(60, BEGUN), (120, RECOVERED)]


def test_what_is_unknown_is_a_problem_only_once_a_backup_could_be_too_old() -> None:
    found = problem_of(database(record=None, state=UNKNOWN), NOW)
    assert found is not None
    assert found.after == STALE
    state: State = {}
    for minutes, expected in ((0, None), (60, None), (299, None), (300, BEGUN)):
        notice, _, state = tick(state, [found], NOW + minutes * MINUTE)
        assert (notice.event if notice else None) == expected


def tick(
    state: State, problems: list[Problem], now: datetime, subjects: frozenset[str] | None = frozenset({"kutt"})
) -> tuple[Notice | None, State, State]:
    return notices.due(state, problems, now, DAY, subjects=subjects, summary="1 of 2")


def problem(what: str = "was not backed up: x", alert: str = "CnpgBackupFailing", name: str = "kutt") -> Problem:
    return Problem(name, alert, what)


def test_a_problem_is_said_once_again_after_a_day_and_when_it_is_over() -> None:
    state: State = {}
    said = []
    for hours in range(50):
        notice, _, state = tick(state, [problem()], NOW + hours * HOUR)
        said += [(hours, notice.event)] if notice else []
    assert said == [(0, BEGUN), (24, REMINDER), (48, REMINDER)]
    notice, _, state = tick(state, [], NOW + 50 * HOUR)
    assert notice is not None
    assert (notice.event, state) == (RECOVERED, {})
    assert tick(state, [], NOW + 51 * HOUR)[0] is None


def test_a_problem_that_gets_worse_is_said_and_one_that_gets_less_bad_is_not() -> None:
    _, _, state = tick({}, [problem()], NOW)
    notice, _, state = tick(state, [problem("is old", "CnpgBackupStale")], NOW + HOUR)
    assert notice is not None
    assert notice.event == BEGUN
    assert notice.begun[0][1] == NOW, "since it began"
    for alert in ("CnpgBackupFailing", "CnpgBackupStale", "CnpgBackupFailing"):
        notice, _, state = tick(state, [problem("x", alert)], NOW + 2 * HOUR)
        assert notice is None, "a problem that changes back and forth is no news"


def test_what_did_not_arrive_is_said_later_and_what_nobody_knew_is_over_without_a_word() -> None:
    _, seen, _ = tick({}, [problem()], NOW)
    notice, _, _ = tick(seen, [problem()], NOW + MINUTE)
    assert notice is not None
    assert notice.begun[0][1] == NOW
    assert tick(seen, [], NOW + MINUTE) == (None, {}, {})


def test_without_knowledge_nothing_is_over() -> None:
    _, _, state = tick({}, [problem()], NOW)
    assert tick(state, [], NOW + HOUR, subjects=None)[0] is None
    unread = problems_of(Standing((), ()), out_of_date="not read", read=None, now=NOW)
    assert [one.subject for one in unread] == [WATCHER]


def test_reminders_come_all_at_once_and_not_spread_over_the_day() -> None:
    _, _, state = tick({}, [problem()], NOW)
    both = [problem(), problem(name="shop")]
    _, _, state = tick(state, both, NOW + 12 * HOUR)
    said = []
    for hours in range(13, 60):
        notice, _, state = tick(state, both, NOW + hours * HOUR)
        said += [(hours, len(notice.reminded))] if notice else []
    assert said == [(24, 2), (48, 2)]


def test_a_database_that_is_removed_is_not_called_well() -> None:
    _, _, state = tick({}, [problem()], NOW)
    notice, _, _ = tick(state, [], NOW + HOUR, subjects=frozenset())
    assert notice is not None
    assert "OVER: kutt is not backed up by this release any more." in notices.text(notice, PLACE, 4000)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([None, *SEVERITY]), st.booleans(), st.booleans()), max_size=60
    )
)
def test_whatever_happens_the_last_word_is_true_and_a_restart_changes_nothing(history: list[Any]) -> None:
    state: State = {}
    now, last = NOW, ""
    for hours, alert, arrives, restarts in history:
        now += hours * HOUR
        found = [] if alert is None else [problem("x", alert)]
        notice, seen, known = tick(state, found, now)
        if notice is not None and arrives:
            last = notice.event
        state = known if arrives else seen
        if restarts:
            state = from_json(json.loads(json.dumps(to_json({"x": state})))).get("x", {})
        if arrives:
            assert (last in (BEGUN, REMINDER)) == (alert is not None), "the target believes what is not so"


def test_memory_that_cannot_be_understood_is_none() -> None:
    wrong: list[Any] = [None, 3, [], {"x": 3}, {"x": {"a": ["CnpgBackupStale", "soon", None]}}, {"x": {"a": [1]}}]
    for found in wrong:
        assert not from_json(found)
    assert from_json({"x": {"a": ["Other", NOW.isoformat(), None]}}) == {"x": {}}


MESSAGE = """\
This is about the database backups (cnpg-backup) of release cnpg-backup in namespace apps, cluster prod.

PROBLEM: kutt was not backed up: no Secret kutt-app
  Cluster: apps/pg, database d.
  Newest good backup: 2026-03-01 02:00Z, 60m old; more than 5h is too old.
  Next run: 2026-03-01 04:00Z.
  Seen since: 2026-03-01 03:00Z.
  What to do: https://wiki.example.org/runbooks/CnpgBackupFailing.md

1 of 2.
To see more: kubectl cnpg-backup status -n apps --release cnpg-backup
Page: https://backups.example.org"""


def test_monitoring_page_shows_a_message_as_it_is() -> None:
    place = Place("apps", "cnpg-backup", "production", "https://backups.example.org")
    (problem,) = [problem_of(database(result=FAILED), NOW)]
    assert problem is not None
    shown = notices.text(Notice(BEGUN, [(problem, NOW)], summary="1 of 2 databases has a problem"), place, 4000)
    assert f"```text\n{shown}\n```" in (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()


def noticed(*found: Database, at: datetime = NOW) -> Notice:
    problems = [one for one in (problem_of(database, at) for database in found) if one is not None]
    notice, _, _ = tick({}, problems, at)
    assert notice is not None
    return notice


def test_message_says_which_instance_what_since_when_and_what_to_do() -> None:
    notice = noticed(database(result=FAILED))
    assert notices.text(notice, PLACE, 4000) == MESSAGE
    assert (
        notices.title(notice, PLACE) == "Backups of prod: apps/cnpg-backup: kutt was not backed up: no Secret kutt-app"
    )


def test_message_of_hundreds_of_problems_is_one_of_bounded_length_that_counts_the_rest() -> None:
    notice = noticed(*(database(f"db-{number}", FAILED) for number in range(300)))
    for most in (600, 1900, 10_000):
        found = notices.text(notice, PLACE, most)
        assert len(found) <= most
        shown = found.count("PROBLEM: ")
        assert shown >= 1
        assert f"… and {300 - shown} more." in found
        assert found.endswith(PLACE.url)
    assert "300 problems; the worst: db-0" in notices.title(notice, PLACE)


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.sampled_from(
    ["<!channel>", "<https://evil.example|click>", "@everyone", "@here", "\x1b[31m", "a\nPROBLEM: b", "&lt;", "\u202e"]
)


@given(HOSTILE, HOSTILE, st.sampled_from(TARGETS))
def test_texts_from_outside_stay_text_in_every_protocol(name: str, why: str, target: str) -> None:
    found = [Problem(name, "CnpgBackupFailing", f"was not backed up: {why}", (why,))]
    notice, _, state = tick({}, found, NOW)
    assert notice is not None
    for one in (notice, tick(state, [], NOW + HOUR)[0]):
        assert one is not None
        post = post_to(target, "https://sink.example/ntfy/topic", one, PLACE, NOW)
        document = json.loads(post.body)
        lines = (document.get("text") or document.get("message") or "") if isinstance(document, dict) else ""
        assert "\x1b" not in lines
        if target == SLACK:
            assert "<" not in lines
            assert ">" not in lines
            assert not any(f"@{word}" in lines for word in ("everyone", "here", "channel"))


def test_ntfy_gets_its_topic_and_a_message_that_it_does_not_turn_into_a_file() -> None:
    notice = noticed(*(database(f"données-{number}", FAILED) for number in range(99)))
    post = post_to(NTFY, "https://:tk_secret@ntfy.example/base/my-topic", notice, PLACE, NOW)
    assert post.url == "https://ntfy.example/base/"
    assert post.headers["Authorization"] == f"Basic {base64.b64encode(b':tk_secret').decode()}"
    document = json.loads(post.body)
    assert document["topic"] == "my-topic"
    assert len(document["message"].encode()) <= 4096
    assert document["click"] == PLACE.url


def test_ntfy_wakes_nobody_for_what_can_wait() -> None:
    def priority(*found: Database) -> int:
        return int(json.loads(post_to(NTFY, "https://ntfy.example/t", noticed(*found), PLACE, NOW).body)["priority"])

    assert priority(database(result=FAILED)) == 3
    assert priority(database(age=9 * HOUR)) == 5
    _, _, state = tick({}, [problem()], NOW)
    over = tick(state, [], NOW + HOUR)[0]
    assert over is not None
    assert json.loads(post_to(NTFY, "https://ntfy.example/t", over, PLACE, NOW).body)["priority"] == 3


def test_alertmanager_gets_the_labels_of_the_rules_and_an_end_that_comes_by_itself() -> None:
    notice = noticed(database(result=FAILED))
    for url in ("http://am.example:9093", "http://am.example:9093/", "http://am.example:9093/api/v2/alerts"):
        assert post_to(ALERTMANAGER, url, notice, PLACE, NOW).url == "http://am.example:9093/api/v2/alerts"
    (alert,) = json.loads(post_to(ALERTMANAGER, "http://am.example:9093", notice, PLACE, NOW).body)
    assert alert["labels"] == {
        "alertname": "CnpgBackupFailing",
        "severity": "warning",
        "namespace": "apps",
        "release": "cnpg-backup",
        "database": "kutt",
        "cluster": "prod",
    }
    assert alert["endsAt"] == "2026-03-01T03:05:00Z"
    assert alert["annotations"]["runbook_url"] == "https://wiki.example.org/runbooks/CnpgBackupFailing.md"
    _, _, state = tick({}, [problem()], NOW)
    over = tick(state, [], NOW + HOUR)[0]
    assert over is not None
    (ended,) = json.loads(post_to(ALERTMANAGER, "http://am.example:9093", over, PLACE, NOW + HOUR).body)
    assert ended["labels"] == alert["labels"], "else it would be another alert, and this one would go on"
    assert ended["endsAt"] == "2026-03-01T04:00:00Z"


def test_webhook_has_the_change_for_programs_and_the_text_for_people() -> None:
    document = json.loads(post_to(WEBHOOK, "https://x.example", noticed(database(result=FAILED)), PLACE, NOW).body)
    assert (document["event"], document["namespace"], document["cluster"]) == (BEGUN, "apps", "prod")
    assert document["text"] == MESSAGE
    (found,) = document["problems"]
    assert (found["subject"], found["alert"], found["severity"]) == ("kutt", "CnpgBackupFailing", "warning")
    assert found["since"] == "2026-03-01T03:00:00Z"
    many = noticed(*(database(f"db-{number}", FAILED) for number in range(300)))
    post = post_to(WEBHOOK, "https://x.example", many, PLACE, NOW)
    assert json.loads(post.body)["more"] == 200
    assert len(post.body) < 100_000


# The watcher as it runs.


PATHS = {WEBHOOK: "/hook", NTFY: "/ntfy/topic", SLACK: "/slack", ALERTMANAGER: "/am"}
POSTED = {WEBHOOK: "/hook", NTFY: "/ntfy/", SLACK: "/slack", ALERTMANAGER: "/am/api/v2/alerts"}


def watching(cluster: Cluster, folder: Path, sink: Sink, **more: Any) -> Watcher:  # noqa: F811
    base = sink.url.removesuffix("/secret-uuid")
    for name, path in PATHS.items():
        (folder / name).write_text(f"{base}{path}\n")
    text = settings_text(targets=list(TARGETS), clusterName="prod", url="https://backups.example.org", **more)
    return Watcher(read(text), cluster.api, clock=lambda: NOW, secrets=folder)


def notify(watcher: Watcher, now: datetime) -> None:
    for name in watcher.couriers.names:
        watcher.couriers.notify(name, watcher.look(now))


def fail(cluster: Cluster, at: datetime, name: str = "run-2") -> None:  # noqa: F811
    lines = [good("app"), Line("blog", FAILED, START, "no Secret blog-app", {"kept": 1})]
    job, pod = ran(name, lines, started=at)
    cluster.lists |= {"jobs": [*cluster.lists["jobs"], job], "pods": [*cluster.lists["pods"], pod]}


def test_each_service_is_notified_in_its_own_protocol_once_and_when_it_is_over(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
) -> None:
    watcher = watching(cluster, tmp_path, sink)
    watcher.step(NOW)
    notify(watcher, NOW)
    assert sink.paths == [], "nobody wants to hear that all is well"
    fail(cluster, NOW)
    for minutes in range(2, 8):
        watcher.step(NOW + minutes * MINUTE)
        notify(watcher, NOW + minutes * MINUTE)
    for name in (WEBHOOK, NTFY, SLACK):
        (found,) = sink.documents(POSTED[name])
        assert "no Secret blog-app" in json.dumps(found)
        assert "app has" not in json.dumps(found)
    assert len(sink.documents(POSTED[ALERTMANAGER])) == 6, "Alertmanager forgets what is not sent again"
    job, pod = ran("run-3", [good("app"), good("blog")], started=NOW + HOUR)
    cluster.lists |= {"jobs": [*cluster.lists["jobs"], job], "pods": [*cluster.lists["pods"], pod]}
    for minutes in (65, 66, 67):
        watcher.step(NOW + minutes * MINUTE)
        notify(watcher, NOW + minutes * MINUTE)
    assert [one["event"] for one in sink.documents("/hook")] == [BEGUN, RECOVERED]
    assert len(sink.documents("/slack")) == len(sink.documents("/ntfy/")) == 2
    assert len(sink.documents(POSTED[ALERTMANAGER])) == 7
    found = parse(served(watcher, "/metrics"))
    assert of(found, "notifications_total", target="slack", outcome="ok") == [2]


def test_restart_repeats_no_message_and_forgets_none(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
) -> None:
    watcher = watching(cluster, tmp_path, sink)
    fail(cluster, NOW)
    watcher.step(NOW + 2 * MINUTE)
    notify(watcher, NOW + 2 * MINUTE)
    watcher.step(NOW + 3 * MINUTE)
    again = watching(cluster, tmp_path, sink)
    again.step(NOW + 4 * MINUTE)
    notify(again, NOW + 4 * MINUTE)
    assert len(sink.documents("/hook")) == 1
    again.step(NOW + 25 * HOUR)
    notify(again, NOW + 25 * HOUR)
    assert [one["event"] for one in sink.documents("/hook")][1:] in ([REMINDER], [BEGUN])


def test_what_was_sent_last_is_saved_when_the_watcher_is_stopped(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
) -> None:
    watcher = watching(cluster, tmp_path, sink)
    fail(cluster, NOW)
    watcher.step(NOW + 2 * MINUTE)
    notify(watcher, NOW + 2 * MINUTE)
    stop = threading.Event()
    stop.set()
    watcher.run(stop)
    assert json.loads((cluster.memory or {})["notified.json"])["slack"]["blog"][2] is not None


def test_a_service_that_fails_is_tried_less_and_less_often_and_delays_no_other(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watcher = watching(cluster, tmp_path, sink)
    (tmp_path / SLACK).write_text("http://127.0.0.1:1/secret-hook")
    fail(cluster, NOW)
    watcher.step(NOW + 2 * MINUTE)
    for halves in range(4, 4 + 2 * 60 * 8):
        notify(watcher, NOW + halves * MINUTE / 2)
    found = parse(served(watcher, "/metrics"))
    assert of(found, "notifications_total", target="webhook", outcome="ok")[0] >= 1
    (tries,) = of(found, "notifications_total", target="slack", outcome="failed")
    assert 10 <= tries <= 16, "30 s, 1 min, … and then each hour"
    assert "secret-hook" not in capsys.readouterr().err


def test_a_service_that_hangs_stops_neither_the_judgement_nor_the_others(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("watch.serve._PERIOD", timedelta(seconds=0.05))
    hanging = Sink()
    hanging.hang.clear()
    watcher = watching(cluster, tmp_path, sink)
    for name in (SLACK, NTFY):
        (tmp_path / name).write_text(hanging.url)
    fail(cluster, NOW)
    moment = [NOW + 2 * MINUTE]
    watcher.clock = lambda: moment[0]
    stop = threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop,), daemon=True)
    thread.start()
    wait_for(lambda: bool(sink.documents("/hook")), "the webhook is notified")
    looks = len(cluster.requests)
    wait_for(lambda: len(cluster.requests) > looks + 20, "the API server is read on")
    assert not hanging.paths
    stop.set()
    thread.join(20)
    hanging.close()


def wait_for(condition: Any, what: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def test_a_fault_of_ours_in_a_message_does_not_end_the_thread(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("watch.serve._PERIOD", timedelta(seconds=0.05))
    watcher = watching(cluster, tmp_path, sink)
    calls: list[str] = []

    def broken(name: str, *_: Any) -> None:
        calls.append(name)
        raise ZeroDivisionError

    monkeypatch.setattr(watcher.couriers, "notify", broken)
    stop = threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop,), daemon=True)
    thread.start()
    wait_for(lambda: calls.count(SLACK) > 2, "it goes on")
    stop.set()
    thread.join(20)
    assert watcher.couriers.sent()[SLACK, "failed"] >= 2


def test_nobody_watching_is_a_message_too_after_a_quarter_of_an_hour(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
) -> None:
    watcher = watching(cluster, tmp_path, sink)
    watcher.step(NOW)
    cluster.status = 500
    for minutes in range(2, 30):
        with pytest.raises(ApiError):
            watcher.step(NOW + minutes * MINUTE)
        notify(watcher, NOW + minutes * MINUTE)
    (found,) = sink.documents("/hook")
    assert "the watcher knows nothing new: the API server was last read" in found["text"]
    cluster.status = 200
    watcher.step(NOW + 31 * MINUTE)
    notify(watcher, NOW + 31 * MINUTE)
    assert sink.documents("/hook")[1]["recovered"] == [WATCHER]


def test_volume_that_will_be_full_is_a_problem_of_its_own() -> None:
    gib = 1024**3
    for volume, words in (
        ({"capacity": 10 * gib, "full": 11 * gib}, "too small"),
        ({"capacity": 10 * gib, "full": 9.9 * gib, "growth": 10**4}, "full within a week"),
        ({"capacity": 10 * gib, "full": 5 * gib, "growth": 10.0}, ""),
        ({"capacity": 10 * gib}, ""),
    ):
        standing = Standing((), (), volume, "backups")
        found = problems_of(standing, out_of_date=None, read=NOW, now=NOW)
        assert [one.subject for one in found] == ([VOLUME] if words else [])
        assert all(words in one.what for one in found)
    assert summary(Standing((database(),), ()), []) == "1 database, no problem"


def test_a_test_message_goes_through_every_service_and_the_outcome_of_each_is_written_down(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
) -> None:
    watcher = watching(cluster, tmp_path, sink, pingEvery=300)
    (tmp_path / "healthchecks").write_text(sink.url)
    (tmp_path / SLACK).unlink()
    watcher.step(NOW)
    cluster.memory = {**(cluster.memory or {}), TEST: "0123456789abcdef"}
    watcher.step(NOW + MINUTE)
    wait_for(lambda: TESTED in (cluster.memory or {}), "the outcome")
    outcome = json.loads((cluster.memory or {})[TESTED])
    assert outcome["id"] == "0123456789abcdef"
    assert {name: not said for name, said in outcome["targets"].items()} == {
        **{"healthchecks": True, WEBHOOK: True, NTFY: True, SLACK: False, ALERTMANAGER: True},
    }
    assert "create the Secret" in outcome["targets"][SLACK]
    assert sink.documents("/hook")[0]["event"] == "test"
    (alert,) = sink.documents(POSTED[ALERTMANAGER])[0]
    assert (alert["labels"]["alertname"], alert["labels"]["severity"]) == ("CnpgBackupTest", "info")
    posted = len(sink.paths)
    watcher.step(NOW + 2 * MINUTE)
    again = watching(cluster, tmp_path, sink, pingEvery=300)
    again.step(NOW + 3 * MINUTE)
    assert len(sink.paths) == posted, "asked once is answered once, also after a restart"


@pytest.mark.parametrize("wanted", ["", "x", "<script>", "0" * 65, "0123\n456789"])
def test_only_what_the_plugin_writes_asks_for_a_test(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
    wanted: str,
) -> None:
    watcher = watching(cluster, tmp_path, sink)
    watcher.step(NOW)
    cluster.memory = {**(cluster.memory or {}), TEST: wanted}
    watcher.step(NOW + MINUTE)
    assert not [one for one in threading.enumerate() if getattr(one, "_target", None) == watcher._test]
    assert not sink.paths


def test_a_service_with_a_certificate_of_its_own_authority_is_reached_with_that_authority_alone(tmp_path: Path) -> None:
    authority = trustme.CA()
    sink = Sink()  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    sink.server.socket = context.wrap_socket(sink.server.socket, server_side=True, do_handshake_on_connect=False)
    post = Post(sink.url.replace("http:", "https:"), b"x")
    with pytest.raises(SendError, match=r"not reached|not trusted"):
        send(post)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    send(post, tmp_path / "ca.crt")
    assert sink.paths == ["/secret-uuid"]
    sink.close()


def test_urls_with_a_password_reach_no_log(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("https://user:pass@host.invalid/secret")
    notice = targets.test_notice("x")
    post = post_to(WEBHOOK, read_url(tmp_path / "x"), notice, PLACE, NOW)
    assert post.url == "https://host.invalid/secret"
    with pytest.raises(SendError) as caught:
        send(post)
    assert "secret" not in str(caught.value)
    assert "pass" not in str(caught.value)


def test_suspended_cronjob_is_a_message_after_a_day(
    cluster: Cluster,  # noqa: F811
    sink: Sink,  # noqa: F811
    tmp_path: Path,
) -> None:
    watcher = watching(cluster, tmp_path, sink)
    cluster.lists["cronjobs"] = [cronjob_object(suspend=True)]
    said = []
    for hours in range(30):
        watcher.step(NOW + hours * HOUR)
        notify(watcher, NOW + hours * HOUR)
        said.append(len(sink.documents("/hook")))
    assert said[23] == 0
    assert said[24:] == [1] * 6
