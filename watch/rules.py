"""The alerts, for Prometheus: a base set on kube-state-metrics alone, and the full set on the watcher's metrics.

An alert compares timestamps that are looked back for (`last_over_time`), so that a gap between two scrapes, a pod that
moves, or metrics that are pushed once a run neither raise nor end one. `max by` makes one of two watchers of a rollout.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from watch.thresholds import Thresholds

CRITICAL, WARNING, INFO = "critical", "warning", "info"
GROUP = "cnpg-backup"
_STATUS_DOWN = 900
_FULL_SOON = 7 * 86400


@dataclass(frozen=True, slots=True)
class Target:
    """The release that alerts are for.

    Attributes:
        namespace: Its namespace.
        release: Its name.
        cronjobs: The names of its CronJobs that back up.
        thresholds: Those of its schedule.
        drill: Those of the drill's schedule; None without drills.
        runbook_url: Where the runbooks are, without the last slash.
        labels: Further labels of each rule.
        exclude: Names of alerts to leave out.
        severity: The severity of alerts by name, where it is not the usual one.
    """

    namespace: str
    release: str
    cronjobs: Sequence[str]
    thresholds: Thresholds
    drill: Thresholds | None
    runbook_url: str
    labels: Mapping[str, str] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()
    severity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert.

    Attributes:
        alert: Its name.
        severity: Its severity.
        expr: When it is raised.
        lasting: For how many seconds that has to last.
        summary: What is wrong, in a sentence.
        description: What that means, and what to do next.
    """

    alert: str
    severity: str
    expr: str
    lasting: int
    summary: str
    description: str


_BY = "(namespace, release, database)"


class _Expressions:
    """The parts that expressions are made of."""

    def __init__(self, target: Target) -> None:
        self._selector = f'namespace="{target.namespace}", release="{target.release}"'
        self._seconds = target.thresholds.lookback

    def of(self, metric: str, seconds: int | None = None, more: str = "", by: str = _BY) -> str:
        """Return a metric of each database, or of the release, that was exported lately."""
        found = f"cnpg_backup_{metric}{{{self._selector}{more}}}[{seconds or self._seconds}s]"
        return f"max by {by} (last_over_time({found}))"

    def configured(self, more: str = "") -> str:
        """Return the databases that there should be."""
        return self.of("database_info", 3600, more)

    def last(self, metric: str, more: str = "", by: str = _BY) -> str:
        """Return what a metric said in the last half hour."""
        return self.of(metric, 1800, more, by)

    def plain(self, metric: str) -> str:
        return f"cnpg_backup_{metric}{{{self._selector}}}"


_ON = "on (namespace, release, database)"
_RELEASE = "(namespace, release)"
_RUNNING = ', suspended="false"'


def full(target: Target) -> list[Rule]:
    """Return the alerts that need the watcher."""
    make, its = _Expressions(target), target.thresholds
    where = f"in namespace {target.namespace}"
    newest = make.of("newest_timestamp_seconds")
    needed, capacity, growth = (
        make.last(f"volume_{name}", by=_RELEASE)
        for name in ("needed_bytes", "capacity_bytes", "growth_bytes_per_second")
    )
    bad = f"{make.last('bad_archives')} > 0"
    failed = make.last("last_run_result", ', result="failed"')
    read = make.plain("status_read_timestamp_seconds")
    status = f"kubectl cnpg-backup status -n {target.namespace} --release {target.release}"
    rules = [
        Rule(
            "CnpgBackupStale",
            CRITICAL,
            f"time() - {newest} > {its.stale_after}\nand {_ON} {make.configured(_RUNNING)}",
            300,
            "The newest backup of {{ $labels.database }} is {{ $value | humanizeDuration }} old.",
            f"Data written since then would be lost {where}. At least two runs left no backup. Next: {status}",
        ),
        Rule(
            "CnpgBackupNone",
            CRITICAL,
            f"{make.configured(_RUNNING)}\nunless {_ON} {newest}",
            its.stale_after,
            "{{ $labels.database }} has no backup.",
            f"It is configured {where}, and no run has made a backup of it that is known. Next: {status}",
        ),
        Rule(
            "CnpgBackupBadArchive",
            CRITICAL,
            bad,
            300,
            "{{ $value }} archives of {{ $labels.database }} are bad or damaged.",
            f"They do not count as backups, and the storage may damage others {where}. Next: {status}",
        ),
        Rule(
            "CnpgBackupFailing",
            WARNING,
            f"{failed} == 1\nunless {_ON} {bad}",
            its.failing_for,
            "The backups of {{ $labels.database }} fail.",
            f"At least two runs in a row have failed {where}. Next: {status}",
        ),
        Rule(
            "CnpgBackupPruneRefused",
            WARNING,
            f"{make.last('prune_refused')} == 1",
            its.failing_for,
            "Nothing is pruned any more of {{ $labels.database }}.",
            f"A prune would delete too much at once {where}: a changed policy is the usual cause. "
            f"Next: kubectl cnpg-backup plan {{{{ $labels.database }}}} -n {target.namespace}",
        ),
        Rule(
            "CnpgBackupVolumeFull",
            WARNING,
            f"{needed} > {capacity}\nor\n({capacity} - {needed}) / ({growth} > 0) < {_FULL_SOON}",
            3600,
            "The volume of the backups is too small, or will be within a week.",
            f"Once it is full, no run makes a backup {where}. Enlarge the claim, or keep fewer backups. Next: {status}",
        ),
        Rule(
            "CnpgBackupSuspended",
            INFO,
            f"{make.configured(', suspended=' + chr(34) + 'true' + chr(34))} == 1",
            86400,
            "{{ $labels.database }} is not backed up: its schedule is suspended.",
            f"Unless this is meant, set suspend: false {where}.",
        ),
        Rule(
            "CnpgBackupStatusDown",
            WARNING,
            f"absent({read})\nor\ntime() - max by {_RELEASE} ({read}) > {_STATUS_DOWN}",
            900,
            "Nobody watches the backups.",
            f"The watcher does not run, or cannot read the API server, {where}. "
            f"Next: kubectl describe deployment {target.release}-status -n {target.namespace}",
        ),
    ]
    if target.drill is not None:
        rules += _drills(make, target.drill, where, status)
    return _chosen(rules, target)


