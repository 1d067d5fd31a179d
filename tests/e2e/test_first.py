"""The first thing that must work: install, one run, and what goes wrong most."""

from __future__ import annotations

import pytest

from tests.e2e.node import Cluster
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
