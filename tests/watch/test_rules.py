"""The alerts: thresholds that fit every schedule, metrics that exist, and one shape for all."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.watch.test_schedule import START, schedules
from watch import metrics, thresholds
from watch.rules import CRITICAL, GROUP, Rule, Target, base, document, full

METRIC = re.compile(r"\bcnpg_backup_[a-z_]+|\bkube_[a-z_]+")
STABLE = {f"kube_cronjob_{name}" for name in ("info", "created", "spec_suspend", "status_last_successful_time")}
"""Those of kube-state-metrics that its documentation calls stable."""


def target(schedule: str = "0 */2 * * *", **more: object) -> Target:
    its = thresholds.of(schedule, utc=True, starting_deadline=600)
    drill = thresholds.of("0 4 * * 0", utc=True, starting_deadline=600)
    names = ("cnpg-pg-dump-backup", "cnpg-pg-dump-backup-16")
    return Target("default", "cnpg-backup", names, its, drill, "https://example.org/runbooks", **more)  # type: ignore[arg-type]


def every() -> list[Rule]:
    return [*full(target()), *base(target())]


@pytest.mark.parametrize(
    ("schedule", "stale_after", "failing_for"),
    [
        ("0 */2 * * *", 18_600, 8_400),
        ("0 3 * * *", 60 * 3600 + 600, 24 * 3600 + 1200),
        ("0 3 * * 0", 420 * 3600 + 600, 168 * 3600 + 1200),
        ("*/15 * * * *", 2250 + 600, 900 + 1200),
    ],
)
def test_thresholds_of_known_schedules(schedule: str, stale_after: int, failing_for: int) -> None:
    found = thresholds.of(schedule, utc=True, starting_deadline=600)
    assert (found.stale_after, found.failing_for) == (stale_after, failing_for)


def check_schedule(expression: str, zone: str, deadline: int) -> None:
    """Simulate: runs that start as late as they may, one of which fails, never raise an alert; two in a row do."""
    its = thresholds.of(expression, utc=zone == "UTC", starting_deadline=deadline)
    simulated = CronSim(expression, START.astimezone(ZoneInfo(zone)))
    due = [next(simulated).astimezone(ZoneInfo("UTC")) for _ in range(60)]
    late = timedelta(seconds=deadline)
    for first, _, third in zip(due, due[1:], due[2:], strict=False):
        # The run in the middle fails; the third one starts late.
        assert (third + late - first).total_seconds() <= its.stale_after, f"{expression}: one failed run is an alert"
        assert its.lookback > its.stale_after
    for failed, following in pairwise(due):
        assert (following + late - failed).total_seconds() < its.failing_for, (
            f"{expression}: one failed run is an alert"
        )
    widest = max((later - earlier for earlier, later in pairwise(due)), default=timedelta())
    assert its.failing_for >= widest.total_seconds()


zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"])


@settings(max_examples=60, deadline=None)
@given(schedules, zones, st.integers(0, 3600))
def test_one_failed_run_raises_no_alert_whatever_the_schedule(expression: str, zone: str, deadline: int) -> None:
    check_schedule(expression, zone, deadline)


@pytest.mark.long
@settings(max_examples=5000, deadline=None)
@given(schedules, zones, st.integers(0, 3600))
def test_one_failed_run_of_very_many_schedules_raises_no_alert(expression: str, zone: str, deadline: int) -> None:
    check_schedule(expression, zone, deadline)


def test_schedule_that_is_hardly_ever_due_still_gives_an_alert() -> None:
    assert thresholds.of("0 0 30 2 *", utc=True, starting_deadline=0).stale_after == 1000 * 86400
    assert thresholds.of("0 0 29 2 *", utc=True, starting_deadline=0).stale_after == 1000 * 86400


def test_rules_ask_for_metrics_that_are_exported_and_for_stable_ones_of_kube_state_metrics() -> None:
    source = Path(metrics.__file__).read_text()
    exported = {f"cnpg_backup_{name}" for name in re.findall(r'"([a-z_]+)"', source)}
    for rule in every():
        for name in METRIC.findall(rule.expr):
            assert name in (STABLE if name.startswith("kube_") else exported), f"{rule.alert} asks for {name}"


def test_three_alerts_of_the_watcher_page_and_the_rest_can_wait_for_the_morning() -> None:
    assert {rule.alert for rule in full(target()) if rule.severity == CRITICAL} == {
        "CnpgBackupStale",
        "CnpgBackupNone",
        "CnpgBackupBadArchive",
    }
    assert len(every()) == 12
    assert len({rule.alert for rule in every()}) == 12


def test_base_needs_no_pod_of_ours() -> None:
    for rule in base(target()):
        ours = re.findall(r"(absent\()?(cnpg_backup_[a-z_]+)", rule.expr)
        assert all(absent for absent, _ in ours), f"{rule.alert} asks the watcher"


def test_every_selector_is_of_this_release() -> None:
    for rule in every():
        for name, selector in re.findall(r"((?:cnpg_backup|kube)_[a-z_]+)\{([^}]*)\}", rule.expr):
            assert 'namespace="default"' in selector, f"{rule.alert}: {name}"
            assert 'release="cnpg-backup"' in selector or name.startswith("kube_"), f"{rule.alert}: {name}"
            assert "cronjob" in selector or not name.startswith("kube_"), f"{rule.alert}: {name}"


def test_expressions_are_balanced_and_never_lose_the_labels_of_absent() -> None:
    for rule in every():
        for pair in ("()", "{}", "[]"):
            assert rule.expr.count(pair[0]) == rule.expr.count(pair[1]), rule.alert
        assert not re.search(r"absent\([^)]*[=<>]\s*\d", rule.expr), f"{rule.alert}: absent drops labels of comparisons"
        assert "topk" not in rule.expr


def test_alerts_are_chosen_and_labelled_by_value() -> None:
    chosen = target(
        exclude=frozenset({"CnpgBackupSuspended"}), severity={"CnpgBackupNone": "page"}, labels={"team": "db"}
    )
    found = json.loads(document([*full(chosen), *base(chosen)], chosen))
    ((group),) = found["groups"]
    assert group["name"] == GROUP
    by_name = {rule["alert"]: rule for rule in group["rules"]}
    assert "CnpgBackupSuspended" not in by_name
    none = by_name["CnpgBackupNone"]
    assert none["labels"] == {"severity": "page", "namespace": "default", "release": "cnpg-backup", "team": "db"}
    assert none["for"] == "18600s"
    assert none["annotations"]["runbook_url"] == "https://example.org/runbooks/CnpgBackupNone.md"
    assert set(none["annotations"]) == {"summary", "description", "runbook_url"}


def test_release_without_drills_has_no_alert_about_them() -> None:
    its = target()
    names = {rule.alert for rule in full(Target(its.namespace, its.release, its.cronjobs, its.thresholds, None, ""))}
    assert not {name for name in names if "Drill" in name}
