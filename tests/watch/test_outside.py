"""Copies outside, as the watcher knows them: no copy counts that no run has seen, and an old one is a problem."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from retention import message
from retention.message import FAILED, OK, WARNING, Line
from tests.watch.histories import (
    CRONJOB,
    HOUR,
    MINUTE,
    STALE_AFTER,
    START,
    cronjob_object,
    job_object,
    pod_object,
)
from tests.watch.test_metrics import databases_of, metrics, of
from tests.watch.test_standing import good, listed, ran
from watch.memory import Memory, from_json, learn, to_json
from watch.objects import OFFSITE, read_cronjobs, read_runs
from watch.problems import problem_of
from watch.standing import Standing, judge

COPIES = "cnpg-backup-offsite"
LIMIT = timedelta(days=2)


def copied(name: str, lines: list[Line] | None, *, finished: datetime, failed: bool = False) -> tuple[Any, Any]:
    """A run that copies; without lines its pod has left no message."""
    job = job_object(name, finished - MINUTE, finished, failed=failed, cronjob=COPIES)
    text = "" if lines is None else message.write(lines, done="copied").decode()
    return job, pod_object(name, text, code=int(failed))


def line(result: str = OK, newest: datetime | None = START, why: str = "copied", **numbers: float) -> Line:
    its = {"kept": 3, **({} if newest is None else {"newest": newest.timestamp()}), **numbers}
    return Line("app", result, newest, why, its)


def look(memory: Memory, *runs: tuple[Any, Any], now: datetime = START + HOUR) -> tuple[Memory, Standing]:
    cronjobs = read_cronjobs([cronjob_object(), cronjob_object(COPIES, component=OFFSITE)])
    jobs, pods = [job for job, _ in runs], [pod for _, pod in runs]
    by_name = {CRONJOB: listed("app")}
    found = read_runs(jobs, pods, cronjobs)
    memory = learn(memory, found, by_name)
    stale = {CRONJOB: STALE_AFTER}
    standing = judge(cronjobs, found, memory, by_name, now=now, stale_after=stale, zones={}, outside_stale_after=LIMIT)
    return memory, standing


def problem(standing: Standing, now: datetime) -> str:
    (one,) = standing.databases
    found = problem_of(one, now)
    return "" if found is None else f"{found.alert}: {found.what}"


def test_newest_copy_and_how_it_is_verified_are_metrics() -> None:
    _, standing = look(Memory(), copied("copy-1", [line()], finished=START + MINUTE))
    found = metrics(standing)
    assert of(found, "offsite_newest_timestamp_seconds", database="app") == [START.timestamp()]
    assert of(found, "offsite_verified", database="app", verified="etag") == [1]
    assert of(found, "offsite_verified", database="app", verified="readback") == [0]
    read = line(read=START.timestamp())
    _, standing = look(Memory(), copied("copy-2", [read], finished=START + MINUTE))
    assert of(metrics(standing), "offsite_verified", database="app", verified="readback") == [1]


def test_when_a_drill_restored_a_copy_is_a_metric_and_outlives_a_restart_and_an_older_watcher() -> None:
    first = copied("copy-1", [line(proved=START.timestamp(), restored=START.timestamp())], finished=START + MINUTE)
    memory, standing = look(Memory(), first)
    found = metrics(standing)
    assert of(found, "offsite_verified", database="app", verified="restored") == [1]
    assert of(found, "offsite_restored_timestamp_seconds", database="app") == [START.timestamp()]
    # The newest copy is another one by now, and was not restored.
    newer = copied("copy-2", [line(proved=START.timestamp())], finished=START + 2 * MINUTE)
    memory, standing = look(from_json(to_json(memory)), newer)
    found = metrics(standing)
    assert of(found, "offsite_verified", database="app", verified="etag") == [1]
    assert of(found, "offsite_restored_timestamp_seconds", database="app") == [START.timestamp()]
    (kept,) = json.loads(to_json(memory))["outside"].values()
    older = json.loads(to_json(memory)) | {"outside": {"app": kept[:-1]}}
    again = from_json(json.dumps(older)).outside["app"]
    assert (again.newest, again.restored) == (START, None)


def test_without_a_copy_there_is_no_moment_and_not_one_of_1970() -> None:
    for runs in ([], [copied("copy-1", [line(newest=None, kept=0)], finished=START + MINUTE)]):
        found = metrics(look(Memory(), *runs)[1])
        assert databases_of(found, "offsite_newest_timestamp_seconds") == set()
        assert databases_of(found, "offsite_verified") == set()


def test_what_was_learned_outlives_the_pods_and_a_restart() -> None:
    memory, standing = look(Memory(), copied("copy-1", [line()], finished=START + MINUTE))
    again = look(from_json(to_json(memory)))[1]
    assert metrics(again)[("offsite_newest_timestamp_seconds", _labels())] == START.timestamp()
    assert again.databases[0].outside == standing.databases[0].outside


def _labels() -> frozenset[tuple[str, str]]:
    return frozenset({("namespace", "default"), ("release", "cnpg-backup"), ("database", "app")})


def test_memory_of_an_older_watcher_is_kept() -> None:
    memory, _ = look(Memory(), ran("run-1", [good("app")]))
    older = to_json(memory).replace(', "outside": {}', "")
    assert older != to_json(memory)
    assert from_json(older).records == memory.records


def test_run_that_could_not_read_the_store_leaves_the_age_of_the_newest_copy() -> None:
    failed = Line("app", FAILED, None, "listing bucket: the destination does not answer")
    runs = [
        copied("copy-1", [line()], finished=START + MINUTE),
        copied("copy-2", [failed], finished=START + 2 * MINUTE, failed=True),
    ]
    (one,) = look(Memory(), *runs)[1].databases
    assert one.outside is not None
    assert (one.outside.result, one.outside.newest) == (FAILED, START)


def test_run_without_a_message_and_one_of_someone_else_change_nothing() -> None:
    memory, before = look(Memory(), copied("copy-1", [line()], finished=START + MINUTE))
    killed = copied("copy-2", None, finished=START + HOUR, failed=True)
    job, pod = copied("copy-3", [line(newest=START + HOUR)], finished=START + HOUR)
    job["metadata"]["ownerReferences"][0]["uid"] = "uid-of-another"
    _, after = look(memory, killed, (job, pod))
    assert after.databases[0].outside == before.databases[0].outside


def test_copy_gets_old_by_itself_and_says_why() -> None:
    well = copied("copy-1", [line(WARNING)], finished=START + MINUTE)
    backed_up = ran("run-1", [good("app", START)])
    for age, expected in ((LIMIT, ""), (LIMIT + MINUTE, "CnpgBackupOffsiteStale: has no new copy outside")):
        now = START + age
        recent = ran("run-2", [good("app", now - MINUTE)], started=now - 10 * MINUTE)
        found = problem(look(Memory(), backed_up, well, recent, now=now)[1], now)
        assert found.startswith(expected), found
        assert bool(found) == bool(expected), found
    bad = copied("copy-2", [line(FAILED, why="the bucket is full")], finished=START + HOUR, failed=True)
    now = START + LIMIT + MINUTE
    recent = ran("run-2", [good("app", now - MINUTE)], started=now - 10 * MINUTE)
    assert "the bucket is full" in problem(look(Memory(), well, bad, recent, now=now)[1], now)


def test_database_that_was_never_copied_is_a_problem_once_its_backups_are_old_enough() -> None:
    never = copied("copy-1", [line(newest=None, kept=0)], finished=START + MINUTE)
    for days, expected in ((1, False), (3, True)):
        now = START + timedelta(days=days)
        numbers = {"kept": 9, "newest": (now - MINUTE).timestamp(), "oldest": START.timestamp()}
        recent = ran("run-1", [Line("app", OK, now - MINUTE, "published", numbers)], started=now - 10 * MINUTE)
        assert ("CnpgBackupOffsiteStale" in problem(look(Memory(), never, recent, now=now)[1], now)) == expected
    # What no run has looked for is not known to be missing.
    assert problem(look(Memory(), recent, now=now)[1], now) == ""
