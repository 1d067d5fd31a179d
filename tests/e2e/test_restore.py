"""Restores, drills and inspectors by the very commands of docs/restore.md, on a real cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release, cnpg_cluster, databases, fill, fingerprint, sql, wait_healthy
from tests.lab.guide import block, output, same_but_for_numbers

pytestmark = pytest.mark.e2e

CLUSTER = "authelia-postgresql-cnpg"
INSTANCE = f"{CLUSTER}-1"


@dataclass
class Site:
    """One cluster, its backups, and the shell of somebody who reads the guide."""

    cluster: Cluster
    namespace: str
    release: Release
    good: str = ""
    newest: str = ""

    def follow(self, name: str, job: str = "") -> str:
        """Paste a block of the guide; under another Job's name where the first is taken."""
        script = block(name)
        if job:
            script = script.replace("-restore restore ", f"-restore {job} ").replace("job/restore;", f"job/{job};")
        return self.release.shell(f"{self.names()}{script}", seconds=240)

    def names(self) -> str:
        """The guide's own names, in the namespace of the test."""
        return block("names").replace("N=default", f"N={self.namespace}")

    def sql(self, query: str, dbname: str = "authelia") -> str:
        return sql(self.cluster, self.namespace, INSTANCE, dbname, query)

    def fingerprint(self, dbname: str = "authelia") -> str:
        return fingerprint(self.cluster, self.namespace, INSTANCE, dbname)

    def others(self) -> list[str]:
        """Databases besides those of the system, and the application's own."""
        return self.sql("SELECT datname FROM pg_database WHERE datname LIKE 'authelia_%' ORDER BY 1").split()

    def succeeded(self, job: str) -> None:
        self.cluster.kubectl(
            "wait", "--for=condition=Complete", f"job/{job}", "-n", self.namespace, "--timeout=60s"
        )  # fmt: skip


@pytest.fixture(scope="module")
def site(node: Cluster) -> Iterator[Site]:
    """A database with one good backup, of which rows were lost since."""
    with node.namespace("restore") as namespace:
        site = Site(node, namespace, Release(node, namespace))
        node.apply(cnpg_cluster(CLUSTER, "authelia"), namespace=namespace)
        site.release.install(
            {"databases": databases("authelia"), "defaults": {"drillAssertions": ["SELECT count(*) = 2000 FROM items"]}}
        )
        try:
            wait_healthy(node, namespace, CLUSTER)
            fill(node, namespace, INSTANCE, "authelia")
            site.good = site.fingerprint()
            run = site.release.run()
            assert run.succeeded, run
            yield site
        finally:
            site.release.uninstall()


def test_inspector_lists_the_backups_and_reaches_no_database(site: Site) -> None:
    told = site.follow("list")
    found = re.findall(r"authelia-\d{8}-\d{6}\.dump", told)
    assert found, told
    site.newest = found[0]
    assert site.newest in site.release.shell(f"{site.names()}{block('list-plugin')}")
    script = f"pg_isready -t 3 -h {CLUSTER}-rw.{site.namespace}.svc || echo none"
    told = site.cluster.kubectl("exec", "-n", site.namespace, "job/inspect", "-c", "inspect", "--", "sh", "-c", script)
    assert "none" in told, f"the inspector reaches the database: {told}"
    denied = site.cluster.try_kubectl(
        "exec", "-n", site.namespace, "job/inspect", "-c", "inspect", "--", "rm", f"/backups/authelia/{site.newest}"
    )
    assert "Read-only file system" in denied.stderr, denied.stderr


def test_archive_of_an_earlier_job_is_adopted_with_kubectl_alone(site: Site) -> None:
    old = "authelia-20260101-120000.dump"
    copy = f"cd /backups/authelia && cp {site.newest} {old} && chmod 644 {old}"
    inspector = ("exec", "-n", site.namespace, "job/inspect", "-c", "retention", "--")
    site.cluster.kubectl(*inspector, "sh", "-c", copy)
    told = site.follow("adopt")
    assert f"{old}: adoptable" in told, told
    assert f"{old}: adopted" in told, told
    assert told.count("authelia: the next prune keeps 2 backups and deletes 0") == 2, told
    assert old in site.cluster.kubectl(*inspector, "python3", "-m", "retention", "list", "/backups/authelia")


def test_owner_restores_in_place_with_one_command(site: Site) -> None:
    site.sql("DELETE FROM items WHERE id % 2 = 0")
    log = site.follow("whole")
    assert "in place, in one transaction" in log, log
    site.succeeded("restore")
    (drops_what_was_there,) = re.findall("no longer need it: (.*)", log)
    site.sql(drops_what_was_there)
    assert site.fingerprint() == site.good
    assert site.others() == []


