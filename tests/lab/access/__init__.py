"""What is tried against the claim, and what has to go on: one table for tests with and without a cluster, and the docs.

Each case is one request by one person. Two judges run it: the policies' own expressions (tests/chart/test_access.py),
and a real API server (tests/e2e/test_access.py), whose answers are what docs/security.md shows.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab.access.altered import SIDECAR
from tests.lab.access.attempts import attempts
from tests.lab.access.doors import open_doors
from tests.lab.access.legitimate import legitimate
from tests.lab.access.model import (
    ACCOUNT,
    ADMIN,
    APPLIER,
    CHIEF,
    CRONJOBS,
    DEV,
    EXECUTOR,
    JOBS,
    LAYERS,
    MOVER,
    OPERATOR,
    OWN,
    PARTS,
    PEOPLE,
    PODS,
    RESOURCES,
    SNAPSHOTS,
    STORAGE,
    VIEW,
    WILD,
    Case,
    Manifest,
    Place,
    Request,
    title,
    username,
)
from tests.lab.access.objects import (
    WORKLOADS,
    by_hand,
    claim_object,
    connect,
    create,
    helm_record,
    job_pod,
    new,
    pod_spec,
    workload,
)
from tests.lab.access.surroundings import BOUND

__all__ = [
    "ACCOUNT",
    "ADMIN",
    "APPLIER",
    "BOUND",
    "CHIEF",
    "CRONJOBS",
    "DEV",
    "EXECUTOR",
    "JOBS",
    "LAYERS",
    "MOVER",
    "OPERATOR",
    "OWN",
    "PARTS",
    "PEOPLE",
    "PODS",
    "RESOURCES",
    "SIDECAR",
    "SNAPSHOTS",
    "STORAGE",
    "VALUES",
    "VIEW",
    "WILD",
    "WORKLOADS",
    "Case",
    "Manifest",
    "Place",
    "Request",
    "attempts",
    "by_hand",
    "cases",
    "claim_object",
    "connect",
    "create",
    "helm_record",
    "job_pod",
    "legitimate",
    "new",
    "open_doors",
    "pod_spec",
    "refuses",
    "title",
    "username",
    "workload",
]


def cases() -> dict[str, list[Case]]:
    """All cases by their part of the table."""
    return {"attempt": list(attempts()), "open": list(open_doors()), "legitimate": list(legitimate())}


_BY_NAME: Manifest = {"exceptions": [MOVER], "jobAccounts": [ACCOUNT], "sidecars": [SIDECAR]}
VALUES: Mapping[str, Manifest] = {
    "none": {"accessPolicy": {"enabled": False}},
    "label": {"accessPolicy": {"mode": "weak-label", "builtin": {"enabled": False}, "kyverno": {"enabled": True}}},
    "builtin": {"accessPolicy": {"kyverno": {"enabled": False}, **_BY_NAME}},
    "kyverno": {"accessPolicy": {"builtin": {"enabled": False}, "kyverno": {"enabled": True}, **_BY_NAME}},
    "both": {"accessPolicy": {"kyverno": {"enabled": True}, **_BY_NAME}},
}
"""The chart's values for each layer, for none, and for both engines together."""


def refuses(case: Case, layer: str) -> bool:
    """Whether the policies of a layer, of both engines, or of none, refuse a case."""
    if layer == "both":
        return case.refused.get("builtin", False) or case.refused.get("kyverno", False)
    return case.refused.get(layer, False)
