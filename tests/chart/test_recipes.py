"""The values that docs/namespaces.md shows: they render, and name the Secrets, hosts and images that the page says."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.chart.common import backups, of_kind
from tests.lab import chart
from tests.lab.access.model import Manifest

DOCS = chart.ROOT / "docs"


def blocks(page: str) -> dict[str, dict[str, Any]]:
    """The values that a page shows, by the name in the comment above each block."""
    text = (DOCS / page).read_text()
    found = re.findall(r"^<!-- values: ([\w-]+) -->\n```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == len(re.findall(r"^<!-- values: ", text, re.MULTILINE)), f"a comment without a block: {page}"
    return {name: yaml.safe_load(body) for name, body in found}


NAMESPACES = blocks("namespaces.md")


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_block_of_yaml_is_yaml(page: str) -> None:
    for indent, body in re.findall(r"^( *)```yaml\n(.*?)^ *```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
        assert list(yaml.safe_load_all(re.sub(rf"(?m)^{indent}", "", body))), body


def mounted(manifests: list[Manifest]) -> dict[str, tuple[str, str]]:
    """For each file of the credentials of the backups, the Secret and its key."""
    found = {}
    for run in backups(manifests):
        for volume in run["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]:
            for one in volume.get("projected", {}).get("sources", ()):
                for item in one.get("secret", {}).get("items", ()):
                    found[item["path"]] = (one["secret"]["name"], item["key"])
    return found


LOGINS: dict[str, dict[str, tuple[str, str]]] = {
    "own-role": {
        "immich/username": ("immich-backup", "username"),
        "immich/password": ("immich-backup", "password"),
        "immich/ca.crt": ("media-postgres-ca", "ca.crt"),
    },
    "external-secrets": {
        "immich/username": ("media-postgres", "username"),
        "immich/password": ("media-postgres", "password"),
        "immich/ca.crt": ("media-postgres", "ca.crt"),
    },
    "uri": {"immich/uri": ("immich-login", "DATABASE_URL"), "immich/ca.crt": ("media-postgres", "ca.crt")},
    "cert-manager": {
        "immich/username": ("immich-backup", "username"),
        "immich/password": ("immich-backup", "password"),
        "immich/ca.crt": ("our-ca", "ca.crt"),
        "shop/username": ("shop-backup", "username"),
        "shop/password": ("shop-backup", "password"),
        "shop/ca.crt": ("our-ca", "ca.crt"),
    },
}


@pytest.mark.parametrize("name", LOGINS)
def test_a_cluster_elsewhere_gets_the_secrets_that_the_page_names_and_a_way_to_its_namespace(name: str) -> None:
    manifests = chart.render(NAMESPACES[name])
    assert mounted(manifests) == LOGINS[name]
    (policy,) = [one for one in of_kind(manifests, "NetworkPolicy") if "isolated" not in one["metadata"]["name"]]
    assert "'kubernetes.io/metadata.name': 'media'" in str(policy["spec"]["egress"])
    (text,) = [
        one["data"]["immich.conf"]
        for one in of_kind(manifests, "ConfigMap")
        if "immich.conf" in one.get("data", {}) and "-restore" not in one["metadata"]["name"]
    ]
    assert "host=postgres-rw.media.svc\n" in text


def test_external_secrets_writes_the_keys_that_are_mounted_and_no_private_key() -> None:
    (external,) = of_kind(chart.render(NAMESPACES["external-secrets"]), "ExternalSecret")
    written = {entry["secretKey"] for entry in external["spec"]["data"]}
    assert {key for _, key in LOGINS["external-secrets"].values()} == written
    assert external["spec"]["target"]["name"] == "media-postgres"
    assert "ca.key" not in str(external)


def test_an_image_of_a_catalog_is_that_of_its_own_entry() -> None:
    images = {}
    for run in backups(chart.render(NAMESPACES["catalog"])):
        (dump,) = run["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
        images[run["metadata"]["name"]] = dump["image"]
    assert sorted(images.values()) == [
        "docker.io/postgres:18-alpine",
        "ghcr.io/cloudnative-pg/postgis:18-3-system-trixie",
    ]
