"""Whatever breaks around a run: nothing bad is published, nothing good is deleted, and the next run heals."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.node import Cluster, Node, NodeError, wait_until
from tests.e2e.node.components import CONTAINERD_SOCKET
from tests.e2e.outages import kyverno_out, kyverno_switched_off
from tests.e2e.release import (
    STRANGER,
    Release,
    cnpg_cluster,
    databases,
    fill,
    let_in,
    plant,
    refusal,
    sql,
    table_lock,
    wait_for_dump_behind_lock,
    wait_healthy,
)

pytestmark = pytest.mark.e2e

# Every archive of these tests stays, so that one that is gone is one that was lost.
KEEP_ALL: Mapping[str, Any] = {"retention": {"tiers": [{"name": "All", "every": "1s", "keep": 1000}]}}
SMALL: Mapping[str, Any] = {"persistence": {"size": "64Mi"}, **KEEP_ALL}
NAMES = ("kutt", "shop", "doomed")


def instance(database: str) -> str:
    """The only instance of a database's cluster."""
    return f"{database}-postgresql-cnpg-1"


@dataclass(frozen=True)
class Site:
    """Three clusters of one instance each in a namespace, shared by all tests; each test is kind to them."""

    cluster: Cluster
    namespace: str

    def locked(self, database: str) -> Any:
        """Hold a lock that stops a dump of the database in the middle."""
        return table_lock(self.cluster, self.namespace, instance(database), database)

    def wait_for_dump(self, database: str) -> None:
        """Wait until a dump is in its middle."""
        wait_for_dump_behind_lock(self.cluster, self.namespace, [instance(database)], database)

    def patch(self, kind: str, name: str, patch: Mapping[str, Any]) -> None:
        """Change an object of the namespace."""
        self.cluster.kubectl("patch", kind, name, "-n", self.namespace, "--type=merge", "-p", json.dumps(patch))

    @contextmanager
    def release(self, name: str, values: Mapping[str, Any], *names: str) -> Iterator[Release]:
        """A release for some of the databases, with one good backup of each, and a pod that looks at the volume."""
        release = Release(self.cluster, self.namespace, name)
        release.install({"databases": databases(*names), **SMALL, **values})
        first = release.run()
        assert first.succeeded, first
        with release.kept_inspector():
            yield release


@pytest.fixture(scope="module")
def site(node: Cluster) -> Iterator[Site]:
    with node.namespace("faults") as namespace:
        let_in(node, namespace)
        node.apply(*(cnpg_cluster(f"{name}-postgresql-cnpg", name) for name in NAMES), namespace=namespace)
        wait_healthy(node, namespace, *(f"{name}-postgresql-cnpg" for name in NAMES))
        for name in NAMES:
            fill(node, namespace, instance(name), name)
        yield Site(node, namespace)


@pytest.fixture(scope="module")
def shared(site: Site) -> Iterator[Release]:
    """A release for the database kutt that many tests use one after another; each leaves it healed."""
    with site.release("shared", {}, "kutt") as release:
        yield release


@pytest.fixture
def release(shared: Release) -> Iterator[Release]:
    """The shared release; afterwards nothing published is bad, nothing is lost, and the next run succeeds."""
    with unharmed(shared):
        yield shared


@contextmanager
def unharmed(release: Release) -> Iterator[None]:
    """Whatever happens inside, the volume is well afterwards, and the next run succeeds and tidies up.

    Only where the test itself has succeeded: its own message says more.
    """
    before = release.check_volume()
    yield
    after = release.check_volume()
    for database, archives in before.items():
        lost = sorted(set(archives) - set(after.get(database, [])))
        assert not lost, f"good backups of {database} are gone: {', '.join(lost)}"
    run = release.run()
    assert run.succeeded, run
    healed = release.check_volume()
    for database in before:
        assert len(healed[database]) == len(after[database]) + 1, f"{database} has no new backup: {run}"
    assert left_behind(release) == "", "the next run does not tidy up"


def left_behind(release: Release) -> str:
    """What is neither a backup nor beside one."""
    patterns = ("*.partial", "*.staged*", "*.deleting", "*.bad")
    tests = [word for pattern in patterns for word in ("-o", "-name", pattern)][1:]
    return release.on_volume("find", "/backups", "(", *tests, ")").strip()


def pod_name(release: Release, job: str) -> str:
    """Name of a Job's pod, once there is one."""
    found: list[str] = []

    def there() -> bool:
        pod = release.pod_of(job)
        found[:] = [pod["metadata"]["name"]] if pod else []
        return bool(found)

    wait_until(f"job {job} has a pod", there, 60)
    return found[0]


