"""Each released chart is upgraded to this one while a run is under way, and back; with Helm 3 and 4."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.node import Cluster
from tests.e2e.release import (
    CHART,
    Release,
    cnpg_cluster,
    fill,
    fingerprint,
    not_this_week,
    table_lock,
    wait_for_dump_behind_lock,
    wait_healthy,
)

pytestmark = pytest.mark.e2e

PACKAGES = sorted((Path(__file__).resolve().parents[1] / "chart" / "upgrade" / "packages").glob("*.tgz"))


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(node: Cluster, namespace: str) -> str:
    """The instance of a cluster with a database `app`."""
    node.apply(cnpg_cluster("app-db", "app"), namespace=namespace)
    wait_healthy(node, namespace, "app-db")
    fill(node, namespace, "app-db-1", "app")
    return "app-db-1"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.stem)
def test_an_upgrade_during_a_run_loses_no_backup_and_can_be_taken_back(
    node: Cluster, namespace: str, database: str, helm: str, package: Path
) -> None:
    release = Release(node, namespace, helm=helm, chart=package)
    release.install({"databases": [{"name": "app", "cluster": "app-db"}], "persistence": {"size": "1Gi"}})
    first = release.run()
    assert first.succeeded, first
    before = fingerprint(node, namespace, database, "app")
    (old,) = release.listing()["app"]

    with table_lock(node, namespace, database, "app") as unlock:
        job = release.start()
        wait_for_dump_behind_lock(node, namespace, [database], "app")
        release.chart = CHART
        release.upgrade({"drill": {"schedule": not_this_week()}}, "--wait", "--timeout", "3m", seconds=240)
        unlock()
    under_way = release.wait(job)
    assert under_way.succeeded, under_way

    after = release.run()
    assert after.succeeded, after
    listed = release.listing()["app"]
    assert old in listed, "a backup of the version before is still one"
    assert release.check_volume()["app"] == listed
    restored = release.shell(f"kubectl cnpg-backup restore app -n {namespace} --backup {old} --replace --yes", 300)
    assert fingerprint(node, namespace, database, "app") == before, restored

    release.run_helm("rollback", release.name, "1", "--wait", "--timeout", "3m", seconds=240)
    back = release.run()
    assert back.succeeded, back
    assert old in release.listing()["app"]
    release.uninstall()
    assert node.get("pvc", release.claim, "-n", namespace)["status"]["phase"] == "Bound"
