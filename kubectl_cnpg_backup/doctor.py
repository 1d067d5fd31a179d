"""Whether a release is as it should be: one finding for each thing, with its remedy. Values in, findings out."""

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubectl_cnpg_backup import schedule, tables
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.release import (
    BACKUP,
    CronJob,
    Object,
    Release,
    Run,
    claim_problem,
    labels,
    name_of,
    parse_time,
)
from kubectl_cnpg_backup.tables import CAREFUL, GOOD, QUIET, WRONG, Column, Table

_LONGHORN_SOURCE = "recurring-job.longhorn.io/source"
_LONGHORN_JOB = re.compile(r"recurring-job(-group)?\.longhorn\.io/.+")
_OLDEST_KUBERNETES = (1, 30)


@dataclass(frozen=True, slots=True)
class Right:
    """A rule of RBAC that the plugin needs, and what for."""

    verb: str
    group: str
    resource: str
    purpose: str


RIGHTS = (
    Right("list", "batch", "cronjobs", "every command"),
    Right("list", "batch", "jobs", "status, logs"),
    Right("get", "batch", "jobs", "run"),
    Right("create", "batch", "jobs", "run, and all that looks at the volume"),
    Right("delete", "batch", "jobs", "cleaning up after itself"),
    Right("list", "", "pods", "status, logs, and all that looks at the volume"),
    Right("get", "", "pods", "inspect"),
    Right("get", "", "pods/log", "run, logs"),
    Right("get", "", "pods/exec", "all that looks at the volume"),
    Right("create", "", "pods/exec", "all that looks at the volume"),
    Right("get", "", "configmaps", "the databases of a CronJob"),
    Right("list", "", "events", "why a pod does not start"),
    Right("get", "", "persistentvolumeclaims", "doctor"),
    Right("list", "networking.k8s.io", "networkpolicies", "doctor"),
)
"""What the plugin needs, and the chart's Role grants with `accessPolicy.operatorRights`; no Secret is among it."""

NEW_CLUSTER_RIGHTS = (
    Right("get", "postgresql.cnpg.io", "clusters", "new-cluster"),
    Right("create", "postgresql.cnpg.io", "clusters", "new-cluster"),
    Right("create", "networking.k8s.io", "networkpolicies", "new-cluster"),
)
"""What one command needs besides, and the Role grants with `accessPolicy.newClusterRights`; most people never do."""


class Level(enum.Enum):
    """How bad a finding is."""

    GOOD = "ok"
    UNKNOWN = "unknown"
    CAREFUL = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, how it is, and what to do about it."""

    level: Level
    subject: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that could not be looked at, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found in the cluster; `Unreadable` where this user may not look.

    Attributes:
        release: The release.
        now: The moment, UTC.
        kubernetes: The API server's version.
        plugin: The plugin's own version.
        runs: The release's Jobs, newest first.
        claim: The claim, None when there is none.
        policies: The namespace's NetworkPolicies.
        access: What the chart recorded about its access policies; None when it recorded nothing.
        access_policies: Whether each admission policy of the record is there, by name.
        secrets: The keys of each Secret that a run reads, by name; None for one that is missing.
        wanted_secrets: The keys that a run reads, by the Secret's name.
        servers: The image of each CNPG cluster, by `namespace/name`.
        clusters: The clusters that are backed up, with the image that dumps them, by `namespace/name`.
        missing_rights: What this user may not do.
    """

    release: Release
    now: datetime
    kubernetes: str
    plugin: str
    runs: Sequence[Run]
    claim: Object | Unreadable | None
    policies: Sequence[Object] | Unreadable
    access: Mapping[str, str] | Unreadable | None
    access_policies: Mapping[str, bool | Unreadable]
    secrets: Mapping[str, frozenset[str] | Unreadable | None]
    wanted_secrets: Mapping[str, frozenset[str]]
    servers: Mapping[str, str | Unreadable | None]
    clusters: Mapping[str, str]
    missing_rights: Sequence[Right]


def examine(facts: Facts) -> list[Finding]:
    """Return a finding for each thing that was looked at, in the order in which a person would look."""
    return [
        *_versions(facts),
        *_rights(facts),
        *(finding for cronjob in facts.release.of(BACKUP) for finding in _cronjob(cronjob, facts)),
        *_claim(facts),
        *_longhorn(facts),
        *_network(facts),
        *_access(facts),
        *_secrets(facts),
        *_servers(facts),
    ]


