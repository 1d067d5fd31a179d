"""What a pod of the release can reach, what can reach it, and what a lost primary does to a dump."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.node import Cluster, NodeError, wait_until
from tests.e2e.release import (
    CONTAINER_RESTRICTED,
    RESTRICTED,
    Release,
    cnpg_cluster,
    databases,
    fill,
    sql,
    table_lock,
    wait_for_dump_behind_lock,
    wait_healthy,
)

pytestmark = pytest.mark.e2e

KUTT, FAR, STRANGER = "kutt-postgresql-cnpg", "far-postgresql-cnpg", "stranger-postgresql-cnpg"
KEEP_ALL = {"retention": {"tiers": [{"name": "All", "every": "1s", "keep": 1000}]}}
LISTENING = 8080
WATCHER = "cnpg-backup-status"

# Connects to every address in its argument, all at once, and prints which of them answered.
PROBE = """
import concurrent.futures, json, socket, sys
def connects(address):
    try:
        socket.create_connection(address, timeout=4).close()
        return True
    except OSError:
        return False
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    addresses = json.loads(sys.argv[1])
    print(json.dumps(list(pool.map(connects, map(tuple, addresses)))))
"""


def listener(name: str, port: int = LISTENING, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A pod that accepts connections on a port, and from which one can probe."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"role": name, **(labels or {})}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": dict(RESTRICTED),
            "containers": [
                {
                    "name": "main",
                    "image": "localhost/python:3-test",
                    "command": ["python3", "-m", "http.server", str(port)],
                    "securityContext": dict(CONTAINER_RESTRICTED),
                }
            ],
        },
    }


def backup_pod(release: Release, name: str) -> dict[str, Any]:
    """A pod from the CronJob's template, labels, claim and all, whose program only listens."""
    cronjob = release.cluster.get("cronjob", release.cronjob, "-n", release.namespace)
    template = cronjob["spec"]["jobTemplate"]["spec"]["template"]
    spec = template["spec"]
    spec.pop("initContainers")
    spec.pop("activeDeadlineSeconds")
    main = spec["containers"][0]
    main.pop("args")
    main["command"] = ["python3", "-m", "http.server", str(LISTENING)]
    metadata = {"name": name, "labels": template["metadata"]["labels"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**spec, "terminationGracePeriodSeconds": 0},
    }


@dataclass(frozen=True)
class Site:
    """A release with two configured clusters, one of them in another namespace, and everything it may not reach."""

    cluster: Cluster
    home: str
    away: str
    release: Release

    def address(self, pod: str, namespace: str | None = None) -> str:
        """Address of a pod."""
        found = self.cluster.get("pod", pod, "-n", namespace or self.home)
        return str(found["status"]["podIP"])

    def watcher_address(self) -> str:
        """Address of the watcher's pod."""
        (pod,) = self.cluster.get("pods", "-n", self.home, "-l", f"cnpg-backup/status-of={self.release.name}")["items"]
        return str(pod["status"]["podIP"])

    def targets(self) -> dict[str, tuple[str, int]]:
        """Everything worth a try from a backup pod, by a name for messages."""
        node_address = str(self.cluster.get("pod", f"{KUTT}-1", "-n", self.home)["status"]["hostIP"])
        endpoint = self.cluster.get("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")
        api, api_port = endpoint["items"][0]["endpoints"][0]["addresses"][0], endpoint["items"][0]["ports"][0]["port"]
        return {
            "primary of a configured cluster": (f"{KUTT}-rw.{self.home}.svc", 5432),
            "standbys of a configured cluster": (f"{KUTT}-ro.{self.home}.svc", 5432),
            "an instance of a configured cluster": (self.address(f"{KUTT}-2"), 5432),
            "configured cluster in another namespace": (f"{FAR}-rw.{self.away}.svc", 5432),
            "name server": ("kube-dns.kube-system.svc", 53),
            "metrics of a configured cluster": (self.address(f"{KUTT}-1"), 9187),
            "status of a configured cluster": (self.address(f"{KUTT}-1"), 8000),
            "pod with the labels of a pooler": (self.address("pooler"), 5432),
            "cluster that is not configured": (f"{STRANGER}-rw.{self.home}.svc", 5432),
            "pod of the same namespace": (self.address("control"), LISTENING),
            "pod of the same namespace on the databases' port": (self.address("postgres"), 5432),
            "pod of another namespace": (self.address("control", self.away), LISTENING),
            "pod of another namespace on the databases' port": (self.address("postgres", self.away), 5432),
            "API server by its service": ("kubernetes.default.svc", 443),
            "API server by its address": (api, api_port),
            "kubelet of the node": (node_address, 10250),
            "CloudNativePG operator": ("cnpg-webhook-service.cnpg-system.svc", 443),
            "watcher by its service": (f"{WATCHER}.{self.home}.svc", 80),
            "watcher by its address": (self.watcher_address(), LISTENING),
        }

    def probe(self, pod: str, addresses: list[tuple[str, int]], namespace: str | None = None) -> list[bool]:
        """Which of these addresses a pod can connect to."""
        where = namespace or self.home
        answer = self.cluster.kubectl("exec", "-n", where, pod, "--", "python3", "-c", PROBE, json.dumps(addresses))
        found: list[bool] = json.loads(answer)
        return found


