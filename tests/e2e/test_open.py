"""`open` and `discover` on a real cluster, with the rights of an operator and no more."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import Release, cnpg_cluster, databases, fill, sql, table_lock, wait_healthy
from tests.e2e.test_plugin import ROOT, Site, account
from tests.lab.postgres import installation

pytestmark = pytest.mark.e2e

CLUSTER = "shop-postgresql-cnpg"
ROWS = 2000


@pytest.fixture(scope="module")
def site(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster with a database that is backed up, one that an object names, and one that somebody has made by hand."""
    folder = tmp_path_factory.mktemp("kubeconfigs")
    with node.namespace("open") as namespace, node.namespace("people") as people:
        node.apply(cnpg_cluster(CLUSTER, "shop"), namespace=namespace)
        release = Release(node, namespace)
        operators = [{"kind": "ServiceAccount", "name": "operator", "namespace": people}]
        release.install(
            {
                "databases": databases("shop"),
                "accessPolicy": {"operatorRights": True, "operators": operators},
                "persistence": {"size": "1Gi", "keep": False},
            }
        )
        wait_healthy(node, namespace, CLUSTER)
        fill(node, namespace, f"{CLUSTER}-1", "shop", ROWS)
        operator = account(node, folder, "operator", people, namespace)
        found = Site(node, namespace, release, operator, account(node, folder, "stranger", people, namespace))
        try:
            done = found.run("run")
            assert done.returncode == 0, done.stdout + done.stderr
            yield found
        finally:
            release.uninstall()


@pytest.fixture(autouse=True)
def nothing_is_left(site: Site) -> Iterator[None]:
    yield
    assert site.jobs("open") == set()


def test_a_backup_is_looked_into_and_is_gone_afterwards(site: Site) -> None:
    began = time.monotonic()
    done = site.run("open", "shop", "-c", "SELECT count(*) FROM items")
    print(f"\nto the answer and the end: {time.monotonic() - began:.1f} s\n{done.stderr}")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^ +{ROWS}$", done.stdout, re.MULTILINE), done.stdout
    assert "a read-only copy" in done.stderr
    assert re.search(r"deleted job/cnpg-backup-open-\w+, and the copy with it", done.stderr)
    changed = site.run("open", "shop", "-c", "DELETE FROM items")
    assert changed.returncode == 1
    assert "read-only transaction" in changed.stderr
    assert sql(site.cluster, site.namespace, f"{CLUSTER}-1", "shop", "SELECT count(*) FROM items") == str(ROWS)


def test_a_copy_sees_no_network_no_volume_and_no_settings(site: Site) -> None:
    look = "ls /backups /etc/cnpg-backup /etc/cnpg-backup-credentials 2>&1; ls /var/run/secrets 2>&1; "
    look += f"pg_isready -t 3 -h {CLUSTER}-rw.{site.namespace}.svc; echo answer $?"
    done = site.run("open", "shop", "--write", "-c", f"\\! sh -c '{look}'")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("No such file or directory") >= 3, done.stdout
    assert re.search(r"answer [123]", done.stdout), done.stdout
    assert "accepting" not in done.stdout


