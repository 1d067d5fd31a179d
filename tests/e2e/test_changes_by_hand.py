"""What the documents tell people to change in an emergency, followed by upgrade and rollback, with Helm 3 and 4."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.node import Cluster
from tests.e2e.node.errors import NodeError
from tests.e2e.release import Release
from tests.lab.chart import CHART
from tests.lab.guide import blocks

pytestmark = pytest.mark.e2e

RETENTION = Path(__file__).resolve().parents[2] / "docs" / "retention.md"


@pytest.fixture(params=["helm", "helm3"])
def release(request: pytest.FixtureRequest, node: Cluster, namespace: str) -> Iterator[Release]:
    """A release without anything to back up: only its objects matter."""
    found = Release(node, namespace, helm=request.param)
    found.install({"persistence": {"keep": False}})
    yield found
    found.uninstall()


def suspended(release: Release) -> bool:
    cronjob = release.cluster.get("cronjob", release.cronjob, "-n", release.namespace)
    return bool(cronjob["spec"]["suspend"])


def documented(release: Release) -> list[str]:
    """The command of docs/retention.md, without its program and the namespace, which the harness names."""
    (command,) = [text for name, _, text in blocks(RETENTION.read_text()) if name == "suspend"]
    words = shlex.split(command)
    assert words[:3] == ["helm", "upgrade", "cnpg-backup"]
    assert words[3].startswith("oci://")
    assert words[4] == "--version"
    place = words.index("--namespace")
    return ["upgrade", release.name, str(CHART), *words[6:place], *words[place + 2 :]]


def test_runs_that_were_suspended_as_documented_can_be_upgraded_and_rolled_back(release: Release) -> None:
    release.run_helm(*documented(release))
    assert suspended(release)
    # The same values as before: what people do next.
    release.upgrade({})
    assert not suspended(release)
    release.run_helm("rollback", release.name, "2")
    assert suspended(release)
    release.run_helm(*[word.replace("suspend=true", "suspend=false") for word in documented(release)])
    assert not suspended(release)


def patch(release: Release, **spec: object) -> None:
    text = json.dumps({"spec": spec})
    release.cluster.kubectl("patch", "cronjob", release.cronjob, "-n", release.namespace, "-p", text)


def schedule(release: Release) -> str:
    return str(release.cluster.get("cronjob", release.cronjob, "-n", release.namespace)["spec"]["schedule"])


def test_a_patched_cronjob_is_upgraded_by_each_way_that_the_documents_name(release: Release) -> None:
    before, patched = schedule(release), "7 4 * * *"
    patch(release, schedule=patched)
    if release.helm == "helm":
        with pytest.raises(NodeError, match="conflict"):
            release.upgrade({})
    release.upgrade({"schedule": patched})
    assert schedule(release) == patched
    patch(release, schedule=before)
    release.upgrade({"schedule": before})
    assert schedule(release) == before
    if release.helm == "helm":
        patch(release, schedule=patched)
        with pytest.raises(NodeError, match="conflict"):
            release.upgrade({})
        release.upgrade({}, "--force-conflicts")
        assert schedule(release) == before


def test_a_schedule_that_someone_has_suspended_by_a_patch_stays_so_in_an_upgrade(release: Release) -> None:
    patch(release, suspend=True)
    release.upgrade({"commonLabels": {"team": "databases"}})
    assert suspended(release)


def test_a_label_and_an_annotation_that_the_chart_does_not_set_are_in_no_upgrades_way(release: Release) -> None:
    for verb in ("label", "annotate"):
        release.cluster.kubectl(verb, "pvc", release.claim, "-n", release.namespace, "example.org/of=us")
    release.upgrade({"commonLabels": {"team": "databases"}})
    release.run_helm("rollback", release.name, "1")
    metadata = release.cluster.get("pvc", release.claim, "-n", release.namespace)["metadata"]
    assert metadata["labels"]["example.org/of"] == metadata["annotations"]["example.org/of"] == "us"