def _versions(facts: Facts) -> list[Finding]:
    found = []
    match = re.match(r"v?(\d+)\.(\d+)", facts.kubernetes)
    old = match is not None and (int(match[1]), int(match[2])) < _OLDEST_KUBERNETES
    oldest = ".".join(map(str, _OLDEST_KUBERNETES))
    found.append(
        Finding(Level.WRONG, "Kubernetes", f"{facts.kubernetes}, older than {oldest}", f"upgrade to {oldest} or newer")
        if old
        else Finding(Level.GOOD, "Kubernetes", facts.kubernetes)
    )
    chart, plugin = facts.release.version, facts.plugin
    same = chart.split("+")[0].split(".")[:2] == plugin.split(".")[:2]
    found.append(
        Finding(Level.GOOD, "chart", f"{chart}, plugin {plugin}")
        if same
        else Finding(Level.UNKNOWN, "chart", f"{chart}; the plugin is not installed, so that it has no version")
        if not plugin
        else Finding(
            Level.CAREFUL,
            "chart",
            f"{chart}, plugin {plugin}",
            "install the plugin from the checkout that the release came from: pipx install --force .",
        )
    )
    return found


def _rights(facts: Facts) -> list[Finding]:
    if not facts.missing_rights:
        return [Finding(Level.GOOD, "your rights", "all that the plugin needs")]
    namespace = facts.release.namespace
    return [
        Finding(
            Level.CAREFUL,
            "your rights",
            f"you may not {right.verb} {right.resource}, needed for: {right.purpose}",
            f"a Role in namespace {namespace} with apiGroups [{right.group!r}], resources [{right.resource}], "
            f"verbs [{right.verb}]; the chart's own is {facts.release.name}-operator",
        )
        for right in facts.missing_rights
    ]


def _cronjob(cronjob: CronJob, facts: Facts) -> list[Finding]:
    subject = f"cronjob/{cronjob.name}"
    if cronjob.suspended:
        return [
            Finding(
                Level.CAREFUL,
                subject,
                "suspended: it makes no backups by itself",
                "set suspend: false (of the release, or of its databases) and upgrade, unless this is meant",
            )
        ]
    try:
        following = schedule.next_run(cronjob.schedule, cronjob.time_zone, facts.now)
        due = schedule.due_before(cronjob.schedule, cronjob.time_zone, facts.now, 2)
    except PluginError as error:
        return [Finding(Level.WRONG, subject, error.problem, error.remedy)]
    last = next((run for run in facts.runs if run.cronjob == cronjob.name and run.state != "running"), None)
    when = "never" if following is None else tables.since(following, facts.now)
    if last is None:
        missed = cronjob.last_schedule is not None and due is not None and cronjob.last_schedule < due
        return [
            Finding(
                Level.WRONG if missed else Level.CAREFUL,
                subject,
                "no run of it is left to see" if cronjob.last_schedule else f"it has not run yet; due {when}",
                "try one: kubectl cnpg-backup run",
            )
        ]
    if last.state == "failed":
        why = next((v.why for v in last.verdicts if v.result in ("failed", "refused")), last.reason or last.message)
        return [Finding(Level.WRONG, subject, f"job/{last.job} failed: {why}", f"kubectl cnpg-backup logs {last.job}")]
    if cronjob.last_schedule is not None and due is not None and cronjob.last_schedule < due:
        return [
            Finding(
                Level.WRONG,
                subject,
                f"it was due {tables.since(due, facts.now)} ago and did not start",
                f"see `kubectl describe cronjob {cronjob.name}`",
            )
        ]
    return [Finding(Level.GOOD, subject, f"last run ended well, next {when}")]


