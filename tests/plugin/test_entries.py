"""Databases that a run finds (`databases: "*"`) have no configuration of their own: commands take the listed names."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest

from kubectl_cnpg_backup.commands.restore import target_of
from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model import new_cluster
from kubectl_cnpg_backup.model.doctor import examine
from kubectl_cnpg_backup.model.findings import Level
from kubectl_cnpg_backup.model.jobs import databases_per_cronjob, job_from, only_databases
from kubectl_cnpg_backup.model.release import (
    BACKUP,
    DRILL,
    RESTORE,
    clusters_of,
    configured_as,
    databases_in,
    entries_in,
    read_conf,
    read_runs,
)
from kubectl_cnpg_backup.model.status import Status, VolumeReport, describe
from tests.lab import chart
from tests.plugin.common import ENTRIES as ENTRIES_VALUES
from tests.plugin.common import NOW, ago, config_of, job, pod, release
from tests.plugin.test_doctor import healthy
from tests.plugin.test_jobs import missing_keys
from tests.plugin.test_status import entry

BACKUP_CRONJOB = "cnpg-pg-dump-backup"
ODD = "shared.my-app.96c6f41782b14e46"
ENTRIES = frozenset({"other", "shared"})
CONFIGURED = {BACKUP_CRONJOB: ("authelia", "other", "shared")}


def made(component: str, *databases: str) -> dict[str, Any]:
    """The pod of the Job that a command starts for these databases."""
    (cronjob,) = release("entries").of(component)
    config = config_of(cronjob.name, "entries")
    selected = databases_per_cronjob(databases, [cronjob], {cronjob.name: config})
    found = only_databases(job_from(cronjob, "manual-1"), selected[cronjob.name], config)
    kubernetes_validate.validate(found, "1.34", strict=True)
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    assert not missing_keys(spec, "entries")
    return spec


def files(spec: dict[str, Any]) -> list[str]:
    (volume,) = [one for one in spec["volumes"] if one["name"] == "config"]
    sources = [volume["configMap"]] if "configMap" in volume else []
    return sorted(item["path"] for source in sources for item in source["items"])


def only(spec: dict[str, Any]) -> set[str | None]:
    """What each container reads about which databases it is for."""
    found = set()
    for container in [*spec["initContainers"], *spec["containers"]]:
        values = [one["value"] for one in container["env"] if one["name"] == "BACKUP_ONLY"]
        found.add(values[0] if values else None)
    return found


def test_entries_are_read_from_the_charts_own_configuration() -> None:
    config = config_of(BACKUP_CRONJOB, "entries")
    assert databases_in(config) == ("authelia", "other", "shared")
    assert entries_in(config) == ("other", "shared")
    for name, wanted in {
        "authelia": "authelia",
        "shared": "shared",
        "shared.app": "shared",
        ODD: "shared",
        "authelia.app": "",
        "share.app": "",
        "shared.My App": "",
        "shared.": "",
        "shared.app shared.b": "",
    }.items():
        assert configured_as(name, config) == wanted, name
    assert read_conf(config, ODD)["cluster"] == "postgres"
    assert clusters_of(release("entries"), {BACKUP_CRONJOB: config})["shared"] == "default/postgres"


def test_a_run_of_found_databases_is_for_these_and_no_other() -> None:
    spec = made(BACKUP, "shared.app", ODD)
    assert files(spec) == ["policy.json", "shared.all", "shared.policy.json"]
    assert only(spec) == {f"shared.app {ODD}"}


def test_a_run_of_a_found_and_a_listed_database_is_for_both() -> None:
    spec = made(BACKUP, "authelia", "shared.app")
    assert files(spec) == ["authelia.conf", "policy.json", "shared.all", "shared.policy.json"]
    assert only(spec) == {"shared.app"}


def test_a_run_of_an_entry_is_for_all_of_its_databases_also_if_one_is_named_as_well() -> None:
    for wanted in (("shared",), ("shared", "shared.app"), ("shared.app", "shared")):
        spec = made(BACKUP, *wanted)
        assert files(spec) == ["policy.json", "shared.all", "shared.policy.json"]
        assert only(spec) == {None}
    assert only(made(BACKUP, "other", "shared.app")) == {"shared.app"}, "of entry other it is for all"


@pytest.mark.parametrize(
    ("wanted", "slots"),
    [
        (["shared.app"], ["shared.slot-1"]),
        (["shared.app", ODD, "authelia"], ["authelia", "shared.slot-1", "shared.slot-2"]),
        (["shared.app", "other.b"], ["other.slot-1", "shared.slot-1"]),
        (["shared.app", "other"], ["other.slot-1", "other.slot-2", "other.slot-3", "shared.slot-1"]),
    ],
)
def test_a_drill_of_found_databases_has_a_slot_for_each_and_no_more(wanted: list[str], slots: list[str]) -> None:
    spec = made(DRILL, *wanted)
    first, *rest = spec["initContainers"]
    assert first["name"] == "choose"
    handed, drills = rest[::2], rest[1::2]
    assert [one["name"].replace("hand-over", "drill") for one in handed] == [one["name"] for one in drills]
    places: list[str] = []
    for one in handed:
        arguments = dict(argument.partition("=")[::2] for argument in one["args"])
        places.append(str(arguments.get("--slot", arguments["--database"])))
    folders = [
        {m["subPath"].rpartition("/")[2] for m in one["volumeMounts"] if "databases/" in m.get("subPath", "")}
        for one in drills
    ]
    assert sorted(places) == slots
    assert folders == [{place} for place in places]
    found = [name for name in wanted if "." in name]
    assert only(spec) == {" ".join(found)}


def test_more_databases_than_a_drill_has_slots_are_refused_before_it_starts() -> None:
    with pytest.raises(
        UsageError, match="a drill restores at most 3 databases of entry shared, and 4 are named"
    ) as caught:
        made(DRILL, *(f"shared.d{number}" for number in range(4)))
    assert "drill.perEntry" in str(caught.value.remedy)
    assert files(made(BACKUP, *(f"shared.d{number}" for number in range(4)))), "a run takes any number"


@pytest.mark.parametrize("name", ["authelia.app", "share.app", "shared.My App", "nothing"])
def test_a_name_that_no_entry_can_have_found_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not configured.*available: authelia, other, shared"):
        made(BACKUP, name)


def test_a_restore_of_a_found_database_uses_the_cronjob_and_the_settings_of_its_entry() -> None:
    (cronjob,) = release("entries").of(RESTORE)
    config = config_of(cronjob.name, "entries")
    assert databases_per_cronjob([ODD], [cronjob], {cronjob.name: config}) == {cronjob.name: (ODD,)}
    conf = read_conf(config, ODD)
    assert (conf["database"], conf["cluster"]) == ("shared", "postgres")


@pytest.mark.parametrize(
    ("database", "into", "shown"),
    [
        (ODD, "", f"the database that was backed up as {ODD},"),
        (ODD, "other", "database 'other'"),
        ("authelia", "", "database 'authelia'"),
    ],
)
def test_a_restore_asks_about_the_database_that_it_replaces(database: str, into: str, shown: str) -> None:
    """The settings of an entry name the database that lists the others: to ask about that one would frighten."""
    (cronjob,) = release("entries").of(RESTORE)
    conf = read_conf(config_of(cronjob.name, "entries"), database)
    assert target_of(argparse.Namespace(database=database, into=into), conf) == shown


def test_a_restore_of_a_found_database_into_another_cluster_mounts_the_secrets_of_that_cluster() -> None:
    (cronjob,) = release("entries").of(RESTORE)
    conf = read_conf(config_of(cronjob.name, "entries"), ODD)
    job = new_cluster.pointed_at_cluster(job_from(cronjob, "1"), conf["database"], "copy", "default")
    (volume,) = [one for one in job["spec"]["template"]["spec"]["volumes"] if one["name"] == "credentials"]
    found = {
        item["path"]: source["secret"]["name"]
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert {name for path, name in found.items() if "superuser" in path} == {"copy-superuser"}
    assert set(found.values()) <= {"copy-app", "copy-superuser", "copy-ca"}
    assert {path.split("/")[0] for path in found} == {"shared"}, "restore.sh looks into the folder of the entry"


def test_the_new_cluster_of_a_found_database_is_backed_up_under_a_name_that_the_entry_does_not_own() -> None:
    (cronjob,) = release("entries").of(RESTORE)
    conf = read_conf(config_of(cronjob.name, "entries"), ODD)
    values = new_cluster.values_for(ODD, "copy", "default", conf, "My App")
    assert values == {"name": "copy", "cluster": "copy", "database": "My App"}
    chart.render({**ENTRIES_VALUES, "databases": [*ENTRIES_VALUES["databases"], values]})


# status and doctor


def message(**results: str) -> str:
    return "\n".join(
        ["databases done", *(f"{name} {state} (newest 2026-11-22 14:00Z): it" for name, state in results.items())]
    )


def described(text: str, on_volume: list[dict[str, Any]] | None, **superusers: bool) -> Status:
    runs = read_runs(
        [job("run", BACKUP_CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))], [pod("run", 0, text)]
    )
    report = None if on_volume is None else VolumeReport(on_volume, [], None, None)
    return describe(release("entries"), CONFIGURED, runs, report, NOW, superusers, ENTRIES)


@pytest.mark.parametrize("with_volume", [False, True])
def test_status_shows_each_found_database_under_its_listed_name_and_with_its_schedule(with_volume: bool) -> None:
    names = ["authelia", "other.b", "shared.app", ODD]
    text = message(**dict.fromkeys(names, "ok"))
    result = described(text, [entry(name) for name in names] if with_volume else None)
    assert [(one.name, one.state) for one in result.databases] == [(name, "ok") for name in names]
    for one in result.databases:
        assert one.cronjob is not None
        assert one.cronjob.name == BACKUP_CRONJOB
        assert one.next_run is not None
    assert result.problems == ()


def test_a_found_database_that_failed_is_a_problem_of_its_own() -> None:
    result = described(message(authelia="ok", **{"other.b": "ok", "shared.app": "ok", ODD: "failed"}), None)
    assert [one.subject for one in result.problems] == [ODD]


def test_an_entry_is_shown_while_nothing_of_it_is_known_or_it_cannot_be_listed() -> None:
    result = described(message(authelia="ok", **{"other.b": "ok"}), None)
    assert [(one.name, one.state) for one in result.databases] == [
        ("authelia", "ok"),
        ("other.b", "ok"),
        ("shared", "late"),
    ]
    on_volume = [entry("authelia"), entry("other.b"), entry("shared", result="failed"), entry("shared.app")]
    result = described(message(authelia="ok", shared="failed", **{"shared.app": "failed"}), on_volume)
    assert "shared" in [one.subject for one in result.problems]


def test_the_superusers_secret_of_the_entry_decides_how_each_found_database_is_restored() -> None:
    refused = {"method": "none", "role": "backup", "obstacles": ["public.t belongs to app"], "remedies": []}
    on_volume = [entry("shared.app", restore=refused), entry(ODD, restore=refused), entry("other.b", restore=refused)]
    result = described(message(), on_volume, shared=True, other=False)
    methods = {one.name: one.restore.method for one in result.databases if one.restore}
    assert methods == {"shared.app": "beside", ODD: "beside", "other.b": "refused"}


def test_doctor_looks_at_each_found_database_with_the_cluster_of_its_entry() -> None:
    line = f"{ODD}: a restore as 'backup' would be refused: public.t belongs to app"
    runs = read_runs(
        [job("run", BACKUP_CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))], [pod("run", 0, line)]
    )
    for superuser, level in ((True, Level.GOOD), (False, Level.CAREFUL)):
        facts = replace(
            healthy(),
            runs=runs,
            superusers={"shared": superuser},
            databases={"shared": "default/postgres"},
            entries=ENTRIES,
        )
        found = {one.subject: one for one in examine(facts) if one.subject.startswith("restore ")}
        assert set(found) == {f"restore {ODD}"}, "an entry is no database"
        assert found[f"restore {ODD}"].level == level
        if not superuser:
            assert "postgres" in found[f"restore {ODD}"].remedy
