"""Copies in an object store, by the chart's own Jobs: all in the cluster is lost, and the database comes back."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from offsite.age import Identity
from retention.names import parse_stamp
from retention.rule.decide import Candidate, decide
from retention.rule.policy import Policy
from tests.e2e.node import Node, images
from tests.e2e.release import (
    CONTAINER_RESTRICTED,
    RESTRICTED,
    Release,
    cnpg_cluster,
    databases,
    far_off,
    fill,
    plant,
    sql,
    wait_healthy,
)
from tests.lab import chart
from tests.lab.guide import block, blocks
from tests.offsite.world import text_of

pytestmark = pytest.mark.e2e

NAMES = ("authelia", "kutt", "plausible")
ROOT = Path(__file__).resolve().parents[2]
MORE = """
SET ROLE {owner}; CREATE SCHEMA more; CREATE TABLE more.places AS
  SELECT i, point(i, i * 2)::text AS place, now() AS seen FROM generate_series(1, 300) i;
CREATE TABLE more.notes (id bigint GENERATED ALWAYS AS IDENTITY, note text);
INSERT INTO more.notes (note) VALUES ('\u00e4'), (NULL);
"""
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
            "databases": databases(*NAMES),
            "drill": {"enabled": False},
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
                "serviceAccount": {"create": True},
                "prune": True,
                "retention": {"keep": {"daily": 7, "weekly": 4}},
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

    def databases(self) -> None:
        """Make the databases' clusters, without waiting for them."""
        clusters = (cnpg_cluster(f"{name}-postgresql-cnpg", name) for name in NAMES)
        self.cluster.apply(*clusters, namespace=self.namespace)

    def sums(self, name: str) -> str:
        """The checksums of all tables of a database."""
        return sql(self.cluster, self.namespace, f"{name}-postgresql-cnpg-1", name, SUMS)


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
        own_node.apply(*store(), namespace=namespace)
        found.databases()
        found.secret("store", access_key_id=KEY, secret_access_key=SECRET)
        own_node.kubectl("wait", "--for=condition=Ready", "pod/store", "-n", namespace, "--timeout=120s", seconds=130)
        wait_healthy(own_node, namespace, *(f"{name}-postgresql-cnpg" for name in NAMES))
        yield found


WEEKS = ((30, 22), (21, 15), (14, 8), (7, 1))
"""A month in four runs: of the days before today, the oldest and the newest of each week."""

SUMS = """
SELECT string_agg(format('%s %s', c.oid::regclass, (xpath('/row/sum/text()', query_to_xml(
  format('SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) AS sum FROM %s t', c.oid::regclass),
  false, true, '')))[1]), chr(10) ORDER BY c.oid::regclass::text)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
"""The checksum of every table of a database, by its name."""


def kept_by_the_rule(site: Site, found: list[str], name: str) -> set[str]:
    """What the destination's own tiers keep of all backups that there have ever been."""
    cronjob = site.cluster.get("cronjob", "cnpg-backup-offsite", "-n", site.namespace)
    volumes = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    (config,) = (volume["configMap"]["name"] for volume in volumes if volume["name"] == "config")
    text = site.cluster.get("configmap", config, "-n", site.namespace)["data"]["policy.json"]
    candidates = []
    for base in (one.removesuffix(".dump") for one in found):
        time = parse_stamp(base.removeprefix(f"{name}-"))
        assert time is not None, base
        candidates.append(Candidate(f"{base}.dump", base, time, None, 1))
    policy = Policy.from_json(text, "policy.json")
    return {keep.base for keep in decide(name, candidates, (), policy, now=datetime.now(UTC)).keep}


def way_back(site: Site) -> list[str]:
    """The commands of the page by which copies come back, for the namespace of a test."""
    section = (ROOT / "docs" / "object-store.md").read_text().partition("\n## The way back\n")[2]
    first = next(text for _, language, text in blocks(section) if language == "console")
    return [f"{line[2:]} -n {site.namespace}" for line in first.splitlines() if line.startswith("$ ")]


