"""The values that docs/offsite.md shows: each tool that copies the volume is admitted by them, and nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chart.common import of_kind
from tests.chart.test_access import World, check
from tests.chart.test_recipes import DOCS, blocks
from tests.lab import chart
from tests.lab.access.altered import other_tool
from tests.lab.access.model import CRONJOBS, DEV, JOBS, MOVER, Place, Request
from tests.lab.access.objects import claim_object, create, new, pod_spec, source, workload

OFFSITE = blocks("offsite.md")
VOLSYNC = "system:serviceaccount:volsync-system:volsync"
KOPIUR = "system:serviceaccount:kopiur-system:kopiur-controller"
VELERO = "system:serviceaccount:velero:velero-server"
K8UP = "system:serviceaccount:k8up:k8up"
OWN = "system:serviceaccount:default:dumps-offsite"


def mover(place: Place, account: str) -> Iterator[tuple[str, Request]]:
    """A Job that mounts the claim, by MOVER, and its pod, by the Job's controller."""
    pod = other_tool(place, account)
    yield MOVER, create(place, workload("jobs", "backup-1", pod["spec"]))
    yield JOBS, create(place, pod)


def snapshot(place: Place) -> Iterator[tuple[str, Request]]:
    """A snapshot of the claim, and a claim of it."""
    body = {"source": {"persistentVolumeClaimName": place.claim}}
    yield MOVER, create(place, new("volumesnapshots", "copy", spec=body))
    restored = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "copy"}
    yield MOVER, create(place, claim_object("copy-src", dataSource=restored))


def clone(place: Place) -> Iterator[tuple[str, Request]]:
    yield MOVER, create(place, claim_object("copy-src", dataSource=source(place)))


def own_cronjob(place: Place) -> Iterator[tuple[str, Request]]:
    """The Job of a CronJob that values name, and its pod."""
    pod = other_tool(place, "dumps-offsite")
    job = workload("jobs", "dumps-offsite-29000000", pod["spec"])
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "dumps-offsite", "uid": "1", "controller": True}
    job["metadata"]["ownerReferences"] = [owner]
    yield CRONJOBS, create(place, job)
    yield JOBS, create(place, pod)


def requests(name: str, place: Place) -> tuple[str, list[tuple[str, Request]]]:
    """Who asks for what with a tool."""
    tools: dict[str, Callable[[], tuple[str, list[tuple[str, Request]]]]] = {
        "volsync-direct": lambda: (VOLSYNC, [*mover(place, "volsync-src-dumps")]),
        "volsync-snapshot": lambda: (VOLSYNC, [*snapshot(place), *clone(place)]),
        "kopiur-direct": lambda: (KOPIUR, [*mover(place, "kopiur-mover")]),
        "kopiur-snapshot": lambda: (KOPIUR, [*snapshot(place), *clone(place)]),
        "velero": lambda: (VELERO, [*snapshot(place), (MOVER, create(place, claim_object(place.claim)))]),
        "own-cronjob": lambda: (OWN, [*own_cronjob(place)]),
        "k8up": lambda: (K8UP, [*mover(place, "pod-executor")]),
    }
    return tools[name]()


def refusals(world: World, user: str, asked: list[tuple[str, Request]]) -> list[list[str]]:
    """What the policies say to each request, those of MOVER under the tool's own name."""
    found = []
    for who, request in asked:
        questions = list(world.questions(who, request))
        for question in questions:
            question["user"] = user if who == MOVER else question["user"]
        verdicts = check(world.policies, questions) if questions else []
        assert not any(verdict["error"] for verdict in verdicts), verdicts
        found.append([verdict["message"] for verdict in verdicts if not verdict["allowed"]])
    return found


LAYERS: dict[str, dict[str, Any]] = {
    "builtin": {"kyverno": {"enabled": False}},
    "kyverno": {"builtin": {"enabled": False}, "kyverno": {"enabled": True}},
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", sorted(set(OFFSITE) - {"longhorn"}))
@pytest.mark.sample(8)
def test_a_tool_that_copies_the_volume_is_admitted_by_its_values_alone(name: str, layer: str) -> None:
    shown = OFFSITE[name]
    open_world = World(layer, {**shown, "accessPolicy": {**shown["accessPolicy"], **LAYERS[layer]}})
    user, asked = requests(name, open_world.place)
    assert refusals(open_world, user, asked) == [[] for _ in asked]
    closed = World(layer, {"accessPolicy": LAYERS[layer]})
    before = refusals(closed, user, asked)
    assert any(before), "the values are not needed"
    if "jobAccounts" in shown["accessPolicy"]:
        assert all(before), "one of the two values is not needed"
    # Nobody else gains anything: neither people of the namespace, nor another account of the tool's namespace.
    place = open_world.place
    strangers = [
        (DEV, create(place, workload("jobs", "stranger", pod_spec(place.claim)))),
        *asked[: user != OWN],
    ]
    other = user.rpartition(":")[0] + ":other"
    assert all(refusals(open_world, other, strangers))
    assert all(refusals(open_world, other, [(JOBS, create(place, other_tool(place, "stranger")))]))


def test_longhorn_needs_labels_and_no_exception() -> None:
    assert "accessPolicy" not in OFFSITE["longhorn"]
    (claim,) = of_kind(chart.render(OFFSITE["longhorn"]), "PersistentVolumeClaim")
    labels = claim["metadata"]["labels"]
    assert labels["recurring-job.longhorn.io/backup-nightly"] == "enabled"
    assert labels["recurring-job.longhorn.io/source"] == "enabled"


def test_the_table_of_tools_names_what_the_blocks_have() -> None:
    page = (DOCS / "offsite.md").read_text()
    for name, shown in OFFSITE.items():
        for account in shown.get("accessPolicy", {}).get("jobAccounts", []):
            listed = account.replace("src-dumps", "src-<name>")
            assert name == "own-cronjob" or f"| `{listed}` |" in page, f"{name}: {listed} is not in the table"
    assert (DOCS / "longhorn.md").read_text().count("\n## Back\n") == 1
