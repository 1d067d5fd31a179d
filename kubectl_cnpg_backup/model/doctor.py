"""Whether an installation is in order: one finding for each thing checked, with its remedy."""

import dataclasses
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from kubectl_cnpg_backup.model import copies, offsite, outlook, traces
from kubectl_cnpg_backup.model.doctor_namespace import namespace
from kubectl_cnpg_backup.model.doctor_network import network
from kubectl_cnpg_backup.model.doctor_rights import wildcards
from kubectl_cnpg_backup.model.findings import Facts, Finding, Level, Unreadable
from kubectl_cnpg_backup.model.jobs import STARTED_BY
from kubectl_cnpg_backup.model.objects import claim_problem, dig, labels, major_of, name_of, parse_time
from kubectl_cnpg_backup.model.release import (
    BACKUP,
    DRILL,
    FIRST_RUN,
    INSPECTOR,
    OFFSITE,
    OFFSITE_DRILL,
    OPEN,
    RESTORE,
    CronJob,
    Release,
    entry_of,
)
from kubectl_cnpg_backup.model.schedule import again_by, assess
from kubectl_cnpg_backup.model.status import problems_of_drill
from retention.text import format_age

_LONGHORN_SOURCE = "recurring-job.longhorn.io/source"
_LONGHORN_JOB = re.compile(r"recurring-job(-group)?\.longhorn\.io/.+")
_OLDEST_KUBERNETES = (1, 30)
_LONG_LOOK = timedelta(hours=1)
"""A look at the volume that lasts longer may be what a killed plugin has left."""
_AT_WORK = {
    INSPECTOR: "mounts the volume",
    OPEN: "has a copy of a database open",
    RESTORE: "restores a database, or copies rows back,",
}
"""What the plugin starts besides runs and drills, which go on by themselves."""


def examine(facts: Facts) -> list[Finding]:
    """Return a finding for each thing that was checked, in the order in which an operator would check."""
    return [
        *_versions(facts),
        *_rights(facts),
        *(_cronjob(cronjob, facts) for cronjob in facts.release.of(BACKUP)),
        *(finding for cronjob in facts.release.of(DRILL) for finding in _drill(cronjob, facts)),
        *_copies(facts),
        *(_offsite(cronjob, facts) for cronjob in facts.release.of(OFFSITE)),
        *(_cronjob(cronjob, facts) for cronjob in facts.release.of(OFFSITE_DRILL)),
        *_strangers(facts),
        *_refusals(facts),
        *_at_work(facts),
        *_claim(facts),
        *_first_run(facts),
        *_longhorn(facts),
        *network(facts),
        *_access(facts),
        *wildcards(facts),
        *namespace(facts),
        *_secrets(facts),
        *_servers(facts),
        *_restores(facts),
    ]


def _at_work(facts: Facts) -> list[Finding]:
    """Return what someone has started and a plugin that was killed may have left: it ends without the plugin."""
    found = []
    for run in facts.runs:
        what = _AT_WORK.get(run.component)
        if not what or run.state != "running":
            continue
        lasts = "" if run.started is None else f" and has been there for {format_age(facts.now - run.started)}"
        bounded = run.limit is not None and run.limit > facts.now
        ends = (
            f"; Kubernetes ends it {format_age(facts.now - run.limit)} at the latest" if run.limit and bounded else ""
        )
        text, namespace = f"its pod {what}{lasts}{ends}", facts.release.namespace
        delete = f"kubectl delete job {run.job} --namespace {namespace}"
        if run.component == RESTORE:
            follow = f"kubectl cnpg-backup logs {run.job} --follow --namespace {namespace}"
            remedy = f"if nobody follows it: {follow}; to stop it, unless the log says that it is done: {delete}"
            found.append(Finding(Level.CAREFUL, f"job/{run.job}", text, remedy))
            continue
        long = run.started is not None and facts.now - run.started > _LONG_LOOK
        level = Level.CAREFUL if long else Level.GOOD
        found.append(Finding(level, f"job/{run.job}", text, f"unless someone is at work in it: {delete}"))
    return found


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
            f"install the plugin of the release's version: pipx install --force cnpg-backup=={chart.split('+')[0]}",
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
        if (missing := found.missing()) is not None:
            return Finding(Level.WRONG, subject, missing.problem, missing.remedy)
        return Finding(
            Level.CAREFUL,
            subject,
            "none of its runs is left" if cronjob.last_schedule else f"it has not run yet; next {when}",
            f"try one: kubectl cnpg-backup {again_by(cronjob)}",
        )
    if (failure := found.failure()) is not None:
        return Finding(Level.WRONG, subject, failure.problem, failure.remedy)
    if (missing := found.missing()) is not None:
        return Finding(Level.WRONG, subject, missing.problem, missing.remedy)
    return Finding(Level.GOOD, subject, f"last run succeeded, next {when}")


