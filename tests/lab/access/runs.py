"""What could be taken for a run of the release, or keeps one from starting: a part of the table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping

from tests.lab.access.model import ADMIN, APPLIER, CHIEF, CRONJOBS, DEV, JOBS, OPERATOR, OWN, Case, Manifest, Place
from tests.lab.access.objects import create, pod_spec, update, workload

MINUTES = 29_412_345
"""Minutes since 1970, of a moment in 2025: the CronJob's controller names its Jobs by them."""
ADOPTS = "batch.kubernetes.io/controller-uid"
"""The label by which a Job finds pods that have no owner, and adopts them."""
NEIGHBOUR = "neighbour"
"""A Job and a pod of other people's, without the claim."""
_BARE = pod_spec("none", volumes=[], containers=[{"name": "main", "image": "localhost/busybox:test"}])


def labels(place: Place, component: str = "backup") -> dict[str, str]:
    """The labels of the release's own Jobs, by which the plugin finds them."""
    return {"app": place.release, "app.kubernetes.io/name": "cnpg-backup", "app.kubernetes.io/component": component}


def bare(resource: str, name: str, **metadata: object) -> Manifest:
    """An object that makes a pod without the claim."""
    made = workload(resource, name, copy.deepcopy(_BARE))
    made["metadata"].update(metadata)
    return made


def forged(place: Place, name: str, **reference: object) -> Manifest:
    """A Job without the claim that the CronJob's controller takes for its own, and whose success for that of a run."""
    uid = place.cronjob["metadata"].get("uid", "0")
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": place.cronjob_name, "uid": uid, "controller": True}
    return bare("jobs", name, ownerReferences=[owner | reference])


def _template(place: Place, name: str) -> Manifest:
    made = bare("cronjobs", name)
    made["spec"]["jobTemplate"]["metadata"] = {"labels": labels(place)}
    return made


def _owner(place: Place) -> Callable[[Manifest], object]:
    references = forged(place, "x")["metadata"]["ownerReferences"]
    return lambda manifest: manifest["metadata"].update(ownerReferences=references)


def attempts(refused: Mapping[str, bool]) -> Iterator[Case]:
    """What would pass for a run, and gives no way to the claim."""
    for who in (DEV, CHIEF, OWN):
        yield Case(
            "Job with the name of the CronJob's next run, which then never starts",
            who,
            lambda p: create(p, bare("jobs", f"{p.cronjob_name}-{MINUTES}")),
            refused,
            reason="passes for a run",
        )
    for text, who, ask in (
        (
            "the same for the run at the end of the century",
            DEV,
            lambda p: create(p, bare("jobs", f"{p.cronjob_name}-{MINUTES * 3}")),
        ),
        (
            "Job with the name of the next drill",
            DEV,
            lambda p: create(p, bare("jobs", f"{p.release}-drill-{MINUTES}")),
        ),
        (
            "Job that names the CronJob as its controller, to count as its last success",
            DEV,
            lambda p: create(p, forged(p, "forged")),
        ),
        (
            "the same with another kind of owner, at which Kubernetes does not look",
            DEV,
            lambda p: create(p, forged(p, "forged", apiVersion="v1", kind="ConfigMap")),
        ),
        (
            "Job that names the CronJob as an owner, not as its controller",
            DEV,
            lambda p: create(p, forged(p, "forged", controller=False)),
        ),
        (
            "Job with the labels by which the plugin finds runs",
            DEV,
            lambda p: create(p, bare("jobs", "forged", labels=labels(p))),
        ),
        (
            "running Job without the labels by which the plugin finds it",
            DEV,
            lambda p: update(p, "jobs", p.job, lambda j: j["metadata"]["labels"].pop("app")),
        ),
        (
            "CronJob with the labels by which the plugin finds its templates",
            DEV,
            lambda p: create(p, bare("cronjobs", "aaa", labels=labels(p, "inspect"))),
        ),
        (
            "the same for its backups",
            CHIEF,
            lambda p: create(p, bare("cronjobs", "aaa", labels=labels(p))),
        ),
        ("CronJob whose Jobs have these labels", DEV, lambda p: create(p, _template(p, "aaa"))),
        (
            "pod that the running Job adopts, to end it as complete",
            DEV,
            lambda p: create(p, bare("pods", "cuckoo", labels={ADOPTS: "c6f5ad5c-0000-4000-8000-000000000000"})),
        ),
        (
            "the same with all labels of the Job's own pod",
            OWN,
            lambda p: create(
                p,
                bare(
                    "pods",
                    "cuckoo",
                    labels={**labels(p), ADOPTS: "c6f5ad5c-0000-4000-8000-000000000000", "job-name": p.job},
                ),
            ),
        ),
    ):
        yield Case(text, who, ask, refused, reason="passes for a run")
    yield Case(
        "pod that is there already, and gets the label by which a Job adopts it",
        DEV,
        lambda p: update(p, "pods", NEIGHBOUR, lambda o: o["metadata"]["labels"].update({ADOPTS: "1"})),
        refused,
        reason="passes for a run",
        made=False,
    )
    yield Case(
        "Job that is given the CronJob as its controller later",
        DEV,
        lambda p: update(p, "jobs", NEIGHBOUR, _owner(p)),
        refused,
        reason="passes for a run",
        made=False,  # there is no such Job on the node
    )


def legitimate(free: Mapping[str, bool]) -> Iterator[Case]:
    """What has to go on: the controllers' own objects, other people's Jobs, and what entitled people make."""
    for text, who, ask in (
        (
            "the Job's pod, with the label by which the Job knows it",
            JOBS,
            lambda p: create(p, bare("pods", "own", labels={ADOPTS: "1"})),
        ),
        (
            "the CronJob's Job, named by its minute",
            CRONJOBS,
            lambda p: create(p, forged(p, f"{p.cronjob_name}-{MINUTES}")),
        ),
    ):
        yield Case(text, who, ask, free, made=False)
    for who in (OPERATOR, ADMIN, APPLIER):
        yield Case(
            "Job without the claim and with the release's labels",
            who,
            lambda p: create(p, bare("jobs", "mine", labels=labels(p))),
            free,
        )
    for text, ask in (
        ("Job without the claim", lambda p: create(p, bare("jobs", "mine"))),
        ("Job whose name begins like the CronJob's", lambda p: create(p, bare("jobs", f"{p.cronjob_name}-notes"))),
        (
            "Job of another CronJob, named by its minute",
            lambda p: create(p, bare("jobs", f"{p.cronjob_name}-more-{MINUTES}")),
        ),
        (
            "Job of another release's name",
            lambda p: create(p, bare("jobs", "other", labels={**labels(p), "app": "another"})),
        ),
        (
            "pod with the labels of a Job's name alone",
            lambda p: create(p, bare("pods", "other", labels={"job-name": p.job})),
        ),
        ("CronJob without the claim", lambda p: create(p, bare("cronjobs", "mine"))),
        (
            "CronJob that only has the label `app`",
            lambda p: create(p, bare("cronjobs", "mine", labels={"app": p.release})),
        ),
    ):
        yield Case(text, DEV, ask, free)