REACHABLE = (
    "primary of a configured cluster",
    "standbys of a configured cluster",
    "an instance of a configured cluster",
    "configured cluster in another namespace",
    "name server",
)
FORBIDDEN = (
    "metrics of a configured cluster",
    "status of a configured cluster",
    "pod with the labels of a pooler",
    "cluster that is not configured",
    "pod of the same namespace",
    "pod of the same namespace on the databases' port",
    "pod of another namespace",
    "pod of another namespace on the databases' port",
    "API server by its service",
    "API server by its address",
    "kubelet of the node",
    "CloudNativePG operator",
    "watcher by its service",
    "watcher by its address",
)
OF_THE_WATCHER = ("name server", "API server by its service", "API server by its address")
"""What the watcher reaches, and nothing else of `Site.targets`."""


@pytest.fixture(scope="module")
def site(node: Cluster) -> Iterator[Site]:
    with ExitStack() as stack:
        home, away = (stack.enter_context(node.namespace(prefix)) for prefix in ("home", "away"))
        postgres = {"smartShutdownTimeout": 1, "stopDelay": 10}
        node.apply(
            cnpg_cluster(KUTT, "kutt", instances=3, **postgres),
            cnpg_cluster(STRANGER, "stranger"),
            listener("control"),
            listener("postgres", 5432),
            listener("pooler", 5432, {"cnpg.io/cluster": KUTT, "cnpg.io/podRole": "pooler", "cnpg.io/poolerName": "p"}),
            namespace=home,
        )
        node.apply(cnpg_cluster(FAR, "far"), listener("control"), listener("postgres", 5432), namespace=away)
        release = Release(node, home)
        far = {"name": "far", "cluster": FAR, "namespace": away}
        watched = {"monitoring": {"enabled": True}}
        release.install(
            {"databases": [*databases("kutt"), far], "persistence": {"size": "256Mi"}, **KEEP_ALL, **watched}
        )
        with ThreadPoolExecutor() as pool:
            waits = [
                pool.submit(wait_healthy, node, home, KUTT, STRANGER),
                pool.submit(wait_healthy, node, away, FAR),
            ]
            for wait in waits:
                wait.result()
        node.kubectl("rollout", "status", f"deployment/{WATCHER}", "-n", home, "--timeout=120s", seconds=130)
        copy_secrets(node, away, home, f"{FAR}-app", f"{FAR}-ca")
        fill(node, home, f"{KUTT}-1", "kutt")
        fill(node, away, f"{FAR}-1", "far")
        yield Site(node, home, away, release)


def copy_secrets(cluster: Cluster, source: str, target: str, *names: str) -> None:
    """Copy Secrets into another namespace, as one has to for clusters elsewhere."""
    for name in names:
        secret = cluster.get("secret", name, "-n", source)
        copy = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": secret["data"]}
        cluster.apply(copy, namespace=target)


@dataclass(frozen=True)
class Reach:
    """What answered, by the names of `Site.targets`."""

    backup: Mapping[str, bool]
    control: Mapping[str, bool]


