"""The alerts that the chart renders, as Prometheus runs them: for every values file and all kinds of schedules."""

from __future__ import annotations

import copy
import functools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.common import KYVERNO, OFFSITE, of_kind, rendered
from tests.lab import chart
from tests.lab.chart import ROOT, Manifest
from watch import metrics

PROMETHEUS = (*KYVERNO, "monitoring.coreos.com/v1")
ON = {"monitoring": {"enabled": True, "rules": {"enabled": True, "exclude": [], "severity": {}, "alertLabels": {}}}}
STEP = 900
"""Seconds between two samples of a test: `last_over_time` looks back half an hour at least."""
PAGING = {
    "CnpgBackupStale",
    "CnpgBackupNone",
    "CnpgBackupBadArchive",
    "CnpgBackupRunsStale",
    "CnpgBackupCronJobMissing",
}
ALERTS = sorted(set(re.findall(r'"alert" "(\w+)"', (chart.CHART / "templates" / "_rules.tpl").read_text())))
BASE = {"CnpgBackupRunsStale", "CnpgBackupCronJobMissing"}
STABLE = {f"kube_cronjob_{name}" for name in ("info", "created", "spec_suspend", "status_last_successful_time")}
"""Those metrics of kube-state-metrics that its documentation calls stable."""

Rule = dict[str, Any]


def render(*values: dict[str, Any]) -> list[Manifest]:
    return chart.render(chart.merge({}, *values), api_versions=PROMETHEUS)


def rules_of(manifests: list[Manifest]) -> list[Rule]:
    (found,) = of_kind(manifests, "PrometheusRule")
    (group,) = found["spec"]["groups"]
    rules: list[Rule] = group["rules"]
    return rules


@functools.cache
def _promtool() -> Path:
    return chart.pinned("promtool")


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(_promtool()), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def write(folder: Path, rules: list[Rule]) -> None:
    """Without annotations: what they say is tested by itself, and would have to be repeated in each expectation."""
    bare = [{key: value for key, value in rule.items() if key != "annotations"} for rule in rules]
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "all", "rules": bare}]}))


class Scenario:
    """Series of one release, and which alerts they raise when."""

    def __init__(self, rules: list[Rule], schedule: str, name: str) -> None:
        self.rules, self.schedule, self.name = rules, schedule, name
        self.length = 0
        self.series: list[tuple[str, Callable[[int], str]]] = []
        self.expected: list[dict[str, Any]] = []
        labels = rules[0]["labels"]
        self.selector = f'namespace="{labels["namespace"]}",release="{labels["release"]}"'

    def add(self, metric: str, values: str | Callable[[int], str], more: str = 'database="shop"') -> None:
        """Add a series of the watcher's; `values` is in promtool's notation, for a number of samples."""
        labels = ",".join(part for part in (self.selector, more) if part)
        self.series.append((f"cnpg_backup_{metric}{{{labels}}}", values if callable(values) else lambda _: str(values)))

    def kube(self, metric: str, cronjob: str, value: str) -> None:
        namespace = self.rules[0]["labels"]["namespace"]
        series = f'kube_cronjob_{metric}{{namespace="{namespace}",cronjob="{cronjob}",pod="ksm"}}'
        self.series.append((series, lambda _: value))

    def configured(self, cronjob: str, database: str = "shop", *, suspended: bool = False) -> None:
        more = f'database="{database}",cronjob="{cronjob}",suspended="{str(suspended).lower()}"'
        self.add("database_info", "1", more)

    def read(self) -> None:
        """The watcher reads the API server all the time."""
        self.add("status_read_timestamp_seconds", "clock", "")

    def expect(self, seconds: int, alert: str, *labels: dict[str, str]) -> None:
        """Expect an alert once for each set of labels, and not at all without one."""
        its = next(
            rule["labels"]
            for rule in self.rules
            if rule["alert"] == alert and rule["labels"].get("schedule", "") in ("", self.schedule)
        )
        self.length = max(self.length, seconds)
        found = [{"exp_labels": {**its, **one}} for one in labels]
        self.expected.append({"eval_time": f"{seconds}s", "alertname": alert, "exp_alerts": found})

    def document(self) -> dict[str, Any]:
        count = self.length // STEP + 2
        series = []
        for name, values in self.series:
            value = values(count)
            text = (
                f"0+{STEP}x{count}" if value == "clock" else value if re.search("[x_]", value) else f"{value}x{count}"
            )
            series.append({"series": name, "values": text})
        return {
            "name": self.name,
            "interval": f"{STEP}s",
            "input_series": series,
            "alert_rule_test": self.expected,
        }