def _offsite(cronjob: CronJob, facts: Facts) -> Finding:
    """Return how the last run went that copied backups out of the cluster, and how old the newest copies are."""
    runs = offsite.runs_that_copy(facts.runs)
    found = _cronjob(cronjob, dataclasses.replace(facts, runs=runs))
    last = next((run for run in runs if run.state != "running"), None)
    if found.level == Level.WRONG and last is not None and last.state == "failed":
        return dataclasses.replace(found, remedy=f"{found.remedy}; to try the store: kubectl cnpg-backup offsite check")
    if found.level != Level.GOOD or last is None or last.finished is None:
        return found
    ago = f"{format_age(facts.now - last.finished)} ago"
    its = {name: one for name, one in offsite.copies_outside(runs).items() if one.job == last.job}
    for name, one in its.items():
        if one.result != "ok":
            text = f"{ago}: {name}: {one.result}: {one.why}"
            return Finding(Level.CAREFUL, found.subject, text, f"see: kubectl cnpg-backup logs {last.job}")
    # The oldest of the newest copies: no database has an older one.
    dated = [(one.newest, name, one.verified) for name, one in its.items() if one.newest is not None]
    if not dated:
        return Finding(Level.GOOD, found.subject, f"{ago}: {(last.message.splitlines() or ['copied'])[0]}")
    newest, name, verified = min(dated)
    count = f"{len(its)} databases copied" if len(its) > 1 else "1 database copied"
    age = format_age(facts.now - newest)
    return Finding(
        Level.GOOD,
        found.subject,
        f"{ago}: {count}; the oldest newest copy is {age} old ({name}, verified by {verified})",
    )


def _drill(cronjob: CronJob, facts: Facts) -> list[Finding]:
    found = assess(cronjob, facts.runs, facts.now)
    subject = f"cronjob/{cronjob.name}"
    problems = problems_of_drill(found)
    if problems or found.last is None:
        return [Finding(Level.WRONG, subject, problem.problem, problem.remedy) for problem in problems]
    return [Finding(Level.GOOD, subject, "last drill succeeded")]


def _copies(facts: Facts) -> list[Finding]:
    found = []
    for one in copies.copies(facts.release, facts.runs, facts.now):
        problem, subject = copies.problem_of(one), f"cronjob/{one.cronjob.name}"
        if problem is not None:
            found.append(Finding(Level.WRONG, subject, problem.problem, problem.remedy))
        elif one.state == copies.OK:
            found.append(Finding(Level.GOOD, subject, "last copy succeeded"))
    return found


def _strangers(facts: Facts) -> list[Finding]:
    found = traces.strangers(facts.release, facts.others)
    return [Finding(Level.WRONG, subject, one.problem, one.remedy) for subject, one in found]


def _refusals(facts: Facts) -> list[Finding]:
    return [
        Finding(
            Level.WRONG,
            subject,
            f"{'its Job' if subject.startswith('cronjob/') else 'its pod'} could not be made: {message}",
            "if the access policy refused it, name this cluster's own controllers in accessPolicy.controllers; "
            "otherwise make or allow what the message names",
        )
        for subject, message in facts.refusals.items()
    ]


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


def _first_run(facts: Facts) -> list[Finding]:
    """What the Job found that checks the volume when the release is installed; its log is its termination message."""
    run = next((run for run in facts.runs if run.component == FIRST_RUN), None)
    if run is None or run.state == "running":
        return []
    subject = f"job/{run.job}"
    if run.state == "succeeded":
        return [Finding(Level.GOOD, subject, "the volume was checked: it can be written, synced and locked")]
    said = dict(line.removeprefix("volume: ").split(": ", 1) for line in run.message.splitlines() if ": " in line)
    remedy = said.get("remedy", f"see its log: kubectl cnpg-backup logs {run.job}")
    again = f"kubectl delete job {run.job} --namespace {facts.release.namespace}"
    return [
        Finding(
            Level.WRONG,
            subject,
            f"the volume cannot be used: {said.get('FAILED') or run.reason or 'its pod is gone'}",
            f"{remedy}; then run `{again}`, and upgrade the release, which checks the volume again",
        )
    ]


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
                f"set persistence.longhorn.recurringJobs: {facts.documentation}/longhorn.md",
            )
        ]
    return []


def _access(facts: Facts) -> list[Finding]:
    subject = "access policy"
    if isinstance(facts.access, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.access.reason)]
    if facts.access is None:
        return [
            Finding(
                Level.CAREFUL,
                subject,
                f"unknown, because ConfigMap {facts.release.name}-access, its record, does not exist",
                "create it with `helm upgrade`, and find out who deleted it",
            )
        ]
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
                    "correct usernameKey, passwordKey, uriKey or caSecret.key in `defaults` or in the entry",
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
                        f"add to its entry in databases: image: {{tag: {theirs}-alpine}}",
                    )
                )
            else:
                found.append(Finding(Level.GOOD, subject, f"PostgreSQL {theirs} on both sides"))
    return found


def _restores(facts: Facts) -> list[Finding]:
    """Return how a restore of each database would go today."""
    found = []
    for ahead in outlook.known(facts.runs, facts.superusers, facts.entries).values():
        level = Level.CAREFUL if ahead.method == outlook.REFUSED else Level.GOOD
        where = facts.databases.get(entry_of(ahead.database, facts.entries) or ahead.database, "")
        cluster = facts.managed_roles.get(where, ())
        found.append(Finding(level, f"restore {ahead.database}", ahead.text, ahead.improvement(where, cluster)))
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
