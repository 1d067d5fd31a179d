"""Whether an installation is in order: one finding for each thing checked, with its remedy."""

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubectl_cnpg_backup.model.jobs import STARTED_BY
from kubectl_cnpg_backup.model.objects import Object, claim_problem, dig, labels, major_of, name_of, parse_time, selects
from kubectl_cnpg_backup.model.release import BACKUP, DRILL, CronJob, Release, Run
from kubectl_cnpg_backup.model.rights import Right
from kubectl_cnpg_backup.model.schedule import assess
from kubectl_cnpg_backup.model.status import problems_of_drill
from retention.text import format_age

_LONGHORN_SOURCE = "recurring-job.longhorn.io/source"
_LONGHORN_JOB = re.compile(r"recurring-job(-group)?\.longhorn\.io/.+")
_OLDEST_KUBERNETES = (1, 30)


class Level(enum.Enum):
    """How bad a finding is."""

    GOOD = "ok"
    UNKNOWN = "unknown"
    CAREFUL = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked, its state, and what to do about it."""

    level: Level
    subject: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that could not be read, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found in the cluster; `Unreadable` where this user may not read it.

    Attributes:
        release: The release.
        now: The moment, UTC.
        kubernetes: The API server's version.
        plugin: The plugin's own version.
        runs: The release's Jobs, newest first.
        claim: The claim, None when it does not exist.
        policies: The namespace's NetworkPolicies.
        access: What the chart recorded about its access policies; None when it recorded nothing.
        access_policies: Whether each admission policy of the record exists, by name.
        secrets: The keys of each Secret that a run reads, by name; None for one that is missing.
        wanted_secrets: The keys that a run reads, by the Secret's name.
        servers: The image of each CNPG cluster, by `namespace/name`.
        clusters: The clusters that are backed up, with the image that dumps them, by `namespace/name`.
        missing_rights: What this user may not do.
        claim_events: The events of the claim, oldest first.
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
    claim_events: Sequence[Object] = ()


def examine(facts: Facts) -> list[Finding]:
    """Return a finding for each thing that was checked, in the order in which an operator would check."""
    return [
        *_versions(facts),
        *_rights(facts),
        *(_cronjob(cronjob, facts) for cronjob in facts.release.of(BACKUP)),
        *(finding for cronjob in facts.release.of(DRILL) for finding in _drill(cronjob, facts)),
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
        else Finding(Level.UNKNOWN, "chart", f"{chart}; the plugin's version is unknown, because it is not installed")
        if not plugin
        else Finding(
            Level.CAREFUL,
            "chart",
            f"{chart}, plugin {plugin}",
            "install the plugin from the release's version of the repository: pipx install --force .",
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
            f"bind a Role in namespace {namespace} with apiGroups [{right.group!r}], resources [{right.resource}], "
            f"verbs [{right.verb}]; the chart's own Role is {facts.release.name}-operator",
        )
        for right in facts.missing_rights
    ]


def _cronjob(cronjob: CronJob, facts: Facts) -> Finding:
    subject = f"cronjob/{cronjob.name}"
    found = assess(cronjob, facts.runs, facts.now)
    if (suspension := found.suspension()) is not None:
        return Finding(Level.CAREFUL, subject, suspension.problem, suspension.remedy)
    if found.invalid is not None:
        return Finding(Level.WRONG, subject, found.invalid.problem, found.invalid.remedy)
    when = "never" if found.next_run is None else format_age(facts.now - found.next_run)
    if found.last is None:
        return Finding(
            Level.CAREFUL if found.missed is None else Level.WRONG,
            subject,
            "none of its runs is left" if cronjob.last_schedule else f"it has not run yet; next {when}",
            "try one: kubectl cnpg-backup run",
        )
    if (failure := found.failure()) is not None:
        return Finding(Level.WRONG, subject, failure.problem, failure.remedy)
    if found.missed is not None:
        return Finding(
            Level.WRONG,
            subject,
            f"it was due {format_age(facts.now - found.missed)} ago and did not start",
            f"see `kubectl describe cronjob {cronjob.name}`",
        )
    return Finding(Level.GOOD, subject, f"last run succeeded, next {when}")


def _drill(cronjob: CronJob, facts: Facts) -> list[Finding]:
    found = assess(cronjob, facts.runs, facts.now)
    subject = f"cronjob/{cronjob.name}"
    problems = problems_of_drill(found)
    if problems or found.last is None:
        return [Finding(Level.WRONG, subject, problem.problem, problem.remedy) for problem in problems]
    return [Finding(Level.GOOD, subject, "last drill succeeded")]


def _claim(facts: Facts) -> list[Finding]:
    subject = f"claim {facts.release.claim}"
    if isinstance(facts.claim, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.claim.reason)]
    if facts.claim is None:
        return [
            Finding(Level.WRONG, subject, "it does not exist", "check the namespace; `helm upgrade` creates the claim")
        ]
    problem = claim_problem(facts.claim)
    if problem is not None:
        reasons = [str(event.get("reason") or "") for event in facts.claim_events]
        if dig(facts.claim, "status").get("phase") == "Pending" and reasons[-1:] == ["WaitForFirstConsumer"]:
            return [
                Finding(
                    Level.GOOD, subject, "the first run binds it, as its storage class wants (WaitForFirstConsumer)"
                )
            ]
        return [Finding(Level.WRONG, subject, problem.problem, problem.remedy)]
    made = parse_time(facts.claim["metadata"].get("creationTimestamp"))
    successes = [cronjob.last_success for cronjob in facts.release.cronjobs if cronjob.last_success]
    if made is not None and successes and made > max(successes):
        return [
            Finding(
                Level.CAREFUL,
                subject,
                "it was created after the last backup: this is another, empty volume",
                "look for the old volume, which has the older backups if its reclaim policy kept it: kubectl get pv",
            )
        ]
    capacity = dig(facts.claim, "status", "capacity").get("storage", "?")
    wanted = dig(facts.claim, "spec", "resources", "requests").get("storage", "?")
    if wanted != capacity:
        return [
            Finding(
                Level.CAREFUL,
                subject,
                f"{wanted} requested, {capacity} provided",
                f"run `kubectl describe pvc {facts.release.claim}` to see how far the resize is",
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
                f"Longhorn ignores label {jobs[0]}, because label {_LONGHORN_SOURCE} is missing",
                "name the jobs in persistence.longhorn, instead of in persistence.labels or by hand, and upgrade"
                if own.get(STARTED_BY) == "Helm"
                else f"kubectl label pvc {name_of(facts.claim)} {_LONGHORN_SOURCE}=enabled",
            )
        ]
    if jobs:
        return [Finding(Level.GOOD, "Longhorn", f"recurring jobs by {', '.join(sorted(jobs))}")]
    if "longhorn" in storage_class:
        return [
            Finding(
                Level.CAREFUL,
                "Longhorn",
                "the claim names no recurring job: unless Longhorn's default group backs it up, there is no copy "
                "elsewhere",
                "set persistence.longhorn.recurringJobs, see docs/longhorn.md",
            )
        ]
    return []


def _network(facts: Facts) -> list[Finding]:
    if isinstance(facts.policies, Unreadable):
        return [Finding(Level.UNKNOWN, "network policy", facts.policies.reason)]
    cronjobs = facts.release.of(BACKUP)
    if not cronjobs:
        return []
    template = cronjobs[0].source["spec"]["jobTemplate"]["spec"]["template"]
    selecting = [policy for policy in facts.policies if selects(policy, labels(template))]
    own = [policy for policy in selecting if labels(policy).get("app") == facts.release.name]
    # A policy without rules only denies: nothing is added to what the release's own policy allows.
    strangers = [name_of(policy) for policy in selecting if policy not in own and _allows(policy)]
    if not own:
        return [
            Finding(
                Level.CAREFUL if selecting else Level.WRONG,
                "network policy",
                f"the release has none; {', '.join(strangers)} selects its pods"
                if strangers
                else "none selects the backup pods",
                "set networkPolicy.enabled: true, unless other policies isolate these pods",
            )
        ]
    if strangers:
        return [
            Finding(
                Level.CAREFUL,
                "network policy",
                f"{', '.join(strangers)} selects the backup pods as well; what any policy allows is allowed",
                f"see what it allows: kubectl describe networkpolicy {strangers[0]}; narrow its rules or its selector",
            ),
            *_ingress(facts, facts.policies, labels(template)),
        ]
    return [
        Finding(
            Level.GOOD,
            "network policy",
            f"{', '.join(map(name_of, own))}; whether the CNI enforces it cannot be checked from here",
        ),
        *_ingress(facts, facts.policies, labels(template)),
    ]


def _allows(policy: Object) -> bool:
    spec = dig(policy, "spec")
    return bool(spec.get("ingress") or spec.get("egress"))


def _ingress(facts: Facts, policies: Sequence[Object], backup: Object) -> list[Finding]:
    """Return the clusters of this namespace that network policies guard without letting the backup pods in."""
    found, namespace = [], facts.release.namespace
    for cluster in sorted(facts.clusters):
        its_namespace, _, name = cluster.partition("/")
        instance = {"cnpg.io/cluster": name, "cnpg.io/podRole": "instance"}
        guards = [
            policy
            for policy in policies
            if its_namespace == namespace
            and selects(policy, instance)
            and "Ingress" in (dig(policy, "spec").get("policyTypes") or ["Ingress"])
        ]
        if guards and not any(_lets_in(policy, backup, namespace) for policy in guards):
            found.append(
                Finding(
                    Level.CAREFUL,
                    f"cluster {cluster}",
                    f"{', '.join(map(name_of, guards))} selects its pods and lets no backup pod in",
                    f"allow ingress from pods with the label app={facts.release.name} on the port of PostgreSQL",
                )
            )
    return found


def _lets_in(policy: Object, pod: Object, namespace: str) -> bool:
    """Tell whether an ingress rule may admit a pod of the policy's own namespace; addresses count as a yes."""
    for rule in dig(policy, "spec").get("ingress") or ():
        peers: Sequence[Object] = rule.get("from") or ({},)
        for peer in peers:
            where = peer.get("namespaceSelector")
            there = where is None or selects(
                {"spec": {"podSelector": where}}, {"kubernetes.io/metadata.name": namespace}
            )
            if "ipBlock" in peer or (there and selects({"spec": {"podSelector": peer.get("podSelector") or {}}}, pod)):
                return True
    return False


