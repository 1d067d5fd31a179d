"""The chart as a part of another one: by a condition, under an alias, with values that a null would lose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.common import of_kind, pod_specs
from tests.lab import chart
from tests.lab.chart import CHART, Engine, Manifest

pytestmark = pytest.mark.parametrize("helm", ["helm", "helm3"])


def render(folder: Path, helm: Engine, values: dict[str, Any], **dependency: str) -> list[Manifest]:
    """The objects of a parent chart whose own values are these."""
    parent = folder / "parent"
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    shutil.copytree(CHART, parent / "charts" / "cnpg-backup")
    depends = {"name": "cnpg-backup", "version": version, "repository": "file://charts/cnpg-backup", **dependency}
    described = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [depends]}
    (parent / "Chart.yaml").write_text(json.dumps(described))
    (parent / "values.yaml").write_text(json.dumps(values))
    return chart.render(release="apps", helm=helm, chart=parent)


def test_a_condition_includes_the_chart_or_leaves_it_out(helm: Engine, tmp_path: Path) -> None:
    for enabled in (True, False):
        values = {"cnpg-backup": {"enabled": enabled}}
        found = render(tmp_path / str(enabled), helm, values, condition="cnpg-backup.enabled")
        assert bool(of_kind(found, "CronJob")) is enabled


def test_a_condition_works_under_an_alias(helm: Engine, tmp_path: Path) -> None:
    values = {"backups": {"enabled": True, "fullnameOverride": "backups"}}
    found = render(tmp_path, helm, values, condition="backups.enabled", alias="backups")
    assert "backups-drill" in {one["metadata"]["name"] for one in of_kind(found, "CronJob")}


def test_a_parent_can_leave_user_groups_and_storage_class_to_the_cluster(helm: Engine, tmp_path: Path) -> None:
    """With null Helm 4 keeps the chart's own defaults, which OpenShift refuses."""
    own = yaml.safe_load((CHART / "ci" / "openshift-values.yaml").read_text())
    found = render(tmp_path, helm, {"cnpg-backup": own})
    for owner, _, spec in pod_specs(found):
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & spec["securityContext"].keys(), owner
        mounts = [
            mount for one in (*spec.get("initContainers", []), *spec["containers"]) for mount in one["volumeMounts"]
        ]
        assert "/etc/passwd" not in {mount["mountPath"] for mount in mounts}, owner
    (claim,) = of_kind(found, "PersistentVolumeClaim")
    assert "storageClassName" not in claim["spec"]
