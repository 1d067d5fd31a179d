"""Drills on a real kubelet: of a database that fills the disk for minutes, and of a pod that is evicted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release, cnpg_cluster, databases, sql, wait_healthy

pytestmark = pytest.mark.e2e

CLUSTER = "shop-postgresql-cnpg"
SLEEP_SECONDS = 150
"""The kubelet measures disk usage about once a minute: this is twice that."""


@pytest.fixture(scope="module")
def release(node: Cluster) -> Iterator[Release]:
    """A database of 300 MB whose drill takes long, and one backup of it; no value of the drill itself is set."""
    with node.namespace("drill") as namespace:
        release = Release(node, namespace)
        node.apply(cnpg_cluster(CLUSTER, "shop"), namespace=namespace)
        slow = f"SELECT pg_sleep({SLEEP_SECONDS}) IS NOT NULL"
        release.install({"databases": databases("shop", drillAssertions=[slow])})
        try:
            wait_healthy(node, namespace, CLUSTER)
            sql(
                node, namespace, f"{CLUSTER}-1", "shop",
                "SET ROLE shop; CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL); "
                "INSERT INTO items (name) SELECT string_agg(md5(random()::text), '') "
                "FROM generate_series(1, 20000) i, generate_series(1, 400) GROUP BY i;",
            )  # fmt: skip
            run = release.run()
            assert run.succeeded, run
            yield release
        finally:
            release.uninstall()


def drilled(release: Release) -> dict[str, object]:
    (entry,) = json.loads(release.on_volume("python3", "-m", "retention", "status", "--format", "json", "/backups"))
    return dict(entry["drill"] or {})


def test_a_drill_of_hundreds_of_megabytes_over_minutes_is_proved_with_the_default_values(release: Release) -> None:
    began = time.monotonic()
    done = release.try_shell(f"kubectl cnpg-backup drill --database shop -n {release.namespace}", seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began > 90
    assert drilled(release)["result"] == "proved"


def test_an_evicted_drill_is_seen_by_status_doctor_logs_and_the_exit_code(release: Release) -> None:
    before = drilled(release)
    release.upgrade({"drill": {"scratch": {"sizeLimit": "200Mi"}}})
    # The volume's own limit evicts as the pod's does; drill.sh would refuse it first, so the pod fills it itself.
    namespace = release.namespace
    job = "drill-evicted"
    release.cluster.kubectl("create", "job", f"--from=cronjob/{release.name}-drill", job, "-n", namespace)
    wait_until("the drill's pod runs", lambda: running(release, job), 120)
    fill = "head -c 400000000 /dev/zero >/run/cnpg-backup-results/full; sleep 600"
    release.cluster.try_kubectl("exec", "-n", namespace, f"job/{job}", "-c", "drill", "--", "sh", "-c", fill)
    assert not release.wait(job, 300).succeeded
    for command, code in (("status", 1), ("status --no-volume", 1), ("doctor", 1), (f"logs {job}", 0)):
        done = release.try_shell(f"kubectl cnpg-backup {command} -n {namespace}", seconds=240)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        assert "Evicted" in done.stdout + done.stderr, command
    assert drilled(release) == before


def running(release: Release, job: str) -> bool:
    pod = release.pod_of(job)
    statuses = (pod or {}).get("status", {}).get("initContainerStatuses", [])
    return any(one["name"] == "drill" and "running" in one["state"] for one in statuses)
