"""All databases of a cluster, `databases: "*"`: found at each run, restored and drilled by the names of `list`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release, cnpg_cluster, sql, wait_healthy

pytestmark = pytest.mark.e2e

ENTRY, CLUSTER = "shared", "postgres"
FIRST = "app"
TWELVE = (
    FIRST,
    "a-b",
    "a_b",
    "a.b",
    "My App",
    "my app",
    "Müller & Söhne",
    "ÄÖÜ",
    "CAPITALS",
    "v1.2.3",
    "dropped",
    "Old name",
)
LEFT_OUT = "tmp_x"
GONE = "the cluster no longer has this database"
PER_ENTRY = 3
HAS_PASSWORD = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'postgres'"


def listed(database: str) -> str:
    """The name that a database has on the volume and in every command: the rule of docs/all-databases.md."""
    if re.fullmatch(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?", database):
        return f"{ENTRY}.{database}"
    raw = database.encode()
    lower = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in raw).decode("latin-1")
    fits = re.sub(r"[^a-z0-9]+", "-", lower)[:21].strip("-")
    return f"{ENTRY}.{fits or 'db'}.{hashlib.sha256(raw).hexdigest()[:16]}"


@dataclass
class Site:
    """A cluster with twelve databases and a release with one entry for them."""

    cluster: Cluster
    namespace: str
    release: Release

    def sql(self, query: str, dbname: str = "postgres") -> str:
        return sql(self.cluster, self.namespace, f"{CLUSTER}-1", dbname, query)

    def create(self, *names: str) -> None:
        for name in names:
            self.sql(f'CREATE DATABASE "{name}"')
        for name in names:
            self.sql(
                "CREATE TABLE items AS SELECT current_database()::text AS it, i FROM generate_series(1, 100) i", name
            )

    def plugin(self, command: str, code: int = 0) -> str:
        """Call the plugin as an operator types it; what it prints."""
        done = self.release.try_shell(f"kubectl cnpg-backup -n {self.namespace} {command}", seconds=600)
        assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def document(self, command: str, code: int = 0) -> Any:
        done = self.release.try_shell(f"kubectl cnpg-backup -n {self.namespace} {command} -o json", seconds=600)
        assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def sums(self) -> dict[str, str]:
        """The sha256 of each published archive by its path: what is the same there was not touched."""
        lines = self.release.on_volume("sh", "-c", "cd /backups && sha256sum */*.dump").splitlines()
        return {path: digest for digest, path in (line.split(maxsplit=1) for line in lines)}

    def drills(self) -> Mapping[str, Any]:
        """The drill of each database in status.json, of those that had one."""
        return {name: one["drill"] for name, one in self.release.status()["databases"].items() if one["drill"]}


@pytest.fixture(scope="module")
def site(node: Cluster) -> Iterator[Site]:
    with node.namespace("all") as namespace:
        release = Release(node, namespace)
        found = Site(node, namespace, release)
        storage = {"size": "2Gi", "storageClass": "longhorn"}
        node.apply(
            cnpg_cluster(CLUSTER, FIRST, enableSuperuserAccess=True, storage=storage),
            namespace=namespace,
        )
        release.install(
            {
                "databases": [
                    {"name": ENTRY, "cluster": CLUSTER, "databases": "*", "exclude": ["postgres", "tmp_*"]},
                ],
                "drill": {"perEntry": PER_ENTRY},
            }
        )
        try:
            wait_healthy(node, namespace, CLUSTER)
            secret = ("get", "secret", f"{CLUSTER}-superuser", "-n", namespace)
            wait_until("the superuser's Secret is there", lambda: node.try_kubectl(*secret).returncode == 0, 60)
            wait_until("the superuser has its password", lambda: found.sql(HAS_PASSWORD) == "t", 60)
            found.create(*TWELVE[1:], LEFT_OUT)
            found.sql(
                "CREATE TABLE items AS SELECT current_database()::text AS it, i FROM generate_series(1, 100) i", FIRST
            )
            with release.kept_inspector():
                yield found
        finally:
            release.uninstall()


def test_helm_test_is_ready_for_each_of_them_before_the_first_run(site: Site) -> None:
    site.release.run_helm("test", site.release.name, "--timeout", "5m", seconds=330)
    log = site.cluster.kubectl("logs", "-n", site.namespace, f"{site.release.cronjob}-test")
    for name in TWELVE:
        assert re.search(rf"(?m)^{re.escape(listed(name))} +ready", log), log
    assert LEFT_OUT not in log
    assert site.release.listing() == {}


def test_all_twelve_are_backed_up_each_under_a_name_of_its_own(site: Site) -> None:
    log = site.plugin("run")
    assert f"{ENTRY}: 12 databases in cluster {CLUSTER}" in log
    found = site.release.check_volume()
    assert {name: len(archives) for name, archives in found.items()} == {listed(name): 1 for name in TWELVE}
    for name in TWELVE:
        (archive,) = found[listed(name)]
        assert site.release.metadata(listed(name), archive)["dbname"] == name
    assert {one["database"] for one in site.document("list")} == {listed(name) for name in TWELVE}
    states = {one["database"]: one["state"] for one in site.document("status")["databases"]}
    assert states == {listed(name): "ok" for name in TWELVE}


def test_one_created_one_dropped_and_one_renamed_between_runs(site: Site) -> None:
    before = site.sums()
    site.create("Neu 1")
    site.sql("DROP DATABASE dropped")
    site.sql('ALTER DATABASE "Old name" RENAME TO "New name"')
    run = site.release.run()
    assert run.succeeded, run
    for name in ("dropped", "Old name"):
        assert run.retention.count(f"{listed(name)}: warning: {GONE}") == 1, run
    found = site.release.check_volume()
    once, twice = {"dropped", "Old name", "Neu 1", "New name"}, set(TWELVE) - {"dropped", "Old name"}
    assert {name: len(archives) for name, archives in found.items()} == {
        **{listed(name): 1 for name in once},
        **{listed(name): 2 for name in twice},
    }
    assert before.items() <= site.sums().items(), "the backups of before are not what they were"
    states = {one["database"]: one["state"] for one in site.document("status")["databases"]}
    assert {name for name, state in states.items() if state != "ok"} == {listed("dropped"), listed("Old name")}, states


def test_a_run_of_one_of_them_by_its_listed_name_backs_up_no_other(site: Site) -> None:
    before = set(site.sums())
    log = site.plugin(f"run {listed('My App')} {listed('a.b')}")
    assert log.splitlines()[-1] == "exit code 0" or "exit code 0" in log, log
    added = sorted(path.split("/")[0] for path in set(site.sums()) - before)
    assert added == sorted([listed("My App"), listed("a.b")])


def test_a_run_of_a_name_that_the_cluster_does_not_have_is_refused(site: Site) -> None:
    before = site.sums()
    log = site.plugin(f"run {ENTRY}.typo", code=2)
    assert f"entry {ENTRY} finds no database '{ENTRY}.typo'" in log
    assert "is not configured" in site.plugin("run 'shared.My App'", code=2)
    assert site.sums() == before


@pytest.mark.parametrize("name", ["Müller & Söhne", "a.b"])
def test_one_of_them_is_restored_by_its_listed_name(site: Site, name: str) -> None:
    others = [other for other in ("a-b", "a_b", "a.b", "My App", "my app") if other != name]
    for changed in (name, *others):
        site.sql("UPDATE items SET it = 'changed'", changed)
    log = site.plugin(f"restore {listed(name)} --replace --yes")
    assert f"into '{name}'" in log, log
    assert "database 'postgres'" not in log, "it asks about the database that lists the others"
    query = "SELECT DISTINCT it FROM items"
    assert site.sql(query, name) == name
    assert {site.sql(query, other) for other in others} == {"changed"}, "a restore reached another database"
    for other in others:
        site.sql("UPDATE items SET it = current_database()", other)


def test_what_a_restore_has_kept_is_not_backed_up_as_one_more_database(site: Site) -> None:
    kept = site.sql("SELECT datname FROM pg_database WHERE datname ~ '_before_[0-9]{8}_[0-9]{6}$'").splitlines()
    assert len(kept) == 2
    before = set(site.release.listing())
    run = site.release.run()
    assert run.succeeded, run
    assert set(site.release.listing()) == before
    for name in kept:
        assert f"{listed(name)} is left out" in run.dump


def test_some_of_them_are_drilled_by_their_listed_names(site: Site) -> None:
    assert site.drills() == {}
    wanted = {listed("Müller & Söhne"), listed("a_b")}
    site.plugin(f"drill {' '.join(sorted(wanted))}")
    assert {name: one["result"] for name, one in site.drills().items()} == dict.fromkeys(wanted, "proved")


def test_a_drill_takes_those_that_no_drill_has_restored(site: Site) -> None:
    before = set(site.drills())
    site.plugin("drill")
    after = site.drills()
    assert len(set(after) - before) == PER_ENTRY
    assert {one["result"] for one in after.values()} == {"proved"}


def test_more_of_them_than_a_drill_can_take_are_refused(site: Site) -> None:
    names = " ".join(listed(name) for name in TWELVE[: PER_ENTRY + 1])
    assert f"a drill restores at most {PER_ENTRY} databases of entry {ENTRY}" in site.plugin(f"drill {names}", code=2)


def test_a_new_cluster_is_made_from_one_of_them_and_takes_another_one_too(site: Site) -> None:
    """CloudNativePG cannot begin a cluster with the second one: there is a blank in its name."""
    refused = site.plugin(f"new-cluster {listed('My App')} --name copy --yes", code=2)
    assert "CloudNativePG cannot create a cluster for database 'My App'" in refused
    site.plugin(f"new-cluster {listed('ÄÖÜ')} --name copy --yes")
    wait_until(
        "the superuser has its password",
        lambda: sql(site.cluster, site.namespace, "copy-1", "postgres", HAS_PASSWORD) == "t",
        60,
    )
    site.plugin(f"restore {listed('My App')} --cluster copy --yes")
    for name in ("ÄÖÜ", "My App"):
        assert sql(site.cluster, site.namespace, "copy-1", name, "SELECT DISTINCT it FROM items") == name


def test_a_cluster_that_cannot_be_listed_fails_each_of_them_and_loses_nothing(site: Site) -> None:
    before = site.sums()
    entry = {**site.release.values["databases"][0], "host": f"nowhere.{site.namespace}.svc", "waitTimeout": 5}
    site.release.upgrade({"databases": [entry]})
    run = site.release.run()
    assert not run.succeeded
    for name in TWELVE:
        assert re.search(rf"(?m)^{re.escape(listed(name))} +failed ", run.retention), run
    assert site.sums() == before
