"""A new CloudNativePG cluster from a backup, its old one gone: by the plugin, by hand, and declared."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release, cnpg_cluster, databases, fill, fingerprint, sql, wait_healthy
from tests.e2e.test_plugin import account
from tests.lab.guide import block

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
OLD = "authelia-postgresql-cnpg"
IMAGE = "localhost/postgresql:17"
SECONDS = 400


@dataclass
class Site:
    """A release with a backup of a database whose cluster is gone, an operator, and people with fewer rights."""

    cluster: Cluster
    namespace: str
    release: Release
    operator: Path
    good: str

    def plugin(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Call the plugin as the operator."""
        return subprocess.run(
            [sys.executable, "-m", "kubectl_cnpg_backup", *arguments],
            env={**self.cluster.environment, "KUBECONFIG": str(kubeconfig or self.operator)}, cwd=ROOT,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip

    def names(self, kind: str) -> list[str]:
        return [one["metadata"]["name"] for one in self.cluster.get(kind, "-n", self.namespace)["items"]]

    def restoring(self) -> list[str]:
        """What only a restore has: its Jobs, and NetworkPolicies that are not the chart's."""
        own = ("cnpg-backup", "cnpg-backup-isolated")
        found = [f"networkpolicy/{name}" for name in self.names("networkpolicies") if name not in own]
        jobs = self.cluster.get("jobs", "-n", self.namespace, "-l", "app.kubernetes.io/component in (restore, inspect)")
        return found + [f"job/{one['metadata']['name']}" for one in jobs["items"]]

    def fingerprint(self, cluster: str) -> str:
        return fingerprint(self.cluster, self.namespace, f"{cluster}-1", "authelia")

    def delete(self, cluster: str) -> None:
        self.cluster.kubectl("delete", "cluster", cluster, "-n", self.namespace, "--wait=true", "--timeout=120s")


@pytest.fixture(scope="module")
def site(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("kubeconfigs")
    with node.namespace("new-cluster") as namespace, node.namespace("people") as people:
        release = Release(node, namespace)
        node.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        node.apply(cnpg_cluster(OLD, "authelia"), namespace=namespace)
        operators = [{"kind": "ServiceAccount", "name": "operator", "namespace": people}]
        rights = {"operatorRights": True, "newClusterRights": True, "operators": operators}
        release.install({"databases": databases("authelia", countRows=True), "accessPolicy": rights})
        try:
            wait_healthy(node, namespace, OLD)
            fill(node, namespace, f"{OLD}-1", "authelia")
            # What an owner cannot bring back: an extension of the superuser's, and another role's grant.
            sql(
                node, namespace, f"{OLD}-1", "authelia",
                "CREATE EXTENSION pg_stat_statements; CREATE ROLE reader; GRANT SELECT ON items TO reader",
            )  # fmt: skip
            good = fingerprint(node, namespace, f"{OLD}-1", "authelia")
            run = release.run()
            assert run.succeeded, run
            yield Site(node, namespace, release, account(node, folder, "operator", people, namespace), good)
        finally:
            release.uninstall()


def test_a_dry_run_shows_all_that_would_be_made_and_makes_nothing(site: Site) -> None:
    done = site.plugin("new-cluster", "authelia", "--name", "authelia-2", "--dry-run")
    assert done.returncode == 0, done.stderr
    cluster, job, policy = yaml.safe_load_all(done.stdout)
    assert [one["kind"] for one in (cluster, job, policy)] == ["Cluster", "Job", "NetworkPolicy"]
    assert cluster["spec"]["imageName"] == IMAGE, "the old cluster's image is not taken"
    assert cluster["spec"]["bootstrap"]["initdb"]["owner"] == "authelia"
    assert "pg_stat_statements" in done.stderr
    document = json.loads(
        site.plugin("new-cluster", "authelia", "--name", "authelia-2", "--dry-run", "-o", "json").stdout
    )
    assert [one["kind"] for one in document["items"]] == ["Cluster", "Job", "NetworkPolicy"]
    assert site.names("clusters") == [OLD]
    assert site.restoring() == []
    assert site.release.on_volume("sh", "-c", "ls /backups/authelia/*.pin || echo none").strip() == "none"


def test_a_name_that_is_taken_is_refused_and_nothing_is_changed(site: Site) -> None:
    before = site.cluster.get("cluster", OLD, "-n", site.namespace)["metadata"]["generation"]
    done = site.plugin("new-cluster", "authelia", "--name", OLD, "--yes")
    assert done.returncode == 3, done.stderr
    assert f"error: cluster {OLD} exists already in namespace {site.namespace}; nothing was changed" in done.stderr
    assert site.cluster.get("cluster", OLD, "-n", site.namespace)["metadata"]["generation"] == before
    assert site.restoring() == []
    assert site.fingerprint(OLD) == site.good


def test_nobody_there_to_ask_makes_nothing(site: Site) -> None:
    done = site.plugin("new-cluster", "authelia", "--name", "authelia-2")
    assert done.returncode == 3, done.stderr
    assert "nothing was changed" in done.stderr
    assert site.names("clusters") == [OLD]
    assert site.restoring() == []


def test_what_cloudnativepg_would_refuse_is_told_before_anything_is_made(site: Site) -> None:
    for image, code, told in (
        ("localhost/postgresql:15", 2, "is PostgreSQL 15, but the programs that restore into it are 17"),
        ("localhost/postgresql:latest", 1, "latest"),
    ):
        done = site.plugin("new-cluster", "authelia", "--name", "authelia-2", "--image", image, "--yes")
        assert done.returncode == code, done.stderr
        assert told in done.stderr.splitlines()[-1]
        assert "made cluster" not in done.stderr
    assert site.names("clusters") == [OLD]
    assert site.restoring() == []


def test_a_lost_cluster_comes_back_under_a_new_name_with_one_command(site: Site) -> None:
    site.delete(OLD)
    script = block("new-plugin")
    done = site.plugin(*words(script, site.namespace), "--image", IMAGE, "--yes", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["exit_code"] == 0
    assert document["values"] == {"databases": [{"name": "authelia", "cluster": "authelia-2"}]}
    (job,) = document["jobs"]
    assert re.search(r"restored authelia-.* 1 tables, 1 sequences, 2000 rows as in the archive", job["message"]), job
    assert site.fingerprint("authelia-2") == site.good
    query = (
        "SELECT tableowner || has_table_privilege('reader', 'items', 'SELECT') FROM pg_tables WHERE tablename = 'items'"
    )
    assert sql(site.cluster, site.namespace, "authelia-2-1", "authelia", query) == "authelia" + "true"
    extension = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'"
    assert sql(site.cluster, site.namespace, "authelia-2-1", "authelia", extension) == "1"
    wait_until("the Job and its NetworkPolicy are gone", lambda: site.restoring() == [], 60)
    assert "networkpolicy/" in done.stderr, "there was no NetworkPolicy of its own"


def words(script: str, namespace: str) -> list[str]:
    """The arguments that a line of the guide gives the plugin."""
    (line,) = [one for one in script.splitlines() if one.startswith("kubectl cnpg-backup ")]
    return [word.replace('"$D"', "authelia").replace('"$N"', namespace) for word in line.split()[2:]]


def test_what_was_made_is_backed_up_with_the_values_that_were_told(site: Site) -> None:
    site.release.upgrade({"databases": [{"name": "authelia", "cluster": "authelia-2"}]})
    run = site.release.run()
    assert run.succeeded, run
    assert "authelia-2" in site.release.metadata("authelia", site.release.listing()["authelia"][-1])["cluster"]


def test_what_does_not_come_to_its_end_leaves_the_new_cluster_and_says_how_to_go_on(site: Site) -> None:
    name = "authelia-5"
    done = site.plugin("new-cluster", "authelia", "--name", name, "--image", IMAGE, "--timeout", "1s", "--yes")
    assert done.returncode == 1, done.stderr
    assert f"cluster {name} is not ready after 1 s" in done.stderr
    (command,) = re.findall(r"to go on, once it is ready: kubectl cnpg-backup (.*)", done.stderr)
    assert f"kubectl delete cluster {name} -n {site.namespace}" in done.stderr
    assert site.restoring() == []
    wait_healthy(site.cluster, site.namespace, name)
    again = site.plugin(*command.split())
    assert again.returncode == 0, again.stdout + again.stderr
    assert site.fingerprint(name) == site.good
    wait_until("the Job and its NetworkPolicy are gone", lambda: site.restoring() == [], 60)
    site.delete(name)


def test_a_stranger_is_told_the_rule_that_is_missing(site: Site, tmp_path: Path) -> None:
    with site.cluster.namespace("strangers") as people:
        who = account(site.cluster, tmp_path, "half", people, site.namespace)
        subject = f"system:serviceaccount:{people}:half"
        site.cluster.kubectl(
            "create", "rolebinding", "half", "--clusterrole=view", f"--user={subject}", "-n", site.namespace
        )
        done = site.plugin("new-cluster", "authelia", "--name", "authelia-9", "--yes", kubeconfig=who)
    assert done.returncode == 1, done.stderr
    assert re.search(r"error: user \S+half may not \w+ \S+ in namespace .*; ask for the rule", done.stderr), done.stderr
    assert "authelia-9" not in site.names("clusters")


def test_a_cluster_is_made_by_hand(site: Site) -> None:
    image = "ghcr.io/cloudnative-pg/postgresql:16-standard-trixie"
    assert image in block("new-cluster")
    names = block("names").replace("N=default", f"N={site.namespace}")
    site.release.shell(
        names.replace("C=authelia-postgresql-cnpg", "C=authelia-2")
        + block("new-cluster").replace(image, IMAGE).replace("10Gi", "1Gi")
        + block("new-restore"),
        seconds=SECONDS,
    )  # fmt: skip
    site.cluster.kubectl(
        "wait", "--for=condition=Complete", "job/new", "-n", site.namespace, "--timeout=60s"
    )  # fmt: skip
    assert site.fingerprint("authelia-3") == site.good
    assert "networkpolicy/new" in site.restoring()
    site.cluster.kubectl("delete", "job", "new", "-n", site.namespace)
    wait_until("the Job's policy is gone with it", lambda: "networkpolicy/new" not in site.restoring(), 60)
    site.delete("authelia-3")


def test_a_cluster_is_declared(site: Site) -> None:
    values: dict[str, Any] = yaml.safe_load(block("new-values"))
    (entry,) = values["databases"]
    site.cluster.apply(cnpg_cluster(entry["cluster"], "authelia", enableSuperuserAccess=True), namespace=site.namespace)
    wait_healthy(site.cluster, site.namespace, entry["cluster"])
    site.release.upgrade(values)
    script = block("names").replace("N=default", f"N={site.namespace}") + block("whole").replace(
        "RESTORE_REPLACE=yes", "RESTORE_REPLACE=no"
    )
    site.release.shell(script, seconds=SECONDS)
    site.cluster.kubectl(
        "wait", "--for=condition=Complete", "job/restore", "-n", site.namespace, "--timeout=60s"
    )  # fmt: skip
    assert site.fingerprint(entry["cluster"]) == site.good
