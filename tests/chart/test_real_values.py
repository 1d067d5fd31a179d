"""What people's own values ask for: images as Renovate pins them, and servers that are not CloudNativePG's."""

from __future__ import annotations

import pytest

from tests.chart.common import backups, of_kind
from tests.lab import chart

DIGEST, OTHER = f"sha256:{'0123456789abcdef' * 4}", f"sha256:{'f' * 64}"


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ({"tag": f"18-alpine@{DIGEST}"}, f"docker.io/postgres:18-alpine@{DIGEST}"),
        ({"tag": f"18-alpine@{DIGEST}", "digest": OTHER}, f"docker.io/postgres:18-alpine@{OTHER}"),
        ({"tag": "18-alpine", "digest": DIGEST}, f"docker.io/postgres:18-alpine@{DIGEST}"),
    ],
)
def test_a_tag_may_bring_its_digest(image: dict[str, str], wanted: str) -> None:
    for manifests in (
        chart.render({"image": image}),
        chart.render({"databases": [{"name": "a", "cluster": "a", "image": image}]}),
    ):
        for run in backups(manifests):
            (dump,) = run["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
            assert dump["image"] == wanted


def test_an_entry_with_a_tag_of_its_own_does_not_get_the_digest_of_another() -> None:
    values = {"image": {"tag": f"18@{DIGEST}"}, "databases": [{"name": "a", "cluster": "a", "image": {"tag": "17"}}]}
    (run,) = backups(chart.render(values))
    assert run["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"][0]["image"].endswith("postgres:17")


def test_a_server_outside_gets_no_way_but_the_one_that_is_given_and_its_own_secrets() -> None:
    outside = {"name": "app", "host": "db.example.org", "secret": {"name": "dumper"}, "caSecret": {"name": "its-ca"}}
    way = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 5432}]}
    manifests = chart.render({"databases": [outside], "networkPolicy": {"extraEgress": [way]}})
    (policy,) = [one for one in of_kind(manifests, "NetworkPolicy") if "isolated" not in one["metadata"]["name"]]
    assert way in policy["spec"]["egress"]
    assert "cnpg.io/cluster" not in str(policy)
    (configuration,) = [one for one in of_kind(manifests, "ConfigMap") if one["metadata"]["name"].count("-config-") == 1
                        and "restore" not in one["metadata"]["name"]]  # fmt: skip
    assert "host=db.example.org\n" in configuration["data"]["app.conf"]
    secrets = {
        source["secret"]["name"]
        for run in backups(manifests)
        for volume in run["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    }
    assert secrets == {"dumper", "its-ca"}