def test_a_lost_cluster_is_back_from_the_bucket_the_key_and_the_chart(site: Site, tmp_path: Path) -> None:
    where = f"-n {site.namespace}"
    release = Release(site.cluster, site.namespace)
    release.install(site.values)
    for number, name in enumerate(NAMES):
        fill(site.cluster, site.namespace, f"{name}-postgresql-cnpg-1", name, rows=1000 * (number + 1))
        sql(site.cluster, site.namespace, f"{name}-postgresql-cnpg-1", name, MORE.format(owner=name))
    assert (run := release.run()).succeeded, run
    good = {name: site.sums(name) for name in NAMES}
    assert all(len(text.splitlines()) == 3 for text in good.values()), good

    # What helm test and a person find before the first copy.
    tested = release.run_helm("test", release.name, "--filter", "name=cnpg-backup-offsite-test", "--logs", seconds=300)
    assert "write once" in tested, tested

    # A month.
    deleted = 0
    with release.kept_inspector():
        for oldest, newest in WEEKS:
            for name in NAMES:
                plant(release, name, *range(oldest, newest - 1, -1))
            printed = release.shell(f"kubectl cnpg-backup offsite run {where}", SECONDS)
            assert printed.count("  ok") == 3, printed
            assert "exit code 0" in printed
            deleted += printed.count("deleted the copy of")
        listing = release.listing()
    last = {name: listing[name][-1].removesuffix(".dump") for name in NAMES}
    assert deleted, "the tiers have deleted nothing in a month"
    listed = release.shell(f"kubectl cnpg-backup offsite list {where}", SECONDS)
    for name in NAMES:
        assert len(listing[name]) == 31
        wanted = kept_by_the_rule(site, listing[name], name)
        assert {word for word in listed.split() if word.startswith(f"{name}-20")} == wanted
        assert len(wanted) < 15
    verified = release.shell(f"kubectl cnpg-backup offsite verify {where}", SECONDS)
    assert "3 copies read, 0 damaged or unreadable" in verified, verified
    shown = json.loads(release.shell(f"kubectl cnpg-backup status --no-volume {where} -o json || true"))
    assert [(one["database"], one["offsite"]["verified"]) for one in shown["databases"]] == [
        (name, "readback") for name in NAMES
    ], "the first copy is read back"
    assert all(one["offsite"]["age_seconds"] < 1800 for one in shown["databases"])

    # The release, its volume, and the databases' clusters are gone.
    release.uninstall()
    gone = ["pvc/cnpg-backups-pvc", *(f"cluster/{name}-postgresql-cnpg" for name in NAMES)]
    site.cluster.kubectl("delete", *gone, *where.split(), "--wait", seconds=240)
    again = Release(site.cluster, site.namespace)
    again.install(chart.merge(site.values, {"suspend": True}))
    site.databases()
    try:
        without = again.try_shell(f"kubectl cnpg-backup offsite fetch {NAMES[0]} {where}", SECONDS)
        assert without.returncode != 0, without.stdout
        assert "key.txt" in without.stdout + without.stderr
        (tmp_path / "key.txt").write_text(f"{text_of(site.identity)}\n")
        secret, listing_again, fetch, forget = way_back(site)
        again.shell(f"cd {tmp_path}; {secret}")
        assert f"{NAMES[0]}-20" in again.shell(listing_again, SECONDS)
        for name in NAMES:
            fetched = again.shell(fetch.replace(NAMES[0], name), SECONDS)
            assert f"fetching {last[name]}" in fetched, fetched
            assert "is published" in fetched, fetched
        again.shell(forget)
        wait_healthy(site.cluster, site.namespace, *(f"{name}-postgresql-cnpg" for name in NAMES))
        for name in NAMES:
            again.shell(f"N={site.namespace}; D={name}; {block('whole-plugin').strip()} --yes", SECONDS)
            assert site.sums(name) == good[name], name
    finally:
        again.uninstall()
