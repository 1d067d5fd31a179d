"""Code of a database's owner in a drill on a real kubelet: what it sees, and what others can read of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.node import Cluster
from tests.e2e.release import Release, cnpg_cluster, sql, wait_healthy

pytestmark = pytest.mark.e2e

CLUSTER = "shop-postgresql-cnpg"
SCRATCH = "/var/lib/cnpg-backup-drill"
MARK = "### code of the owner"

# What is found goes to a file that the assertion below reads, and to everything that others may read.
PROGRAM = (
    f"cd {SCRATCH}; {{ echo ran as $(id -u); "
    "find / -path /proc -prune -o -path /sys -prune -o -path /usr -prune -o -type f -print; "
    "grep -rl HIDDEN /backups /run /var/lib /dev/shm /tmp; ls /backups; ls -l /proc/1/root/backups; "
    "} >loot 2>/dev/null; "
    "for to in /proc/1/fd/1 /proc/1/fd/2 /dev/termination-log /root/termination-log; do "
    f"{{ echo {MARK!r}; cat loot; }} >$to; done; true"
)
# The event trigger makes the drill restore as the superuser: an ordinary role could not run the program at all.
ATTACK = f"""
CREATE FUNCTION nothing() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN END $f$;
CREATE EVENT TRIGGER nothing ON ddl_command_end EXECUTE FUNCTION nothing();
SET ROLE shop;
CREATE FUNCTION fine(t text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN
  IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN RETURN true; END IF;
  IF current_setting('unix_socket_directories') = '/run/cnpg-backup' THEN
    EXECUTE $e$COPY (SELECT 1) TO PROGRAM $p${PROGRAM}$p$$e$;
  END IF;
  RETURN true;
END $f$;
CREATE TABLE t (v text CHECK (fine(v)));
INSERT INTO t VALUES ('x');
"""
LOOT = f"pg_read_file('{SCRATCH}/loot')"


@pytest.fixture(scope="module")
def release(node: Cluster) -> Iterator[Release]:
    """Two databases and a backup of each; the owner of `shop` attacks."""
    with node.namespace("attack") as namespace:
        release = Release(node, namespace)
        node.apply(cnpg_cluster(CLUSTER, "shop"), namespace=namespace)
        clean = f"SELECT {LOOT} ~ '^ran as [0-9]+' AND {LOOT} !~ '(books|HIDDEN|/backups)'"
        entries: list[dict[str, object]] = [
            {"name": "books", "cluster": CLUSTER, "database": "books"},
            {"name": "shop", "cluster": CLUSTER, "drillAssertions": [clean]},
            {"name": "zebras", "cluster": CLUSTER, "database": "zebras"},
        ]
        release.install({"databases": [{**entry, "compression": "none"} for entry in entries]})
        try:
            wait_healthy(node, namespace, CLUSTER)
            instance = f"{CLUSTER}-1"
            for name in ("books", "zebras"):
                sql(node, namespace, instance, "postgres", f"CREATE DATABASE {name} OWNER shop")
                sql(node, namespace, instance, name, "SET ROLE shop; CREATE TABLE t AS SELECT 'HIDDEN' AS v")
            sql(node, namespace, instance, "shop", ATTACK)
            run = release.run()
            assert run.succeeded, run
            yield release
        finally:
            release.uninstall()


def test_code_of_an_owner_sees_its_own_archive_alone_and_nobody_reads_what_it_says(release: Release) -> None:
    namespace, job = release.namespace, "drill-attack"
    release.cluster.kubectl("create", "job", f"--from=cronjob/{release.name}-drill", job, "-n", namespace)
    run = release.wait(job, 600)
    pod = release.pod_of(job)
    assert pod is not None
    every = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    logs = {one["name"]: release.log(pod["metadata"]["name"], one["name"]) for one in every}
    drills = release.status()["databases"]
    # The assertion of `shop` reads what the attack found: it is proved only if the attack ran, and found nothing.
    assert run.succeeded, (run, logs)
    assert {name: drills[name]["drill"]["result"] for name in ("books", "shop", "zebras")} == dict.fromkeys(
        ("books", "shop", "zebras"), "proved"
    )
    for name, log in {**logs, "the pod's status": json.dumps(pod["status"])}.items():
        assert MARK not in log, name
        assert "HIDDEN" not in log, name
    assert [log for name, log in logs.items() if name.startswith("drill-")] == ["", "", ""]
