"""What the watcher says: never `ok` where the volume would say otherwise, and the same after a restart."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retention import message
from retention.message import FAILED, OK, REFUSED, WARNING, Line
from tests.watch.histories import (
    CLAIM,
    CRONJOB,
    HOUR,
    MINUTE,
    SPEC,
    STALE_AFTER,
    START,
    History,
    cronjob_object,
    job_object,
    pod_object,
)
from watch.memory import AHEAD, UNKNOWN, Configured, Memory, from_json, learn, to_json
from watch.objects import read_cronjobs, read_runs
from watch.standing import LATE, Standing, judge

CONF = {"cluster": "pg", "namespace": "default", "dbname": "db"}


def look(
    memory: Memory,
    jobs: list[Any],
    pods: list[Any],
    configured: Configured,
    now: Any = START + 3 * HOUR,
    cronjobs: list[Any] | None = None,
) -> tuple[Memory, Standing]:
    """Read the API server once."""
    made = read_cronjobs([cronjob_object()] if cronjobs is None else cronjobs)
    runs = read_runs(jobs, pods, made)
    by_name = {CRONJOB: configured}
    memory = learn(memory, runs, by_name, now=now)
    stale = {CRONJOB: STALE_AFTER}
    return memory, judge(made, runs, memory, by_name, now=now, stale_after=stale, zones={})


def listed(*names: str) -> Configured:
    return Configured(dict.fromkeys(names, CONF))


def states(standing: Standing) -> dict[str, str]:
    return {one.name: one.state for one in standing.databases}


_SIZES = (1, 1, 2, 2, 3, 8, 50)
"""How many databases there are: of the last some are not named in the messages."""
_PARTS = 4


def check_history(seed: int, databases: int, steps: int) -> int:
    """Return how often a database was ok."""
    oks = 0
    dice = random.Random(seed)
    history = History(dice, [f"database-{index:03}" for index in range(databases)])
    memory, saved = Memory(), [to_json(Memory())]
    for _ in range(steps):
        history.step()
        if dice.random() < 0.2:
            continue  # The watcher is away.
        # It is restarted, it could not save what it knew, someone restores an old memory, or someone deletes it.
        back = dice.choice([None] * 4 + [saved[-1]] * 4 + [saved[-2:][0], dice.choice(saved), ""])
        memory = memory if back is None else from_json(back)
        pods = [] if dice.random() < 0.1 else history.pods
        configured = replace(listed(*history.databases), config=history.config)
        cronjobs = [cronjob_object(last=history.last_schedule)]
        # Its own clock may differ by as much as it allows for.
        now = history.now + dice.choice([-4, 0, 0, 0, 4]) * MINUTE
        look_at = (history.jobs, pods, configured, now, cronjobs)
        memory, standing = look(memory, *look_at)
        saved.append(to_json(memory))
        assert {one.name for one in standing.databases} == set(history.databases)
        for one in standing.databases:
            truth = history.truth[one.name]
            if one.state != OK:
                continue
            assert truth.result == OK, f"{one.name} is {truth.result}"
            assert truth.newest is not None, f"{one.name} has no backup"
            assert now - truth.latest <= STALE_AFTER, f"{one.name} is too old"
            assert one.record is not None
            # How a backup is dated that the message had no room for cannot be known; that there is a new one can.
            concluded = "no room" in one.record.why
            assert concluded or truth.newest <= now + AHEAD + MINUTE, (
                f"the newest backup of {one.name} is dated after now"
            )
            assert one.record.newest is not None
            assert one.record.newest <= truth.latest
            oks += 1
        again, after = look(from_json(to_json(memory)), *look_at)
        assert (again, after) == (memory, standing), "a restart changes what it says"
    return oks


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 40, 80]))
def test_never_ok_where_the_volume_would_say_otherwise_and_the_same_after_a_restart(seed: int, databases: int) -> None:
    check_history(seed, databases, 12)


@pytest.mark.long
@pytest.mark.parametrize("part", range(_PARTS))
def test_never_ok_in_ten_thousand_histories(part: int) -> None:
    seeds = range(part, 10_000, _PARTS)
    oks = [check_history(seed, _SIZES[seed // _PARTS % len(_SIZES)], 15) for seed in seeds]
    assert sum(bool(one) for one in oks) > len(seeds) / 2, "too few histories in which anything was ever ok show little"


def ran(name: str, lines: list[Line], **more: Any) -> tuple[Any, Any]:
    failed = any(line.result in (FAILED, REFUSED) for line in lines)
    started = more.pop("started", START)
    job = job_object(name, started, started + 5 * MINUTE, failed=failed, **more)
    return job, pod_object(name, message.write(lines).decode(), code=int(failed))


def good(name: str, newest: Any = START + MINUTE) -> Line:
    return Line(name, OK, newest, "published", {"kept": 1, "newest": newest.timestamp(), "oldest": newest.timestamp()})


def test_nothing_is_ok_that_was_never_seen() -> None:
    _, standing = look(Memory(), [], [], listed("app"))
    (one,) = standing.databases
    assert (one.state, one.record) == (UNKNOWN, None)


def test_pod_that_is_gone_is_remembered_and_without_memory_it_is_unknown() -> None:
    job, pod = ran("run-1", [good("app")])
    memory, standing = look(Memory(), [job], [pod], listed("app"))
    assert states(standing) == {"app": OK}
    assert states(look(memory, [job], [], listed("app"))[1]) == {"app": OK}
    assert states(look(memory, [], [], listed("app"))[1]) == {"app": OK}
    lost, standing = look(Memory(), [job], [], listed("app"))
    assert states(standing) == {"app": UNKNOWN}
    assert lost.records["app"].success == START + 5 * MINUTE
    assert lost.records["app"].newest is None
    assert states(look(lost, [job], [pod], listed("app"))[1]) == {"app": OK}, "its pod was only read late"


def test_job_that_left_no_words_has_failed_for_all_its_databases_with_the_reason_of_kubernetes() -> None:
    before, pod = ran("run-1", [good("app"), good("blog")])
    killed = job_object("run-2", START + 2 * HOUR, START + 3 * HOUR, failed=True, reason="DeadlineExceeded")
    memory, standing = look(Memory(), [before, killed], [pod], listed("app", "blog"))
    assert states(standing) == {"app": FAILED, "blog": FAILED}
    assert {one.why for one in standing.databases} == {"DeadlineExceeded"}
    assert memory.records["app"].newest == START + MINUTE, "its backups are still there"


def test_run_that_is_gone_before_anyone_saw_it_leaves_no_ok() -> None:
    job, pod = ran("run-1", [good("app")])
    memory, _ = look(Memory(), [job], [pod], listed("app"))
    for last, state in ((START, OK), (START + 2 * HOUR, UNKNOWN)):
        assert states(look(memory, [], [], listed("app"), cronjobs=[cronjob_object(last=last)])[1]) == {"app": state}
    running = job_object("run-2", START + 2 * HOUR, None)
    cronjobs = [cronjob_object(last=START + 2 * HOUR)]
    assert states(look(memory, [running], [], listed("app"), cronjobs=cronjobs)[1]) == {"app": OK}


def test_backup_gets_old_by_itself_unless_it_is_suspended() -> None:
    job, pod = ran("run-1", [good("app")])
    old = START + MINUTE + STALE_AFTER
    for now, state in ((old, OK), (old + timedelta(seconds=1), LATE)):
        assert states(look(Memory(), [job], [pod], listed("app"), now)[1]) == {"app": state}
    _, standing = look(Memory(), [job], [pod], listed("app"), old + HOUR, [cronjob_object(suspend=True)])
    (one,) = standing.databases
    assert (one.state, one.suspended, one.next_run) == (OK, True, None)


def test_backup_of_the_future_is_not_ok() -> None:
    job, pod = ran("run-1", [good("app", START + 30 * HOUR)])
    assert states(look(Memory(), [job], [pod], listed("app"))[1]) == {"app": WARNING}


def test_backup_that_a_fast_clock_dated_is_not_ok_once_that_moment_has_come() -> None:
    """It would look young for as long as the clock was ahead, though it is older than it may be."""
    job, pod = ran("run-1", [good("app", START + 6 * HOUR)])
    for hours in (1, 7, 11):
        (one,) = look(Memory(), [job], [pod], listed("app"), START + hours * HOUR)[1].databases
        assert one.state == WARNING
        assert "check the clocks of the nodes" in one.why
    assert states(look(Memory(), [job], [pod], listed("app"), START + 12 * HOUR)[1]) == {"app": LATE}


@pytest.mark.parametrize("forged", ["owner", "claim", "pod"])
def test_job_or_pod_of_someone_else_says_nothing(forged: str) -> None:
    job, pod = ran("run-1", [good("app")])
    if forged == "owner":
        job["metadata"]["ownerReferences"][0]["uid"] = "uid-other"
    elif forged == "claim":
        spec = {**SPEC, "volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": f"not-{CLAIM}"}}]}
        job["spec"] = {"template": {"spec": spec}}
    else:
        pod["metadata"]["ownerReferences"][0]["uid"] = "uid-other"
    assert states(look(Memory(), [job], [pod], listed("app"))[1]) == {"app": UNKNOWN}


def test_messages_of_the_first_form_are_understood_and_conclude_nothing() -> None:
    job = job_object("run-1", START, START + MINUTE)
    text = "3 databases done\napp ok (newest 2026-03-01 00:01Z): published"
    memory, standing = look(Memory(), [job], [pod_object("run-1", text)], listed("app", "blog"))
    assert states(standing) == {"app": OK, "blog": UNKNOWN}
    assert memory.records["app"].numbers == {"bad": 0, "refused": 0}


def test_what_is_not_named_is_ok_only_if_the_counts_agree_with_the_configuration() -> None:
    names = [f"database-{index:03}" for index in range(100)]
    job, pod = ran("run-1", [good(name) for name in names])
    memory, standing = look(Memory(), [job], [pod], listed(*names))
    assert set(states(standing).values()) == {OK}
    last = memory.records["database-099"]
    assert (last.newest, last.numbers) == (START, {"bad": 0, "refused": 0}), "as old as its Job, and no size"
    _, standing = look(Memory(), [job], [pod], listed(*names, "another"))
    assert states(standing)["database-099"] == states(standing)["another"] == UNKNOWN
    assert states(standing)["database-000"] == OK


def test_databases_of_an_entry_are_those_that_the_last_complete_run_has_found() -> None:
    entry = Configured({}, {"shared": CONF})
    assert states(look(Memory(), [], [], entry)[1]) == {"shared": UNKNOWN}, "the expected side of every alert"
    first = ran("run-1", [good("shared.a"), good("shared.b"), good("other.c")])
    memory, standing = look(Memory(), [first[0]], [first[1]], entry)
    assert states(standing) == {"shared.a": OK, "shared.b": OK}
    second = ran("run-2", [good("shared.a", START + 2 * HOUR + MINUTE)], started=START + 2 * HOUR)
    memory, standing = look(memory, [first[0], second[0]], [first[1], second[1]], entry)
    assert states(standing) == {"shared.a": OK}
    unlisted = [Line("shared.a", FAILED, None, "no list"), Line("shared", FAILED, None, "no list")]
    third = ran("run-3", unlisted, started=START + 3 * HOUR)
    _, standing = look(memory, [third[0]], [third[1]], entry)
    assert states(standing) == {"shared": FAILED, "shared.a": FAILED}
    assert states(look(memory, [], [], listed("app"))[1]) == {"app": UNKNOWN}


def test_run_of_some_databases_says_nothing_about_the_others() -> None:
    job, pod = ran("run-1", [good("app")])
    volume = {"name": "config", "configMap": {"items": [{"key": "app.conf"}, {"key": "policy.json"}]}}
    job["spec"] = {"template": {"spec": {**SPEC, "volumes": [*SPEC["volumes"], volume]}}}
    assert states(look(Memory(), [job], [pod], listed("app", "blog"))[1]) == {"app": OK, "blog": UNKNOWN}
    killed = job_object("run-2", START + HOUR, START + 2 * HOUR, failed=True, reason="Deadline")
    killed["spec"] = job["spec"]
    assert states(look(Memory(), [job, killed], [pod], listed("app", "blog"))[1]) == {"app": FAILED, "blog": UNKNOWN}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"schema": 2}',
        '{"schema": 1}',
        '{"schema": 1, "records": [3], "complete": {}, "runs": {}}',
    ],
)
def test_memory_that_cannot_be_understood_is_as_if_nothing_had_been_learned(text: str) -> None:
    assert from_json(text) == Memory()


def test_memory_that_was_written_by_hand_makes_nothing_ok() -> None:
    job, pod = ran("run-1", [good("app")])
    memory, _ = look(Memory(), [job], [pod], listed("app"))
    text = to_json(memory).replace('"result": "ok"', '"result": "fine"')
    assert from_json(text) == Memory()


def drill(name: str, text: str | None, *, finished: Any, failed: bool = False) -> tuple[Any, list[Any]]:
    job = job_object(name, finished - MINUTE, finished, failed=failed, cronjob="drill", reason="Evicted")
    return job, [] if text is None else [pod_object(name, text, code=int(failed))]


def test_drills_are_remembered_and_a_failed_one_is_not_ok() -> None:
    job, pod = ran("run-1", [good("app"), good("blog")])
    proved = message.write_drills([message.Drill("app", "proved", "x.dump proved", 12), message.Drill("blog", "none")])
    broken = message.write_drills([message.Drill("app", "failed", "x.dump failed"), message.Drill("blog", "proved")])
    drills = [
        drill("drill-1", proved.decode(), finished=START + HOUR),
        drill("drill-2", broken.decode(), finished=START + 2 * HOUR, failed=True),
        drill("drill-3", None, finished=START + 3 * HOUR, failed=True),
        drill("drill-4", None, finished=START + 4 * HOUR),
    ]
    cronjobs = read_cronjobs([cronjob_object(), cronjob_object("drill", component="drill")])
    configured, memory = {CRONJOB: listed("app", "blog")}, Memory()
    seen = []
    for number in range(len(drills) + 1):
        jobs = [job, *(made for made, _ in drills[:number])]
        runs = read_runs(jobs, [pod, *(one for _, pods in drills[:number] for one in pods)], cronjobs)
        memory = learn(from_json(to_json(memory)), runs, configured, {"drill": frozenset({"app", "blog"})})
        now = START + 4 * HOUR
        found = judge(cronjobs, runs, memory, configured, now=now, stale_after={}, zones={})
        drilled = [one.drilled for one in found.databases]
        seen.append((states(found), [one and (one.result, one.proved, one.restore_seconds) for one in drilled]))
    one, two = START + HOUR, START + 2 * HOUR
    assert seen == [
        ({"app": OK, "blog": OK}, [None, None]),
        ({"app": OK, "blog": OK}, [("proved", one, 12), ("none", None, None)]),
        ({"app": FAILED, "blog": OK}, [("failed", one, 12), ("proved", two, None)]),
        ({"app": FAILED, "blog": FAILED}, [("failed", one, 12), ("failed", two, None)]),
        ({"app": OK, "blog": OK}, [("unknown", one, 12), ("unknown", two, None)]),
    ]


@pytest.mark.parametrize(
    ("proved", "oldest", "limit", "since"),
    [
        (START, None, 3 * HOUR - MINUTE, START),
        (START, None, 3 * HOUR, None),
        (START, START - 9 * HOUR, 3 * HOUR, None),
        (START, None, None, None),
        (None, START, 3 * HOUR - MINUTE, START),
        (None, START, 3 * HOUR, None),
        (None, None, HOUR, None),
    ],
)
def test_drill_is_too_old_when_none_has_restored_it_for_too_long_though_it_had_a_backup(
    proved: Any, oldest: Any, limit: Any, since: Any
) -> None:
    """As the alert CnpgBackupDrillStale has it; a failed drill does not count, nor one that had nothing to restore."""
    numbers = {} if oldest is None else {"oldest": oldest.timestamp()}
    job, pod = ran("run-1", [Line("app", OK, START, "published", {"kept": 1, **numbers})])
    drills = [message.Drill("app", "proved" if proved else "none", "x", 12)]
    said = message.write_drills(drills).decode()
    drill_job, pods = drill("drill-1", said, finished=START)
    cronjobs = read_cronjobs([cronjob_object(), cronjob_object("drill", component="drill")])
    configured = {CRONJOB: listed("app")}
    memory = learn(Memory(), read_runs([job, drill_job], [pod, *pods], cronjobs), configured, {"drill": frozenset()})
    now = START + 3 * HOUR
    found = judge(
        cronjobs, [], memory, configured, now=now, stale_after={}, zones={}, drill_stale_after=limit
    ).databases[0]
    assert found.drill_stale == since
    assert (found.state, found.why) == (
        (OK, "published") if since is None else (WARNING, "no drill has restored it for 3h")
    )


def test_words_that_are_read_late_do_not_replace_those_of_a_later_run() -> None:
    first = ran("run-1", [good("app"), good("blog")])
    broken = [Line("app", FAILED, START + MINUTE, "no password", {"kept": 1}), good("blog", START + 2 * HOUR + MINUTE)]
    second = ran("run-2", broken, started=START + 2 * HOUR)
    jobs = [first[0], second[0]]
    memory, _ = look(Memory(), jobs, [second[1]], listed("app", "blog"))
    late, standing = look(memory, jobs, [first[1], second[1]], listed("app", "blog"))
    assert states(standing) == {"app": FAILED, "blog": OK}
    assert late.records["blog"].newest == START + 2 * HOUR + MINUTE
    assert late.records == memory.records
