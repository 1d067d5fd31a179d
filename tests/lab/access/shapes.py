"""The same requests in other shapes, other ways to the same volume, and what fakes or stops a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.lab.access.model import CHIEF, DEV, OWN, PODS, WILD, Case, Manifest, Place, Request
from tests.lab.access.objects import (
    by_hand,
    changed,
    claim_object,
    connect,
    create,
    delete,
    first_container,
    generated,
    job_pod,
    new,
    owned,
    pod_spec,
    source,
    update,
    workload,
)

Ask = Callable[[Place], Request]


def _pod(place: Place, **more: Any) -> Request:
    return create(place, workload("pods", "stranger", pod_spec(place.claim, **more), {"app": place.release}))


def _late(place: Place, number: int) -> Manifest:
    """The claim as the last of many volumes."""
    claim = pod_spec(place.claim)["volumes"]
    return {"volumes": [*({"name": f"v{n}", "emptyDir": {}} for n in range(number)), *claim]}


def _run(place: Place, change: Callable[[Manifest], object]) -> Request:
    return update(place, "jobs", place.job, change)


def _template(place: Place, change: Callable[[Manifest], object]) -> Request:
    return update(place, "cronjobs", place.cronjob_name, lambda c: change(c["spec"]))


SHAPES: Mapping[str, Ask] = {
    "pod with the claim as its 50th volume": lambda p: _pod(p, **_late(p, 49)),
    "pod with the claim as its 3001st volume": lambda p: _pod(p, **_late(p, 3000)),
    "pod with the claim and a generated name": lambda p: create(
        p, generated(workload("pods", "stranger", pod_spec(p.claim), {"app": p.release}))
    ),
    "pod with the claim, bound to a node by name": lambda p: _pod(p, nodeName="node-1"),
    "pod with the claim that tolerates every node": lambda p: _pod(p, tolerations=[{"operator": "Exists"}]),
    "pod with the claim and a reference to the CronJob as its controller": lambda p: create(
        p,
        changed(
            workload("pods", "stranger", pod_spec(p.claim), {"app": p.release}),
            lambda o: owned(o, apiVersion="batch/v1", kind="CronJob", name=p.cronjob_name, controller=True),
        ),
    ),
    "pod with the claim and a resource claim": lambda p: _pod(
        p, resourceClaims=[{"name": "r", "resourceClaimName": "mine"}]
    ),
    "pod as the chart makes it, with the account and the owner of a run": lambda p: create(
        p, job_pod(p, f"{p.job}-zzzzz", p.job)
    ),
    "Job with the release's account and the CronJob as its controller": lambda p: create(
        p, changed(by_hand(p, "stranger"), lambda j: j["metadata"]["ownerReferences"][0].update(controller=True))
    ),
    "Job of the next run's name, with the claim": lambda p: create(p, by_hand(p, f"{p.cronjob_name}-29000000")),
    "change of the CronJob's variables": lambda p: _template(
        p, lambda s: first_container(s["jobTemplate"]["spec"]["template"]["spec"]).update(env=[])
    ),
    "change of the CronJob's time zone": lambda p: _template(p, lambda s: s.update(timeZone="Asia/Tokyo")),
    "annotation of the Jobs that the CronJob makes": lambda p: _template(
        p, lambda s: s["jobTemplate"].setdefault("metadata", {}).update(annotations={"example.org/note": "seen"})
    ),
    "labels of the Jobs that the CronJob makes": lambda p: _template(
        p, lambda s: s["jobTemplate"]["metadata"]["labels"].update(more="mine")
    ),
    "change of the running Job's parallelism": lambda p: _run(p, lambda j: j["spec"].update(parallelism=0)),
    "time to live for the running Job": lambda p: _run(p, lambda j: j["spec"].update(ttlSecondsAfterFinished=0)),
    "another deadline for the running Job": lambda p: _run(p, lambda j: j["spec"].update(activeDeadlineSeconds=1)),
}
"""How a pod gets to the claim, and what is changed about a run."""

COPIES: Mapping[str, Ask] = {
    "claim that is a copy of the claim, with the API group of claims": lambda p: create(
        p, claim_object("copy", dataSourceRef=source(p, apiGroup=""))
    ),
    "deletion of all ConfigMaps of the namespace": lambda p: delete(p, "configmaps"),
    "deletion of all CronJobs of the namespace": lambda p: delete(p, "cronjobs"),
    "ConfigMap with the name of the next configuration": lambda p: create(
        p, new("configmaps", p.config[:-10] + "0123456789", data={"policy.json": "{}"})
    ),
    "another owner of the ConfigMap with the configuration": lambda p: update(p, "configmaps", p.config, owned),
}


def shapes(label: Mapping[str, bool]) -> Iterator[Case]:
    """What the table has in other shapes as well."""
    for text, ask in SHAPES.items():
        # Two policies refuse such a Job, each for its own reason.
        yield Case(text, DEV, ask, label, reason="the claim" if text.startswith("Job ") else "mounts")
    for text, ask in COPIES.items():
        yield Case(text, DEV, ask, label, reason="is, copies or controls")
    for who in (PODS, OWN):
        yield Case("pod with the claim as its 50th volume", who, SHAPES["pod with the claim as its 50th volume"], label)
    for way in ("exec", "attach"):
        yield Case(
            f"`{way}` into the running backup pod",
            OWN,
            lambda p, way=way: connect(p, p.pod, way),  # type: ignore[misc]
            label,
            reason="reaches into",
        )
    yield Case(
        "pod of a run with the claim",
        CHIEF,
        lambda p: create(p, job_pod(p, "stranger", p.job)),
        label,
    )


def _faked() -> Manifest:
    """The pods of a Job or CronJob without the claim that looks like one of the release."""
    return pod_spec("mine", volumes=[{"name": "data", "emptyDir": {}}])


def _labels(place: Place, component: str = "backup") -> dict[str, str]:
    return {"app": place.release, "app.kubernetes.io/component": component}


def _controlled_by_cronjob(place: Place) -> Manifest:
    reference = {"apiVersion": "batch/v1", "kind": "CronJob", "name": place.cronjob_name, "controller": True}
    uid = place.cronjob["metadata"].get("uid", "0")
    job = workload("jobs", "faked", _faked(), _labels(place))
    return changed(job, lambda j: owned(j, uid=uid, **reference))


DOORS: Mapping[str, Ask] = {
    "pod without the claim, with the labels of the running Job, which adopts it": lambda p: create(
        p,
        workload("pods", "cuckoo", _faked(), {**_labels(p), "job-name": p.job, "batch.kubernetes.io/job-name": p.job}),
    ),
    "CronJob without the claim, with the labels of the release's inspector": lambda p: create(
        p,
        changed(
            workload("cronjobs", "aaa", _faked()),
            lambda c: c["metadata"].update(labels=_labels(p, "inspect")),
        ),
    ),
    "finalizer of the running Job": lambda p: update(
        p, "jobs", p.job, lambda j: j["metadata"].setdefault("finalizers", []).append("example.org/mine")
    ),
    "finalizer of the running backup pod": lambda p: update(
        p, "pods", p.pod, lambda o: o["metadata"].setdefault("finalizers", []).append("example.org/mine")
    ),
    "a deadline of one second for the running backup pod": lambda p: update(
        p, "pods", p.pod, lambda o: o["spec"].update(activeDeadlineSeconds=1)
    ),
    "deletion of all Jobs of the namespace": lambda p: delete(p, "jobs"),
    "deletion of all pods of the namespace": lambda p: delete(p, "pods"),
    "change of a database's Secret": lambda p: update(
        p, "secrets", p.secret, lambda s: s.update(data={"username": "bWluZQ=="})
    ),
}


def faking_doors(free: Mapping[str, bool]) -> Iterator[Case]:
    """What fakes, stops or delays a run, and reaches no dump."""
    for text, ask in DOORS.items():
        yield Case(text, DEV, ask, free)
    yield Case("pod with the claim and the label", WILD, _pod, free)
    yield Case("`exec` into the running backup pod", WILD, lambda p: connect(p, p.pod, "exec"), free)
    yield Case("deletion of the claim", WILD, lambda p: delete(p, "persistentvolumeclaims", p.claim), free)


def not_in_rbac() -> Iterator[Case]:
    """What the built-in roles do not give."""
    for who in (DEV, CHIEF):
        for text, ask in {
            "a quota that leaves no room for pods": lambda p: create(
                p, new("resourcequotas", "none", spec={"hard": {"pods": "0"}})
            ),
            "a LimitRange that makes every pod too large": lambda p: create(
                p, new("limitranges", "none", spec={"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]})
            ),
        }.items():
            yield Case(text, who, ask, rbac=True)
    yield Case(
        "change of the volume's object",
        DEV,
        lambda p: update(p, "persistentvolumes", p.volume, lambda v: v["spec"].pop("claimRef")),
        rbac=True,
    )
    yield Case("deletion of the volume's object", DEV, lambda p: delete(p, "persistentvolumes", p.volume), rbac=True)
    yield Case(
        "labels of the namespace, which decide about Pod Security",
        CHIEF,
        lambda p: update(p, "namespaces", p.namespace, lambda n: n["metadata"]["labels"].update(mine="x")),
        rbac=True,
    )
