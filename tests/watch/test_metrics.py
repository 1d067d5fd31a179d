"""The metrics: exactly the configured databases, absent where nothing is known, and readable whatever the names are."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retention.message import FAILED, OK, REFUSED, Line
from tests.watch.histories import CLAIM, CRONJOB, HOUR, MINUTE, STALE_AFTER, START, History, cronjob_object, job_object
from tests.watch.test_standing import CONF, good, listed, look, ran
from watch.memory import Configured, Memory, from_json, to_json
from watch.metrics import render
from watch.standing import Standing

SAMPLE = re.compile(r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (?P<value>-?[0-9.e+-]+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"')
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Samples:
    """Read the format strictly: each family once, HELP and TYPE before its samples, no sample twice."""
    assert text.endswith("\n")
    found: Samples = {}
    family = ""
    seen: set[str] = set()
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in seen, f"{family} comes twice"
            seen.add(family)
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {family} {'counter' if family.endswith('_total') else 'gauge'}"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match["name"] == family
            unescaped = [
                (name, re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value))
                for name, value in LABEL.findall(match["labels"])
            ]
            key = (family.removeprefix("cnpg_backup_"), frozenset(unescaped))
            assert key not in found, line
            found[key] = float(match["value"])
    return found


def metrics(standing: Standing, read: datetime | None = START) -> Samples:
    return parse(render(standing, namespace="default", release="cnpg-backup", version="0.1.0", read=read))


def of(found: Samples, name: str, **labels: str) -> list[float]:
    return [value for (metric, its), value in found.items() if metric == name and set(labels.items()) <= its]


def databases_of(found: Samples, name: str) -> set[str]:
    return {dict(labels)["database"] for metric, labels in found if metric == name}


def test_every_metric_of_a_good_run() -> None:
    numbers = {
        "newest": 1772323260, "oldest": 1772000000, "bytes": 5, "tables": 34, "kept": 15, "total": 75,
        "dump": 2.5, "verify": 1,
    }  # fmt: skip
    job, pod = ran("run-1", [Line("app", OK, START + MINUTE, "published", numbers)])
    volume = "capacity=10 used=5 full=8 growth=-0.5"
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["message"] = ended["message"].replace("ok=1", f"ok=1 {volume}")
    _, standing = look(Memory(), [job], [pod], listed("app"))
    found = metrics(standing)
    common = {("namespace", "default"), ("release", "cnpg-backup")}
    assert all(common <= labels for _, labels in found)
    at = START.timestamp()
    expected = {
        "newest_timestamp_seconds": at + 60,
        "oldest_timestamp_seconds": 1772000000,
        "newest_size_bytes": 5,
        "newest_tables": 34,
        "backups": 15,
        "size_bytes": 75,
        "pinned": 0,
        "last_run_timestamp_seconds": at + 300,
        "last_success_timestamp_seconds": at + 300,
        "dump_duration_seconds": 2.5,
        "verify_duration_seconds": 1,
        "bad_archives": 0,
        "prune_refused": 0,
        "next_run_timestamp_seconds": at + 4 * 3600,
        "stale_after_seconds": 18600,
    }
    assert {name: of(found, name, database="app") for name in expected} == {k: [v] for k, v in expected.items()}
    info = {"cluster": "pg", "cluster_namespace": "default", "dbname": "db", "cronjob": CRONJOB, "suspended": "false"}
    assert of(found, "database_info", database="app", **info) == [1]
    results = {result: of(found, "last_run_result", database="app", result=result) for result in RESULTS}
    assert results == {result: [float(result == "ok")] for result in RESULTS}
    of_volume = {"capacity_bytes": 10, "used_bytes": 5, "needed_bytes": 8, "growth_bytes_per_second": -0.5}
    assert {name: of(found, f"volume_{name}", claim=CLAIM) for name in of_volume} == {
        name: [value] for name, value in of_volume.items()
    }
    assert of(found, "cronjob_last_job_result", cronjob=CRONJOB, component="backup", result="succeeded") == [1]
    assert of(found, "cronjob_last_job_result", cronjob=CRONJOB, result="failed") == [0]
    assert of(found, "cronjob_active", cronjob=CRONJOB) == [0]
    assert of(found, "status_read_timestamp_seconds") == [at]
    assert of(found, "build_info", version="0.1.0") == [1]


RESULTS = ("ok", "warning", "refused", "failed", "unknown")


def test_database_without_a_backup_has_no_newest_and_not_one_of_1970() -> None:
    job, pod = ran("run-1", [Line("app", FAILED, None, "no password", {"kept": 0, "total": 0})])
    found = metrics(look(Memory(), [job], [pod], listed("app", "blog"))[1])
    assert databases_of(found, "database_info") == {"app", "blog"}
    for name in ("newest_timestamp_seconds", "oldest_timestamp_seconds", "last_success_timestamp_seconds"):
        assert databases_of(found, name) == set(), name
    assert of(found, "backups", database="app") == [0], "there are none, and that is known"
    assert of(found, "backups", database="blog") == [], "nothing is known"
    assert of(found, "last_run_result", database="blog", result="unknown") == [1]


def test_bad_archive_and_refused_prune_are_counted() -> None:
    numbers = {"kept": 3, "bad": 2, "refused": 1}
    lines = [Line("app", FAILED, START, "bad", numbers), Line("blog", REFUSED, START, "9 of 10", {"kept": 10})]
    job, pod = ran("run-1", lines)
    found = metrics(look(Memory(), [job], [pod], listed("app", "blog"))[1])
    assert of(found, "bad_archives", database="app") == [2]
    assert of(found, "bad_archives", database="blog") == [0]
    assert of(found, "prune_refused", database="app") == of(found, "prune_refused", database="blog") == [1]


def test_api_server_that_was_never_read_leaves_nothing_but_the_version() -> None:
    found = metrics(look(Memory(), [], [], listed("app"))[1], read=None)
    assert {name for name, _ in found} == {"build_info"}


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1), st.text(), st.text())
def test_any_name_is_read_back(database: str, cluster: str, dbname: str) -> None:
    configured = Configured({database: {**CONF, "cluster": cluster, "dbname": dbname}})
    found = metrics(look(Memory(), [], [], configured)[1])
    assert of(found, "database_info", database=database, cluster=cluster, dbname=dbname) == [1]


ALWAYS_POSITIVE = ("newest_timestamp_seconds", "oldest_timestamp_seconds", "last_run_timestamp_seconds",
                   "last_success_timestamp_seconds", "next_run_timestamp_seconds", "newest_size_bytes",
                   "stale_after_seconds")  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 60]))
def test_metrics_of_any_history_are_of_the_configured_databases_alone_and_never_0_for_none(
    seed: int, databases: int
) -> None:
    dice = random.Random(seed)
    history = History(dice, [f"database-{index:03}" for index in range(databases)])
    memory = Memory()
    for _ in range(8):
        history.step()
        configured = [name for name in history.databases if dice.random() < 0.9]
        cronjobs = [cronjob_object(last=history.last_schedule)]
        view: tuple[Any, ...] = (history.jobs, history.pods, listed(*configured), history.now, cronjobs)
        memory, standing = look(memory, *view)
        found = metrics(standing)
        assert databases_of(found, "database_info") == set(configured)
        assert {dict(labels)["database"] for _, labels in found if "database" in dict(labels)} == set(configured)
        assert not any(value <= 0 for (name, _), value in found.items() if name in ALWAYS_POSITIVE)
        for name in configured:
            assert sum(of(found, "last_run_result", database=name)) == 1
            assert len(of(found, "last_run_result", database=name)) == 5
        _, again = look(from_json(to_json(memory)), *view)
        assert metrics(again) == found, "a restart changes the metrics"


def test_cronjobs_have_their_own_metrics_also_drills() -> None:
    drill = cronjob_object("cnpg-backup-drill", component="drill")
    running = job_object("drill-1", START, None, cronjob="cnpg-backup-drill")
    failed = job_object("drill-0", START - HOUR, START, cronjob="cnpg-backup-drill", failed=True)
    found = metrics(look(Memory(), [running, failed], [], listed("app"), cronjobs=[cronjob_object(), drill])[1])
    labels = {"cronjob": "cnpg-backup-drill", "component": "drill"}
    assert of(found, "cronjob_active", **labels) == [1]
    assert of(found, "cronjob_last_job_result", **labels, result="failed") == [1]
    assert of(found, "cronjob_last_job_result", cronjob=CRONJOB) == [], "none has ended"


@pytest.mark.parametrize("databases", [1, 300])
def test_thirty_series_a_database_at_most(databases: int) -> None:
    names = [f"database-{index:03}" for index in range(databases)]
    job, pod = ran("run-1", [good(name) for name in names])
    found = metrics(look(Memory(), [job], [pod], listed(*names), datetime(2026, 3, 1, 3, tzinfo=UTC))[1])
    assert len(found) <= 30 * databases + 20
    assert STALE_AFTER.total_seconds() in of(found, "stale_after_seconds", database=names[-1])
