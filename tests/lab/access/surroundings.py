"""Attempts at what is around the claim: its labels, Helm's records, the other objects of the release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.lab.access.model import BINDER, CHIEF, DEV, OWN, Case
from tests.lab.access.objects import (
    annotated,
    annotation,
    create,
    delete,
    generated,
    helm_record,
    labelled,
    labelled_as_record,
    owned,
    unlabelled,
    update,
)

LONGHORN = "recurring-job.longhorn.io/nightly"
BOUND = "pv.kubernetes.io/bind-completed"
NODE = "volume.kubernetes.io/selected-node"


def steering(refused: Mapping[str, bool]) -> Iterator[Case]:
    """Labels and annotations of the claim, which decide what other tools do with it."""
    for text, who, change in (
        ("label of the claim that starts Longhorn's jobs", DEV, labelled(LONGHORN, "enabled")),
        ("label of the claim that starts Longhorn's jobs", OWN, labelled(LONGHORN, "enabled")),
        ("label of the claim, taken away", DEV, labelled("app", None)),
        ("annotation of the claim", DEV, annotated),
        ("annotation of the claim", CHIEF, annotated),
        ("annotation of the claim, without a value", DEV, annotation("velero.io/exclude-from-backup", "")),
        (
            "annotation of the claim that keeps it on uninstall, taken away",
            DEV,
            annotation("helm.sh/resource-policy", None),
        ),
        (
            "annotation of the claim that keeps it on uninstall, changed",
            DEV,
            annotation("helm.sh/resource-policy", "delete"),
        ),
        ("annotation of the claim by which Kubernetes knows it as bound, taken away", DEV, annotation(BOUND, None)),
        ("annotation of the claim that names a node for its volume", DEV, annotation(NODE, "mine")),
        ("annotation of the claim that names a node for its volume", OWN, annotation(NODE, "mine")),
        ("annotation of the claim like one of Kubernetes", DEV, annotation("volume.beta.kubernetes.io/mine", "x")),
    ):
        yield Case(
            text,
            who,
            lambda p, change=change: update(p, "persistentvolumeclaims", p.claim, change),  # type: ignore[misc]
            refused,
            reason="controls",
        )
    for text, change in (
        ("label of the claim that starts Longhorn's jobs, by an account of Kubernetes", labelled(LONGHORN, "enabled")),
        (
            "annotation of others' on the claim, by an account of Kubernetes",
            annotation("example.pv.kubernetes.io/x", ""),
        ),
    ):
        yield Case(
            text,
            BINDER,
            lambda p, change=change: update(p, "persistentvolumeclaims", p.claim, change),  # type: ignore[misc]
            refused,
            reason="controls",
            made=False,
        )


def helm(refused: Mapping[str, bool]) -> Iterator[Case]:
    """Helm's records of the release, which decide what an administrator's next command does."""
    later = "sh.helm.release.v1.{}.v99"
    for who in (DEV, CHIEF, OWN):
        yield Case(
            "change of what Helm keeps of the release, which its next command obeys",
            who,
            lambda p: update(p, "secrets", p.record, lambda s: s["data"].update(release="c3RyYW5nZXI=")),
            refused,
            reason="controls",
        )
    for text, ask in {
        "change of its labels alone": lambda p: update(p, "secrets", p.record, labelled("status", "superseded")),
        "made immutable, so that no upgrade ends": lambda p: update(
            p, "secrets", p.record, lambda s: s.update(immutable=True)
        ),
        "another owner of it, so that it is collected as garbage": lambda p: update(p, "secrets", p.record, owned),
        "deletion of it": lambda p: delete(p, "secrets", p.record),
        "deletion of all Secrets of the namespace": lambda p: delete(p, "secrets"),
        "a later version of it": lambda p: create(p, helm_record(p, "secrets", later.format(p.release))),
        "a later version of it, without labels, to be found by its name": lambda p: create(
            p, unlabelled(helm_record(p, "secrets", later.format(p.release)))
        ),
        "Secret with a generated name and Helm's labels": lambda p: create(
            p, generated(helm_record(p, "secrets", "x"))
        ),
        "Secret of any name with Helm's labels, which Helm takes for a version": lambda p: create(
            p, helm_record(p, "secrets", "innocent")
        ),
        "the same with a Secret that is there already": lambda p: update(p, "secrets", p.secret, labelled_as_record(p)),
        "ConfigMap that Helm reads with HELM_DRIVER=configmap": lambda p: create(
            p, helm_record(p, "configmaps", later.format(p.release))
        ),
        "the same without labels": lambda p: create(
            p, unlabelled(helm_record(p, "configmaps", later.format(p.release)))
        ),
        "ConfigMap of any name with Helm's labels": lambda p: create(p, helm_record(p, "configmaps", "innocent")),
        "the same with a ConfigMap that is there already": lambda p: update(
            p, "configmaps", "kube-root-ca.crt", labelled_as_record(p)
        ),
    }.items():
        yield Case(f"Helm's record of the release: {text}", DEV, ask, refused, reason="controls")


def surroundings(refused: Mapping[str, bool]) -> Iterator[Case]:
    """The other objects of the release that runs need, or that confine them."""
    free = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
    isolated = "{}-isolated"
    role = "{}-operator"
    for text, who, ask in (
        (
            "change of the NetworkPolicy",
            DEV,
            lambda p: update(p, "networkpolicies", p.release, lambda n: n.update(spec=free)),
        ),
        (
            "label of the CronJob by which the plugin finds it",
            DEV,
            lambda p: update(p, "cronjobs", p.cronjob_name, labelled("app", "other")),
        ),
        (
            "record of the access policies, made immutable",
            DEV,
            lambda p: update(p, "configmaps", f"{p.release}-access", lambda m: m.update(immutable=True)),
        ),
        ("deletion of the NetworkPolicy", DEV, lambda p: delete(p, "networkpolicies", p.release)),
        ("deletion of the NetworkPolicy", OWN, lambda p: delete(p, "networkpolicies", p.release)),
        ("deletion of all NetworkPolicies of the namespace", DEV, lambda p: delete(p, "networkpolicies")),
        (
            "another owner of the NetworkPolicy, so that it is collected as garbage",
            DEV,
            lambda p: update(p, "networkpolicies", p.release, owned),
        ),
        (
            "change of the NetworkPolicy of drills and inspectors",
            DEV,
            lambda p: update(p, "networkpolicies", isolated.format(p.release), lambda n: n["spec"].update(egress=[{}])),
        ),
        (
            "deletion of the NetworkPolicy of drills and inspectors",
            DEV,
            lambda p: delete(p, "networkpolicies", isolated.format(p.release)),
        ),
        ("deletion of the ServiceAccount", DEV, lambda p: delete(p, "serviceaccounts", p.release)),
        (
            "another owner of the ServiceAccount, so that it is collected as garbage",
            DEV,
            lambda p: update(p, "serviceaccounts", p.release, owned),
        ),
        (
            "change of the record of the access policies",
            DEV,
            lambda p: update(p, "configmaps", f"{p.release}-access", lambda m: m["data"].update(builtin="none")),
        ),
        (
            "deletion of the record of the access policies",
            DEV,
            lambda p: delete(p, "configmaps", f"{p.release}-access"),
        ),
        (
            "deletion of the operators' RoleBinding",
            CHIEF,
            lambda p: delete(p, "rolebindings", role.format(p.release)),
        ),
        ("deletion of the operators' Role", CHIEF, lambda p: delete(p, "roles", role.format(p.release))),
        (
            "change of the operators' Role",
            CHIEF,
            lambda p: update(p, "roles", role.format(p.release), lambda r: r.update(rules=[])),
        ),
    ):
        yield Case(text, who, ask, refused, reason="controls")
    yield Case(
        "change of the operators' RoleBinding, if RBAC lets it pass",
        CHIEF,
        lambda p: update(p, "rolebindings", role.format(p.release), lambda b: b.update(subjects=[])),
        refused,
        reason="controls",
        made=False,
    )
