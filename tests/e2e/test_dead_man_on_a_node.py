"""The sign of life on a real cluster: it stays away, or says that something is wrong, within twice its period."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.alerting import UNREAD, Alerting, alerting
from tests.e2e.node import Node, wait_until
from tests.e2e.node.init import NODE_ADDRESS
from tests.e2e.release import Release, cnpg_cluster, sql, wait_healthy
from tests.e2e.sinks import DeadMan, Key

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CLUSTER = "pg"
EVERY = 60
"""Seconds between two signs of life: the shortest that values allow."""
CHECKS = {
    "lonely": "11111111-1111-4111-8111-111111111111",
    "blind": "22222222-2222-4222-8222-222222222222",
}
DOWN: Key = ("CnpgBackupStatusDown", "blind", "")


@dataclass
class Story:
    """What happened, by `time.monotonic`.

    Attributes:
        switch: What expects the signs of life.
        at: When each thing was done.
        told: When Prometheus' alert that the watcher is blind fired, arrived, was over, and that arrived.
    """

    switch: DeadMan
    at: dict[str, float] = field(default_factory=dict)
    told: tuple[float, float, float, float] = (0, 0, 0, 0)
    end: float = 0

    def silence(self, name: str) -> float:
        """When the last sign of life of a release came before the end."""
        return max(ping.at for ping in self.switch.of(CHECKS[name]) if ping.at < self.end)


def values(name: str, port: int) -> dict[str, Any]:
    return {
        "databases": [{"name": name, "cluster": CLUSTER, "secret": {"name": "login"}}],
        "monitoring": {"enabled": True},
        "persistence": {"size": "64Mi", "keep": False},
        "defaults": {"waitTimeout": 1, "retries": 0},
        "notify": {
            "healthchecks": {"secret": {"name": f"{name}-check"}, "every": EVERY},
            "egress": [{"to": [{"ipBlock": {"cidr": f"{NODE_ADDRESS}/32"}}], "ports": [{"port": port}]}],
        },
    }


def login(node: Node, namespace: str, *, right: bool) -> None:
    """Make the Secret with the login of the databases' owner, or with a wrong password."""
    found = dict(node.get("secret", f"{CLUSTER}-app", "-n", namespace)["data"])
    data = {"username": found["username"], "password": found["password"]}
    if not right:
        data["password"] = base64.b64encode(b"wrong").decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "data": data}
    node.apply(secret, namespace=namespace)


@pytest.fixture(scope="module")
def story(own_node: Node) -> Iterator[Story]:
    """Two releases are well, a run fails, one watcher is killed, and then the API server."""
    with ExitStack() as stack:
        namespace = stack.enter_context(own_node.namespace("dead-man"))
        switch = DeadMan(own_node.pid)
        stack.callback(switch.close)
        story = Story(switch)
        own_node.apply(cnpg_cluster(CLUSTER, "app"), namespace=namespace)
        releases = {name: Release(own_node, namespace, name) for name in CHECKS}
        for name, release in releases.items():
            url = f"http://{NODE_ADDRESS}:{switch.port}/{CHECKS[name]}"
            own_node.kubectl(
                "create", "secret", "generic", f"{name}-check", f"--from-literal=url={url}", "-n", namespace
            )
            stack.callback(release.uninstall)
            release.install(values(name, switch.port))
        wait_healthy(own_node, namespace, CLUSTER)
        for name in CHECKS:
            sql(own_node, namespace, f"{CLUSTER}-1", "app", f'CREATE DATABASE "{name}" OWNER app;')
            sql(own_node, namespace, f"{CLUSTER}-1", name, "SET ROLE app; CREATE TABLE items AS SELECT 1 AS id;")
        login(own_node, namespace, right=True)
        with ThreadPoolExecutor() as pool:
            runs = list(pool.map(lambda release: release.run(), releases.values()))
        assert all(run.succeeded for run in runs), runs
        for check in CHECKS.values():
            wait_until("there is a sign of life", lambda check=check: bool(switch.of(check)), 90)  # type: ignore[misc]
        watched = stack.enter_context(alerting(own_node, releases["blind"]))
        tell(own_node, namespace, releases, story, watched)
        yield story


