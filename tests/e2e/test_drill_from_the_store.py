"""A copy is restored from the store by the chart's own Jobs, in a pod without the volume, and status says so."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from offsite.age import Identity
from tests.e2e.node import Node, images
from tests.e2e.release import Release, cnpg_cluster, databases, fill, wait_healthy
from tests.e2e.test_offsite_store import KEY, SECONDS, SECRET, Site, store
from tests.lab import chart
from tests.offsite.world import text_of

pytestmark = [pytest.mark.e2e, pytest.mark.long]

NAME = "authelia"
CLUSTER = f"{NAME}-postgresql-cnpg"
DRILL = "cnpg-backup-offsite-drill"


@pytest.fixture
def site(own_node: Node) -> Iterator[Site]:
    for archive in images.build([images.RCLONE, images.VERSITYGW]).values():
        own_node.load_image(archive)
    with own_node.namespace("store-drill") as namespace:
        found = Site(own_node, namespace, Identity(os.urandom(32)))
        own_node.apply(*store(), cnpg_cluster(CLUSTER, NAME), namespace=namespace)
        found.secret("store", access_key_id=KEY, secret_access_key=SECRET)
        own_node.kubectl("wait", "--for=condition=Ready", "pod/store", "-n", namespace, "--timeout=120s", seconds=130)
        wait_healthy(own_node, namespace, CLUSTER)
        yield found


def values_of(site: Site) -> dict[str, Any]:
    drill = {"enabled": True, "schedule": site.values["offsite"]["schedule"]}
    more: dict[str, Any] = {"offsite": {"drill": drill, "identitySecretName": "identity"}}
    assertion = "SELECT count(*) >= 1000 FROM items"
    # The schedule that is far off fires every two hours.
    more["drill"] = {"timeoutSeconds": 600}
    return chart.merge(site.values, more) | {"databases": databases(NAME, drillAssertions=[assertion])}


def test_the_newest_copy_is_restored_from_the_store_and_status_says_since_when(site: Site) -> None:
    where = f"-n {site.namespace}"
    release = Release(site.cluster, site.namespace)
    release.install(values_of(site))
    try:
        fill(site.cluster, site.namespace, f"{CLUSTER}-1", NAME, rows=1000)
        assert (run := release.run()).succeeded, run
        release.shell(f"kubectl cnpg-backup offsite run {where}", SECONDS)

        without = release.try_shell(f"kubectl cnpg-backup offsite drill {where}", SECONDS)
        assert without.returncode == 1, without.stdout + without.stderr
        assert "key.txt" in without.stdout + without.stderr
        shown = release.try_shell(f"kubectl cnpg-backup status --no-volume {where}")
        assert "there is no secret key" in shown.stdout + shown.stderr
        assert "does not mount claim" not in shown.stdout + shown.stderr, "its own CronJob is called a stranger"

        site.secret("identity", key_txt=f"{text_of(site.identity)}\n")
        drilled = release.shell(f"kubectl cnpg-backup offsite drill {NAME} {where}", SECONDS)
        assert f"{NAME}: fetching {NAME}-20" in drilled, drilled
        assert "proved" in drilled, drilled
        assert "AGE-SECRET-KEY" not in drilled

        assert "restored" in release.shell(f"kubectl cnpg-backup offsite list {where}", SECONDS)
        release.shell(f"kubectl cnpg-backup offsite run {where}", SECONDS)
        found = json.loads(release.shell(f"kubectl cnpg-backup status --no-volume {where} -o json || true"))
        (one,) = found["databases"]
        assert one["offsite"]["verified"] == "restored"
        assert one["offsite"]["restored"]
        subjects = json.dumps(found["problems"])
        assert DRILL not in subjects, "a drill that went well is no problem any more"
        examined = release.try_shell(f"kubectl cnpg-backup doctor {where}")
        assert DRILL in examined.stdout
        assert "does not mount claim" not in examined.stdout
    finally:
        release.uninstall()
