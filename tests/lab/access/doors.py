"""What admission leaves open."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab.access import below
from tests.lab.access.model import DEV, Case, marks
from tests.lab.access.objects import (
    create,
    delete,
    new,
    pod_spec,
    update,
    workload,
)
from tests.lab.access.shapes import faking_doors


def open_doors() -> Iterator[Case]:
    """What admission does not close; docs/security.md says what to do about each."""
    free = marks("- - -")
    yield Case(
        "pod with a directory of the node (hostPath)",
        DEV,
        lambda p: create(
            p,
            workload("pods", "stranger", pod_spec(p.claim, volumes=[{"name": "data", "hostPath": {"path": "/"}}])),
        ),
        free,
    )
    yield Case(
        "pod with the storage's own export (nfs; iscsi likewise)",
        DEV,
        lambda p: create(
            p,
            workload(
                "pods",
                "stranger",
                pod_spec(p.claim, volumes=[{"name": "data", "nfs": {"server": "192.0.2.7", "path": f"/{p.volume}"}}]),
            ),
        ),
        free,
    )
    yield Case("deletion of the running Job", DEV, lambda p: delete(p, "jobs", p.job), free)
    yield Case("deletion of the running backup pod", DEV, lambda p: delete(p, "pods", p.pod), free)
    yield Case(
        "finalizer of the claim",
        DEV,
        lambda p: update(
            p, "persistentvolumeclaims", p.claim, lambda c: c["metadata"].update(finalizers=["example.org/mine"])
        ),
        free,
    )
    yield Case(
        "NetworkPolicy of one's own that lets the backup pods out (`doctor` reports it)",
        DEV,
        lambda p: create(
            p,
            new(
                "networkpolicies",
                "open",
                spec={"podSelector": {"matchLabels": {"app": p.release}}, "egress": [{}], "policyTypes": ["Egress"]},
            ),
        ),
        free,
    )
    yield from faking_doors(free)
    yield from below.doors(free)
