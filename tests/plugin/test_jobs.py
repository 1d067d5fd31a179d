"""Jobs that the plugin makes: nothing but the chart's template, and less of it where one database is wanted."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model.jobs import PLUGIN, STARTED_BY, databases_per_cronjob, job_from, only_databases
from kubectl_cnpg_backup.model.release import BACKUP, DRILL, databases_in
from tests.plugin.common import config_of, objects, release


def made(values: str = "default", suffix: str = "manual-1") -> dict[str, Any]:
    return job_from(release(values).of(BACKUP)[0], suffix)


def test_a_job_is_its_template_labelled_and_owned_by_the_cronjob() -> None:
    cronjob = release().of(BACKUP)[0]
    job = made()
    kubernetes_validate.validate(job, "1.34", strict=True)
    assert job["spec"] == cronjob.source["spec"]["jobTemplate"]["spec"]
    labels = job["metadata"]["labels"]
    assert labels["app"] == "cnpg-backup"
    assert labels[STARTED_BY] == PLUGIN
    assert STARTED_BY not in job["spec"]["template"]["metadata"]["labels"], "pods are what policies judge"
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("CronJob", cronjob.name, True)


def test_a_jobs_name_fits_and_keeps_its_suffix() -> None:
    cronjob = release(name="a-release-with-a-name-of-fifty-three-characters-in-it").of(BACKUP)[0]
    name = job_from(cronjob, "manual-abcdef-0123456789")["metadata"]["name"]
    assert len(name) <= 63
    assert name.endswith("-manual-abcdef-0123456789")


def test_a_run_of_one_database_mounts_the_configuration_of_no_other() -> None:
    config = config_of("cnpg-pg-dump-backup")
    config["data"] = {**config["data"], "kutt.policy.json": "{}", "kutt-2.conf": "", "kutt-2.policy.json": ""}
    job = only_databases(made(), ["kutt"], config)
    (volume,) = [one for one in job["spec"]["template"]["spec"]["volumes"] if one["name"] == "config"]
    assert [item["path"] for item in volume["configMap"]["items"]] == ["kutt.conf", "kutt.policy.json", "policy.json"]
    assert "items" not in str(
        [one for one in made()["spec"]["template"]["spec"]["volumes"] if one["name"] == "config"]
    ), "the template itself was changed"
    kubernetes_validate.validate(job, "1.34", strict=True)


@pytest.mark.parametrize("values", ["default", "two-images"])
@pytest.mark.parametrize("component", [BACKUP, DRILL])
def test_every_key_that_a_run_of_one_database_mounts_is_there(component: str, values: str) -> None:
    """A pod whose mount names a key that its volume lacks never starts."""
    for cronjob in release(values).of(component):
        config = config_of(cronjob.name, values)
        for database in databases_in(config):
            job = only_databases(job_from(cronjob, "manual-1"), [database], config)
            assert not missing_keys(job["spec"]["template"]["spec"], values), f"{cronjob.name}: {database}"


@pytest.mark.parametrize("wanted", [["authelia"], ["kutt"], ["plausible", "kutt"], ["authelia", "kutt", "plausible"]])
def test_a_drill_of_some_databases_has_no_containers_for_the_others(wanted: list[str]) -> None:
    (cronjob,) = release().of(DRILL)
    job = only_databases(job_from(cronjob, "manual-1"), wanted, config_of(cronjob.name))
    kubernetes_validate.validate(job, "1.34", strict=True)
    spec = job["spec"]["template"]["spec"]
    assert [one["name"] for one in spec["containers"]] == ["record"]
    first, *rest = spec["initContainers"]
    assert first["name"] == "choose"
    handed, drills = rest[::2], rest[1::2]
    assert [one["name"].replace("hand-over", "drill") for one in handed] == [one["name"] for one in drills]
    folders = [
        {m["subPath"].rpartition("/")[2] for m in one["volumeMounts"] if "databases/" in m.get("subPath", "")}
        for one in drills
    ]
    named = [{arg.partition("=")[2] for arg in one["args"] if arg.startswith("--database=")} for one in handed]
    assert named == folders == [{database} for database in sorted(wanted)]


def missing_keys(spec: dict[str, Any], values: str) -> set[str]:
    """The keys that a pod's volumes and mounts name in its ConfigMaps, and that are not there."""
    data = {one["metadata"]["name"]: set(one["data"]) for one in objects("ConfigMap", values)}
    missing, paths = set(), {}
    for volume in spec["volumes"]:
        if "configMap" not in volume:
            continue
        there = data[volume["configMap"]["name"]]
        items = {item["path"]: item["key"] for item in volume["configMap"].get("items", [])} or {k: k for k in there}
        paths[volume["name"]] = set(items)
        missing |= {f"{volume['name']}: {key}" for key in items.values() if key not in there}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for mount in container["volumeMounts"]:
            if mount.get("subPath") and mount["name"] in paths and mount["subPath"] not in paths[mount["name"]]:
                missing.add(f"{container['name']}: {mount['name']}/{mount['subPath']}")
    return missing


def test_a_database_is_run_by_the_cronjob_that_has_it() -> None:
    cronjobs = release("two-images").of(BACKUP)
    configs = {one.name: config_of(one.name, "two-images") for one in cronjobs}
    assert databases_per_cronjob(["shop"], cronjobs, configs) == {"cnpg-pg-dump-backup-17": ("shop",)}
    assert databases_per_cronjob([], cronjobs, configs) == {one.name: () for one in cronjobs}
    with pytest.raises(
        UsageError, match=r"database 'sho' is not configured; did you mean 'shop'\? available: authelia, shop"
    ):
        databases_per_cronjob(["shop", "sho"], cronjobs, configs)


def test_a_suspended_schedule_runs_only_what_is_named() -> None:
    cronjobs = release("suspended").of(BACKUP)
    configs = {one.name: config_of(one.name, "suspended") for one in cronjobs}
    with pytest.raises(UsageError, match="every CronJob of the release is suspended"):
        databases_per_cronjob([], cronjobs, configs)
    assert databases_per_cronjob(["kutt"], cronjobs, configs) == {"cnpg-pg-dump-backup": ("kutt",)}
