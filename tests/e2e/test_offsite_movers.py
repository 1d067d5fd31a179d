"""Tools that copy the volume elsewhere, as docs/offsite.md names them: a stand-in with their accounts makes the copy.

The stand-in asks for what the tool asks for: its controller creates a Job, whose pods have an account of the release's
namespace and mount the claim. It copies the files to another claim, as user 70.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chart.test_recipes import DOCS, blocks
from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import (
    CONTAINER_RESTRICTED,
    RESTRICTED,
    STRANGER,
    Release,
    cnpg_cluster,
    fill,
    let_in,
    refusal,
    table_lock,
    wait_for_dump_behind_lock,
    wait_healthy,
)
from tests.lab import chart

pytestmark = pytest.mark.e2e

NAME = "app"
BLOCKS = blocks("offsite.md")
CLOSED: Mapping[str, Any] = {"accessPolicy": {"exceptions": [], "jobAccounts": [], "cronJobs": []}}
WITH_CONTROLLER = ("volsync-direct", "kopiur-direct", "k8up")
RBAC = "rbac.authorization.k8s.io"
COPY = """
for name in $(ls /data); do
  [ "$name" != lost+found ] || continue
  rm -rf "/copy/$name"
  cp -Rp "/data/$name" /copy/
done
cd /copy
sha256sum */*.dump
"""


@dataclass
class Site:
    """A release with one backup, and a claim for copies."""

    cluster: Cluster
    namespace: str
    release: Release

    def sums(self) -> set[str]:
        """The sha256 and the path of each archive that counts."""
        return set(self.release.on_volume("sh", "-c", "cd /backups && sha256sum */*.dump").splitlines())

    def let_in(self, user: str) -> None:
        """Give a tool's account what its own ClusterRole gives it: to work with Jobs here."""
        _, _, place, account = user.split(":")
        if self.cluster.try_kubectl("get", "namespace", place).returncode:
            self.cluster.kubectl("create", "namespace", place)
            self.cluster.kubectl("create", "serviceaccount", account, "-n", place)
        binding = {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": account},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": place}],
        }
        self.cluster.apply(binding, namespace=self.namespace)

    def account(self, name: str) -> None:
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace=self.namespace
        )

    def copied(self, pod: str) -> set[str]:
        """What a mover's pod has printed, once it has ended well."""

        def ended() -> bool:
            phase = self.cluster.get("pod", pod, "-n", self.namespace)["status"]["phase"]
            assert phase != "Failed", self.cluster.kubectl("logs", pod, "-n", self.namespace)
            return bool(phase == "Succeeded")

        wait_until(f"the copy of {pod} ends", ended, 120)
        return set(self.cluster.kubectl("logs", pod, "-n", self.namespace).splitlines())

    def pods(self, selector: str) -> list[str]:
        found = self.cluster.get("pods", "-n", self.namespace, "-l", selector)["items"]
        return [pod["metadata"]["name"] for pod in found]


@pytest.fixture(scope="module")
def site(node: Cluster) -> Iterator[Site]:
    with node.namespace("movers") as namespace:
        release = Release(node, namespace)
        found = Site(node, namespace, release)
        node.apply(cnpg_cluster(NAME, NAME), namespace=namespace)
        node.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "copy"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "longhorn",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
            namespace=namespace,
        )
        release.install({"databases": [{"name": NAME, "cluster": NAME}]})
        try:
            wait_healthy(node, namespace, NAME)
            fill(node, namespace, f"{NAME}-1", NAME)
            assert (run := release.run()).succeeded, run
            with release.kept_inspector():
                yield found
        finally:
            release.uninstall()


def mover(claim: str, account: str, command: str = COPY) -> dict[str, Any]:
    """The template of a mover's pod."""
    return {
        "metadata": {"labels": {"mover": account}},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": dict(RESTRICTED),
            "containers": [
                {
                    "name": "mover",
                    "image": "localhost/postgres:17-test",
                    "command": ["sh", "-euc", command],
                    "securityContext": dict(CONTAINER_RESTRICTED),
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/data", "readOnly": True},
                        {"name": "copy", "mountPath": "/copy"},
                    ],
                }
            ],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": claim}},
                {"name": "copy", "persistentVolumeClaim": {"claimName": "copy"}},
            ],
        },
    }


