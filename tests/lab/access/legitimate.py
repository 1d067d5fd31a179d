"""What has to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.lab.access import runs
from tests.lab.access.altered import kept_runs, other_tool
from tests.lab.access.model import (
    ACCOUNT,
    ADMIN,
    APPLIER,
    BINDER,
    COLLECTOR,
    CRONJOBS,
    DEV,
    MOVER,
    NAMESPACES,
    OPERATOR,
    PROVISIONER,
    SCHEDULER,
    STORAGE,
    Case,
    Manifest,
    Place,
    marks,
)
from tests.lab.access.objects import (
    annotated,
    annotation,
    by_hand,
    claim_object,
    connect,
    content,
    create,
    cronjob_pod,
    delete,
    first_container,
    helm_record,
    labelled,
    new,
    pod_spec,
    unlabelled,
    update,
    workload,
)
from tests.lab.access.surroundings import BOUND, NODE


def legitimate() -> Iterator[Case]:
    """What has to go on. The weak mode refuses people without the label, whatever they hold."""
    free = marks("- - -")
    unlabelled = marks("X - -")
    yield Case(
        "the CronJob's Job",
        CRONJOBS,
        lambda p: create(p, _controlled(by_hand(p, "scheduled"))),
        free,
        made=False,
    )
    yield Case(
        "the volume of the claim, bound",
        BINDER,
        lambda p: update(p, "persistentvolumeclaims", p.claim, lambda c: c["spec"].update(volumeName="new")),
        free,
        made=False,
    )
    yield from kept_runs(free)
    for who in (OPERATOR, ADMIN):
        yield Case(
            "Job of the CronJob's template (`kubectl create job --from`)",
            who,
            lambda p: create(p, by_hand(p, "by-hand")),
            free,
        )
        yield Case(
            "inspector pod with the label",
            who,
            lambda p: create(p, workload("pods", "inspector-2", pod_spec(p.claim), {"app": p.release})),
            free,
        )
        yield Case(
            "inspector pod without the label, under any name",
            who,
            lambda p: create(p, workload("pods", "inspector-2", pod_spec(p.claim))),
            unlabelled,
        )
        yield Case("`exec` into an inspector pod", who, lambda p: connect(p, p.inspector, "exec"), free)
        yield Case("`exec` into the running backup pod", who, lambda p: connect(p, p.pod, "exec"), free)
        yield Case(
            "change of the CronJob's schedule",
            who,
            lambda p: update(p, "cronjobs", p.cronjob_name, lambda c: c["spec"].update(schedule="0 0 1 1 *")),
            free,
        )
        yield Case("deletion of the claim", who, lambda p: delete(p, "persistentvolumeclaims", p.claim), free)
    for who in (ADMIN, APPLIER):
        yield Case(
            "change of the CronJob's image",
            who,
            lambda p: update(
                p,
                "cronjobs",
                p.cronjob_name,
                lambda c: first_container(cronjob_pod(c)).update(image="localhost/busybox:test"),
            ),
            free,
        )
        yield Case(
            "new ConfigMap with the programs",
            who,
            lambda p: create(p, new("configmaps", p.scripts[:-10] + "0123456789", data={"dump.sh": ":"})),
            free,
        )
        yield Case(
            "deletion of the old ConfigMap with the programs", who, lambda p: delete(p, "configmaps", p.scripts), free
        )
        yield Case("deletion of the CronJob", who, lambda p: delete(p, "cronjobs", p.cronjob_name), free)
    yield from _helm_at_work(free)
    yield from runs.legitimate(free)
    yield Case(
        "content of a snapshot of the volume, for the release's own namespace",
        STORAGE,
        lambda p: create(p, content(p, p.namespace)),
        free,
    )
    yield Case("the claim, restored", MOVER, lambda p: create(p, claim_object(p.claim)), free)
    for who in (MOVER, ADMIN):
        yield Case(
            "a Job of another tool's",
            who,
            lambda p: create(p, workload("jobs", "backup", other_tool(p, ACCOUNT)["spec"], {"app": p.release})),
            free,
        )
    yield Case("a pod that copies the claim's files", MOVER, lambda p: create(p, _labelled_pod(p)), free)
    yield Case("`exec` into the running backup pod", MOVER, lambda p: connect(p, p.pod, "exec"), free)
    yield Case(
        "pod without the claim",
        DEV,
        lambda p: create(p, workload("pods", "other", pod_spec("another-claim"))),
        free,
    )
    yield Case(
        "Deployment without the claim",
        DEV,
        lambda p: create(p, workload("deployments", "other", pod_spec("another-claim"))),
        free,
    )
    yield Case(
        "claim with a copy of another claim",
        DEV,
        lambda p: create(p, claim_object("other", dataSource={"kind": "PersistentVolumeClaim", "name": "another"})),
        free,
    )
    yield Case(
        "claim that names another volume",
        DEV,
        lambda p: create(p, claim_object("other", volumeName="another", storageClassName="longhorn")),
        free,
    )
    yield Case(
        "ConfigMap of another name",
        DEV,
        lambda p: create(p, new("configmaps", f"{p.scripts}-notes", data={"a": "b"})),
        free,
    )
    yield Case("annotation of the CronJob", DEV, lambda p: update(p, "cronjobs", p.cronjob_name, annotated), free)
    yield Case("annotation of the running backup pod", DEV, lambda p: update(p, "pods", p.pod, annotated), free)


def _helm_at_work(free: Mapping[str, bool]) -> Iterator[Case]:
    """What Helm does for those who may, and what controllers do with the same objects."""
    for who in (OPERATOR, ADMIN, APPLIER):
        for text, ask in {
            "next version of Helm's record of the release": lambda p: create(
                p, helm_record(p, "secrets", f"sh.helm.release.v1.{p.release}.v2", "2")
            ),
            "status of Helm's record, changed": lambda p: update(
                p, "secrets", p.record, labelled("status", "superseded")
            ),
            "old version of Helm's record, deleted": lambda p: delete(p, "secrets", p.record),
            "annotation of the claim": lambda p: update(p, "persistentvolumeclaims", p.claim, annotated),
            "change of the NetworkPolicy": lambda p: update(
                p, "networkpolicies", p.release, lambda n: n["spec"].update(egress=[])
            ),
            "deletion of the ServiceAccount": lambda p: delete(p, "serviceaccounts", p.release),
        }.items():
            yield Case(text, who, ask, free)
    for text, who, ask in (
        ("Secret of another name", DEV, lambda p: create(p, new("secrets", "mine", stringData={"a": "b"}))),
        (
            "Secret with a generated name",
            DEV,
            lambda p: create(p, new("secrets", "", metadata={"generateName": f"sh.helm.release.v1.{p.release}.v"})),
        ),
        (
            "change of a Secret",
            DEV,
            lambda p: update(p, "secrets", p.secret, lambda s: s.update(stringData={"a": "b"})),
        ),
        ("deletion of a Secret", DEV, lambda p: delete(p, "secrets", p.secret)),
        (
            "Helm's record of another release, whose name begins alike",
            DEV,
            lambda p: create(p, unlabelled(helm_record(p, "secrets", f"sh.helm.release.v1.{p.release}.v2.v1"))),
        ),
        (
            "Helm's record of another release, with its labels",
            DEV,
            lambda p: create(p, helm_record(replace(p, release="web"), "secrets", "sh.helm.release.v1.web.v1")),
        ),
        (
            "Helm's record of a release of the same name in another namespace",
            DEV,
            lambda p: create(p, helm_record(p, "secrets", p.record), p.elsewhere),
        ),
        (
            "annotation of Helm's record, as a tool that copies Secrets leaves it",
            DEV,
            lambda p: update(p, "secrets", p.record, annotated),
        ),
        (
            "pull secret of the ServiceAccount, as OpenShift adds it",
            DEV,
            lambda p: update(p, "serviceaccounts", p.release, lambda a: a.update(imagePullSecrets=[{"name": "mine"}])),
        ),
        (
            "NetworkPolicy for other pods",
            DEV,
            lambda p: create(p, new("networkpolicies", "mine", spec={"podSelector": {}})),
        ),
    ):
        yield Case(text, who, ask, free)
    for text, who, ask in (
        ("Helm's record, collected as its owner goes", COLLECTOR, lambda p: delete(p, "secrets", p.record)),
        ("Helm's record, in a namespace that is deleted", NAMESPACES, lambda p: delete(p, "secrets", p.record)),
        (
            "the NetworkPolicy, in a namespace that is deleted",
            NAMESPACES,
            lambda p: delete(p, "networkpolicies", p.release),
        ),
        (
            "the ServiceAccount, in a namespace that is deleted",
            NAMESPACES,
            lambda p: delete(p, "serviceaccounts", p.release),
        ),
        (
            "the claim, marked as bound",
            BINDER,
            lambda p: update(p, "persistentvolumeclaims", p.claim, annotation(BOUND, "again")),
        ),
        (
            "the node of the claim's volume",
            SCHEDULER,
            lambda p: update(p, "persistentvolumeclaims", p.claim, annotation(NODE, "node-1")),
        ),
        (
            "the claim's provisioner",
            PROVISIONER,
            lambda p: update(
                p, "persistentvolumeclaims", p.claim, annotation("volume.beta.kubernetes.io/storage-provisioner", "x")
            ),
        ),
    ):
        yield Case(text, who, ask, free, made=False)


def _labelled_pod(place: Place) -> Manifest:
    return workload("pods", "mover", pod_spec(place.claim), {"app": place.release})


def _controlled(manifest: Manifest) -> Manifest:
    manifest["metadata"]["ownerReferences"][0]["controller"] = True
    return manifest