def test_restart_of_the_pods_node_in_mid_dump_publishes_nothing(own_node: Node, site: Site, release: Release) -> None:
    with site.locked("kutt"):
        job = release.start()
        site.wait_for_dump("kutt")
        pod = release.pod_of(job)
        assert pod
        kubelet, containerd = own_node.components["kubelet"], own_node.components["containerd"]
        kubelet.kill()
        containerd.kill()
        try:
            kill_processes(own_node, pod["metadata"]["uid"])
        finally:
            containerd.start()
            ask = f"ctr --address {CONTAINERD_SOCKET} --connect-timeout 1s version"
            wait_until("containerd answers", lambda: bool(own_node.run("/bin/sh", "-c", ask)), 60)
            # It ends at once where there is no containerd.
            kubelet.start()
        run = release.wait(job)
    assert not run.succeeded, run
    assert "published" not in run.retention, run


def kill_processes(node: Node, uid: str) -> None:
    """Kill all processes of one pod of the node by their ids.

    A container's first process takes the others with it, so that a later one of the list may be gone already.
    """
    script = (
        f"for file in $(find /sys/fs/cgroup -path '*pod{uid}*' -name cgroup.procs); do cat $file; done | sort -un |"
        " while read -r id; do [ $id = 0 ] || { echo $id; kill -KILL $id 2>/dev/null || :; }; done"
    )
    killed = node.run("/bin/sh", "-c", script).split()
    assert len(killed) > 1, f"no processes of pod {uid} found on the node"


def test_restart_of_the_api_server_in_mid_run_does_not_stop_the_run(
    own_node: Node, site: Site, release: Release
) -> None:
    with site.locked("kutt") as unlock:
        job = release.start()
        site.wait_for_dump("kutt")
        server = own_node.components["kube-apiserver"]
        server.kill()
        server.start()
        own_node.wait_ready()
        unlock()
        run = release.wait(job)
    assert run.succeeded, run


def test_evicted_run_is_replaced_and_not_counted_as_a_failure(site: Site, release: Release) -> None:
    with site.locked("kutt") as unlock:
        job = release.start()
        site.wait_for_dump("kutt")
        evicted = pod_name(release, job)
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": evicted, "namespace": site.namespace},
        }
        path = f"/api/v1/namespaces/{site.namespace}/pods/{evicted}/eviction"
        site.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
        wait_until("the evicted pod has a successor", lambda: pod_name(release, job) != evicted, 90)
        unlock()
        run = release.wait(job)
    assert run.succeeded, run
    assert "published kutt-" in run.retention, run


@pytest.mark.parametrize("of", ["job", "pod"])
def test_run_past_its_deadline_leaves_nothing(site: Site, release: Release, of: str) -> None:
    with site.locked("kutt"):
        job = release.start()
        site.wait_for_dump("kutt")
        # Now, and not after the hours that the schedule allows.
        name = job if of == "job" else pod_name(release, job)
        site.patch(of, name, {"spec": {"activeDeadlineSeconds": 1}})
        run = release.wait(job)
        assert not run.succeeded, run
        assert ("DeadlineExceeded" in run.reason) == (of == "job"), run
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cnpg-backup';"
        wait_until(
            "pg_dump has left the server",
            lambda: sql(site.cluster, site.namespace, instance("kutt"), "kutt", query) == "0",
            60,
        )
    # The pod's deadline comes before the Job's, for the Job takes the log away with the pod.
    assert of == "job" or "LOST" in run.dump, run


def test_rotated_secret_is_used_by_the_next_run(site: Site, release: Release) -> None:
    name = "kutt-postgresql-cnpg-app"
    old = base64.b64decode(site.cluster.get("secret", name, "-n", site.namespace)["data"]["password"]).decode()
    new = "rotated: with a \\ and a colon"

    def accepted(password: str) -> bool:
        done = site.cluster.try_kubectl(
            "exec", "-i", "-n", site.namespace, instance("kutt"), "-c", "postgres", "--",
            "sh", "-c", "IFS= read -r PGPASSWORD; export PGPASSWORD; psql -Xw -h 127.0.0.1 -U kutt -d kutt -c ''",
            stdin=f"{password}\n",
        )  # fmt: skip
        return done.returncode == 0

    assert accepted(old), "the old password is not the role's, so nothing is shown"
    site.patch("secret", name, {"stringData": {"password": new}})
    wait_until("the role has the new password alone", lambda: accepted(new) and not accepted(old), 60)
    run = release.run()
    assert run.succeeded, run