@pytest.fixture(scope="module")
def reach(site: Site, probing: str) -> Reach:
    """What a backup pod and an unlabelled pod beside it can connect to, once the policy is programmed."""
    targets = site.targets()
    addresses = list(targets.values())

    def backup() -> dict[str, bool]:
        return dict(zip(targets, site.probe(probing, addresses), strict=True))

    expected = {name: name in REACHABLE for name in targets}
    last: dict[str, bool] = {}

    def enforced() -> bool:
        last.update(backup())
        return last == expected

    # Who is reached against the policy is for the tests to say, one for each target.
    with suppress(NodeError):
        wait_until("the NetworkPolicy is programmed", enforced, 30, every=0.5)
    control = dict(zip(targets, site.probe("control", addresses), strict=True))
    return Reach(backup(), control)


@pytest.fixture(scope="module")
def probing(site: Site) -> Iterator[str]:
    """A running pod that is a backup pod to every policy."""
    name = "probing"
    site.cluster.apply(backup_pod(site.release, name), namespace=site.home)
    site.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", site.home, "--timeout=60s")
    yield name
    site.cluster.try_kubectl("delete", "pod", name, "-n", site.home, "--wait=false")


def test_every_target_has_a_verdict(site: Site) -> None:
    assert set(site.targets()) == {*REACHABLE, *FORBIDDEN}


@pytest.mark.shows("dns", "egress")
@pytest.mark.parametrize("target", REACHABLE)
def test_backup_pod_reaches_what_it_needs(reach: Reach, target: str) -> None:
    assert reach.backup[target], f"a backup pod cannot reach: {target}"


@pytest.mark.shows("no-egress")
@pytest.mark.parametrize("target", FORBIDDEN)
def test_backup_pod_reaches_nothing_else(reach: Reach, target: str) -> None:
    assert reach.control[target], f"the target is not there, so nothing is shown: {target}"
    assert not reach.backup[target], f"a backup pod reaches: {target}"


@pytest.fixture(scope="module")
def watcher_reach(site: Site) -> Mapping[str, bool]:
    """What the watcher can connect to, once its policy is programmed."""
    targets = {name: address for name, address in site.targets().items() if not name.startswith("watcher ")}
    expected = {name: name in OF_THE_WATCHER for name in targets}
    last: dict[str, bool] = {}

    def enforced() -> bool:
        found = site.probe(f"deployment/{WATCHER}", list(targets.values()))
        last.update(zip(targets, found, strict=True))
        return last == expected

    with suppress(NodeError):
        wait_until("the watcher's NetworkPolicy is programmed", enforced, 30, every=0.5)
    return last


def test_watcher_reaches_the_api_server_and_name_servers(watcher_reach: Mapping[str, bool]) -> None:
    assert {name for name in OF_THE_WATCHER if watcher_reach[name]} == set(OF_THE_WATCHER)


@pytest.mark.parametrize(
    "target",
    [name for name in (*REACHABLE, *FORBIDDEN) if name not in OF_THE_WATCHER and not name.startswith("watcher ")],
)
def test_watcher_reaches_no_database_and_nothing_else(
    reach: Reach, watcher_reach: Mapping[str, bool], target: str
) -> None:
    assert reach.control[target], f"the target is not there, so nothing is shown: {target}"
    assert not watcher_reach[target], f"the watcher reaches: {target}"


def test_watcher_and_backup_pods_do_not_reach_each_other(site: Site, probing: str) -> None:
    backup, control = (site.address(probing), LISTENING), (site.address("control"), LISTENING)
    assert site.probe("control", [(site.watcher_address(), LISTENING)]) == [True], "the watcher does not listen"
    wait_until(
        "the watcher is kept from a backup pod",
        lambda: site.probe(f"deployment/{WATCHER}", [backup, control]) == [False, False],
        30,
    )


@pytest.mark.shows("ingress")
@pytest.mark.parametrize("where", ["home", "away"])
def test_nothing_can_connect_to_a_backup_pod(site: Site, probing: str, where: str) -> None:
    namespace = getattr(site, where)
    backup, control = (site.address(probing), LISTENING), (site.address("control"), LISTENING)
    wait_until(
        f"a pod of namespace {where} is kept from a backup pod",
        lambda: site.probe("control", [backup, control], namespace) == [False, True],
        30,
    )
    # From the pod itself, so that it is known to listen.
    loopback = ("127.0.0.1", LISTENING)
    assert site.probe(probing, [loopback]) == [True], "the backup pod does not listen, so nothing is shown"


