"""The watcher on a real cluster: it comes up, has the rights that the page lists and no others, and sees a run fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release
from tests.lab.chart import ROOT

pytestmark = pytest.mark.e2e

NAME = "cnpg-backup-status"


@pytest.fixture
def release(node: Cluster, namespace: str) -> Iterator[Release]:
    """A watched release whose databases do not exist, so that its runs fail."""
    found = Release(node, namespace)
    values = {
        "monitoring": {"enabled": True, "events": True},
        "persistence": {"keep": False},
        "defaults": {"waitTimeout": 1},
        "notify": {"webhook": {"secret": {"name": "backup-webhook"}}, "slack": {"secret": {"name": "not-made"}}},
    }
    url = "--from-literal=url=http://127.0.0.1:8080/"
    node.kubectl("create", "secret", "generic", "backup-webhook", url, "-n", namespace)
    found.install(values, "--wait", "--timeout", "3m", seconds=240)
    yield found
    found.uninstall()


def served(release: Release, path: str) -> str:
    code = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080{path}', timeout=5).read().decode())"
    pod = ("exec", f"deployment/{NAME}", "-n", release.namespace, "--", "python3", "-c", code)
    return release.cluster.kubectl(*pod)


def events(release: Release) -> list[dict[str, Any]]:
    """The Events that the watcher has made."""
    found = release.cluster.get("events", "-n", release.namespace, "--field-selector", "source=cnpg-backup")["items"]
    return [one for one in found if one["involvedObject"]["kind"] == "CronJob"]


def status(release: Release) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(served(release, "/status.json"))
    return found


def test_watcher_comes_up_sees_a_run_fail_and_remembers_it(release: Release) -> None:
    wait_until("the API server was read", lambda: status(release)["read"] is not None, 60)
    assert status(release)["out_of_date"] is None
    assert {one["state"] for one in status(release)["databases"]} == {"unknown"}
    ended = release.wait(release.start(), 240)
    assert not ended.succeeded
    states = {"failed"}
    wait_until("the failure is seen", lambda: {one["state"] for one in status(release)["databases"]} == states, 90)
    assert 'cnpg_backup_last_run_result{namespace="' in served(release, "/metrics")
    before = [(one["database"], one["why"]) for one in status(release)["databases"]]
    assert all(why for _, why in before)
    wait_until("an Event tells that there is no backup", lambda: bool(events(release)), 60)
    assert [(one["type"], one["reason"], one["count"]) for one in events(release)] == [("Warning", "BackupMissing", 1)]
    described = release.cluster.kubectl("describe", "cronjob", release.cronjob, "-n", release.namespace)
    assert "BackupMissing" in described, "kubectl describe shows it"

    release.cluster.kubectl("delete", "jobs", "--all", "-n", release.namespace, "--wait=true")
    release.cluster.kubectl("delete", "pods", "-l", f"cnpg-backup/status-of={release.name}", "-n", release.namespace)
    release.cluster.kubectl("rollout", "status", f"deployment/{NAME}", "-n", release.namespace, "--timeout=120s")
    wait_until("the API server was read again", lambda: status(release)["read"] is not None, 60)
    assert [(one["database"], one["why"]) for one in status(release)["databases"]] == before

    # An upgrade leaves alone what the watcher has written.
    release.upgrade({"podAnnotations": {"example.org/new": "yes"}}, "--wait", "--timeout", "3m", seconds=240)
    memory = release.cluster.get("configmap", NAME, "-n", release.namespace)
    assert "memory.json" in memory["data"]
    assert len(events(release)) == 1, "what was said is not said again after a restart"


def test_test_message_goes_from_the_watchers_pod_and_its_outcome_comes_back(release: Release) -> None:
    """The webhook is the watcher's own port, which takes no messages: so its answer shows that the message came."""
    wait_until("the API server was read", lambda: status(release)["read"] is not None, 60)
    command = [sys.executable, "-m", "kubectl_cnpg_backup", "notify", "--test", "-n", release.namespace, "-o", "json"]
    done = subprocess.run(
        command, env=release.cluster.environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 1, done.stderr
    assert {one["target"]: one["why"] for one in json.loads(done.stdout)} == {
        "events": "",
        "webhook": "it answered 501",
        "slack": "its URL cannot be read; create the Secret that notify names",
    }


def test_page_is_served_and_says_that_nothing_is_known_yet_of_databases_without_a_run(release: Release) -> None:
    wait_until("the API server was read", lambda: status(release)["read"] is not None, 60)
    text = served(release, "/")
    assert "it is not known how their backups are" in text
    assert "<script" not in text


def test_watcher_may_do_what_the_security_page_lists(release: Release) -> None:
    account = f"system:serviceaccount:{release.namespace}:{NAME}"
    listed = release.cluster.kubectl(
        "auth", "can-i", "--list", "--no-headers", f"--as={account}", "-n", release.namespace
    )
    found = set()
    for line in listed.splitlines():
        resource, _, names, verbs = re.fullmatch(r"(\S*)\s+(\[.*?\])\s+(\[.*?\])\s+\[(.*)\]", line.rstrip()).groups()  # type: ignore[union-attr]
        # Everyone who is known may ask about himself, and read what the API server is.
        if resource and not resource.startswith("self"):
            found |= {(resource, names.strip("[]"), verb) for verb in verbs.split()}
    assert found == {
        ("cronjobs.batch", "", "list"),
        ("jobs.batch", "", "list"),
        ("pods", "", "list"),
        ("configmaps", NAME, "get"),
        ("configmaps", NAME, "patch"),
        ("events", "", "create"),
    }
    release.upgrade({"monitoring": {"enabled": True, "events": False}}, "--wait", "--timeout", "3m", seconds=240)
    assert release.cluster.try_kubectl(
        "auth", "can-i", "create", "events", f"--as={account}", "-n", release.namespace
    ).stdout.startswith("no")
