"""Backups that were damaged on the volume after they were published: a drill finds them, and no restore begins."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.node import Cluster
from tests.e2e.release import Release, cnpg_cluster, databases, fill, fingerprint, sql, wait_healthy

pytestmark = pytest.mark.e2e

NAME = "authelia"
CLUSTER = f"{NAME}-postgresql-cnpg"
INSTANCE = f"{CLUSTER}-1"
LOOK = "job/look --container retention"


@dataclass
class Site:
    """A database, a release that keeps but one backup of it besides those that are pinned, and a pod that may write."""

    cluster: Cluster
    namespace: str
    release: Release

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        return self.release.try_shell(f"N={self.namespace}\n{script}", seconds=240)

    def plugin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`kubectl cnpg-backup`, in words of which none needs a quote."""
        return self.shell(f"kubectl cnpg-backup {' '.join(arguments)} -n $N")

    def on_volume(self, *command: str) -> str:
        return self.cluster.kubectl("exec", "-n", self.namespace, *LOOK.split(), "--", *command)

    def files(self) -> set[str]:
        """Everything on the volume but sidecars of no interest here: names, sizes and who is a backup."""
        return set(self.on_volume("find", f"/backups/{NAME}", "-type", "f", "-printf", "%f %s\\n").splitlines())

    def backups(self) -> list[dict[str, Any]]:
        """Newest first."""
        command = f"kubectl exec -n $N {LOOK} -- python3 -m retention list --format json /backups/{NAME}"
        entry = json.loads(self.shell(command).stdout)
        found: list[dict[str, Any]] = entry["backups"]
        return found

    def back_up(self) -> str:
        """Run a backup; the new archive's name."""
        run = self.release.run()
        assert run.succeeded, run
        return str(self.backups()[0]["name"])

    def remove(self, name: str) -> None:
        """What people do with a bad archive when they have looked into it."""
        self.on_volume("rm", f"/backups/{NAME}/{name}")

    def flip(self, archive: str) -> None:
        """Turn a byte in the middle of an archive, in place: sizes and sidecars stay as they were."""
        change = (
            "import sys; f = open(sys.argv[1], 'r+b'); f.seek(0, 2); at = f.tell() // 2; f.seek(at); "
            "byte = f.read(1)[0]; f.seek(at); f.write(bytes([byte ^ 255]))"
        )
        self.on_volume("python3", "-c", change, f"/backups/{NAME}/{archive}")

    def database(self) -> tuple[str, str, str]:
        """All that a restore could have changed: rows, relations, databases."""
        names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database;"
        relations = "SELECT string_agg(oid || ' ' || relfilenode, ',' ORDER BY oid) FROM pg_class WHERE oid >= 16384;"
        return (
            fingerprint(self.cluster, self.namespace, INSTANCE, NAME),
            sql(self.cluster, self.namespace, INSTANCE, NAME, relations),
            sql(self.cluster, self.namespace, INSTANCE, NAME, names),
        )


@pytest.fixture(scope="module")
def site(node: Cluster) -> Iterator[Site]:
    with node.namespace("damage") as namespace:
        site = Site(node, namespace, Release(node, namespace))
        node.apply(cnpg_cluster(CLUSTER, NAME), namespace=namespace)
        one = {"tiers": [{"name": "Daily", "every": "24h", "keep": 1}]}
        site.release.install(
            {"databases": databases(NAME), "retention": one, "persistence": {"size": "1Gi", "keep": False}}
        )
        try:
            site.release.shell(
                f"kubectl create job look --from=cronjob/cnpg-backup-inspect -n {namespace}\n"
                f"kubectl wait --for=condition=Ready pod -l job-name=look --timeout=60s -n {namespace}"
            )
            wait_healthy(node, namespace, CLUSTER)
            fill(node, namespace, INSTANCE, NAME)
            yield site
        finally:
            site.release.uninstall()


@pytest.fixture(autouse=True)
def nothing_bad(site: Site) -> Iterator[None]:
    """What one test has damaged is no matter of the next."""
    yield
    site.on_volume("find", f"/backups/{NAME}", "-name", "*.bad", "-delete")


@pytest.fixture(scope="module")
def proved(site: Site) -> str:
    """The name of a backup that a drill has proved."""
    archive = site.back_up()
    done = site.plugin("drill")
    assert done.returncode == 0, done.stdout + done.stderr
    return archive


