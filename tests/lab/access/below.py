"""What lies below pods, Jobs and nodes, other ways to send a request, and what steers pods from outside.

The built-in roles give none of the subresources of status, binding and size. Somebody may have a Role with every verb
on pods, Jobs and what is below them and none on claims: that Role does not hold `mount`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.lab.access.model import ACCOUNT, CHIEF, DEV, EXECUTOR, PARTS, VIEW, WILD, Case, Manifest, Place, Request
from tests.lab.access.objects import (
    annotated,
    applied,
    below,
    by_hand,
    changed,
    connect,
    create,
    cronjob_pod,
    delete,
    first_container,
    job_pod,
    new,
    owned,
    pod_spec,
    put,
    update,
    upgraded,
    workload,
)

Ask = Callable[[Place], Request]


def _status(place: Place, resource: str, name: str, **status: Any) -> Request:
    return update(place, resource, name, lambda o: o.setdefault("status", {}).update(status), "status")


def _binding(place: Place) -> Request:
    metadata = {"name": place.pod}
    target = {"apiVersion": "v1", "kind": "Node", "name": "node-of-mine"}
    return below(
        place, place.pod, "binding", {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
    )


def _eviction(place: Place, pod: str) -> Request:
    return below(place, pod, "eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}})


def _resized(pod: Manifest) -> None:
    resources = pod["spec"]["containers"][0].setdefault("resources", {})
    resources.setdefault("requests", {})["cpu"] = "11m"


PARTS_OF_RUNS: Mapping[str, Ask] = {
    "binding of the running backup pod to a node (`pods/binding`)": _binding,
    "size of the running backup pod (`pods/resize`)": lambda p: update(p, "pods", p.pod, _resized, "resize"),
    "status of the running backup pod, as if it had succeeded (`pods/status`)": lambda p: _status(
        p, "pods", p.pod, phase="Succeeded"
    ),
    "status of the running Job (`jobs/status`)": lambda p: _status(p, "jobs", p.job, ready=0),
    "status of the CronJob, as if a run had succeeded (`cronjobs/status`)": lambda p: _status(
        p, "cronjobs", p.cronjob_name, lastSuccessfulTime="2100-01-01T00:00:00Z"
    ),
}
ELSEWHERE: Mapping[str, Request] = {
    "the kubelet's API through the API server (`nodes/proxy`)": Request("CONNECT", "nodes", "", "node-1", "proxy"),
    "impersonation of the Job's controller": Request("IMPERSONATE", "serviceaccounts", "kube-system", "job-controller"),
    "impersonation of a cluster administrator": Request("IMPERSONATE", "groups", "", "system:masters"),
}


def _pod(place: Place) -> Manifest:
    return workload("pods", "applied", pod_spec(place.claim), {"app": place.release})


def _image(spec: Manifest) -> None:
    first_container(spec)["image"] = "localhost/busybox:test"


OTHER_SHAPES: Mapping[str, tuple[str, Ask]] = {
    "pod with the claim, by server-side apply in Helm's name": (
        "mounts",
        lambda p: applied(create(p, _pod(p)), "helm"),
    ),
    "pod of a run with the claim, by server-side apply in the controller's name": (
        "mounts",
        lambda p: applied(create(p, job_pod(p, "applied", p.job)), "kube-controller-manager"),
    ),
    "image of the running backup pod, by server-side apply": (
        "mounts",
        lambda p: applied(update(p, "pods", p.pod, lambda o: _image(o["spec"])), "mine"),
    ),
    "image of the CronJob, by server-side apply in Helm's name": (
        "mounts",
        lambda p: applied(update(p, "cronjobs", p.cronjob_name, lambda c: _image(cronjob_pod(c))), "helm"),
    ),
    "label of the claim, by server-side apply in Helm's name": (
        "controls",
        lambda p: applied(
            update(p, "persistentvolumeclaims", p.claim, lambda c: put(c["metadata"]["labels"], "app", "mine")), "helm"
        ),
    ),
    "`exec` into the running backup pod, by WebSocket": ("reaches into", lambda p: upgraded(connect(p, p.pod, "exec"))),
    "`attach` into the running backup pod, by WebSocket": (
        "reaches into",
        lambda p: upgraded(connect(p, p.pod, "attach")),
    ),
    "`portforward` into the running backup pod, by WebSocket": (
        "reaches into",
        lambda p: upgraded(connect(p, p.pod, "portforward")),
    ),
}
"""How a request is sent, with what the refusal says."""


INTO = "reaches into"
VIEWED: Mapping[str, Ask] = {
    "pod with the claim and the label": lambda p: create(p, _pod(p)),
    "Job of the CronJob's template": lambda p: create(p, by_hand(p, "viewed")),
    "`exec` into the running backup pod": lambda p: connect(p, p.pod, "exec"),
    "`exec` into the running backup pod, by WebSocket": lambda p: upgraded(connect(p, p.pod, "exec")),
    "deletion of the claim": lambda p: delete(p, "persistentvolumeclaims", p.claim),
    "deletion of the running backup pod": lambda p: delete(p, "pods", p.pod),
}


def _label(place: Place) -> dict[str, str]:
    return {"app": place.release}


def _spec(place: Place) -> Manifest:
    return pod_spec(place.claim, serviceAccountName=ACCOUNT)


def attempts(refused: Mapping[str, bool], bare: Mapping[str, bool]) -> Iterator[Case]:
    """What has to be refused; `bare` is for what the label alone refuses as well."""
    for text, (reason, ask) in OTHER_SHAPES.items():
        for who in (DEV, PARTS):
            if who == PARTS and reason == "controls":
                continue  # it has no right on claims
            yield Case(text, who, ask, refused, reason=reason)
    yield Case("pod with the claim", PARTS, lambda p: create(p, workload("pods", "x", pod_spec(p.claim))), bare)
    yield Case("pod with the claim and the label", PARTS, lambda p: create(p, _pod(p)), refused)
    yield Case(
        "ephemeral container in the running backup pod, by whom may do everything with pods",
        PARTS,
        lambda p: update(
            p,
            "pods",
            p.pod,
            lambda o: o["spec"].update(ephemeralContainers=[{"name": "x", "image": "localhost/busybox:test"}]),
            "ephemeralcontainers",
        ),
        refused,
    )
    yield Case("pod with the claim", EXECUTOR, lambda p: create(p, workload("pods", "x", pod_spec(p.claim))), bare)
    yield Case("pod with the claim and the label", EXECUTOR, lambda p: create(p, _pod(p)), refused)
    yield Case(
        "`exec` into the running backup pod", EXECUTOR, lambda p: connect(p, p.pod, "exec"), refused, reason=INTO
    )
    for text, made in {
        "Job with the claim and an account of `jobAccounts`": lambda p: workload("jobs", "x", _spec(p), _label(p)),
        "pod with the claim, an account of `jobAccounts` and a Job as its owner": lambda p: changed(
            workload("pods", "x", _spec(p), _label(p)),
            lambda o: owned(o, apiVersion="batch/v1", kind="Job", name=p.job, controller=True),
        ),
    }.items():
        for who in (DEV, EXECUTOR):
            yield Case(text, who, lambda p, made=made: create(p, made(p)), refused)  # type: ignore[misc]
    for text, ask in VIEWED.items():
        yield Case(text, VIEW, ask, rbac=True)
    for who in (DEV, CHIEF):
        for text, ask in PARTS_OF_RUNS.items():
            yield Case(text, who, ask, rbac=True)
    for who in (DEV, CHIEF, PARTS, WILD):
        for text, request in ELSEWHERE.items():
            yield Case(text, who, lambda _, request=request: request, rbac=True)  # type: ignore[misc]


def doors(free: Mapping[str, bool]) -> Iterator[Case]:
    """What delays, moves or fakes a run, and reaches no dump."""
    for text, ask in PARTS_OF_RUNS.items():
        yield Case(text, PARTS, ask, free)
    yield Case("eviction of the running backup pod, whose successor goes on", DEV, lambda p: _eviction(p, p.pod), free)
    yield Case(
        "disruption budget that keeps nodes from being drained of the backup pods",
        DEV,
        lambda p: create(
            p,
            new(
                "poddisruptionbudgets",
                "mine",
                spec={"maxUnavailable": 0, "selector": {"matchLabels": {"app": p.release}}},
            ),
        ),
        free,
    )
    yield Case(
        "annotation of the running backup pod, by server-side apply",
        DEV,
        lambda p: applied(update(p, "pods", p.pod, annotated), "mine"),
        free,
    )
    yield Case(
        "PolicyException for these policies, which Kyverno reads only if it was started so",
        CHIEF,
        lambda p: create(
            p,
            changed(
                new("policyexceptions", "mine"),
                lambda e: e.update(
                    spec={"policyRefs": [{"name": "restrict-cnpg-backup-pvc-access", "kind": "ValidatingPolicy"}]}
                ),
            ),
        ),
        free,
    )
