"""One cluster for all tests of a run, namespaces of their own, and what explains a failure."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import access_table, table
from tests.e2e.node import Cluster, Node, existing
from tests.e2e.node.paths import cache

_CLUSTER = pytest.StashKey[Cluster]()


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options and the hooks that write docs/seed.md and the tables of docs/security.md."""
    pluginmanager.register(table)
    pluginmanager.register(access_table)


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster that E2E_KUBECONFIG names, or a node of our own that ends with the run.

    E2E_CNPG=previous gives the latter the minor version of CloudNativePG before the newest.
    """
    kubeconfig = os.environ.get("E2E_KUBECONFIG")
    if kubeconfig:
        request.config.stash[_CLUSTER] = cluster = existing(Path(kubeconfig))
        yield cluster
        return
    with Node() as own:
        request.config.stash[_CLUSTER] = own
        yield own
        del request.config.stash[_CLUSTER]


@pytest.fixture(scope="session")
def own_node(node: Cluster) -> Node:
    """A node whose parts may be killed; tests that need one do not run on a cluster of somebody else."""
    if not isinstance(node, Node):
        pytest.skip("reaches outside its namespaces, thus only on a node of our own")
    return node


@pytest.fixture
def namespace(node: Cluster) -> Iterator[str]:
    """A new namespace, deleted after the test."""
    with node.namespace() as name:
        yield name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep events, objects and logs of a failed test, and name their folder in its report."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    cluster = item.config.stash.get(_CLUSTER, None)
    if report.failed and cluster is not None:
        base = Path(os.environ.get("E2E_ARTIFACTS") or cache("failures"))
        base.mkdir(parents=True, exist_ok=True)
        test = re.sub(r"[^A-Za-z0-9_.-]+", "-", item.name)
        folder = cluster.collect(Path(tempfile.mkdtemp(prefix=f"{test}-{report.when}-", dir=base)))
        report.sections.append(("cluster", f"events, objects and logs at the time of the failure: {folder}"))
    return report  # type: ignore[return-value]
