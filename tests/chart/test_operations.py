"""CronJobs of restores, drills and inspectors: one for each image, with every database; only drills run by schedule."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chart.common import containers, of_kind
from tests.lab import chart
from tests.lab.chart import Manifest

ROOT = chart.CHART.parent
KINDS = ("restore", "drill", "inspect", "open")


def templates(values: dict[str, Any] | None = None, release: str = "cnpg-backup") -> dict[str, Manifest]:
    """The CronJobs of these kinds, by name."""
    manifests = chart.render(values, release)
    return {
        manifest["metadata"]["name"]: manifest
        for manifest in of_kind(manifests, "CronJob")
        if manifest["metadata"]["labels"].get("app.kubernetes.io/component") in KINDS
    }


def pod(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_names_are_short_for_the_worst_night() -> None:
    assert set(templates()) == {f"cnpg-backup-{kind}" for kind in KINDS}
    assert set(templates(release="cnpg")) == {f"cnpg-{kind}" for kind in KINDS}


def test_each_image_has_its_own_and_each_database_is_in_one_of_them_even_if_suspended() -> None:
    databases = [
        {"name": "one", "cluster": "a", "suspended": True},
        {"name": "two", "cluster": "a"},
        {"name": "three", "cluster": "b", "image": {"tag": "17-alpine"}},
    ]
    for per_database in (False, True):
        values = {"databases": databases, "cronJob": {"perDatabase": per_database}}
        found = templates(values)
        assert set(found) == {f"cnpg-backup-{kind}{suffix}" for kind in KINDS for suffix in ("", "-17")}
        maps = {m["metadata"]["name"]: m["data"] for m in of_kind(chart.render(values), "ConfigMap")}
        for name, wanted in (("cnpg-backup-restore", {"one", "two"}), ("cnpg-backup-restore-17", {"three"})):
            (config,) = [volume for volume in pod(found[name])["volumes"] if volume["name"] == "config"]
            data = maps[config["configMap"]["name"]]
            assert {key.removesuffix(".conf") for key in data if key.endswith(".conf")} == wanted
        images = {container["image"] for container in containers(pod(found["cnpg-backup-restore-17"]))}
        assert "docker.io/postgres:17-alpine" in images


def test_a_drained_node_does_not_cost_a_drill_and_a_failed_one_leaves_its_job() -> None:
    values = {"failedJobsHistoryLimit": 0}
    manifests = of_kind(chart.render(values), "CronJob")
    jobs = {one["metadata"]["name"]: one["spec"]["jobTemplate"]["spec"] for one in manifests}
    drill = jobs["cnpg-backup-drill"]
    assert drill["podFailurePolicy"] == jobs["cnpg-pg-dump-backup"]["podFailurePolicy"]
    assert {"type": "DisruptionTarget", "status": "True"} in drill["podFailurePolicy"]["rules"][1]["onPodConditions"]
    limits = {one["metadata"]["name"]: one["spec"]["failedJobsHistoryLimit"] for one in manifests}
    assert limits["cnpg-backup-drill"] == 1
    assert limits["cnpg-pg-dump-backup"] == 0


def test_only_drills_run_by_themselves_and_one_value_stops_them() -> None:
    def suspended(values: dict[str, Any] | None = None) -> dict[str, bool]:
        return {name: manifest["spec"]["suspend"] for name, manifest in templates(values).items()}

    assert suspended() == {f"cnpg-backup-{kind}": kind != "drill" for kind in KINDS}
    assert all(suspended({"drill": {"enabled": False}}).values())


def test_only_cronjobs_that_never_run_by_themselves_have_no_health_for_argo_cd() -> None:
    """It calls an application suspended for each suspended CronJob; that runs are suspended has to be seen."""

    def ignored(values: dict[str, Any] | None = None) -> set[str]:
        return {
            manifest["metadata"]["labels"]["app.kubernetes.io/component"]
            for manifest in of_kind(chart.render(values), "CronJob")
            if manifest["metadata"].get("annotations", {}).get("argocd.argoproj.io/ignore-healthcheck") == "true"
        }

    never = {"restore", "inspect", "open"}
    assert ignored() == never
    assert ignored({"drill": {"enabled": False}, "suspend": True}) == {*never, "drill"}
    assert ignored({"commonAnnotations": {"argocd.argoproj.io/ignore-healthcheck": "false"}}) == never


def test_nothing_that_a_restore_runs_may_write_the_backups_but_what_pins_them() -> None:
    writing = {"choose", "record", "retention"}
    for name, manifest in templates().items():
        for container in containers(pod(manifest)):
            mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "backups"]
            if container["name"].startswith("drill-") or container["name"] == "open":
                assert mounts == [], f"{name}: {container['name']} runs code of a database's owner"
                continue
            (mount,) = mounts
            assert mount.get("readOnly", False) is (container["name"] not in writing), f"{name}: {container['name']}"


def test_an_opened_backup_sees_its_own_folders_alone_and_ends_by_itself() -> None:
    manifest = templates({"inspect": {"seconds": 600}, "drill": {"timeoutSeconds": 900}})["cnpg-backup-open"]
    spec = pod(manifest)
    (opened,) = spec["containers"]
    seen = {mount["name"]: mount.get("subPath") for mount in opened["volumeMounts"]}
    assert seen.pop("scripts", "none") is None
    assert seen.pop("config") == "passwd"
    assert set(seen.values()) == {"databases/open"}
    assert variables(opened)["OPEN_WRITE"] == "no"
    assert opened["terminationMessagePath"].startswith("/root/"), "only root may enter that folder"
    assert spec["activeDeadlineSeconds"] == 1500
    assert manifest["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 1560
    assert "credentials" not in {volume["name"] for volume in spec["volumes"]}


def test_each_database_is_drilled_in_a_container_of_its_own_that_sees_its_own_folders_alone() -> None:
    databases = [{"name": name, "cluster": "a"} for name in ("one", "007", "with.dots_and-more")]
    spec = pod(templates({"databases": databases})["cnpg-backup-drill"])
    names = [container["name"] for container in containers(spec)]
    pairs = [f"{kind}-{number}" for number in (1, 2, 3) for kind in ("hand-over", "drill")]
    assert names == ["choose", *pairs, "record"]
    by_name = {container["name"]: container for container in containers(spec)}
    for number, database in enumerate(databases, 1):
        drill, before = by_name[f"drill-{number}"], by_name[f"hand-over-{number}"]
        assert f"--database={database['name']}" in before["args"]
        mounts = {mount["name"]: mount for mount in drill["volumeMounts"]}
        assert mounts.keys() == {"scripts", "config", "run", "results", "scratch"}
        for volume in ("run", "results", "scratch"):
            assert mounts[volume]["subPath"] == f"databases/{database['name']}"
        assert (mounts["config"]["subPath"], mounts["scripts"]["readOnly"]) == ("passwd", True)
        assert "BACKUP_ROOT" not in variables(drill)
        # Everyone may write a termination message, and many may read it: this one is in a folder of root's alone.
        assert drill["terminationMessagePath"] == "/root/termination-log"
        whole = {mount["name"] for mount in before["volumeMounts"] if "subPath" not in mount}
        assert {"run", "results", "scratch"} <= whole


def test_drills_of_very_many_databases_are_in_several_pods() -> None:
    """A pod has two containers for each of them, and the API server keeps each pod in one object."""
    databases = [{"name": f"d{number}", "cluster": "a"} for number in range(101)]
    values = {"databases": databases, "persistence": {"size": "100Ti"}}
    found = {name: pod(one) for name, one in templates(values).items() if "-drill" in name}
    assert {name: len(spec["initContainers"]) for name, spec in found.items()} == {
        "cnpg-backup-drill": 101,
        "cnpg-backup-drill-part2": 101,
        "cnpg-backup-drill-part3": 3,
    }
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(chart.render(values), "ConfigMap")}
    drilled = []
    for spec in found.values():
        (config,) = [volume for volume in spec["volumes"] if volume["name"] == "config"]
        own = [key.removesuffix(".conf") for key in maps[config["configMap"]["name"]] if key.endswith(".conf")]
        arguments = [argument for one in spec["initContainers"] for argument in one.get("args", ())]
        assert {f"--database={name}" for name in own} == {one for one in arguments if one.startswith("--database=")}
        drilled += own
    assert sorted(drilled) == sorted(one["name"] for one in databases)


def test_options_of_a_restore_are_those_that_the_script_reads_and_the_documents_name() -> None:
    (restore,) = [manifest for name, manifest in templates().items() if name.endswith("-restore")]
    every = [variables(container) for container in containers(pod(restore))]
    options = {key: value for found in every for key, value in found.items() if key.startswith("RESTORE_")}
    assert options == {
        "RESTORE_DATABASE": "",
        "RESTORE_BACKUP": "newest",
        "RESTORE_CLUSTER": "",
        "RESTORE_INTO": "",
        "RESTORE_REPLACE": "no",
        "RESTORE_WAY": "auto",
        "RESTORE_KEEP": "yes",
        "RESTORE_TABLES": "",
        "RESTORE_SCHEMAS": "",
        "RESTORE_SEARCH_PATH": "",
        "RESTORE_ON_ERROR": "stop",
        "RESTORE_OWNER": "",
        "RESTORE_JOBS": "auto",
        "RESTORE_UNDELETE": "",
        "RESTORE_WHERE": "",
        "RESTORE_KEY": "",
        "RESTORE_SHOW": "0",
        "RESTORE_DRY_RUN": "no",
        "RESTORE_TERMINATION_LOG": "/dev/termination-log",
    }
    script = "".join((ROOT / "scripts" / name).read_text() for name in ("restore.sh", "partial.sh", "undelete.sh"))
    read = set(re.findall(r"\$\{(RESTORE_[A-Z_]+):?-", script))
    assert options.keys() - {"RESTORE_DATABASE", "RESTORE_BACKUP"} <= read
    guide = (ROOT / "docs" / "restore.md").read_text()
    for name in options.keys() - {"RESTORE_TERMINATION_LOG"}:
        assert f"`{name}`" in guide, f"docs/restore.md does not name {name}"


def test_assertions_of_a_drill_are_one_line_each_and_leave_the_backups_configuration_alone() -> None:
    query = "SELECT count(*) > 0 FROM \"Odd: 'name'\" # {{ x }}"
    entry = {"name": "app", "cluster": "app", "drillAssertions": [query, "SELECT true"]}
    maps = {m["metadata"]["name"]: m["data"] for m in of_kind(chart.render({"databases": [entry]}), "ConfigMap")}
    found = {name.rsplit("-", 1)[0]: data["app.assertions"] for name, data in maps.items() if "app.assertions" in data}
    assert found == {"cnpg-backup-restore-config": f"{query}\nSELECT true\n"}
    with pytest.raises(chart.ChartError, match="drillAssertions"):
        chart.render({"databases": [{**entry, "drillAssertions": ["SELECT 1\n"]}]})


def test_parameters_of_a_drill_reach_its_server_as_one_line_each() -> None:
    values = {
        "drill": {"postgresql": {"my.text": "it's \\here", "max_locks_per_transaction": 1000000, "jit": False}},
    }
    maps = of_kind(chart.render(values), "ConfigMap")
    found = [m["data"]["drill.parameters"] for m in maps if "drill.parameters" in m["data"]]
    assert found == ["jit = 'false'\nmax_locks_per_transaction = '1000000'\nmy.text = 'it''s \\\\here'\n"]
    assert not [m for m in of_kind(chart.render({}), "ConfigMap") if "drill.parameters" in m["data"]]


def test_drill_knows_the_name_of_its_image() -> None:
    for name, manifest in templates().items():
        for container in containers(pod(manifest)):
            if container["name"].startswith("drill-"):
                assert variables(container)["DRILL_IMAGE"] == container["image"], name


def test_deadlines_of_scripts_pods_and_jobs_nest() -> None:
    for name, manifest in templates().items():
        job, spec = manifest["spec"]["jobTemplate"]["spec"], pod(manifest)
        assert spec["activeDeadlineSeconds"] < job["activeDeadlineSeconds"], name
        for container in containers(spec):
            assert int(variables(container).get("DRILL_TIMEOUT", 0)) < spec["activeDeadlineSeconds"], name


def test_secrets_of_owner_and_superuser_follow_from_the_cluster_and_can_be_named() -> None:
    def secrets(**entry: object) -> set[str]:
        found = templates({"databases": [{"name": "app", "cluster": "db", **entry}]})["cnpg-backup-restore"]
        (volume,) = [volume for volume in pod(found)["volumes"] if volume["name"] == "credentials"]
        return {source["secret"]["name"] for source in volume["projected"]["sources"]}

    assert secrets(secret={"name": "read-only"}) == {"db-app", "db-superuser", "db-ca"}
    named = secrets(ownerSecret={"name": "o"}, superuserSecret={"name": "s"}, caSecret={"name": "c"})
    assert named == {"o", "s", "c"}


def test_user_of_a_drill_has_a_name_whatever_the_image_knows() -> None:
    """PostgreSQL asks for it; where the cluster chooses the user, its container runtime brings one."""

    def passwd(user: int | str | None) -> list[str]:
        values = {"podSecurityContext": {"runAsUser": user}}
        (drill,) = [m for name, m in templates(values).items() if name.endswith("-drill")]
        (container,) = [container for container in containers(pod(drill)) if container["name"] == "drill-1"]
        if not [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/etc/passwd"]:
            return []
        maps = of_kind(chart.render(values), "ConfigMap")
        return [m["data"]["passwd"] for m in maps if "passwd" in m["data"]]

    assert passwd(26) == ["postgres:x:26:70::/run/cnpg-backup:/bin/sh\n"]
    assert passwd(None) == passwd("auto") == []
