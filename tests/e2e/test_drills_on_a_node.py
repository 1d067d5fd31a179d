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
MEGABYTES = 300
CODES = {"status": 1, "status --no-volume": 1, "doctor": 1, "logs drill-evicted": 1, "logs drill-evicted -o json": 1}
"""How the commands that describe a release end after a drill was evicted."""


@pytest.fixture(scope="module")
def release(node: Cluster) -> Iterator[Release]:
    """A database of 300 MB whose drill takes long, and one backup of it; no value of the drill itself is set."""
    with node.namespace("drill") as namespace:
        release = Release(node, namespace)
        node.apply(
            cnpg_cluster(
                CLUSTER,
                "shop",
                storage={"size": "3Gi", "storageClass": "longhorn"},
                postgresql={"parameters": {"max_wal_size": "256MB"}},
            ),
            namespace=namespace,
        )
        slow = f"SELECT pg_sleep({SLEEP_SECONDS}) IS NOT NULL"
        release.install({"databases": databases("shop", drillAssertions=[slow])})
        try:
            wait_healthy(node, namespace, CLUSTER)
            fill(release)
            run = release.run(600)
            assert run.succeeded, run
            yield release
        finally:
            release.uninstall()


def fill(release: Release) -> None:
    """Fill the database by small statements, each in little memory."""

    def psql(query: str) -> str:
        return sql(release.cluster, release.namespace, f"{CLUSTER}-1", "shop", query)

    psql("SET ROLE shop; CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL)")
    row = "(SELECT string_agg(md5(random()::text || j || i), '') FROM generate_series(1, 120) j)"
    rows = f"SET ROLE shop; INSERT INTO items (name) SELECT {row} FROM generate_series(1, 5000) i"
    while int(psql("SELECT pg_database_size('shop')")) < MEGABYTES * 1_000_000:
        psql(rows)


def drilled(release: Release) -> dict[str, object]:
    """What the volume records of the last drill."""
    return dict(release.status()["databases"]["shop"]["drill"] or {})


def drill_runs(release: Release, job: str) -> bool:
    """Whether the container that restores into the throwaway server runs."""
    statuses = (release.pod_of(job) or {}).get("status", {}).get("initContainerStatuses", [])
    return any(one["name"] == "drill-1" and "running" in one["state"] for one in statuses)


def test_a_drill_of_hundreds_of_megabytes_over_minutes_is_proved_with_the_default_values(release: Release) -> None:
    began = time.monotonic()
    done = release.try_shell(f"kubectl cnpg-backup drill --database shop -n {release.namespace}", seconds=600)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    assert took > SLEEP_SECONDS, "it was too short for the kubelet to measure it twice"
    recorded = drilled(release)
    print(f"\na drill of {MEGABYTES} MB took {took:.0f} s: {recorded}\n{done.stdout}")
    assert recorded["result"] == "proved"
    told = release.shell(f"kubectl cnpg-backup status -n {release.namespace} -o json")
    (shop,) = json.loads(told)["databases"]
    assert "proved" in json.dumps(shop), shop


def test_an_evicted_drill_is_seen_by_status_doctor_logs_and_the_exit_code(release: Release) -> None:
    before = drilled(release)
    namespace, job = release.namespace, "drill-evicted"
    release.cluster.kubectl("create", "job", f"--from=cronjob/{release.name}-drill", job, "-n", namespace)
    wait_until("the drill's container runs", lambda: drill_runs(release, job), 120)
    # More than the limit of that volume (256Mi), which evicts the pod as its own limit does.
    fill = "head -c 300000000 /dev/zero >/run/cnpg-backup-results/full"
    filled = release.cluster.try_kubectl("exec", "-n", namespace, f"job/{job}", "-c", "drill-1", "--", "sh", "-c", fill)
    assert not release.wait(job, 300).succeeded, filled.stderr
    for command, code in CODES.items():
        done = release.try_shell(f"kubectl cnpg-backup {command} -n {namespace}", seconds=240)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        assert "Evicted" in done.stdout + done.stderr, f"{command}: {done.stdout}{done.stderr}"
    assert drilled(release) == before


def test_a_drill_whose_node_is_drained_starts_again_and_is_proved(release: Release) -> None:
    namespace, job = release.namespace, "drill-drained"
    release.cluster.kubectl("create", "job", f"--from=cronjob/{release.name}-drill", job, "-n", namespace)
    wait_until("the drill's container runs", lambda: drill_runs(release, job), 120)
    pod = release.pod_of(job)
    assert pod is not None
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    release.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    run = release.wait(job, 600)
    assert run.succeeded, run
    again = release.pod_of(job)
    assert again is not None
    assert again["metadata"]["name"] != name
    assert drilled(release)["result"] == "proved"
    done = release.try_shell(f"kubectl cnpg-backup status -n {namespace}", seconds=240)
    assert done.returncode == 0, done.stdout + done.stderr