def _drills(make: _Expressions, drill: Thresholds, where: str, status: str) -> list[Rule]:
    stale, seconds = drill.stale_after, drill.lookback
    proved = make.of("drill_proved_timestamp_seconds", seconds)
    return [
        Rule(
            "CnpgBackupDrillFailed",
            WARNING,
            f"{make.last('drill_result', ', result=' + chr(34) + 'failed' + chr(34))} == 1",
            300,
            "The last drill of {{ $labels.database }} failed.",
            f"A backup was restored into a server of its own, and that failed {where}. Next: {status}",
        ),
        Rule(
            "CnpgBackupDrillStale",
            WARNING,
            f"(\n  time() - {proved} > {stale}\n  or\n  ({make.configured()} unless {_ON} {proved})\n"
            f"  and {_ON} time() - {make.of('oldest_timestamp_seconds')} > {stale}\n)\nand {_ON} {make.configured()}",
            3600,
            "No drill has proved a backup of {{ $labels.database }} lately.",
            f"Nobody knows whether it restores {where}. Next: {status}",
        ),
    ]


def base(target: Target) -> list[Rule]:
    """Return the alerts that need kube-state-metrics alone; where the watcher is there, they leave the word to it."""
    its = target.thresholds
    named = "|".join(sorted(target.cronjobs))
    selector = f'namespace="{target.namespace}", cronjob=~"{named}"'
    by, seconds = "(namespace, cronjob)", its.lookback
    last, made, off = (
        f"max by {by} (last_over_time(kube_cronjob_{metric}{{{selector}}}[{length}s]))"
        for metric, length in (("status_last_successful_time", seconds), ("created", seconds), ("spec_suspend", 3600))
    )
    watcher = _Expressions(target).plain("status_read_timestamp_seconds")
    rules = [
        Rule(
            "CnpgBackupRunsStale",
            CRITICAL,
            f"(\n  time() - (\n    {last}\n    or\n    {made}\n  ) > {its.stale_after}\n)\n"
            f"and on {by} {off} == 0\nand on () absent({watcher})",
            300,
            "CronJob {{ $labels.cronjob }} has had no run without complaint for {{ $value | humanizeDuration }}.",
            f"Its databases may have no new backup in namespace {target.namespace}. "
            f"Next: kubectl cnpg-backup status -n {target.namespace} --release {target.release}",
        )
    ]
    # `absent` keeps the labels of equality alone, so that each CronJob has its own.
    missing = [
        f'absent(kube_cronjob_info{{namespace="{target.namespace}", cronjob="{name}"}})'
        for name in sorted(target.cronjobs)
    ]
    if missing:
        alternatives = "\nor\n".join(missing)
        rules.append(
            Rule(
                "CnpgBackupCronJobMissing",
                CRITICAL,
                f"(\n{alternatives}\n)\nand on () count(kube_cronjob_info) > 0",
                900,
                "CronJob {{ $labels.cronjob }} does not exist.",
                f"Nothing makes backups in namespace {target.namespace}. Upgrade the release {target.release} again.",
            )
        )
    return _chosen(rules, target)


def _chosen(rules: Sequence[Rule], target: Target) -> list[Rule]:
    return [rule for rule in rules if rule.alert not in target.exclude]


def document(rules: Sequence[Rule], target: Target) -> str:
    """Return a file of rules; JSON, which is YAML too."""
    listed = [
        {
            "alert": rule.alert,
            "expr": rule.expr,
            "for": f"{rule.lasting}s",
            "labels": {
                "severity": target.severity.get(rule.alert, rule.severity),
                "namespace": target.namespace,
                "release": target.release,
                **target.labels,
            },
            "annotations": {
                "summary": rule.summary,
                "description": rule.description,
                "runbook_url": f"{target.runbook_url}/{rule.alert}.md",
            },
        }
        for rule in rules
    ]
    return json.dumps({"groups": [{"name": GROUP, "rules": listed}]}, indent=2) + "\n"
