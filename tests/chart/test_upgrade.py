"""An upgrade over an older release: nothing is renamed, no immutable field changes, no selector loses its pods."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.common import of_kind, pod_specs, selects, title
from tests.lab import chart
from tests.lab.chart import CHART, Manifest

ROOT = CHART.parent

OLDER = sorted((Path(__file__).parent / "upgrade").glob("*.yaml"))
"""What older versions have rendered, with the values; a new release adds its own."""


def differences(before: list[Manifest], after: list[Manifest]) -> list[str]:
    """What would make an upgrade fail, leave something behind, or start anew what should go on."""
    found = []
    now = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in after}
    for old in before:
        new = now.get((old["kind"], old["metadata"]["name"]))
        if new is None:
            found.append(f"{title(old)} is gone or has another name")
            continue
        if old["kind"] == "PersistentVolumeClaim":
            found += _claim_differences(old, new)
        if old["kind"] == "NetworkPolicy":
            found += _lost_pods(old, new, before)
        for (_, was, _), (_, metadata, _) in zip(pod_specs([old]), pod_specs([new]), strict=True):
            if was["labels"]["app"] != metadata["labels"]["app"]:
                found.append(f"{title(old)} labels its pods anew: policies of both versions miss some")
    return found


def _lost_pods(old: Manifest, new: Manifest, before: list[Manifest]) -> list[str]:
    return [
        f"{title(old)} does not select the pods of {owner} any more, which may be running"
        for owner, metadata, _ in pod_specs(before)
        if selects(old["spec"]["podSelector"], metadata["labels"])
        and not selects(new["spec"]["podSelector"], metadata["labels"])
    ]


def _claim_differences(old: Manifest, new: Manifest) -> list[str]:
    found = []
    old_spec, new_spec = copy.deepcopy(old["spec"]), copy.deepcopy(new["spec"])
    sizes = [spec["resources"]["requests"].pop("storage") for spec in (old_spec, new_spec)]
    if old_spec != new_spec:
        found.append(f"{title(old)}: its specification is immutable: {old_spec} became {new_spec}")
    if sizes[0] != sizes[1]:
        found.append(f"{title(old)}: its size changed from {sizes[0]} to {sizes[1]}, which not every class can do")
    kept = [claim["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for claim in (old, new)]
    if kept[0] != kept[1]:
        found.append(f"{title(old)}: whether it outlives the release changed from {kept[0]} to {kept[1]}")
    return found


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.stem)
def test_an_upgrade_with_the_same_values_renames_nothing_and_changes_nothing_immutable(path: Path) -> None:
    older = yaml.safe_load(path.read_text())
    after = chart.render(older["values"], older["release"], older["namespace"])
    assert not (found := differences(older["objects"], after)), "\n".join(found)


PACKAGES = sorted((Path(__file__).parent / "upgrade" / "packages").glob("*.tgz"))
"""Every package that was released, as it was published; a new release adds its own."""

SEVERAL = {
    "databases": [
        {"name": "app", "cluster": "app"},
        {"name": "other", "cluster": "other", "image": {"tag": "17-alpine"}},
    ],
    "persistence": {"size": "40Gi", "storageClassName": "longhorn", "accessModes": ["ReadWriteMany"]},
    "networkPolicy": {"extraEgress": [{"ports": [{"port": 443}]}]},
}
"""Values that each version so far has understood."""


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.stem)
@pytest.mark.parametrize("values", [{}, SEVERAL, {"cronJob": {"perDatabase": True}}], ids=["none", "several", "each"])
@pytest.mark.parametrize("release", ["cnpg-backup", "nightly"])
def test_an_upgrade_of_each_released_package_keeps_what_it_had_made(
    path: Path, values: dict[str, Any], release: str
) -> None:
    before = [one for one in chart.render(values, release, chart=path) if one["kind"] != "ConfigMap"]
    # The pods of `helm test` are gone when it has ended.
    before = [one for one in before if "helm.sh/hook" not in one["metadata"].get("annotations", {})]
    assert before
    assert not (found := differences(before, chart.render(values, release))), "\n".join(found)


def test_the_release_that_is_in_the_changelog_has_its_package_here() -> None:
    """Except the one that is being made."""
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    now = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    kept = {path.stem.removeprefix("cnpg-backup-") for path in PACKAGES}
    assert kept >= {"0.1.0", *released} - ({now} - kept)


CHANGED = {"cnpg-pg-dump-backup", "cnpg-backups-pvc", "cnpg-backup"}
"""The objects that the test below changes, one of each kind."""


def _set(*path: str, to: object) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("CronJob", _set("metadata", "name", to="x"), "is gone or has another name"),
        ("PersistentVolumeClaim", _set("spec", "accessModes", to=["ReadWriteMany"]), "immutable"),
        ("PersistentVolumeClaim", _set("spec", "resources", "requests", "storage", to="1Gi"), "its size changed"),
        ("PersistentVolumeClaim", _set("metadata", "annotations", to={}), "outlives"),
        (
            "NetworkPolicy",
            _set("spec", "podSelector", to={"matchLabels": {"app.kubernetes.io/version": "2"}}),
            "does not select the pods of CronJob cnpg-pg-dump-backup any more",
        ),
        ("CronJob", _set("spec", "jobTemplate", "spec", "template", "metadata", "labels", "app", to="x"), "labels"),
    ],
)
def test_what_an_upgrade_cannot_do_is_found(kind: str, change: Callable[[Manifest], None], told: str) -> None:
    before = chart.render()
    after = copy.deepcopy(before)
    change(next(manifest for manifest in of_kind(after, kind) if manifest["metadata"]["name"] in CHANGED))
    assert any(told in found for found in differences(before, after))
    assert not differences(before, before)


BY_HAND = re.compile(r"kubectl (?:patch|label|annotate|edit|scale) [^`\n]*")
OTHERS = (
    "patch settings.longhorn.io",
    "patch cluster",
    "label pvc {name_of(facts.claim)}",
    "label namespace",
    "patch --field-manager",
    "edit {subject}",
)
"""What no release owns: Longhorn's settings, CloudNativePG's clusters, namespaces, claims and finalizers of others."""


def test_nothing_tells_people_to_change_an_object_of_the_release_by_hand() -> None:
    """Helm 4 applies by server, and refuses the next upgrade when another manager has set one of its fields."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(CHART.glob("templates/*"))]
    pages += sorted((ROOT / "kubectl_cnpg_backup").rglob("*.py"))
    found = [(page.name, match[0]) for page in pages if page.is_file() for match in BY_HAND.finditer(page.read_text())]
    assert [one for one in found if not any(other in one[1] for other in OTHERS)] == []