def _claim(facts: Facts) -> list[Finding]:
    subject = f"claim {facts.release.claim}"
    if isinstance(facts.claim, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.claim.reason)]
    if facts.claim is None:
        return [Finding(Level.WRONG, subject, "it does not exist", "helm upgrade makes it; is the namespace right?")]
    problem = claim_problem(facts.claim)
    if problem is not None:
        return [Finding(Level.WRONG, subject, problem.problem, problem.remedy)]
    made = parse_time(facts.claim["metadata"].get("creationTimestamp"))
    successes = [cronjob.last_success for cronjob in facts.release.cronjobs if cronjob.last_success]
    if made is not None and successes and made > max(successes):
        return [
            Finding(
                Level.CAREFUL,
                subject,
                "made again since the last backup: another, empty volume",
                "the older backups are on the old one, if its reclaim policy has kept it: kubectl get pv",
            )
        ]
    capacity = ((facts.claim.get("status") or {}).get("capacity") or {}).get("storage", "?")
    wanted = ((facts.claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "?")
    if wanted != capacity:
        return [
            Finding(
                Level.CAREFUL,
                subject,
                f"{wanted} asked for, {capacity} there",
                "see `kubectl describe pvc` for how far the growth is",
            )
        ]
    return [Finding(Level.GOOD, subject, f"bound, {capacity}")]


def _longhorn(facts: Facts) -> list[Finding]:
    if facts.claim is None or isinstance(facts.claim, Unreadable):
        return []
    storage_class = str(facts.claim["spec"].get("storageClassName") or "")
    own = labels(facts.claim)
    jobs = [key for key in own if _LONGHORN_JOB.fullmatch(key) and key != _LONGHORN_SOURCE]
    if jobs and own.get(_LONGHORN_SOURCE) != "enabled":
        return [
            Finding(
                Level.WRONG,
                "Longhorn",
                f"label {jobs[0]} is not heeded: {_LONGHORN_SOURCE} is missing",
                f"kubectl label pvc {name_of(facts.claim)} {_LONGHORN_SOURCE}=enabled, or name the jobs in "
                "persistence.longhorn",
            )
        ]
    if jobs:
        return [Finding(Level.GOOD, "Longhorn", f"recurring jobs by {', '.join(sorted(jobs))}")]
    if "longhorn" in storage_class:
        return [
            Finding(
                Level.CAREFUL,
                "Longhorn",
                "no recurring job is named: unless the group default backs it up, the dumps are nowhere else",
                "persistence.longhorn.recurringJobs, see docs/longhorn.md",
            )
        ]
    return []


def selects(policy: Object, pod_labels: Object) -> bool:
    """Tell whether a NetworkPolicy selects pods with these labels."""
    selector = (policy.get("spec") or {}).get("podSelector") or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if pod_labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        value, values = pod_labels.get(key), expression.get("values") or ()
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(operator, False):
            return False
    return True


def _network(facts: Facts) -> list[Finding]:
    if isinstance(facts.policies, Unreadable):
        return [Finding(Level.UNKNOWN, "network policy", facts.policies.reason)]
    cronjobs = facts.release.of(BACKUP)
    if not cronjobs:
        return []
    template = cronjobs[0].source["spec"]["jobTemplate"]["spec"]["template"]
    selecting = [policy for policy in facts.policies if selects(policy, labels(template))]
    own = [policy for policy in selecting if labels(policy).get("app") == facts.release.name]
    strangers = [name_of(policy) for policy in selecting if policy not in own]
    if not own:
        return [
            Finding(
                Level.CAREFUL if selecting else Level.WRONG,
                "network policy",
                f"none of the release's; {', '.join(strangers)} selects its pods" if strangers else "none",
                "networkPolicy.enabled: true, unless other policies do it",
            )
        ]
    if strangers:
        return [
            Finding(
                Level.CAREFUL,
                "network policy",
                f"{', '.join(strangers)} selects the backup pods as well; policies add up",
                "see what it allows; leave the backup pods out of its selector",
            )
        ]
    return [
        Finding(
            Level.GOOD, "network policy", f"{', '.join(map(name_of, own))}; that the network enforces it nobody can see"
        )
    ]


def _access(facts: Facts) -> list[Finding]:
    subject = "access policy"
    if isinstance(facts.access, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.access.reason)]
    if facts.access is None:
        return [Finding(Level.UNKNOWN, subject, "this version of the chart leaves no record of it")]
    mode = facts.access.get("mode", "")
    found = []
    if mode == "none":
        found.append(
            Finding(
                Level.WRONG,
                subject,
                "none: every pod of the namespace may mount the claim",
                "accessPolicy.enabled: true, or let an administrator apply the rendered policies",
            )
        )
    elif mode != "grant":
        found.append(
            Finding(
                Level.CAREFUL,
                subject,
                f"mode {mode}: whoever may write a label may mount the claim",
                "accessPolicy.mode: grant",
            )
        )
    else:
        found.append(Finding(Level.GOOD, subject, facts.access.get("grant", "by grant")))
    for name, there in facts.access_policies.items():
        if isinstance(there, Unreadable):
            found.append(Finding(Level.UNKNOWN, subject, f"{name}: {there.reason}"))
        elif not there:
            found.append(
                Finding(Level.WRONG, subject, f"{name} is gone", "helm upgrade brings it back; see who removed it")
            )
    return found


