"""Sharding: every database in one CronJob, names that stay, and what is suspended is left alone."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.chart.common import backups, of_kind, title
from tests.lab import chart
from tests.lab.chart import Manifest

Entries = list[dict[str, Any]]

NAMES = ["accounts", "app-prod", "app_prod", "app.prod", "a" * 63, "a" * 62 + "b", "17", "17-shop"]
NAMES += ["backup", "q-pg-dump"]
"""Names of databases that come close to each other, to an image's major, or to what other releases are called."""


def cronjobs(
    databases: Entries, release: str = "cnpg-backup", schedule: str = "0 */2 * * *", **cronjob: object
) -> dict[str, tuple[str, Manifest]]:
    """For each database that a CronJob dumps: the CronJob's name, and the CronJob."""
    manifests = chart.render({"databases": databases, "cronJob": cronjob, "schedule": schedule}, release)
    maps = {manifest["metadata"]["name"]: manifest for manifest in of_kind(manifests, "ConfigMap")}
    found: dict[str, tuple[str, Manifest]] = {}
    for manifest in backups(manifests):
        volumes = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
        (config,) = [volume["configMap"]["name"] for volume in volumes if volume["name"] == "config"]
        for key in maps[config]["data"]:
            if key.endswith(".conf"):
                database = key.removesuffix(".conf")
                assert database not in found, f"two CronJobs dump {database}"
                found[database] = (manifest["metadata"]["name"], manifest)
    return found


def names(databases: Entries, release: str = "cnpg-backup", **cronjob: Any) -> dict[str, str]:
    """For each database that a CronJob dumps the CronJob's name."""
    return {database: name for database, (name, _) in cronjobs(databases, release, **cronjob).items()}


def entries(*databases: str, **every: object) -> Entries:
    """Entries of that name, all with the same settings."""
    return [{"name": database, "cluster": "app", **every} for database in databases]


def test_each_database_has_a_cronjob_of_its_own() -> None:
    found = names(entries(*NAMES), perDatabase=True)
    assert set(found) == set(NAMES)
    assert len(set(found.values())) == len(NAMES), found
    assert all(len(name) <= 52 for name in found.values()), found
    assert found["accounts"] == "cnpg-pg-dump-backup-accounts"


def test_a_database_that_comes_or_goes_or_gets_another_image_renames_no_cronjob() -> None:
    every = names(entries(*NAMES), perDatabase=True)
    assert names(entries(*reversed(NAMES[::2])), perDatabase=True).items() <= every.items()
    assert names(entries(*NAMES, image={"tag": "17-alpine"}), perDatabase=True) == every


def test_databases_of_one_shard_and_image_share_a_cronjob() -> None:
    databases = [
        *entries("plain"),
        *entries("other-image", image={"tag": "17-alpine"}),
        *entries("one", "two", shard="large"),
        *entries("three", shard="large", image={"tag": "17-alpine"}),
        *entries("four", shard="17"),
    ]
    found = names(databases)
    assert found == {
        "plain": "cnpg-pg-dump-backup",
        "other-image": "cnpg-pg-dump-backup-17",
        "one": "cnpg-pg-dump-backup-large",
        "two": "cnpg-pg-dump-backup-large",
        "three": "cnpg-pg-dump-backup-17-large",
        "four": f"cnpg-pg-dump-backup-17-{hashlib.sha256(b'17').hexdigest()[:8]}",
    }
    for gone in range(len(databases)):
        assert names(databases[:gone] + databases[gone + 1 :]).items() <= found.items(), f"without entry {gone}"


@pytest.mark.parametrize("shard", ["backup", "backup-17", "a-pg-dump", "pg-dump", "17-pg-dump"])
@pytest.mark.sample(2)
def test_no_shard_gives_the_name_of_another_releases_cronjob(shard: str) -> None:
    ours = set(names(entries("app", shard=shard), "cnpg").values())
    for other in ("cnpg-backup", "cnpg-pg-dump", "cnpg-pg-dump-a", "cnpg-pg-dump-17", "cnpg-pg-dump-backup"):
        theirs = names([*entries("app"), *entries("b", image={"tag": "17-alpine"}), *entries("c", shard="17")], other)
        assert not ours & set(theirs.values()), f"the releases cnpg and {other} share {ours & set(theirs.values())}"


