"""The part of `doctor` that looks at the release's namespace, and at who else is in it."""

import re

from kubectl_cnpg_backup.model.findings import Facts, Finding, Level, Unreadable
from kubectl_cnpg_backup.model.objects import labels
from kubectl_cnpg_backup.model.release import CHART, NAME_LABEL, Release

ENFORCE = "pod-security.kubernetes.io/enforce"
NEIGHBOURS = f"{NAME_LABEL}!={CHART},!cnpg.io/cluster"
"""Finds the pods that belong neither to a release of the chart nor to a database."""
_OF_KUBERNETES = re.compile(r"([a-z0-9.-]+[.])?(kubernetes|k8s)[.]io/.+|foregroundDeletion|orphan")


def account_of(release: Release) -> str:
    """Return the name of the ServiceAccount of the release's pods."""
    return next((str(one.pod_spec.get("serviceAccountName") or "") for one in release.cronjobs), "") or "default"


def namespace(facts: Facts) -> list[Finding]:
    """Return whether the namespace enforces Pod Security, holds other workloads, and has the release's objects."""
    return [*_pod_security(facts), *_neighbours(facts), *_account(facts), *_finalizers(facts)]


def _pod_security(facts: Facts) -> list[Finding]:
    subject = "pod security"
    if isinstance(facts.namespace, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.namespace.reason)]
    if facts.namespace is None:
        return []
    name, level = facts.release.namespace, labels(facts.namespace).get(ENFORCE)
    if level in ("baseline", "restricted"):
        return [Finding(Level.GOOD, subject, f"namespace {name} enforces {level}")]
    return [
        Finding(
            Level.CAREFUL,
            subject,
            f"namespace {name} enforces {f'only {level}' if level else 'none'}: "
            "a pod with a directory of the node (hostPath) reads every volume that is mounted there",
            "set it in every namespace where people create pods, unless the cluster has another default: "
            f"kubectl label namespace {name} --overwrite {ENFORCE}=restricted; "
            "with --dry-run=server this lists the pods that it would refuse",
        )
    ]


def _neighbours(facts: Facts) -> list[Finding]:
    subject = "namespace"
    if isinstance(facts.neighbours, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.neighbours.reason)]
    if not facts.neighbours:
        return []
    first, count = min(facts.neighbours), len(facts.neighbours)
    others = f"and {count - 1} more" if count > 1 else "alone"
    return [
        Finding(
            Level.CAREFUL,
            subject,
            f"other workloads have pods in {facts.release.namespace} ({first} {others}): "
            "anyone who may edit the namespace for them reads the databases' Secrets and can stop backups",
            "install the release in a namespace of its own, with copies of what it needs of the databases' Secrets: "
            f"{facts.documentation}/namespaces.md",
        )
    ]


def _account(facts: Facts) -> list[Finding]:
    name = account_of(facts.release)
    subject = f"serviceaccount/{name}"
    if isinstance(facts.service_account, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.service_account.reason)]
    if facts.service_account is False:
        return [
            Finding(
                Level.WRONG,
                subject,
                "it does not exist, so no pod of the release can be made",
                "create it with `helm upgrade` (serviceAccount.create: true) and find out who deleted it",
            )
        ]
    return []


def _finalizers(facts: Facts) -> list[Finding]:
    """Return the objects of the release that have finalizers of others; the chart sets none, Kubernetes' own go."""
    found = []
    for subject, names in facts.finalizers.items():
        others = [name for name in names if not _OF_KUBERNETES.fullmatch(name)]
        if others:
            found.append(
                Finding(
                    Level.CAREFUL,
                    subject,
                    f"it has the finalizer {', '.join(others)}: once deleted, it stays until something removes that",
                    f"if no tool of yours set it: kubectl edit {subject} -n {facts.release.namespace}, "
                    "remove it from metadata.finalizers, and find out who set it",
                )
            )
    return found