def job(claim: str, account: str) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{account}-1"},
        "spec": {"backoffLimit": 0, "template": mover(claim, account)},
    }


def opened(site: Site, block: str) -> str:
    """Upgrade the release to a block of the page and nothing else; the account of the pods."""
    access = BLOCKS[block]["accessPolicy"]
    values = chart.merge(CLOSED, {"accessPolicy": access})
    site.release.upgrade(values)
    (account,) = access["jobAccounts"]
    site.account(account)
    return str(account)


@pytest.mark.parametrize("block", WITH_CONTROLLER)
def test_a_stand_in_for_the_tool_copies_every_backup_and_needs_the_values_of_the_page(site: Site, block: str) -> None:
    (controller,) = BLOCKS[block]["accessPolicy"]["exceptions"]
    site.release.upgrade(CLOSED)
    site.let_in(controller)
    (account,) = BLOCKS[block]["accessPolicy"]["jobAccounts"]
    site.account(account)
    asked = job(site.release.claim, account)
    wait_until(
        "without the values it is refused", lambda: bool(refusal(site.cluster, site.namespace, asked, controller)), 30
    )
    opened(site, block)
    wait_until("with them it is admitted", lambda: not refusal(site.cluster, site.namespace, asked, controller), 30)
    site.cluster.kubectl("create", "--as", controller, "-n", site.namespace, "-f", "-", stdin=json.dumps(asked))
    wait_until("the pod is there", lambda: bool(site.pods(f"mover={account}")), 60)
    (pod,) = site.pods(f"mover={account}")
    assert site.copied(pod) == site.sums() != set()
    site.cluster.kubectl("delete", "job", f"{account}-1", "-n", site.namespace)


def test_a_cronjob_of_ones_own_copies_while_a_run_is_under_way_and_finds_complete_archives_only(site: Site) -> None:
    let_in(site.cluster, site.namespace)
    account = opened(site, "own-cronjob")
    before = site.sums()
    with table_lock(site.cluster, site.namespace, f"{NAME}-1", NAME) as unlock:
        running = site.release.start()
        wait_for_dump_behind_lock(site.cluster, site.namespace, [f"{NAME}-1"], NAME)
        cronjob = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "dumps-offsite"},
            "spec": {
                "schedule": "* * * * *",
                "concurrencyPolicy": "Forbid",
                "jobTemplate": {"spec": {"backoffLimit": 0, "template": mover(site.release.claim, account)}},
            },
        }
        assert "needs the verb mount" in refusal(site.cluster, site.namespace, cronjob, STRANGER)
        site.cluster.apply(cronjob, namespace=site.namespace)
        wait_until("its schedule starts a pod", lambda: bool(site.pods(f"mover={account}")), 90)
        pod = site.pods(f"mover={account}")[0]
        assert site.copied(pod) == before
        site.cluster.kubectl("delete", "cronjob", "dumps-offsite", "-n", site.namespace)
        unlock()
        assert (run := site.release.wait(running)).succeeded, run
    assert before < site.sums()


def test_the_release_takes_the_copy_as_its_claim_and_every_archive_on_it_verifies(site: Site) -> None:
    """The way back that the page shows, from step 2 of docs/longhorn.md on."""
    copied = {line.split()[1].removesuffix(".dump") for line in site.sums()}
    newest = max(copied)
    site.release.upgrade(chart.merge(CLOSED, {"persistence": {"existingClaim": "copy"}, "suspend": True}))
    guide = (DOCS / "longhorn.md").read_text().partition("\n## Back\n")[2].partition("\n## ")[0]
    steps = next(block for block in re.findall(r"```sh\n(.*?)```", guide, re.DOTALL) if "verify /backups" in block)
    printed = site.release.shell(steps.replace("--namespace default", f"--namespace {site.namespace}"), seconds=600)
    for name in copied - {newest}:
        assert f"{name.partition('/')[2]}.dump: good" in printed, printed
    # Of the run that was under way, the copy has an unfinished file, which does not count.
    assert f"ignored .{newest.partition('/')[2]}.dump.partial" in printed, printed
    assert " 0 bad or unreadable" in printed