def test_two_runs_at_a_time_take_turns_or_name_the_holder(site: Site) -> None:
    entries = {
        "databases": [
            *databases("kutt", lockTimeout=2),
            {"name": "patient", "cluster": "kutt-postgresql-cnpg", "database": "kutt", "lockTimeout": 600},
        ]
    }
    with site.release("turns", entries) as release, unharmed(release):
        with site.locked("kutt") as unlock:
            first = release.start()
            site.wait_for_dump("kutt")
            holder = pod_name(release, first)
            second = release.start()
            waiting = pod_name(release, second)
            wait_until(
                "the second run has given up on the database that does not wait",
                lambda: f"another run holds the lock: {holder}" in release.log(waiting, "dump"),
                60,
            )
            unlock()
            runs = release.wait(first), release.wait(second)
        assert runs[0].succeeded, runs[0]
        assert not runs[1].succeeded, runs[1]
        # Besides the first backup of each: one run gave up on kutt, and both did their work on the other. Which of
        # the two has published an archive is a matter of who came first.
        counts = {name: len(found) for name, found in release.check_volume().items()}
        assert counts == {"kutt": 2, "patient": 3}, f"{runs[0]}\n{runs[1]}"


def free(release: Release) -> int:
    """Bytes that are free on the volume."""
    return int(release.on_volume("df", "-Pk", "/backups").splitlines()[1].split()[3]) * 1024


def test_full_volume_fails_the_run_and_costs_no_backup(site: Site) -> None:
    with site.release("full", {"persistence": {"size": "32Mi"}}, "shop") as release, unharmed(release):

        def occupy(all_but: int) -> None:
            script = f"head -c {free(release) - all_but} /dev/zero >>/backups/ballast || :"
            release.on_volume("sh", "-c", script)

        where = (site.cluster, site.namespace, instance("shop"), "shop")
        # About 4 MB once compressed: far more than the last archive lets one expect.
        sql(
            *where,
            "CREATE TABLE noise AS SELECT md5(i::text) || md5((-i)::text) AS x FROM generate_series(1, 120000) i;",
        )
        sql(*where, "ALTER TABLE noise OWNER TO shop;")
        occupy(2 << 20)
        run = release.run()
        assert not run.succeeded, run
        assert "No space left" in run.retention, run
        assert "grow the claim" in run.retention, run
        sql(*where, "DROP TABLE noise;")
        occupy(0)
        run = release.run()
        assert not run.succeeded, run
        assert "free on the volume" in run.retention, run
        release.on_volume("rm", "/backups/ballast")


def test_hibernated_cluster_fails_alone_and_comes_back(site: Site) -> None:
    name = "shop-postgresql-cnpg"
    entries = {"databases": [*databases("kutt"), *databases("shop", waitTimeout=5)]}
    with site.release("sleepy", entries) as release, unharmed(release):
        site.cluster.kubectl("annotate", "cluster", name, "-n", site.namespace, "cnpg.io/hibernation=on")
        site.cluster.kubectl("wait", "--for=delete", f"pod/{name}-1", "-n", site.namespace, "--timeout=90s")
        run = release.run()
        assert not run.succeeded, run
        assert "published kutt-" in run.retention, run
        assert "shop: failed: no answer within 5 s" in run.retention, run
        site.cluster.kubectl(
            "annotate", "cluster", name, "-n", site.namespace, "cnpg.io/hibernation=off", "--overwrite"
        )
        pod = f"pod/{name}-1"

        def awake() -> bool:
            site.cluster.kubectl("wait", "--for=condition=Ready", pod, "-n", site.namespace, "--timeout=60s")
            return True

        wait_until(f"{pod} is back", awake, 120)


def test_deleted_cluster_keeps_its_backups_and_the_others_go_on(site: Site) -> None:
    one = {"retention": {"tiers": [{"name": "Hourly", "every": "1h", "keep": 1}]}}
    with site.release("gone", {"databases": databases("kutt", "doomed", waitTimeout=3), **one}) as release:
        for database in ("kutt", "doomed"):
            plant(release, database, 2, 3)
        before = release.check_volume()
        assert {name: len(found) for name, found in before.items()} == {"kutt": 3, "doomed": 3}
        site.cluster.kubectl("delete", "cluster", "doomed-postgresql-cnpg", "-n", site.namespace)
        for secret in ("app", "ca"):
            wait = ("wait", "--for=delete", f"secret/doomed-postgresql-cnpg-{secret}", "--timeout=60s")
            site.cluster.kubectl(*wait, "-n", site.namespace)
        run = release.run()
        assert not run.succeeded, run
        assert "doomed: failed: no user name" in run.retention, run
        assert "doomed: remedy: there is none in the Secret of cluster doomed-postgresql-cnpg" in run.retention, run
        after = release.check_volume()
        assert after["doomed"] == before["doomed"], "backups of a cluster that is gone were deleted"
        assert not set(after["kutt"]) & set(before["kutt"][:2]), (
            f"the pruning of the other database stopped, too: {run}"
        )
        # What a person does then: take the database out of the values.
        release.upgrade({"databases": databases("kutt")})
        run = release.run()
        assert run.succeeded, run
        assert release.check_volume()["doomed"] == before["doomed"]