def test_superuser_restores_beside_with_the_same_command_and_keeps_the_old_database(site: Site) -> None:
    site.follow("superuser")
    secret = ("get", "secret", f"{CLUSTER}-superuser", "-n", site.namespace)
    wait_until("the superuser's Secret is there", lambda: site.cluster.try_kubectl(*secret).returncode == 0, 60)
    has = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'postgres'"
    wait_until("the superuser has its password", lambda: site.sql(has) == "t", 60)
    site.sql("DROP TABLE items; CREATE TABLE wrong (id int)")
    log = site.follow("whole", "again")
    assert "a new database 'authelia_restoring_" in log, log
    site.succeeded("again")
    assert site.fingerprint() == site.good
    assert site.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'items'") == "authelia"
    (old,) = site.others()
    assert re.fullmatch(r"authelia_before_\d{8}_\d{6}", old)
    assert site.sql("SELECT to_regclass('wrong') IS NOT NULL", old) == "t", "the old database is not what it was"


def test_plugin_restores_with_one_command_and_ends_as_the_guide_shows(site: Site) -> None:
    site.sql("DELETE FROM items WHERE id % 2 = 0")
    told = site.release.shell(f"{site.names()}{block('whole-plugin').rstrip()} --yes", seconds=240)
    shown = output("whole-plugin")
    assert same_but_for_numbers(shown, told.splitlines()[-len(shown) :]), told
    assert site.fingerprint() == site.good


def test_lost_database_comes_back(site: Site) -> None:
    site.sql("DROP DATABASE authelia WITH (FORCE)", "postgres")
    site.follow("whole", "lost")
    site.succeeded("lost")
    assert site.fingerprint() == site.good


def test_restore_under_another_name_is_looked_at_first(site: Site) -> None:
    site.follow("look")
    site.succeeded("look")
    assert site.fingerprint("look") == site.good


def test_rows_that_are_gone_come_back_and_what_is_newer_stays(site: Site) -> None:
    site.sql("DELETE FROM items WHERE id % 2 = 0; INSERT INTO items (id, name) VALUES (9000, 'newer')")
    site.follow("tables")
    site.succeeded("tables")
    assert site.fingerprint("rows") == site.good
    site.follow("copy-back")
    assert site.sql("DELETE FROM items WHERE id = 9000 RETURNING name") == "newer"
    assert site.fingerprint() == site.good


def test_backup_is_looked_into_with_one_command(site: Site) -> None:
    command = f"{block('look-plugin').rstrip()} -c 'SELECT count(*) FROM items'"
    told = site.release.shell(f"{site.names()}{command}", seconds=240)
    assert re.search(r"^\s*2000$", told, re.MULTILINE), told


def test_deleted_rows_come_back_with_one_command_and_what_is_newer_stays(site: Site) -> None:
    site.sql("DELETE FROM items WHERE id % 2 = 0; INSERT INTO items (id, name) VALUES (9000, 'newer')")
    told = site.release.shell(f"{site.names()}{block('undelete').rstrip()} --yes", seconds=240)
    assert "1000 rows copied back" in told, told
    assert site.sql("DELETE FROM items WHERE id = 9000 RETURNING name") == "newer"
    assert site.fingerprint() == site.good


def test_drill_proves_the_backup_without_a_network(site: Site) -> None:
    log = site.follow("drill")
    assert re.search(r"authelia +proved +authelia-", log), log
    site.succeeded("drill")
    pod = site.release.pod_of("drill")
    assert pod
    policies = json.loads(site.cluster.kubectl("get", "networkpolicy", "-n", site.namespace, "-o", "json"))["items"]
    component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    (isolated,) = [policy for policy in policies if policy["metadata"]["name"] == "cnpg-backup-isolated"]
    assert component in isolated["spec"]["podSelector"]["matchExpressions"][0]["values"]
    status = json.loads(
        site.cluster.kubectl(
            "exec", "-n", site.namespace, "job/inspect", "-c", "retention", "--",
            "python3", "-m", "retention", "status", "--format", "json", "/backups",
        )
    )  # fmt: skip
    assert status[0]["drill"]["result"] == "proved"
    assert status[0]["drill"]["proved"] == site.newest


def test_archive_is_copied_out_and_proved_by_its_sha256(site: Site, tmp_path: object) -> None:
    told = site.release.shell(f"cd {tmp_path}\n{site.names()}{block('copy')}")
    assert f"{site.newest}: OK" in told