def drill_by_plugin(site: Site) -> str:
    """What it printed; exit code 1."""
    done = site.plugin("drill")
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def drill_by_kubectl(site: Site) -> str:
    """What the pod printed; the Job has failed, and its termination message is in the pod's status."""
    done = site.shell(
        "kubectl create job drill --from=cronjob/cnpg-backup-drill -n $N\n"
        "until kubectl logs -f --all-containers job/drill -n $N; do sleep 1; done\n"
        "kubectl wait --for=condition=Failed job/drill --timeout=60s -n $N >&2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pod = site.release.pod_of("drill")
    assert pod
    (ended,) = [status["state"]["terminated"] for status in pod["status"]["containerStatuses"]]
    assert ended["exitCode"] == 1
    assert "1 of 1 drills failed" in ended["message"]
    return done.stdout


@pytest.mark.parametrize("drill", [drill_by_plugin, drill_by_kubectl])
def test_drill_finds_what_was_damaged_after_it_was_published_and_keeps_the_last_proved_backup(
    site: Site, proved: str, drill: Any
) -> None:
    damaged = site.back_up()
    site.flip(damaged)
    told = drill(site)
    assert re.search(rf"{damaged} damaged", told), told
    names = [backup["name"] for backup in site.backups()]
    assert names == [proved], "a damaged backup counts"
    assert any(line.startswith(f"{damaged}.bad ") for line in site.files())

    by_plugin = site.plugin("status", "-o", "json")
    assert by_plugin.returncode == 1, by_plugin.stderr
    problems = [one["problem"] for one in json.loads(by_plugin.stdout)["problems"]]
    assert any(f"{damaged}.bad" in problem for problem in problems), problems
    by_kubectl = site.shell(f"kubectl exec -n $N {LOOK} -- python3 -m retention status /backups")
    assert by_kubectl.returncode == 1, by_kubectl.stdout + by_kubectl.stderr
    assert f"{damaged}.bad" in by_kubectl.stdout, by_kubectl.stdout

    # Two prunes later: each keeps one backup, and what is pinned. Runs go on beside a bad archive, and say so.
    run = site.release.run()
    assert not run.succeeded, run
    assert f"{damaged}.bad" in run.message, run
    between = site.backups()[0]["name"]
    assert [backup["name"] for backup in site.backups()] == [between, proved]
    site.remove(f"{damaged}.bad")
    newest = site.back_up()
    newer, older = site.backups()
    assert [newer["name"], older["name"]] == [newest, proved], "the last proved backup was pruned, or another was not"
    assert (older["tier"], older["pin"]["reason"]) == ("pinned", "the newest backup that a drill has proved")


def restore(site: Site, *arguments: str) -> tuple[int, str]:
    """Restore by the plugin: the exit code, and what it says of why, without what it says of its own doing."""
    done = site.plugin("restore", NAME, *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_truncated_archive_is_not_restored_and_nothing_changes(site: Site, proved: str) -> None:
    archive = site.back_up()
    site.on_volume("truncate", "-s", "2000", f"/backups/{NAME}/{archive}")
    before, files = site.database(), site.files()
    code, told = restore(site, "--backup", archive, "--replace", "--yes")
    assert code == 1, told
    assert len(lines := [line for line in told.splitlines() if f"{archive} is not a backup" in line]) == 1, told
    assert re.search(r"\b2000\b", lines[0]), lines
    assert proved in lines[0], "it does not say what there is instead"
    assert site.database() == before
    assert site.files() == files, "the volume was changed"
    site.remove(archive)


def test_archive_of_another_sha256_is_not_restored_and_counts_no_more(site: Site, proved: str) -> None:
    archive = site.back_up()
    site.flip(archive)
    before = site.database()
    code, told = restore(site, "--replace", "--yes")
    assert code == 1, told
    assert len(lines := [line for line in told.splitlines() if f"{archive} is bad: " in line]) == 1, told
    assert f"restore the one before it, {proved}" in lines[0], lines
    assert site.database() == before
    assert archive not in [backup["name"] for backup in site.backups()]


def test_database_that_is_not_empty_is_not_replaced_without_a_word(site: Site) -> None:
    site.back_up()
    before = site.database()
    code, told = restore(site)
    assert code == 3, told
    (line,) = [line for line in told.splitlines() if "refused: " in line]
    assert f"database '{NAME}' is not empty, it has 1 tables" in line
    assert "RESTORE_REPLACE=yes" in told or "--replace" in told
    assert site.database() == before