def tell(own_node: Node, namespace: str, releases: dict[str, Release], story: Story, watched: Alerting) -> None:
    switch, at = story.switch, story.at
    login(own_node, namespace, right=False)
    assert not releases["blind"].run().succeeded
    at["failed"] = time.monotonic()
    blind = CHECKS["blind"]
    wait_until("it says that a run failed", lambda: any(p.failed for p in switch.of(blind, at["failed"])), 2 * EVERY)
    login(own_node, namespace, right=True)
    assert releases["blind"].run().succeeded
    at["well"] = time.monotonic()
    wait_until("it says that all is well", lambda: any(not p.failed for p in switch.of(blind, at["well"])), 2 * EVERY)

    pods = ("-l", "cnpg-backup/status-of=lonely", "-n", namespace)
    own_node.kubectl("scale", "deployment", "lonely-status", "--replicas=0", "-n", namespace)
    own_node.kubectl("delete", "pods", *pods, "--grace-period=0", "--force", "--wait=true")
    at["killed"] = time.monotonic()
    own_node.components["kube-apiserver"].kill()
    at["stopped"] = time.monotonic()
    watched.wait_delivered([DOWN], UNREAD + 60, at["stopped"])
    # Longer than a period and the time between two looks: then none comes any more.
    enough = EVERY + 35

    def silent() -> bool:
        story.end = time.monotonic()
        return all(story.end - story.silence(name) > enough for name in CHECKS)

    wait_until("the signs of life stay away", silent, 2 * EVERY + 30 + enough)
    story.end = time.monotonic()
    own_node.components["kube-apiserver"].start()
    own_node.wait_ready()
    at["started"] = time.monotonic()
    watched.wait_over([DOWN], 180, at["started"])
    wait_until("there is a sign of life again", lambda: bool(switch.of(blind, at["started"])), 2 * EVERY)
    ((began, ended),) = watched.intervals(DOWN)
    assert ended is not None
    arrived = watched.received.of(DOWN, resolved=False, since=at["stopped"])[0].at
    told = watched.received.of(DOWN, resolved=True, since=at["started"])[0].at
    story.told = (began - at["stopped"], arrived - at["stopped"], ended - at["started"], told - at["started"])


def test_a_failed_run_is_said_within_twice_the_period(story: Story) -> None:
    first = next(ping for ping in story.switch.of(CHECKS["blind"], story.at["failed"]) if ping.failed)
    took = first.at - story.at["failed"]
    print(f"\na run failed: /fail after {took:.0f} s")
    assert took < 2 * EVERY
    assert "blind: failed: " in first.body, first.body


def test_after_the_cure_it_says_that_all_is_well_within_twice_the_period(story: Story) -> None:
    first = next(ping for ping in story.switch.of(CHECKS["blind"], story.at["well"]) if not ping.failed)
    took = first.at - story.at["well"]
    print(f"\na run was well again: a ping after {took:.0f} s")
    assert took < 2 * EVERY


def test_signs_of_life_come_at_their_period_while_all_is_well(story: Story) -> None:
    came = [ping.at for ping in story.switch.of(CHECKS["lonely"]) if ping.at < story.at["killed"]]
    assert len(came) >= 2
    assert all(after - before < EVERY + 31 for before, after in itertools.pairwise(came)), came


@pytest.mark.parametrize(("name", "fault"), [("lonely", "killed"), ("blind", "stopped")])
def test_signs_of_life_stay_away_within_twice_the_period(story: Story, name: str, fault: str) -> None:
    took = story.silence(name) - story.at[fault]
    print(f"\n{fault}: the last sign of life came {took:.0f} s after it")
    assert took < 2 * EVERY
    assert not [ping for ping in story.switch.of(CHECKS[name], story.at[fault] + 2 * EVERY) if ping.at < story.end]


def test_a_watcher_that_cannot_read_the_api_server_is_an_alert_that_ends_when_it_can(story: Story) -> None:
    fired, arrived, ended, told = story.told
    print(f"\n| API server stopped | {fired:.0f} s | {arrived:.0f} s | {ended:.0f} s | {told:.0f} s |")
    assert fired < UNREAD + 60