def lasting(rules: list[Rule], alert: str, schedule: str = "") -> int:
    found = [rule for rule in rules if rule["alert"] == alert and rule["labels"].get("schedule", "") in ("", schedule)]
    return int(found[0]["for"].removesuffix("s"))


class Clock:
    """When the rules of a test are evaluated: as rarely as its schedule allows, since a week of samples takes long."""

    def __init__(self, rules: list[Rule], schedule: str) -> None:
        self.every = max(1, lasting(rules, "CnpgBackupFailing", schedule) // 12 // STEP) * STEP

    def up(self, seconds: int) -> int:
        """The next evaluation but one."""
        return (seconds // self.every + 2) * self.every

    def down(self, seconds: int) -> int:
        """The last evaluation but one."""
        return max(0, (seconds // self.every - 1) * self.every)


def scenarios(rules: list[Rule], cronjob: str, schedule: str) -> Iterator[Scenario]:
    """All that can happen to one database of a CronJob."""
    shop = {"database": "shop"}
    alerts = {rule["alert"] for rule in rules}
    stale, failing = (lasting(rules, name, schedule) for name in ("CnpgBackupNone", "CnpgBackupFailing"))
    clock = Clock(rules, schedule)
    up, down, every = clock.up, clock.down, clock.every

    def begin(name: str, suspended: bool = False) -> Scenario:
        made = Scenario(rules, schedule, name)
        made.read()
        made.configured(cronjob, suspended=suspended)
        return made

    one = begin("stale")
    one.add("newest_timestamp_seconds", "0")
    one.add("stale_after_seconds", str(stale))
    one.add("bad_archives", "0")
    one.expect(down(stale), "CnpgBackupStale")
    one.expect(up(stale + 300), "CnpgBackupStale", shop)
    one.expect(up(stale + 300), "CnpgBackupNone")
    one.expect(up(stale + 300), "CnpgBackupBadArchive")
    one.expect(up(stale + 300), "CnpgBackupStatusDown")
    yield one

    one = begin("stale, and the watcher away for two hours: no new beginning")
    one.add("newest_timestamp_seconds", lambda count: f"0x5 _x11 0x{count}")
    one.add("stale_after_seconds", lambda count: f"{stale}x5 _x11 {stale}x{count}")
    one.expect(up(max(stale, 4 * 3600) + 300), "CnpgBackupStale", shop)
    yield one

    one = begin("no backup at all")
    one.expect(down(stale), "CnpgBackupNone")
    one.expect(up(stale), "CnpgBackupNone", shop)
    one.expect(up(stale), "CnpgBackupStale")
    yield one

    for name, metric, more in (
        ("failing", "last_run_result", 'database="shop",result="failed"'),
        ("refused", "prune_refused", 'database="shop"'),
    ):
        alert = {"failing": "CnpgBackupFailing", "refused": "CnpgBackupPruneRefused"}[name]
        one = begin(name)
        one.add(metric, "1", more)
        one.add("bad_archives", "0")
        one.expect(down(failing), alert)
        one.expect(up(failing), alert, shop)
        yield one
        one = begin(f"{name} once: the next run is well")
        short = max(1, (failing - 1800) // STEP - 2)
        one.add(metric, functools.partial("1x{} 0x{}".format, short), more)
        one.expect(up(2 * failing), alert)
        yield one
        one = begin(f"not {name}")
        one.add(metric, "0", more)
        one.expect(up(2 * failing), alert)
        yield one

    yield from after_a_restart(rules, cronjob, schedule, failing, clock)

    one = begin("a bad archive is one alert, not two")
    one.add("last_run_result", "1", 'database="shop",result="failed"')
    one.add("bad_archives", "2")
    one.expect(up(300), "CnpgBackupBadArchive", shop)
    one.expect(up(failing), "CnpgBackupFailing")
    yield one

    if "CnpgBackupSuspended" in alerts:
        before = (up(86400) + every) // STEP
        one = Scenario(rules, schedule, "resumed: the alert is over with the next look, and others may speak again")
        one.read()
        for state, values in (("true", "1x{0} _x{1}"), ("false", "_x{0} _ 1x{1}")):
            more = f'database="shop",cronjob="{cronjob}",suspended="{state}"'
            one.add("database_info", functools.partial(values.format, before), more)
        one.add("newest_timestamp_seconds", "0")
        one.add("stale_after_seconds", "60")
        at = (before // (every // STEP)) * every
        one.expect(at, "CnpgBackupSuspended", shop)
        one.expect(at, "CnpgBackupStale")
        one.expect(at + 2 * every, "CnpgBackupSuspended")
        one.expect(at + 4 * every, "CnpgBackupStale", shop)
        yield one
        one = begin("suspended: one alert, late, and no other", suspended=True)
        one.add("newest_timestamp_seconds", "0")
        one.add("stale_after_seconds", "60")
        one.expect(down(86400), "CnpgBackupSuspended")
        one.expect(up(86400), "CnpgBackupSuspended", shop)
        one.expect(up(max(86400, stale)), "CnpgBackupStale")
        one.expect(up(max(86400, stale)), "CnpgBackupNone")
        yield one
        one = begin("not suspended")
        one.expect(up(2 * 86400), "CnpgBackupSuspended")
        yield one

    for name, capacity, needed, growth, fires in (
        ("the volume is too small", 1000, 1001, 0, True),
        ("the volume will be full within a week", 10**9, 9 * 10**8, 1000, True),
        ("the volume has room and does not grow", 10**9, 9 * 10**8, 0, False),
        ("the volume has room for years", 10**12, 9 * 10**8, 1, False),
    ):
        one = begin(name)
        one.add("volume_capacity_bytes", str(capacity), 'claim="c"')
        one.add("volume_needed_bytes", str(needed), 'claim="c"')
        one.add("volume_growth_bytes_per_second", str(growth), 'claim="c"')
        one.expect(down(3600), "CnpgBackupVolumeFull")
        one.expect(up(3600), "CnpgBackupVolumeFull", *([{}] if fires else []))
        yield one

    one = Scenario(rules, schedule, "the watcher is gone")
    one.add("status_read_timestamp_seconds", f"0+{STEP}x{3 * every // STEP}", "")
    one.expect(4 * every, "CnpgBackupStatusDown")
    one.expect(6 * every, "CnpgBackupStatusDown", {})
    yield one
    one = Scenario(rules, schedule, "the watcher serves and cannot read the API server")
    one.add("status_read_timestamp_seconds", "600", "")
    one.expect(900, "CnpgBackupStatusDown")
    one.expect(6 * every, "CnpgBackupStatusDown", {})
    yield one
    yield from drilled(rules, begin, shop, up)
    yield from copied(rules, begin, shop, up)
    yield from on_kube_state_metrics(rules, cronjob, schedule, stale, clock)


def after_a_restart(rules: list[Rule], cronjob: str, schedule: str, failing: int, clock: Clock) -> Iterator[Scenario]:
    """A cure is often an upgrade, which restarts the watcher: the old one's word no longer counts."""
    shop = {"database": "shop"}
    for metric, labels, alert, lasting in (
        ("last_run_result", ',result="failed"', "CnpgBackupFailing", failing),
        ("bad_archives", "", "CnpgBackupBadArchive", 300),
        ("prune_refused", "", "CnpgBackupPruneRefused", failing),
    ):
        one = Scenario(rules, schedule, f"the watcher starts again after the cure: {metric}")
        one.read()
        one.configured(cronjob)
        at = clock.up(lasting)
        before = at // STEP
        for pod, values in (("a", "1x{0} _x{1}"), ("b", "_x{0} _ 0x{1}")):
            one.add(metric, functools.partial(values.format, before), f'database="shop",pod="{pod}"{labels}')
        one.expect(at, alert, shop)
        one.expect(at + clock.every, alert)
        yield one


def drilled(
    rules: list[Rule], begin: Callable[[str], Scenario], shop: dict[str, str], up: Callable[[int], int]
) -> Iterator[Scenario]:
    if not any(rule["alert"] == "CnpgBackupDrillStale" for rule in rules):
        return
    (rule,) = (rule for rule in rules if rule["alert"] == "CnpgBackupDrillStale")
    limit = int(re.findall(r" > (\d+)", rule["expr"])[0])
    for name, metric, age, fires in (
        ("proved lately", "drill_proved_timestamp_seconds", 0, False),
        ("proved long ago", "drill_proved_timestamp_seconds", limit + 60, True),
        ("never proved, with old backups", "oldest_timestamp_seconds", limit + 60, True),
        ("never proved, with young backups", "oldest_timestamp_seconds", 0, False),
    ):
        one = begin(f"drills: {name}")
        one.add(metric, str(-age))
        one.expect(0, "CnpgBackupDrillStale")
        one.expect(up(3600), "CnpgBackupDrillStale", *([shop] if fires else []))
        yield one
    for result, fires in (("1", True), ("0", False)):
        one = begin(f"drills: failed {result}")
        one.add("drill_result", result, 'database="shop",result="failed"')
        one.expect(up(300), "CnpgBackupDrillFailed", *([shop] if fires else []))
        yield one


def copied(
    rules: list[Rule], begin: Callable[[str], Scenario], shop: dict[str, str], up: Callable[[int], int]
) -> Iterator[Scenario]:
    found = [rule for rule in rules if rule["alert"] == "CnpgBackupOffsiteStale"]
    for rule in found:
        limit = int(re.findall(r" > (\d+)", rule["expr"])[0])
        for name, metric, age, fires in (
            ("lately", "offsite_newest_timestamp_seconds", 0, False),
            ("long ago", "offsite_newest_timestamp_seconds", limit + 60, True),
            ("not quite so long ago", "offsite_newest_timestamp_seconds", limit - up(3600) - 60, False),
            ("never, with old backups", "oldest_timestamp_seconds", limit + 60, True),
            ("never, with young backups", "oldest_timestamp_seconds", 0, False),
        ):
            one = begin(f"copied {name}")
            one.add(metric, str(-age))
            one.expect(0, "CnpgBackupOffsiteStale")
            one.expect(up(3600), "CnpgBackupOffsiteStale", *([shop] if fires else []))
            yield one


def on_kube_state_metrics(
    rules: list[Rule], cronjob: str, schedule: str, stale: int, clock: Clock
) -> Iterator[Scenario]:
    up, down = clock.up, clock.down
    found = {"cronjob": cronjob}
    for name, metric, there, suspended, fires in (
        ("no run for long", "status_last_successful_time", False, "0", True),
        ("never a run", "created", False, "0", True),
        ("the watcher speaks", "status_last_successful_time", True, "0", False),
        ("suspended", "status_last_successful_time", False, "1", False),
    ):
        one = Scenario(rules, schedule, f"without the watcher: {name}")
        if there:
            one.read()
        one.kube(metric, cronjob, "0")
        one.kube("spec_suspend", cronjob, suspended)
        one.expect(down(stale), "CnpgBackupRunsStale")
        one.expect(up(stale + 300), "CnpgBackupRunsStale", *([found] if fires else []))
        yield one
    names = cronjobs(rules)
    for name, others, missing in (
        ("a CronJob is gone", [one for one in names if one != cronjob], True),
        ("all CronJobs are there", names, False),
    ):
        one = Scenario(rules, schedule, name)
        one.kube("info", "another", "1")
        for each in others:
            one.kube("info", each, "1")
        labels = found if len(names) <= 20 else {}
        one.expect(0, "CnpgBackupCronJobMissing")
        one.expect(up(900), "CnpgBackupCronJobMissing", *([labels] if missing else []))
        yield one
    one = Scenario(rules, schedule, "kube-state-metrics is gone")
    one.expect(up(900), "CnpgBackupCronJobMissing")
    yield one


def cronjobs(rules: list[Rule]) -> list[str]:
    stale = [rule["expr"] for rule in rules if rule["alert"] == "CnpgBackupRunsStale"]
    return [
        name.replace("[.]", ".") for expr in stale for name in re.findall(r'cronjob=~"([^"]+)"', expr)[0].split("|")
    ]


def run(folder: Path, rules: list[Rule], cronjob: str, schedule: str) -> subprocess.CompletedProcess[str]:
    write(folder, rules)
    return run_scenarios(folder, [one.document() for one in scenarios(rules, cronjob, schedule)], rules, schedule)


def run_scenarios(
    folder: Path, tests: list[dict[str, Any]], rules: list[Rule], schedule: str
) -> subprocess.CompletedProcess[str]:
    every = Clock(rules, schedule).every
    document = {"rule_files": ["rules.json"], "evaluation_interval": f"{every}s", "tests": tests}
    (folder / "tests.json").write_text(json.dumps(document))
    return promtool("test", "rules", "tests.json", folder=folder)


def first_of(rules: list[Rule]) -> tuple[str, str]:
    stale = next(rule for rule in rules if rule["alert"] == "CnpgBackupRunsStale")
    name = re.findall(r'cronjob=~"([^"|]+)', stale["expr"])[0].replace("[.]", ".")
    return name, stale["labels"].get("schedule", "")


def test_alerts_of_every_values_file_do_what_they_promise(ci_file: Path, tmp_path: Path) -> None:
    rules = rules_of(render(yaml.safe_load(ci_file.read_text()) or {}, ON))
    (tmp_path / "whole.json").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", "whole.json", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr

    def complaints() -> str:
        done = run(tmp_path, rules, *first_of(rules))
        return done.stdout + done.stderr if done.returncode else ""

    # Many values files have the same rules, and what they do follows from them alone.
    told = chart.once(["what alerts do", json.dumps(rules)], complaints)
    assert not told, told


SCHEDULES = [
    "*/15 * * * *",
    "0 */2 * * *",
    "30 1,7,13,19 * * *",
    "0 3 * * *",
    "0 3 * * MON-FRI",
    "@weekly",
    "0 0 1 * *",
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_alerts_of_every_schedule_do_what_they_promise(schedule: str, tmp_path: Path) -> None:
    rules = rules_of(render({"schedule": schedule, "activeDeadlineSeconds": 300, "startingDeadlineSeconds": 300}, ON))
    done = run(tmp_path, rules, *first_of(rules))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_of_several_schedules_has_alerts_of_its_own(tmp_path: Path) -> None:
    databases = [{"name": "shop", "cluster": "a"}, {"name": "blog", "cluster": "a", "schedule": "@weekly"}]
    rules = rules_of(render({"databases": databases}, ON))
    names = {rule["labels"]["schedule"] for rule in rules if rule["alert"] == "CnpgBackupNone"}
    assert names == {"0 */2 * * *", "@weekly"}
    for name in cronjobs(rules):
        stale = next(rule for rule in rules if rule["alert"] == "CnpgBackupRunsStale" and f'"{name}"' in rule["expr"])
        schedule = stale["labels"]["schedule"]
        done = run(tmp_path, rules, name, schedule)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (
            lasting(rules, "CnpgBackupNone", schedule) == {"0 */2 * * *": 18600, "@weekly": 420 * 3600 + 600}[schedule]
        )


@pytest.mark.parametrize(("kind", "fires"), [("tiers", False), ("newest", True)])
def test_a_copy_of_yesterday_is_an_alert_only_where_each_newest_backup_is_copied(
    kind: str, fires: bool, tmp_path: Path
) -> None:
    rules = rules_of(render(ON, OFFSITE, {"offsite": {"copy": kind}}))
    cronjob, schedule = first_of(rules)
    one = Scenario(rules, schedule, "a copy of yesterday")
    one.read()
    one.configured(cronjob)
    one.add("offsite_newest_timestamp_seconds", str(-25 * 3600))
    one.expect(Clock(rules, schedule).up(3600), "CnpgBackupOffsiteStale", *([{"database": "shop"}] if fires else []))
    write(tmp_path, rules)
    done = run_scenarios(tmp_path, [one.document()], rules, schedule)
    assert done.returncode == 0, done.stdout + done.stderr


def breakage(rule: Rule) -> Iterator[Rule]:
    """What can be wrong with a rule: each of these must be found."""
    changes = [("for", "0s"), ("for", f"{2 * int(rule['for'][:-1]) + 3600}s")]
    for key, value in changes:
        if rule["for"] in ("300s",) and value == "0s":
            continue
        yield {**rule, key: value}
    expr = rule["expr"]
    for old, new in ((" > ", " < "), (" == 1", " == 0"), ("unless", "and"), ("\nand on", "\nor on")):
        if old in expr:
            yield {**rule, "expr": expr.replace(old, new, 1)}
    yield {**rule, "expr": "vector(1) == 0"}


@pytest.mark.parametrize("alert", ALERTS)
def test_a_rule_that_is_broken_is_found(alert: str, tmp_path: Path) -> None:
    rules = rules_of(render(ON, OFFSITE))
    (index,) = (number for number, rule in enumerate(rules) if rule["alert"] == alert)
    tried = 0
    for broken in breakage(rules[index]):
        changed = copy.deepcopy(rules)
        changed[index] = broken
        # What is promised is read from the rules as they should be.
        write(tmp_path, changed)
        every = [one.document() for one in scenarios(rules, *first_of(rules))]
        tests = [one for one in every if f'"{alert}"' in json.dumps(one)]
        done = run_scenarios(tmp_path, tests, rules, first_of(rules)[1])
        assert done.returncode != 0, f"nothing notices {broken['for']}: {broken['expr']}"
        tried += 1
    assert tried >= 2


def test_rules_ask_for_metrics_that_are_exported_and_for_stable_ones_of_kube_state_metrics() -> None:
    source = Path(metrics.__file__).read_text()
    exported = {f"cnpg_backup_{name}" for name in re.findall(r'"([a-z_]+)"', source)}
    for rule in rules_of(render(ON)):
        for name in re.findall(r"\bcnpg_backup_[a-z_]+|\bkube_[a-z_]+", rule["expr"]):
            assert name in (STABLE if name.startswith("kube_") else exported), f"{rule['alert']} asks for {name}"


def test_few_alerts_page_and_each_says_what_to_do_next() -> None:
    rules = rules_of(render(ON))
    assert {rule["alert"] for rule in rules if rule["labels"]["severity"] == "critical"} == PAGING
    assert len(rules) == 12
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert "Next: kubectl " in rule["annotations"]["description"], rule["alert"]
        assert "in namespace default" in rule["annotations"]["description"], rule["alert"]
        last = rule["annotations"]["description"].splitlines()[-1]
        assert last == f"Runbook: {rule['annotations']['runbook_url']}"
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{rule['alert']}.md")


def test_without_a_watcher_there_is_the_base_set_and_it_needs_no_pod_of_ours() -> None:
    rules = rules_of(render(ON, {"monitoring": {"enabled": False}}))
    assert {rule["alert"] for rule in rules} == BASE
    for rule in rules:
        ours = re.findall(r"(absent\()?(cnpg_backup_[a-z_]+)", rule["expr"])
        assert all(absent for absent, _ in ours), f"{rule['alert']} asks the watcher"


def test_rules_are_there_where_the_operator_of_prometheus_is() -> None:
    assert not of_kind(rendered(), "PrometheusRule")
    assert of_kind(render(), "PrometheusRule")
    assert not of_kind(render({"monitoring": {"rules": {"enabled": False}}}), "PrometheusRule")


def test_alerts_are_chosen_and_labelled_by_value() -> None:
    chosen = {
        "labels": {"release": "prometheus"},
        "alertLabels": {"team": "db"},
        "exclude": ["CnpgBackupSuspended"],
        "severity": {"CnpgBackupNone": "page"},
        "runbookUrl": "https://example.org/runbooks/",
    }
    manifests = render(ON, {"monitoring": {"rules": chosen}})
    (whole,) = of_kind(manifests, "PrometheusRule")
    assert whole["metadata"]["labels"]["release"] == "prometheus"
    by_name = {rule["alert"]: rule for rule in rules_of(manifests)}
    assert "CnpgBackupSuspended" not in by_name
    none = by_name["CnpgBackupNone"]
    assert none["labels"] == {"severity": "page", "namespace": "default", "release": "cnpg-backup", "team": "db"}
    assert none["annotations"]["runbook_url"] == "https://example.org/runbooks/CnpgBackupNone.md"


def test_release_without_drills_has_no_alert_about_them() -> None:
    assert not [rule for rule in rules_of(render(ON, {"drill": {"enabled": False}})) if "Drill" in rule["alert"]]


def test_there_is_a_runbook_for_each_alert_and_an_alert_for_each_runbook() -> None:
    rules = {rule["alert"]: rule for rule in rules_of(render(ON, OFFSITE))}
    pages = {path.stem: path.read_text() for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert set(pages) == set(rules)
    for name, text in pages.items():
        assert text.startswith(f"# {name} ({rules[name]['labels']['severity']})\n")
        assert len(text.splitlines()) <= 60, name
        for heading in ("Look", "Causes, likeliest first", "Not a fault when", "Over when"):
            assert f"\n## {heading}\n" in text, f"{name}: {heading}"
        assert "](../restore.md)" in text, name


RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_commands_of_a_runbook_are_ones_of_the_plugin(path: Path) -> None:
    from kubectl_cnpg_backup.cli import build_parser

    text = path.read_text()
    found = re.findall(r"^kubectl cnpg-backup (.*)$", text, re.MULTILINE)
    found += re.findall(r"`kubectl\s+cnpg-backup\s+([^`]+)`", text)
    for line in found:
        build_parser().parse_args(line.split())


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_looks_before_it_changes_and_the_first_cause_has_a_sign(path: Path) -> None:
    """That the sign is what these commands print, tests/e2e/test_alerts_on_a_node.py shows."""
    text = path.read_text()
    look = text.split("\n## Look\n")[1].split("\n## ")[0]
    block = look.split("```sh\n")[1].split("```")[0]
    assert 2 <= len(block.splitlines()) <= 3
    harmless = (
        r"kubectl (get|describe|logs) |helm list |"
        r"kubectl cnpg-backup (status|doctor|logs|list|plan|verify|offsite check)\b"
    )
    for line in block.splitlines():
        assert re.match(harmless, line), line
    placeholders = set(re.findall(r"\b[A-Z]{4,}\b", block))
    explained = set(re.findall(r"\b[A-Z]{4,}\b", look.split("```sh")[0]))
    assert placeholders <= explained, placeholders - explained
    first = text.split("\n## Causes, likeliest first\n")[1].split("\n* ")[1]
    assert re.search(r"`(status|doctor|describe|helm list|offsite check)` says\s+`[^`]+`", first), first