def test_database_cannot_connect_to_a_backup_pod(site: Site, probing: str) -> None:
    def connects(address: str) -> bool:
        script = f"timeout 4 bash -c '</dev/tcp/{address}/{LISTENING}'"
        done = site.cluster.try_kubectl(
            "exec", "-n", site.home, f"{KUTT}-1", "-c", "postgres", "--", "sh", "-c", script
        )
        return done.returncode == 0

    assert connects(site.address("control")), "the database reaches nothing, so nothing is shown"
    wait_until("the database is kept from a backup pod", lambda: not connects(site.address(probing)), 30)


def test_both_clusters_are_backed_up_through_the_policy(site: Site) -> None:
    run = site.release.run()
    assert run.succeeded, run
    assert {name: len(found) for name, found in site.release.check_volume().items()} == {"far": 1, "kutt": 1}


def primary_of(site: Site) -> str:
    """The instance that is the primary now, once the operator has no other in mind."""
    found: list[str] = []

    def settled() -> bool:
        status = site.cluster.get("cluster", KUTT, "-n", site.home)["status"]
        found[:] = [status["currentPrimary"]]
        return bool(status["currentPrimary"] == status["targetPrimary"])

    wait_until(f"cluster {KUTT} has one primary", settled, 60)
    return found[0]


@pytest.fixture(params=["primary", "prefer-standby"])
def whole(site: Site, request: pytest.FixtureRequest) -> Iterator[Release]:
    """A release of its own that reads from the server of the name; the cluster has its three instances."""
    wait_healthy(site.cluster, site.home, KUTT)
    release = Release(site.cluster, site.home, f"from-{request.param}")
    entry = {**databases("kutt")[0], "target": request.param}
    release.install({"databases": [entry], "persistence": {"size": "256Mi"}, **KEEP_ALL})
    with release.kept_inspector():
        yield release
    release.uninstall()


def standbys_of(site: Site) -> list[str]:
    """The instances that follow the primary, all of which have what it has."""
    primary = primary_of(site)
    query = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn();"
    wait_until("both standbys have caught up", lambda: sql(site.cluster, site.home, primary, "kutt", query) == "2", 60)
    return [f"{KUTT}-{number}" for number in (1, 2, 3) if f"{KUTT}-{number}" != primary]


def test_dump_reads_from_the_server_that_the_value_names(site: Site, whole: Release) -> None:
    primary = primary_of(site)
    role = {"from-primary": "primary", "from-prefer-standby": "standby"}[whole.name]
    with table_lock(site.cluster, site.home, primary, "kutt") as unlock:
        # By now the standbys hold the lock as well.
        wanted = {"primary": [primary], "standby": standbys_of(site)}[role]
        job = whole.start()
        wait_for_dump_behind_lock(site.cluster, site.home, wanted, "kutt")
        unlock()
        run = whole.wait(job)
    assert run.succeeded, run
    metadata = whole.metadata("kutt", whole.check_volume()["kutt"][-1])
    assert (metadata["role"], metadata["attempts"]) == (role, 1), metadata


def test_losing_the_primary_in_mid_dump_spoils_nothing(site: Site, whole: Release) -> None:
    first = whole.run()
    assert first.succeeded, first
    before = whole.check_volume()["kutt"]
    primary = primary_of(site)
    with table_lock(site.cluster, site.home, primary, "kutt"):
        standbys = standbys_of(site)
        job = whole.start()
        wait_for_dump_behind_lock(site.cluster, site.home, [primary, *standbys], "kutt")
        site.cluster.kubectl("delete", "pod", primary, "-n", site.home, "--grace-period=0", "--force")
        run = whole.wait(job)
    after = whole.check_volume()["kutt"]
    assert before == after[: len(before)], "a good backup is gone"
    assert len(after) - len(before) == (1 if run.succeeded else 0), run
    if whole.name == "from-primary":
        assert "attempt on the primary failed" in run.dump, run
    # The cluster may still be repairing itself.
    healed = whole.run()
    assert healed.succeeded, healed
    assert len(whole.check_volume()["kutt"]) == len(after) + 1
