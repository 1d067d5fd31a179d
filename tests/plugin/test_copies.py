"""`copies`: how the last copy ended is said in the words of its log, and nothing is made unless asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model import copies
from kubectl_cnpg_backup.model.doctor import examine
from kubectl_cnpg_backup.model.doctor_network import is_own
from kubectl_cnpg_backup.model.findings import Level
from kubectl_cnpg_backup.model.release import Release, read_runs, releases
from kubectl_cnpg_backup.output import copied
from tests.lab import chart
from tests.plugin.common import NOW, ago, job, pod
from tests.plugin.test_doctor import healthy

STAGING = "cnpg-backup-copy-staging"
MESSAGE = (
    "kutt: kutt-20261122-140000.dump, of PostgreSQL 16.4, 12 MiB, 9 tables, "
    "to staging-rw.default.svc (16.4) as 'postgres'\n"
    'kutt: FAILED: 20-shrink.sql, line 3: relation "public.evnts" does not exist\n'
    "kutt: remedy: correct the file in its ConfigMap (copies[].sqlConfigMap), then run the copy again\n"
    "kutt: nothing was changed: 'kutt' is as it was\n"
)


def release(**status: Any) -> Release:
    values = {"copies": [
        {"name": "staging", "database": "kutt", "schedule": "0 * * * *", "sqlConfigMap": "sql", "cluster": "staging"},
        {"name": "other", "database": "authelia", "schedule": "@daily", "sqlConfigMap": "", "into": "look",
         "suspended": True},
    ]}  # fmt: skip
    items = []
    for one in chart.render(values):
        if one["kind"] == "CronJob":
            metadata = {**one["metadata"], "uid": one["metadata"]["name"], "creationTimestamp": ago(days=30)}
            items.append({**one, "metadata": metadata, "status": {"lastScheduleTime": ago(minutes=30), **status}})
    (found,) = releases(items, "default")
    return found


def runs(state: str, code: int, message: str = MESSAGE) -> Any:
    made = job(
        "copy-1", STAGING, state=state, started=ago(minutes=30), finished=ago(minutes=29), reason="BackoffLimitExceeded"
    )
    made["metadata"]["labels"]["app.kubernetes.io/component"] = "copy"
    made["metadata"]["ownerReferences"][0]["uid"] = STAGING
    return read_runs([made], [pod("copy-1", code, message)])


def test_a_copy_that_failed_is_said_with_file_and_line_and_the_remedy_of_its_log() -> None:
    found = copies.copies(release(), runs("Failed", 1), NOW)
    assert [(one.name, one.state) for one in found] == [("other", "suspended"), ("staging", "failed")]
    staging = found[1]
    assert staging.why == '20-shrink.sql, line 3: relation "public.evnts" does not exist'
    assert staging.remedy.startswith("correct the file in its ConfigMap")
    assert (staging.database, staging.cluster, staging.sql, staging.backup) == (
        "kutt",
        "default/staging",
        "sql",
        "proved",
    )
    rows = copied.table(found, NOW).rows
    assert rows[0][:5] == ["other", "authelia", "its own", "look", "suspended"]
    assert rows[1][:6] == ["staging", "kutt", "default/staging", "the same", "failed", "30m"]


@pytest.mark.parametrize(
    ("state", "code", "status", "expected"),
    [
        ("Complete", 0, {}, "ok"),
        ("", 0, {}, "running"),
        ("Failed", 3, {}, "failed"),
        ("Complete", 0, {"lastScheduleTime": ago(hours=5)}, "missed"),
    ],
)
def test_every_state_of_a_copy_is_told_apart(state: str, code: int, status: dict[str, Any], expected: str) -> None:
    found = copies.named(copies.copies(release(**status), runs(state, code), NOW), "staging")
    assert found.state == expected
    assert bool(found.remedy) == (expected in copies.BAD)


def test_a_copy_that_never_ran_is_not_wrong_before_it_is_due() -> None:
    found = copies.named(copies.copies(release(lastScheduleTime=None), [], NOW - timedelta(days=30)), STAGING)
    assert found.state == "never"


def test_a_pod_that_was_killed_is_said_in_the_words_of_kubernetes() -> None:
    found = copies.named(copies.copies(release(), runs("Failed", 137, ""), NOW), "staging")
    assert found.why == "container retention was killed by signal 9"
    assert "kubectl cnpg-backup logs copy-1" in found.remedy


def test_an_unknown_copy_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="did you mean 'staging'"):
        copies.named(copies.copies(release(), [], NOW), "stagin")
    with pytest.raises(UsageError, match="add it to `copies`"):
        copies.named([], "staging")


@pytest.mark.parametrize(("state", "code", "level"), [("Complete", 0, Level.GOOD), ("Failed", 1, Level.WRONG)])
def test_doctor_reports_a_copy_that_failed(state: str, code: int, level: Level) -> None:
    facts = healthy()
    found = [
        one
        for one in examine(replace(facts, release=release(), runs=[*facts.runs, *runs(state, code)]))
        if one.subject == f"cronjob/{STAGING}"
    ]
    assert [one.level for one in found] == [level]
    assert state == "Complete" or "20-shrink.sql, line 3" in found[0].found


def test_the_way_of_copies_is_the_releases_own() -> None:
    policies = [one for one in chart.render({"copies": [
        {"name": "staging", "database": "kutt", "schedule": "@daily", "sqlConfigMap": "", "cluster": "staging"}]})
        if one["kind"] == "NetworkPolicy"]  # fmt: skip
    assert len(policies) == 3
    assert all(is_own(one, release()) for one in policies)
