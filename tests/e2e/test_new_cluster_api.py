"""`new-cluster` and `restore --cluster` against an API server alone: what they leave, what they say if they may not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubectl_cnpg_backup.model.rights import NEW_CLUSTER_RIGHTS, RIGHTS, Right
from tests.e2e import apiserver
from tests.e2e.apiserver import ApiServer
from tests.e2e.node import wait_until
from tests.e2e.test_plugin_api import ROOT, command, environment, install, jobs, plugin

pytestmark = pytest.mark.e2e

SCHEMA = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusters.postgresql.cnpg.io"},
    "spec": {
        "group": "postgresql.cnpg.io",
        "scope": "Namespaced",
        "names": {"kind": "Cluster", "plural": "clusters"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": SCHEMA}],
    },
}
CLUSTER = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "kutt-2"}, "spec": {}}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """An API server that knows clusters, and has one; nobody runs it."""
    with apiserver.running() as running:
        install(running)
        running.apply(CRD)
        running.kubectl("wait", "--for=condition=Established", "crd/clusters.postgresql.cnpg.io", "--timeout=60s")
        wait_until("clusters are served", lambda: running.try_kubectl("get", "clusters").returncode == 0, 60)
        running.apply(CLUSTER, namespace="default")
        yield running


@pytest.fixture(autouse=True)
def nothing_left(server: ApiServer) -> Iterator[None]:
    yield
    server.kubectl("delete", "jobs,pods", "--all", "--cascade=background", "--force")
    server.kubectl("delete", "networkpolicies", "-l", "app.kubernetes.io/managed-by=kubectl-cnpg_backup")


def opened(server: ApiServer) -> list[dict[str, Any]]:
    """The NetworkPolicies that the plugin made."""
    selector = "app.kubernetes.io/managed-by=kubectl-cnpg_backup"
    found: list[dict[str, Any]] = server.get("networkpolicies", "-l", selector)["items"]
    return found


def person(server: ApiServer, name: str, rights: Sequence[Right]) -> Path:
    """A user with these rights."""
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [r.group], "resources": [r.resource], "verbs": [r.verb]} for r in rights]
    server.apply(
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"kind": "Role", "name": name, "apiGroup": group},
            "subjects": [{"kind": "User", "name": name, "apiGroup": group}],
        },
        namespace="default",
    )
    return server.user(name)


def test_a_stopped_restore_takes_back_its_job_which_owns_the_network_policy(server: ApiServer) -> None:
    with subprocess.Popen(
        command("restore", "kutt", "--cluster", "kutt-2"), env=environment(server), cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            wait_until("the NetworkPolicy is there", lambda: bool(opened(server)), 60)
            (job,) = server.get("jobs")["items"]
            process.terminate()
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert jobs(server) == []
    # Nobody collects garbage here; on a cluster the owner's end is the policy's.
    (policy,) = opened(server)
    (owner,) = policy["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Job", job["metadata"]["uid"])


def test_a_taken_name_is_refused_before_anything_is_started(server: ApiServer) -> None:
    done = plugin(server, "new-cluster", "kutt", "--name", "kutt-2", "--yes")
    assert done.returncode == 3, done.stderr
    assert "error: cluster kutt-2 exists already in namespace default; nothing was changed" in done.stderr
    assert jobs(server) == []


def test_a_cluster_that_is_not_there_cannot_be_restored_into(server: ApiServer) -> None:
    done = plugin(server, "restore", "kutt", "--cluster", "kutt-3")
    assert done.returncode == 1, done.stderr
    assert "namespace default has no cluster 'kutt-3'" in done.stderr
    assert jobs(server) == []


LACKING = {
    ("get", "clusters"): ("new-cluster", "kutt", "--name", "kutt-9", "--yes"),
    ("create", "networkpolicies"): ("restore", "kutt", "--cluster", "kutt-2"),
}


@pytest.mark.parametrize("right", LACKING, ids=" ".join)
def test_a_missing_right_is_one_line_and_leaves_nothing(server: ApiServer, right: tuple[str, str]) -> None:
    verb, resource = right
    user = f"lacks-{verb}-{resource}"
    rights = [one for one in (*RIGHTS, *NEW_CLUSTER_RIGHTS) if (one.verb, one.resource) != right]
    done = plugin(server, *LACKING[right], kubeconfig=person(server, user, rights))
    assert done.returncode == 1, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"user {user} may not {verb} {resource} in namespace default" in error
    assert f"resources: [{resource}], verbs: [{verb}]" in error
    assert jobs(server) == []
    assert opened(server) == []


def test_what_the_role_grants_is_enough(server: ApiServer) -> None:
    kubeconfig = person(server, "operator", (*RIGHTS, *NEW_CLUSTER_RIGHTS))
    with subprocess.Popen(
        command("restore", "kutt", "--cluster", "kutt-2"), env=environment(server, kubeconfig), cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            wait_until("the NetworkPolicy is there", lambda: bool(opened(server)), 60)
            process.terminate()
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert jobs(server) == []
