"""Copies: a CronJob for each, which reaches the cluster that gets it, and none that could replace what is backed up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.common import containers, of_kind
from tests.lab import chart
from tests.lab.chart import Manifest

STAGING = {
    "name": "staging", "database": "authelia", "schedule": "0 5 * * 1-5", "sqlConfigMap": "anonymise",
    "cluster": "staging",
}  # fmt: skip
SAME = {"name": "same", "database": "kutt", "schedule": "@daily", "sqlConfigMap": "", "into": "kutt_copy"}


def render(*copies: dict[str, Any], **values: Any) -> list[Manifest]:
    return chart.render({"copies": list(copies), **values})


def cronjob(manifests: list[Manifest], name: str) -> Manifest:
    (found,) = [one for one in of_kind(manifests, "CronJob") if one["metadata"]["name"] == f"cnpg-backup-copy-{name}"]
    return found


def pod_of(manifests: list[Manifest], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = cronjob(manifests, name)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def secrets_of(spec: dict[str, Any]) -> dict[str, set[str]]:
    (volume,) = [one for one in spec["volumes"] if one["name"] == "credentials"]
    return {
        one["secret"]["name"]: {item["path"] for item in one["secret"]["items"]}
        for one in volume["projected"]["sources"]
    }


def environment(spec: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for container in containers(spec) for one in container["env"]}


def test_there_is_none_by_default() -> None:
    manifests = chart.render()
    assert not [one for one in manifests if "-cop" in one["metadata"]["name"]]


def test_a_copy_into_another_cluster_logs_in_there_and_reaches_it_alone() -> None:
    manifests = render(STAGING)
    spec = pod_of(manifests, "staging")
    assert secrets_of(spec) == {
        "staging-app": {"authelia/owner-username", "authelia/owner-password"},
        "staging-superuser": {"authelia/superuser-username", "authelia/superuser-password"},
        "staging-ca": {"authelia/ca.crt"},
    }
    found = environment(spec)
    assert (found["RESTORE_DATABASE"], found["RESTORE_BACKUP"]) == ("authelia", "proved")
    assert (found["RESTORE_CLUSTER"], found["RESTORE_INTO"], found["RESTORE_WAY"]) == ("default/staging", "", "beside")
    assert (found["RESTORE_COPY"], found["RESTORE_SQL"]) == ("yes", "/etc/cnpg-backup-sql")
    assert "RESTORE_REPLACE" not in found, "it replaces nothing but a copy"
    assert {"name": "sql", "configMap": {"name": "anonymise", "optional": True}} in spec["volumes"]
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "NetworkPolicy")}
    policy = policies["cnpg-backup-copies"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "copy"
    dns, rule = policy["egress"]
    assert {port["port"] for port in dns["ports"]} != {5432}
    (peer,) = rule["to"]
    assert peer["podSelector"]["matchLabels"] == {"cnpg.io/cluster": "staging", "cnpg.io/podRole": "instance"}
    others = [name for name, one in policies.items() if name != "cnpg-backup-copies" and "staging" in str(one)]
    assert others == [], "only copies reach it"


def test_a_copy_in_the_same_cluster_needs_no_other_secrets() -> None:
    manifests = render(SAME)
    spec = pod_of(manifests, "same")
    assert set(secrets_of(spec)) == {
        "kutt-postgresql-cnpg-app",
        "kutt-postgresql-cnpg-superuser",
        "kutt-postgresql-cnpg-ca",
    }
    assert environment(spec)["RESTORE_CLUSTER"] == ""
    assert environment(spec)["RESTORE_SQL"] == ""
    assert "sql" not in {one["name"] for one in spec["volumes"]}
    (policy,) = [one for one in of_kind(manifests, "NetworkPolicy") if one["metadata"]["name"].endswith("-copies")]
    (peer,) = policy["spec"]["egress"][1]["to"]
    assert peer["podSelector"]["matchLabels"]["cnpg.io/cluster"] == "kutt-postgresql-cnpg"
    assert "authelia" not in str(policy), "not those of all databases"
    assert cronjob(manifests, "same")["spec"]["suspend"] is False
    assert cronjob(render({**SAME, "suspended": True}), "same")["spec"]["suspend"] is True


def test_the_configuration_that_a_copy_mounts_exists_for_every_image() -> None:
    databases = [
        {"name": "a", "cluster": "a"}, {"name": "b", "cluster": "b", "image": {"tag": "17-alpine"}},
        {"name": "all", "cluster": "c", "databases": "*"},
    ]  # fmt: skip
    copies = [{"name": name, "database": of, "schedule": "@daily", "sqlConfigMap": "", "cluster": "staging"}
              for name, of in (("a", "a"), ("b", "b"), ("c", "all.shop"))]  # fmt: skip
    manifests = render(*copies, databases=databases)
    there = {one["metadata"]["name"]: one["data"] for one in of_kind(manifests, "ConfigMap")}
    for name, file, image in (("a", "a.conf", ":16-"), ("b", "b.conf", ":17-"), ("c", "all.all", ":16-")):
        spec = pod_of(manifests, name)
        (config,) = [one["configMap"]["name"] for one in spec["volumes"] if one["name"] == "config"]
        assert file in there[config]
        assert image in spec["containers"][0]["image"]


WRONG = {
    "an unknown database": ({**STAGING, "database": "shop"}, 'database "shop" is not in databases'),
    "the database itself": (
        {key: value for key, value in STAGING.items() if key != "cluster"}, "in the place of the database itself",
    ),
    "the database itself by its cluster": (
        {**STAGING, "cluster": "authelia-postgresql-cnpg"}, "in the place of the database itself",
    ),
    "the database itself by its name": (
        {**STAGING, "cluster": "authelia-postgresql-cnpg", "into": "authelia"}, "would replace database authelia",
    ),
    "another database that is backed up": (
        {**STAGING, "cluster": "kutt-postgresql-cnpg", "into": "kutt"}, "would replace database kutt",
    ),
    "a schedule that never fires": ({**STAGING, "schedule": "0 25 * * *"}, 'schedule "0 25 * * *" can never fire'),
    "no SQL and nothing said": ({k: v for k, v in STAGING.items() if k != "sqlConfigMap"}, "sqlConfigMap"),
    "a typing error": ({**STAGING, "sqlConfigmap": "x"}, "sqlConfigmap"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_copy_that_cannot_work_is_refused_by_helm(what: str) -> None:
    copy, said = WRONG[what]
    with pytest.raises(chart.ChartError) as caught:
        render(copy)
    assert said in str(caught.value)


def test_without_drills_there_are_no_proved_backups() -> None:
    with pytest.raises(chart.ChartError, match="only drills prove backups"):
        render(STAGING, drill={"enabled": False})
    assert (
        environment(pod_of(render({**STAGING, "backup": "newest"}, drill={"enabled": False}), "staging"))[
            "RESTORE_BACKUP"
        ]
        == "newest"
    )


def test_two_copies_of_one_name_are_refused() -> None:
    with pytest.raises(chart.ChartError, match="has the same name"):
        render(STAGING, {**STAGING, "database": "kutt"})


def test_all_databases_of_a_cluster_are_copied_one_by_one() -> None:
    databases = [{"name": "all", "cluster": "c", "databases": "*"}]
    copy = {**STAGING, "database": "all"}
    with pytest.raises(chart.ChartError, match="means all databases of a cluster"):
        render(copy, databases=databases)
    spec = pod_of(render({**copy, "database": "all.shop"}, databases=databases), "staging")
    assert environment(spec)["RESTORE_DATABASE"] == "all.shop"