def test_image_that_cannot_be_pulled_stops_only_its_own_databases(site: Site, release: Release) -> None:
    broken = {"name": "app", "cluster": "app-postgresql-cnpg", "image": {"tag": "15-nosuch", "pullPolicy": "Never"}}
    release.upgrade({"databases": [*databases("kutt"), broken]})
    site.cluster.kubectl("create", "job", f"--from=cronjob/{release.cronjob}-15", "stuck", "-n", site.namespace)

    def stuck() -> bool:
        pod = release.pod_of("stuck")
        waiting = [s["state"].get("waiting", {}) for s in pod["status"].get("initContainerStatuses", [])] if pod else []
        return any(w.get("reason", "").startswith("ErrImage") for w in waiting)

    wait_until("the pod waits for its image", stuck, 60)
    run = release.run()
    assert run.succeeded, run
    assert release.pod_of("stuck"), "the pod without an image is gone, so nothing is shown"
    site.cluster.kubectl("delete", "job", "stuck", "-n", site.namespace)
    release.upgrade({"databases": databases("kutt")})


def test_upgrade_under_a_waiting_pod_ends_it_at_its_deadline(site: Site) -> None:
    release = Release(site.cluster, site.namespace, "upgraded")
    release.install({"databases": databases("kutt"), **KEEP_ALL, "persistence": {"existingClaim": "late"}})
    job = release.start()
    pod = pod_name(release, job)
    (old,) = config_of(release)
    release.upgrade({"defaults": {"lockTimeout": 5}})
    assert old not in config_of(release), "the configuration did not change, so nothing is shown"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "late"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }
    site.cluster.apply(claim, namespace=site.namespace)

    def says_why() -> bool:
        events = site.cluster.get("events", "-n", site.namespace, "--field-selector", f"involvedObject.name={pod}")
        return any(e["reason"] == "FailedMount" and old in e["message"] for e in events["items"])

    wait_until("the pod's events name the configuration that is gone", says_why, 90)
    # What waits holds no lock: other runs go on beside it.
    run = release.run()
    assert run.succeeded, run
    site.patch("job", job, {"spec": {"activeDeadlineSeconds": 1}})
    stuck = release.wait(job)
    assert "DeadlineExceeded" in stuck.reason, stuck
    with release.kept_inspector(), unharmed(release):
        pass


def config_of(release: Release) -> list[str]:
    """Names of the ConfigMaps with the configuration of the release's first CronJob."""
    found = release.cluster.get("configmaps", "-n", release.namespace, "-l", f"app={release.name}")["items"]
    prefix = f"{release.cronjob}-config-"
    return [c["metadata"]["name"] for c in found if c["metadata"]["name"].startswith(prefix)]


def answer_to(release: Release, claim: str, who: str = STRANGER) -> str:
    """What the API server says to somebody's new pod with a claim; empty where it would admit it."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "visitor", "labels": {"app": release.name}},
        "spec": {
            "containers": [{"name": "main", "image": "localhost/busybox:test"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    return refusal(release.cluster, release.namespace, pod, who)


def test_without_kyverno_strangers_stay_out_and_a_running_backup_ends(
    own_node: Node, site: Site, release: Release
) -> None:
    with site.locked("kutt") as unlock:
        job = release.start()
        site.wait_for_dump("kutt")
        with kyverno_out(own_node):
            assert answer_to(release, "another") == "", "pods without the claim are refused, too"
            assert "asks to create pods visitor" in answer_to(release, release.claim), "the built-in engine is out, too"
            # Kyverno would have to be asked about what people do by hand.
            assert "failed calling webhook" in answer_to(release, release.claim, who="")
            with pytest.raises(NodeError, match="failed calling webhook"):
                release.start("refused")
            unlock()
            run = release.wait(job)
    assert run.succeeded, run
    assert "published kutt-" in run.retention, run


def test_kyverno_that_is_switched_off_takes_its_guard_along_and_backups_go_on(own_node: Node, release: Release) -> None:
    with kyverno_switched_off(own_node):
        # It takes its own webhooks along when it is told to go for good.
        wait_until("nobody asks Kyverno", lambda: answer_to(release, release.claim, who="") == "", 90)
        assert "asks to create pods visitor" in answer_to(release, release.claim), "the built-in engine is out, too"
        run = release.run()
        assert run.succeeded, run