def test_any_client_connects_over_a_port_until_ctrl_c(site: Site) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        site.command("open", "shop", "--port", str(port), "-o", "json"), env=site.environment(), cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            text = ""
            while not text.rstrip().endswith("}"):
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                text += line
            document = json.loads(text)
            psql = installation().bin / "psql"

            def answer() -> subprocess.CompletedProcess[str]:
                query = "SELECT current_database() || ' ' || count(*) FROM items"
                return subprocess.run(
                    [str(psql), "-XAtw", "-d", document["url"], "-c", query],
                    env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
                )  # fmt: skip

            wait_until("the port is there", lambda: answer().returncode == 0, 60)
            assert re.fullmatch(rf"shop_copy_\d{{8}}_\d{{6}} {ROWS}\n", answer().stdout)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_takes_its_copy_with_it(site: Site, number: signal.Signals) -> None:
    with subprocess.Popen(
        site.command("open", "shop", "-c", "SELECT pg_sleep(300)"), env=site.environment(), cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            wait_until("the Job is there", lambda: len(site.jobs("open")) == 1, 60)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


KILLED = {
    "open": (
        ("open", "shop", "-c", "SELECT pg_sleep(300)"),
        "open",
        60 + 14400 + 7200,
        "has a copy of a database open",
    ),
    "restore": (("restore", "shop", "--replace", "--drop-old", "--yes"), "restore", 60 + 21600, "restores a database"),
    "undelete": (("undelete", "shop", "--table", "items", "--yes"), "restore", 60 + 21600, "or copies rows back"),
}


@pytest.mark.parametrize("what", KILLED)
def test_what_a_killed_command_leaves_ends_by_itself_and_doctor_names_it(site: Site, what: str) -> None:
    words, component, most, said = KILLED[what]
    before = site.jobs(component)
    lock = table_lock(site.cluster, site.namespace, f"{CLUSTER}-1", "shop") if component == "restore" else nullcontext()
    with lock:
        with subprocess.Popen(
            site.command(*words), env=site.environment(), cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                wait_until("the Job is there", lambda: len(site.jobs(component)) == len(before) + 1, 60)
            finally:
                process.kill()
        (name,) = site.jobs(component) - before
        job = site.cluster.get("job", name, "-n", site.namespace)
        assert job["spec"]["activeDeadlineSeconds"] <= most
        findings = json.loads(site.run("doctor", "-o", "json").stdout)
        (found,) = [one for one in findings if one["subject"] == f"job/{name}"]
        assert said in found["found"]
        assert "at the latest" in found["found"]
        assert f"kubectl delete job {name} --namespace {site.namespace}" in found["remedy"]
    if component == "restore":
        done = site.run("logs", name, "--follow")
        assert done.returncode == 0, "what doctor says follows it to its end: " + done.stdout + done.stderr
        gone = [one for one in json.loads(site.run("doctor", "-o", "json").stdout) if one["subject"] == f"job/{name}"]
        assert gone == []
    site.cluster.kubectl("delete", "job", name, "-n", site.namespace)


def test_wrong_names_and_archives_are_refused(site: Site) -> None:
    missing = site.run("open", "shop", "--backup", "shop-20200101-000000.dump")
    assert missing.returncode == 1
    assert "shop-20200101-000000.dump" in missing.stderr.splitlines()[-1]
    assert site.run("open", "shpo").returncode == 2
    assert site.run("open", "shop", "--backup", "kutt-20200101-000000.dump").returncode == 2
    refused = site.run("open", "shop", kubeconfig=site.stranger)
    assert refused.returncode == 1
    assert "may not" in refused.stderr
    assert site.run("open", "shop", "--dry-run").returncode == 0


def test_a_backup_differs_from_the_database_by_what_was_done_since(site: Site) -> None:
    began = time.monotonic()
    same = site.run("diff", "shop", "--check")
    assert same.returncode == 0, same.stdout + same.stderr
    print(f"\na backup and the live database: {time.monotonic() - began:.1f} s")
    sql(site.cluster, site.namespace, f"{CLUSTER}-1", "shop", "CREATE TABLE late (); DELETE FROM items WHERE id < 11")
    found = site.document("diff", "shop", "--check", code=1)["changes"]
    assert [(one["change"], one["name"], one["rows_before"], one["rows_after"]) for one in found] == [
        ("rows", "items", ROWS, ROWS - 10), ("added", "late", None, 0),
    ]  # fmt: skip
    newest = site.backups("shop")[0]["name"]
    assert site.document("diff", newest, "shop", "--check")["changes"] == []


def test_deleted_rows_come_back_and_changed_ones_stay(site: Site) -> None:
    instance = f"{CLUSTER}-1"
    sql(
        site.cluster, site.namespace, instance, "shop",
        "INSERT INTO items SELECT * FROM (VALUES (1, 'kept')) v ON CONFLICT (id) DO UPDATE SET name = 'kept';"
        "DELETE FROM items WHERE id BETWEEN 500 AND 599",
    )  # fmt: skip
    trial = site.run("undelete", "shop", "--table", "items", "--dry-run")
    assert trial.returncode == 0, trial.stdout + trial.stderr
    assert re.search(r"shop: 1[01]\d rows would be copied back", trial.stdout), trial.stdout
    began = time.monotonic()
    done = site.run("undelete", "shop", "--table", "items", "--where", "id BETWEEN 550 AND 600", "--yes")
    print(f"\nundelete: {time.monotonic() - began:.1f} s\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 rows copied back" in done.stdout
    query = "SELECT count(*) FILTER (WHERE id BETWEEN 500 AND 599), max(name) FILTER (WHERE id = 1) FROM items"
    assert sql(site.cluster, site.namespace, instance, "shop", query) == "50|kept"
    assert site.run("undelete", "shop", "--table", "items").returncode == 3, "there is nobody to ask"


def test_databases_that_nobody_backs_up_are_found(site: Site) -> None:
    assert site.run("discover", "--check").returncode == 0
    sql(site.cluster, site.namespace, f"{CLUSTER}-1", "postgres", "CREATE DATABASE forgotten")
    version = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Database", "metadata": {"name": "orders"}}
    spec = {"name": "orders", "owner": "shop", "cluster": {"name": CLUSTER}}
    site.cluster.apply({**version, "spec": spec}, namespace=site.namespace)
    try:
        found = site.document("discover", "--check", code=1)
        assert {one["database"]: one["state"] for one in found} == {
            "forgotten": "unprotected", "orders": "unprotected", "shop": "backed-up",
        }  # fmt: skip
        text = site.run("discover").stdout
        assert "3 databases in 1 clusters; 2 not backed up" in text
        values = site.run("discover", "-o", "values").stdout
        assert "- name: forgotten" in values
    finally:
        sql(site.cluster, site.namespace, f"{CLUSTER}-1", "postgres", "DROP DATABASE forgotten")