def _access(facts: Facts) -> list[Finding]:
    subject = "access policy"
    if isinstance(facts.access, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.access.reason)]
    if facts.access is None:
        return [Finding(Level.UNKNOWN, subject, "this version of the chart does not record it")]
    mode = facts.access.get("mode", "")
    found = []
    if mode == "none":
        found.append(
            Finding(
                Level.WRONG,
                subject,
                "none: every pod of the namespace may mount the claim",
                "set accessPolicy.enabled: true, or have an administrator apply the rendered policies",
            )
        )
    elif mode != "grant":
        found.append(
            Finding(
                Level.CAREFUL,
                subject,
                f"mode {mode}: everyone who may write a label may mount the claim",
                "set accessPolicy.mode: grant",
            )
        )
    else:
        found.append(Finding(Level.GOOD, subject, facts.access.get("grant", "by grant")))
    for name, there in facts.access_policies.items():
        if isinstance(there, Unreadable):
            found.append(Finding(Level.UNKNOWN, subject, f"{name}: {there.reason}"))
        elif not there:
            found.append(
                Finding(
                    Level.WRONG,
                    subject,
                    f"{name} is gone",
                    "restore it with `helm upgrade`, and find out who removed it",
                )
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
                    "it does not exist, so backups of its databases fail",
                    "CloudNativePG makes it with the cluster; if the cluster is in another namespace, copy it here",
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
                unreadable,
                "run `helm test` instead: it checks all of them without showing them",
            )
        )
    elif not found and facts.wanted_secrets:
        found.append(Finding(Level.GOOD, "secrets", f"all {len(facts.wanted_secrets)} exist, with their keys"))
    return found


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
                    Finding(
                        Level.UNKNOWN,
                        subject,
                        f"server image {server}, dumped with {client}: the tags name no major version",
                    )
                )
            elif ours != theirs:
                found.append(
                    Finding(
                        Level.WRONG,
                        subject,
                        f"PostgreSQL {theirs}, dumped with {ours}",
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


def document(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return findings, for programs."""
    return [
        {"result": one.level.value, "subject": one.subject, "found": one.found, "remedy": one.remedy}
        for one in findings
    ]
