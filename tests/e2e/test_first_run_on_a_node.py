"""`helm install --wait` ends before the first run, on a class that makes a volume only for a pod; with Helm 3 and 4."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.node import Cluster, NodeError
from tests.e2e.release import Release

pytestmark = pytest.mark.e2e

WAIT = ("--wait", "--timeout", "3m")


@pytest.fixture(params=["helm", "helm3"])
def release(request: pytest.FixtureRequest, node: Cluster, namespace: str) -> Iterator[Release]:
    """A release that is not installed yet, without anything to back up."""
    found = Release(node, namespace, helm=request.param)
    yield found
    found.uninstall()


@pytest.fixture
def lockless(node: Cluster) -> str:
    """A class whose volumes refuse locks, as an NFS export does whose server runs no lock service."""
    model = node.get("storageclass", "longhorn")
    kept = ("apiVersion", "kind", "provisioner", "reclaimPolicy", "volumeBindingMode")
    name = "lockless"
    node.apply({**{key: model[key] for key in kept}, "metadata": {"name": name}, "parameters": {"locks": "none"}})
    return name


def first_runs(release: Release) -> dict[str, str]:
    """The release's own Jobs: the uid by name."""
    selector = f"app={release.name},app.kubernetes.io/component=first-run"
    jobs = release.cluster.get("jobs", "-n", release.namespace, "-l", selector)["items"]
    return {job["metadata"]["name"]: job["metadata"]["uid"] for job in jobs}


def test_an_install_that_waits_succeeds_before_the_first_run_and_later_revisions_keep_the_job(release: Release) -> None:
    release.install({"persistence": {"keep": False}}, *WAIT, seconds=240)
    claim = release.cluster.get("pvc", release.claim, "-n", release.namespace)
    assert claim["status"]["phase"] == "Bound"
    before = first_runs(release)
    (name,) = before
    ended = release.wait(name, 120)
    assert ended.succeeded, ended
    pod = release.pod_of(name)
    assert pod
    assert "ok: user" in release.log(pod["metadata"]["name"], "check")

    release.upgrade({"successfulJobsHistoryLimit": 5}, *WAIT, seconds=240)
    assert first_runs(release) == before
    release.run_helm("rollback", release.name, "1", *WAIT, seconds=240)
    assert first_runs(release) == before

    # What changes the Job's content makes another one, and the way back is open too.
    release.upgrade({"podLabels": {"team": "databases"}}, *WAIT, seconds=240)
    (other,) = first_runs(release)
    assert other != name
    release.run_helm("rollback", release.name, "1", *WAIT, seconds=240)
    assert list(first_runs(release)) == [name]


def test_an_install_on_a_volume_without_locks_fails_within_a_minute_with_the_true_reason(
    release: Release, lockless: str
) -> None:
    values = {"persistence": {"keep": False, "storageClassName": lockless}}
    with pytest.raises(NodeError, match="failed") as refused:
        release.install(values, "--wait", "--wait-for-jobs", "--timeout", "1m", seconds=120)
    (name,) = first_runs(release)
    # Helm 3 waits until its time is over, even for a Job that has failed.
    assert (name if release.helm == "helm" else "deadline exceeded") in str(refused.value)
    pod = release.pod_of(name)
    assert pod
    log = release.log(pod["metadata"]["name"], "check").splitlines()
    assert log[-3] == "volume: FAILED: the volume cannot lock files: No locks available"
    assert "NFS takes version 4, or a running lock service" in log[-2]
