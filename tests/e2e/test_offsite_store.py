"""Copies in an object store, by the chart's own Jobs: all in the cluster is lost, and the database comes back."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from offsite.age import Identity
from tests.e2e.node import Node, images
from tests.e2e.release import (
    CONTAINER_RESTRICTED,
    RESTRICTED,
    Release,
    cnpg_cluster,
    databases,
    far_off,
    fill,
    fingerprint,
    wait_healthy,
)
from tests.lab import chart
from tests.offsite.world import text_of

pytestmark = pytest.mark.e2e

NAME = "authelia"
CLUSTER = f"{NAME}-postgresql-cnpg"
KEY, SECRET, PORT = "key-of-tests", "secret-of-tests", 7070
SECONDS = 400


@dataclass
class Site:
    """A store that outlives the release, the key, and what the release is made of."""

    cluster: Node
    namespace: str
    identity: Identity

    @property
    def values(self) -> dict[str, Any]:
        return {
            "databases": databases(NAME),
            "offsite": {
                "enabled": True,
                "schedule": far_off(),
                "remote": {
                    "type": "s3",
                    "provider": "Other",
                    "endpoint": f"http://store.{self.namespace}.svc:{PORT}",
                    "region": "us-east-1",
                },
                "path": "bucket/prefix",
                "clusterId": "main",
                "secretName": "store",
                "encryption": {"recipients": [str(self.identity.recipient)]},
                "image": {"registry": "localhost", "repository": "rclone", "tag": "1-test"},
                "egress": [{"to": [{"podSelector": {"matchLabels": {"role": "store"}}}], "ports": [{"port": PORT}]}],
            },
        }

    def secret(self, name: str, **data: str) -> None:
        encoded = {
            key.replace("_txt", ".txt"): base64.b64encode(value.encode()).decode() for key, value in data.items()
        }
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded},
            namespace=self.namespace,
        )

    def fingerprint(self) -> str:
        return fingerprint(self.cluster, self.namespace, f"{CLUSTER}-1", NAME)


def store() -> list[dict[str, Any]]:
    """An S3 server with one bucket, and its name."""
    server = {
        "name": "store",
        "image": images.VERSITYGW.name,
        "command": ["sh", "-c", f"mkdir -p /data/bucket && exec /versitygw --port :{PORT} posix /data"],
        "env": [{"name": "ROOT_ACCESS_KEY", "value": KEY}, {"name": "ROOT_SECRET_KEY", "value": SECRET}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}},
        "securityContext": dict(CONTAINER_RESTRICTED),
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "store", "labels": {"role": "store"}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": dict(RESTRICTED),
            "containers": [server],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "store"},
        "spec": {"selector": {"role": "store"}, "ports": [{"port": PORT}]},
    }
    return [pod, service]


@pytest.fixture
def site(own_node: Node) -> Iterator[Site]:
    for archive in images.build([images.RCLONE, images.VERSITYGW]).values():
        own_node.load_image(archive)
    with own_node.namespace("store") as namespace:
        found = Site(own_node, namespace, Identity(os.urandom(32)))
        own_node.apply(*store(), cnpg_cluster(CLUSTER, NAME), namespace=namespace)
        found.secret("store", access_key_id=KEY, secret_access_key=SECRET)
        own_node.kubectl("wait", "--for=condition=Ready", "pod/store", "-n", namespace, "--timeout=120s", seconds=130)
        wait_healthy(own_node, namespace, CLUSTER)
        yield found


def test_a_lost_cluster_is_back_from_the_bucket_the_key_and_the_chart(site: Site) -> None:
    where = f"-n {site.namespace}"
    release = Release(site.cluster, site.namespace)
    release.install(site.values)
    fill(site.cluster, site.namespace, f"{CLUSTER}-1", NAME)
    assert (run := release.run()).succeeded, run
    good = site.fingerprint()
    printed = release.shell(f"kubectl cnpg-backup offsite run {where}", SECONDS)
    assert f"{NAME}  ok" in printed, printed
    assert "exit code 0" in printed

    # The release, its volume, and the database's cluster are gone.
    release.uninstall()
    for lost in ("pvc/cnpg-backups-pvc", f"cluster/{CLUSTER}"):
        site.cluster.kubectl("delete", lost, *where.split(), "--wait", seconds=180)
    again = Release(site.cluster, site.namespace)
    again.install(chart.merge(site.values, {"suspend": True}))
    try:
        listed = again.shell(f"kubectl cnpg-backup offsite list {where}", SECONDS)
        assert f"{NAME}-20" in listed, listed
        without = again.try_shell(f"kubectl cnpg-backup offsite fetch {NAME} {where}", SECONDS)
        assert without.returncode != 0, without.stdout
        assert "key.txt" in without.stdout + without.stderr
        site.secret("cnpg-backup-offsite-identity", key_txt=text_of(site.identity))
        fetched = again.shell(f"kubectl cnpg-backup offsite fetch {NAME} {where}", SECONDS)
        assert "is published" in fetched, fetched
        site.cluster.apply(cnpg_cluster(CLUSTER, NAME), namespace=site.namespace)
        wait_healthy(site.cluster, site.namespace, CLUSTER)
        again.shell(f"kubectl cnpg-backup restore {NAME} --replace --yes {where}", SECONDS)
        assert site.fingerprint() == good
    finally:
        again.uninstall()