def _secrets(facts: Facts) -> list[Finding]:
    found, unreadable = [], ""
    for name, keys in sorted(facts.wanted_secrets.items()):
        there = facts.secrets.get(name)
        if isinstance(there, Unreadable):
            unreadable = there.reason
        elif there is None:
            found.append(
                Finding(
                    Level.WRONG,
                    f"secret/{name}",
                    "it does not exist: its databases fail",
                    "CloudNativePG makes it with the cluster; copy it here where the cluster is in another namespace",
                )
            )
        elif keys - there:
            missing = ", ".join(sorted(keys - there))
            found.append(
                Finding(
                    Level.WRONG,
                    f"secret/{name}",
                    f"it lacks {missing}",
                    "correct the keys in defaults.secret or caSecret",
                )
            )
    if unreadable:
        found.append(
            Finding(
                Level.UNKNOWN,
                "secrets",
                f"{unreadable}",
                "not needed: `helm test` tries them all, without showing them to anybody",
            )
        )
    elif not found and facts.wanted_secrets:
        found.append(Finding(Level.GOOD, "secrets", f"all {len(facts.wanted_secrets)} are there, with their keys"))
    return found


def major_of(image: str) -> int | None:
    """Return PostgreSQL's major version by an image's tag, None where the tag does not begin with a number."""
    match = re.search(r":(\d+)[^/]*$", image.split("@")[0])
    return int(match[1]) if match else None


def _servers(facts: Facts) -> list[Finding]:
    found = []
    for cluster, client in sorted(facts.clusters.items()):
        server = facts.servers.get(cluster)
        subject = f"cluster {cluster}"
        if isinstance(server, Unreadable):
            found.append(Finding(Level.UNKNOWN, subject, server.reason))
        elif server is None:
            found.append(
                Finding(
                    Level.WRONG,
                    subject,
                    "it does not exist",
                    "correct `cluster` or `namespace` of its entry in databases",
                )
            )
        else:
            ours, theirs = major_of(client), major_of(server)
            if ours is None or theirs is None:
                found.append(
                    Finding(Level.UNKNOWN, subject, f"server {server}, dumped by {client}: no major in the tags")
                )
            elif ours != theirs:
                found.append(
                    Finding(
                        Level.WRONG,
                        subject,
                        f"PostgreSQL {theirs}, dumped by {ours}",
                        f"set image.tag of its entry in databases to {theirs}-alpine",
                    )
                )
            else:
                found.append(Finding(Level.GOOD, subject, f"PostgreSQL {theirs} on both sides"))
    return found


def wanted_secrets(release: Release) -> dict[str, frozenset[str]]:
    """Return the Secrets that the release's runs read, and their keys."""
    wanted: dict[str, set[str]] = {}
    for cronjob in release.of(BACKUP):
        for volume in cronjob.pod_spec.get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                secret: dict[str, Any] = source.get("secret") or {}
                if secret.get("name"):
                    keys = wanted.setdefault(str(secret["name"]), set())
                    keys.update(str(item["key"]) for item in secret.get("items") or ())
    return {name: frozenset(keys) for name, keys in wanted.items()}


_COLUMNS = (
    Column("RESULT"),
    Column("WHAT"),
    Column("FOUND", wraps=True),
    Column("REMEDY", importance=1, wraps=True),
)
_STYLES = {Level.GOOD: GOOD, Level.UNKNOWN: QUIET, Level.CAREFUL: CAREFUL, Level.WRONG: WRONG}


def table(findings: Sequence[Finding]) -> Table:
    """Return findings, one a line."""
    rows = [[finding.level.value, finding.subject, finding.found, finding.remedy] for finding in findings]
    return Table(_COLUMNS, rows, {(number, 0): _STYLES[finding.level] for number, finding in enumerate(findings)})


def document(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return findings, for machines."""
    return [
        {"result": one.level.value, "subject": one.subject, "found": one.found, "remedy": one.remedy}
        for one in findings
    ]
