"""Drills of the copies, as the chart renders them: off unless wanted, apart from the volume, and complete."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chart.common import OFFSITE, containers, of_kind, pod_specs, selects
from tests.chart.test_offsite import IDENTITIES, short, spec_of
from tests.lab import chart
from tests.lab.chart import Manifest

ON = chart.merge(OFFSITE, {"offsite": {"drill": {"enabled": True}, "identitySecretName": "identity"}})
NAME = "cnpg-backup-offsite-drill"
__all__ = ["short"]


def with_drill(**values: Any) -> dict[str, Any]:
    return chart.merge(ON, {"offsite": values})


def cronjobs(manifests: list[Manifest]) -> list[str]:
    return [name for one in of_kind(manifests, "CronJob") if (name := str(one["metadata"]["name"])).startswith(NAME)]


def test_nothing_of_it_is_there_unless_it_is_wanted() -> None:
    text = json.dumps(chart.render(OFFSITE))
    assert "offsite-drill" not in text
    assert "hand-over-1" in text


def test_no_container_mounts_the_volume_and_one_kind_sees_the_key() -> None:
    spec = spec_of(chart.render(chart.merge(ON, {"offsite": {"caBundle": "-----BEGIN CERTIFICATE-----\nMII\n"}})), NAME)
    assert spec["automountServiceAccountToken"] is False
    assert "persistentVolumeClaim" not in json.dumps(spec["volumes"])
    assert [one["name"] for one in spec["volumes"] if "ecret" in json.dumps(one)] == ["identity"]
    assert spec["initContainers"][0]["name"] == "rclone"
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
    assert [one["name"] for one in spec["containers"]] == ["record"]
    for container in containers(spec):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        kind = container["name"].rpartition("-")[0] or container["name"]
        assert ("secretKeyRef" in json.dumps(container)) == (kind == "rclone"), container["name"]
        assert ("identity" in mounts) == (kind == "hand-over"), container["name"]
        if kind == "rclone":
            assert {*mounts} == {"store", "run"}
            assert mounts["store"]["mountPath"] == "/etc/cnpg-backup", "the certificate is not where rclone looks"
        if kind == "drill":
            assert {*mounts} == {"run", "results", "scratch", "scripts", "config"}
            assert mounts["config"]["subPath"] == "passwd"
            own = {mounts[volume]["subPath"] for volume in ("run", "results", "scratch")}
            assert len(own) == 1, "it sees another database's files, or the socket of rclone"
            assert own.pop().startswith("databases/")
        else:
            assert "subPath" not in json.dumps(container["volumeMounts"])


def test_it_restores_by_the_containers_of_the_drill_of_the_volume() -> None:
    """So whatever a drill proves of an archive on the volume, it proves of a copy."""
    manifests = chart.render(ON)
    here, there = spec_of(manifests, NAME), spec_of(manifests, "cnpg-backup-drill")
    own = [one for one in here["initContainers"] if one["name"].startswith("drill-")]
    assert own == [one for one in there["initContainers"] if one["name"].startswith("drill-")]
    assert own


def test_its_pods_reach_the_store_alone() -> None:
    manifests = chart.render(ON)
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "NetworkPolicy")}
    (labels,) = (metadata["labels"] for owner, metadata, _ in pod_specs(manifests) if owner == f"CronJob {NAME}")
    assert [name for name, spec in policies.items() if selects(spec["podSelector"], labels)] == ["cnpg-backup-offsite"]
    (drill,) = (
        metadata["labels"] for owner, metadata, _ in pod_specs(manifests) if owner == "CronJob cnpg-backup-drill"
    )
    assert [name for name, spec in policies.items() if selects(spec["podSelector"], drill)] == ["cnpg-backup-isolated"]


@pytest.mark.parametrize(("cloud", "mark"), [("AWS", ","), ("Azure", ";")])
def test_only_rclone_gets_the_token_of_a_cloud(cloud: str, mark: str) -> None:
    account = {"create": True, "annotations": IDENTITIES[cloud][0]}
    manifests = chart.render(with_drill(serviceAccount=account))
    (metadata,) = (found for owner, found, _ in pod_specs(manifests) if owner == f"CronJob {NAME}")
    (without,) = (text for name, text in metadata["annotations"].items() if name.endswith("/skip-containers"))
    every = {container["name"] for container in containers(spec_of(manifests, NAME))}
    assert every - {*without.split(mark)} == {"rclone"}


def test_more_databases_than_a_pod_has_room_for_are_drilled_in_parts() -> None:
    databases = [{"name": f"d{number}", "cluster": "c"} for number in range(51)]
    names = cronjobs(chart.render(ON | {"databases": databases}))
    assert names == [NAME, f"{NAME}-part2"]
    images = [{"name": "a", "cluster": "c"}, {"name": "b", "cluster": "c", "image": {"tag": "17-alpine"}}]
    assert cronjobs(chart.render(ON | {"databases": images})) == [NAME, f"{NAME}-17"]


def test_without_encryption_no_key_is_mounted() -> None:
    manifests = chart.render(with_drill(encryption={"type": "none", "recipients": []}, identitySecretName=""))
    assert "identity" not in json.dumps(spec_of(manifests, NAME))


def test_it_stops_with_the_release() -> None:
    (cronjob,) = (
        one for one in of_kind(chart.render(ON | {"suspend": True}), "CronJob") if one["metadata"]["name"] == NAME
    )
    assert cronjob["spec"]["suspend"] is True


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key that nobody named": (
        {"identitySecretName": ""},
        "offsite.drill.enabled: the copies are encrypted, and a drill needs a secret key in the cluster",
    ),
    "no copies": ({"enabled": False}, "offsite.drill.enabled: there are no copies that it could restore"),
    "never": ({"drill": {"schedule": "0 25 * * *"}}, 'offsite.drill.schedule: "0 25 * * *" can never fire'),
    "longer than the interval": ({"drill": {"schedule": "0 * * * *"}}, "offsite.drill.schedule: a drill may take 7860"),
    "an identity that the network gives": (
        {"serviceAccount": {"create": True, "annotations": IDENTITIES["GKE"][0]}},
        "gives the identity of the copies to every container of the pod",
    ),
    "a metadata server that the network reaches": (
        {"egress": [{"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}]}]},
        "gives the identity of the copies to every container of the pod",
    ),
    "not a schedule": ({"drill": {"schedule": "monthly"}}, "schedule"),
    "an unknown key": ({"drill": {"timeout": 1}}, "timeout"),
}


def test_a_network_that_leaves_metadata_servers_out_is_not_refused() -> None:
    block = {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}
    assert cronjobs(chart.render(with_drill(egress=[{"to": [{"ipBlock": block}]}]))) == [NAME]


@pytest.mark.parametrize("case", WRONG)
def test_values_that_cannot_work_are_refused_and_named(case: str) -> None:
    values, text = WRONG[case]
    with pytest.raises(chart.ChartError) as caught:
        chart.render(with_drill(**values))
    assert text in str(caught.value)
