"""The first thing that must work: install, one run, and what goes wrong most."""

from __future__ import annotations

import pytest

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release, cnpg_cluster, databases, fill, wait_healthy

pytestmark = pytest.mark.e2e


def test_install_run_and_a_missing_secret(node: Cluster, namespace: str) -> None:
    node.apply(cnpg_cluster("kutt-postgresql-cnpg", "kutt"), namespace=namespace)
    wait_healthy(node, namespace, "kutt-postgresql-cnpg")
    fill(node, namespace, "kutt-postgresql-cnpg-1", "kutt")
    release = Release(node, namespace)
    release.install({"databases": databases("kutt", "ghost")})
    run = release.run()
    assert not run.succeeded, run
    assert "published kutt-" in run.retention, run
    assert "does the Secret exist" in run.retention, run
    assert {name: len(found) for name, found in release.check_volume().items()} == {"kutt": 1}


def test_image_that_cannot_be_pulled_stops_only_its_own_databases(node: Cluster, namespace: str) -> None:
    node.apply(cnpg_cluster("kutt-postgresql-cnpg", "kutt"), namespace=namespace)
    wait_healthy(node, namespace, "kutt-postgresql-cnpg")
    fill(node, namespace, "kutt-postgresql-cnpg-1", "kutt")
    release = Release(node, namespace)
    broken = {"name": "app", "cluster": "app-postgresql-cnpg", "image": {"tag": "15-nosuch", "pullPolicy": "Never"}}
    release.install({"databases": [*databases("kutt"), broken]})
    node.kubectl("create", "job", "--from=cronjob/cnpg-pg-dump-backup-15", "stuck", "-n", namespace)

    def stuck() -> bool:
        pod = release.pod_of("stuck")
        waiting = [s["state"].get("waiting", {}) for s in pod["status"].get("initContainerStatuses", [])] if pod else []
        return any(w.get("reason", "").startswith("ErrImage") for w in waiting)

    wait_until("the pod waits for its image", stuck, 60)
    run = release.run()
    assert run.succeeded, run
