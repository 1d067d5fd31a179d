"""`discover` against an API server alone: what exists is found with the rights that the chart's Role grants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from kubectl_cnpg_backup.model.rights import RIGHTS
from tests.e2e import apiserver
from tests.e2e.apiserver import ApiServer
from tests.e2e.node import wait_until
from tests.e2e.test_new_cluster_api import CRD, person
from tests.e2e.test_plugin_api import install, plugin

pytestmark = pytest.mark.e2e

DATABASES: dict[str, Any] = deepcopy(CRD)
DATABASES["metadata"]["name"] = "databases.postgresql.cnpg.io"
DATABASES["spec"]["names"] = {"kind": "Database", "plural": "databases"}


def cluster(name: str, **status: Any) -> dict[str, Any]:
    version = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster"}
    return {**version, "metadata": {"name": name}, "spec": {}, "status": status}


def database(name: str, of: str) -> dict[str, Any]:
    version = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Database"}
    return {**version, "metadata": {"name": name}, "spec": {"name": name, "owner": "app", "cluster": {"name": of}}}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with apiserver.running() as running:
        install(running)
        done = plugin(running, "discover")
        assert done.returncode == 1
        assert "does not know the clusters of CloudNativePG; check that its operator is installed" in done.stderr
        running.apply(CRD, DATABASES)

        def served() -> bool:
            return not running.try_kubectl("get", "clusters,databases").returncode

        wait_until("clusters and databases are served", served, 60)
        running.apply(
            cluster("authelia-postgresql-cnpg", currentPrimary="authelia-postgresql-cnpg-1"),
            cluster("shop"),
            database("orders", "shop"),
            namespace="default",
        )
        running.kubectl("create", "namespace", "team")
        running.apply(cluster("wiki"), namespace="team")
        yield running


def test_what_the_role_grants_is_enough_for_its_namespace(server: ApiServer) -> None:
    kubeconfig = person(server, "operator", RIGHTS)
    done = plugin(server, "discover", "--check", "-o", "json", kubeconfig=kubeconfig)
    assert done.returncode == 1, done.stderr
    found = {f"{one['cluster']}/{one['database']}": one["state"] for one in json.loads(done.stdout)}
    assert found["shop/app"] == found["shop/orders"] == "unprotected"
    assert found["authelia-postgresql-cnpg/app"] == "unprotected", "the release backs up another database of it"
    assert 'pods "authelia-postgresql-cnpg-1" not found' in done.stderr
    assert "default/shop: it has no primary" in done.stderr
    refused = plugin(server, "discover", "-A", kubeconfig=kubeconfig)
    assert refused.returncode == 1
    assert "operator may not list clusters in all namespaces" in refused.stderr


def test_all_namespaces_are_found_by_who_may_see_them(server: ApiServer) -> None:
    done = plugin(server, "discover", "-A", "--no-server", "-o", "name")
    assert "team/wiki/app" in done.stdout.split(), done.stderr
    values = yaml.safe_load(plugin(server, "discover", "-A", "--no-server", "-o", "values").stdout)
    assert {"orders", "shop", "wiki"} <= {one["name"] for one in values["databases"]}
    assert plugin(server, "discover", "-A", "--no-server", "--check").returncode == 1
    assert plugin(server, "discover", "-A", "--no-server", "--check", "--exclude", "*").returncode == 0
    assert plugin(server, "discover", "-n", "tema", "--check").returncode == 1