def test_shards_of_the_longest_release_stay_within_52_characters() -> None:
    databases = [
        *entries("plain"),
        *entries("a", shard="s" * 20),
        *entries("b", shard="s" * 20, image={"tag": "17-alpine"}),
        *entries("c", shard="s" * 20, image={"tag": "17.6-alpine"}),
        *entries("d", shard="s" * 20, image={"tag": "17.6-alpine"}, schedule="*/30 * * * *"),
    ]
    for release in ("cnpg-backup", "a-release-with-a-name-of-fifty-three-characters-in-it"):
        found = names(databases, release)
        assert len(set(found.values())) == len(databases), found
        assert all(len(name) <= 52 for name in found.values()), found


def test_two_cronjobs_of_one_name_are_refused() -> None:
    """What only a person could bring about who names a shard after the hash of an image."""
    image = next(
        image
        for number in range(100)
        if (image := hashlib.sha256(f"docker.io/postgres:x{number}".encode()).hexdigest()[:8])[0] in "abcdef"
        and (tag := f"x{number}")
    )
    with pytest.raises(chart.ChartError, match="give two CronJobs the same name"):
        names([*entries("app", image={"tag": tag}), *entries("b", shard=image)])


def test_a_suspended_database_is_in_no_run_and_stops_no_other() -> None:
    found = cronjobs([*entries("one"), *entries("two", suspended=True)])
    assert set(found) == {"one"}
    assert "suspend" not in found["one"][1]["spec"], "whoever suspends it by hand is in conflict with an upgrade"


def test_a_cronjob_of_suspended_databases_alone_can_be_run_by_hand() -> None:
    found = cronjobs(entries("one", "two", suspended=True))
    assert set(found) == {"one", "two"}
    assert found["one"][1]["spec"]["suspend"] is True


def test_helm_test_asks_what_runs_in_one_pod_for_each_image() -> None:
    databases = [*entries("one", "two"), *entries("three", image={"tag": "17-alpine"}), *entries("x", suspended=True)]
    for cronjob in ({"perDatabase": True}, {"perDatabase": False}):
        pods = of_kind(chart.render({"databases": databases, "cronJob": cronjob}), "Pod")
        asked = {}
        for pod in pods:
            (config,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "config"]
            files = [item["path"] for source in config["projected"]["sources"] for item in source["configMap"]["items"]]
            asked[title(pod)] = files
        assert asked == {
            "Pod cnpg-pg-dump-backup-test": ["one.conf", "two.conf"],
            "Pod cnpg-pg-dump-backup-17-test": ["three.conf"],
        }


@pytest.mark.parametrize(
    ("modes", "wanted"), [(["ReadWriteOnce"], "podAffinity"), (["ReadWriteMany"], "podAntiAffinity")]
)
def test_pods_meet_where_one_node_has_the_volume_and_part_where_many_have(modes: list[str], wanted: str) -> None:
    (cronjob,) = backups(chart.render({"persistence": {"accessModes": modes}}))
    assert list(cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["affinity"]) == [wanted]


def test_excluded_tables_reach_pg_dump() -> None:
    entry = {"name": "app", "cluster": "app", "excludeTables": ["scratch.*"], "excludeTableData": ["a=b c"]}
    manifests = chart.render({"databases": [entry]})
    (conf, same) = [data["app.conf"] for m in of_kind(manifests, "ConfigMap") if "app.conf" in (data := m["data"])]
    assert conf == same, "a restore and a backup know the database by the same settings"
    told = [line for line in conf.splitlines() if line.startswith("extra_arg=")]
    assert told == ["extra_arg=--exclude-table=scratch.*", "extra_arg=--exclude-table-data=a=b c"]
