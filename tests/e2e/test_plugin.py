"""`kubectl cnpg-backup` on a real cluster: every command, with the rights of an operator and no more."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.node import Cluster, wait_until
from tests.e2e.release import (
    Release,
    cnpg_cluster,
    databases,
    drop_previous,
    fill,
    fingerprint,
    sql,
    wait_healthy,
)

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("authelia", "kutt")
SLEEPER = "lost"
SECONDS = 240


@dataclass
class Site:
    """Two clusters, a release that backs up one more which does not exist, and an operator's kubeconfig."""

    cluster: Cluster
    namespace: str
    release: Release
    kubeconfig: Path
    stranger: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kubectl_cnpg_backup", *arguments]

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        return {**self.cluster.environment, "KUBECONFIG": str(kubeconfig or self.kubeconfig)}

    def run(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Call the plugin as the operator."""
        return subprocess.run(
            self.command(*arguments), env=self.environment(kubeconfig), cwd=ROOT, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip

    def document(self, *arguments: str, code: int = 0) -> Any:
        """Call the plugin for programs."""
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def backups(self, database: str) -> list[dict[str, Any]]:
        (entry,) = self.document("list", database)
        found: list[dict[str, Any]] = entry["backups"]
        return found

    def jobs(self, component: str) -> set[str]:
        selector = f"app=cnpg-backup,app.kubernetes.io/component={component}"
        items = self.cluster.get("jobs", "-n", self.namespace, "-l", selector)["items"]
        return {one["metadata"]["name"] for one in items}


def account(cluster: Cluster, folder: Path, name: str, namespace: str, target: str) -> Path:
    """A kubeconfig of a service account, whose context is the namespace of the release."""
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace=namespace)
    token = cluster.kubectl("create", "token", name, "-n", namespace, "--duration=2h").strip()
    view = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    server = view["clusters"][0]["cluster"]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": name, "namespace": target}}],
        "current-context": "c",
    }
    path = folder / f"{name}.kubeconfig"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def site(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("kubeconfigs")
    with node.namespace("plugin") as namespace, node.namespace("people") as people:
        node.apply(*(cnpg_cluster(f"{name}-postgresql-cnpg", name) for name in NAMES), namespace=namespace)
        release = Release(node, namespace)
        operators = [{"kind": "ServiceAccount", "name": "operator", "namespace": people}]
        release.install(
            {
                "databases": [*databases(*NAMES), *databases(SLEEPER, waitTimeout=2, retries=0)],
                "accessPolicy": {"operatorRights": True, "operators": operators},
                "persistence": {"size": "1Gi", "keep": False},
            }
        )
        wait_healthy(node, namespace, *(f"{name}-postgresql-cnpg" for name in NAMES))
        for name in NAMES:
            fill(node, namespace, f"{name}-postgresql-cnpg-1", name)
        operator = account(node, folder, "operator", people, namespace)
        found = Site(node, namespace, release, operator, account(node, folder, "stranger", people, namespace))
        try:
            done = found.run("run", *(f"--database={name}" for name in NAMES))
            assert done.returncode == 0, done.stdout + done.stderr
            yield found
        finally:
            release.uninstall()


def test_a_run_of_one_database_is_followed_to_its_table_and_leaves_the_others_alone(site: Site) -> None:
    before = {name: site.backups(name) for name in NAMES}
    done = site.run("run", "--database", "kutt")
    assert done.returncode == 0, done.stderr
    assert "kutt: published kutt-" in done.stdout
    assert re.search(r"^kutt +ok +", done.stdout, re.MULTILINE), done.stdout
    assert "authelia" not in done.stdout
    assert done.stdout.splitlines()[-1] == "exit code 0"
    assert len(site.backups("kutt")) == len(before["kutt"]) + 1
    assert len(site.backups("authelia")) == len(before["authelia"])


def test_a_backup_is_described_and_its_tables_are_those_of_the_database(site: Site) -> None:
    newest = site.backups("authelia")[0]
    described = site.document("describe", "authelia")
    assert described["backup"]["name"] == newest["name"]
    assert described["metadata"]["dbname"] == "authelia"
    assert described["deletion"]["reason"]
    text = site.run("describe", newest["name"]).stdout
    assert re.search(r"^deleted +about .*if a run succeeds every 2h", text, re.MULTILINE), text
    found = site.document("tables", newest["name"], "--rows")["tables"]
    query = (
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind IN ('r', 'p') AND nspname = 'public'"
    )
    live = sql(site.cluster, site.namespace, "authelia-postgresql-cnpg-1", "authelia", query)
    assert sorted(one["name"] for one in found if one["schema"] == "public") == live.split()
    assert all(one["rows"] is not None for one in found if one["entry"] is not None)
    done = site.run("tables", "autelia")
    assert done.returncode == 1
    assert "the volume has no database 'autelia'; did you mean 'authelia'?" in done.stderr


def test_a_bundle_for_support_has_the_log_of_the_last_run_and_the_volume(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.gz"
    document = site.document("support-bundle", "--to", str(target))
    assert any(name.endswith("/retention.log") for name in document["files"]), document
    assert {"volume.json", "status.json", "events.json"} <= set(document["files"])


def test_a_run_that_fails_ends_with_why_and_exit_code_1(site: Site) -> None:
    done = site.run("run", "--database", SLEEPER)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^{SLEEPER} +failed +none", done.stdout, re.MULTILINE), done.stdout
    quick = site.document("status", "--no-volume", code=1)
    assert SLEEPER in [problem["subject"] for problem in quick["problems"]]
    whole = site.document("status", code=1)
    states = {one["database"]: one["state"] for one in whole["databases"]}
    assert states == {"authelia": "ok", "kutt": "ok", SLEEPER: "failed"}
    assert whole["volume"]["claim"] == "cnpg-backups-pvc"
    assert 0 < whole["volume"]["used_bytes"] < whole["volume"]["bytes"]
    logs = site.run("logs")
    assert f"{SLEEPER}: failed" in logs.stdout, logs


def test_a_list_tells_of_each_backup_and_a_plan_deletes_nothing_that_is_new(site: Site) -> None:
    (newest, *_) = site.backups("authelia")
    assert newest["tier"] == "Hourly"
    assert newest["verified"]
    assert newest["age_seconds"] < 3600
    assert all(plan["delete"] == [] for plan in site.document("plan"))
    page = site.run("page", "-").stdout
    assert "Timeline of 1 backup of authelia" in page
    assert f"the worst: {SLEEPER}" in page
    text = site.run("list", "authelia").stdout
    assert re.search(rf"Hourly .*{newest['name']}", text), text


@pytest.mark.parametrize(
    ("command", "query", "told"),
    [
        ("list", '.[] | select(.database == "authelia") | .backups[0].name', "NEWEST"),
        ("plan", '.[] | select(.database == "authelia") | .keep[0].name', "NEWEST"),
        (
            "status",
            '.databases | map("\\(.database) \\(.backups > 0)") | join(", ")',
            "authelia true, kutt true, lost false",
        ),
    ],
)
def test_json_is_what_jq_reads(site: Site, command: str, query: str, told: str) -> None:
    newest = site.backups("authelia")[0]["name"]
    piped = f"{shlex.join(site.command(command, '-o', 'json'))} | jq -er {shlex.quote(query)}"
    done = subprocess.run(
        ["sh", "-c", piped], env=site.environment(), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{told.replace('NEWEST', newest)}\n"), done.stderr


def test_a_pin_is_set_shown_and_taken_away(site: Site) -> None:
    name = site.backups("authelia")[0]["name"]
    assert site.run("pin", name, "--for", "30d", "--reason", "before the migration", "--dry-run").returncode == 0
    assert site.backups("authelia")[0]["pin"] is None
    assert site.run("pin", name, "--for", "30d", "--reason", "before the migration").returncode == 0
    assert site.backups("authelia")[0]["pin"]["reason"] == "before the migration"
    refused = site.run("unpin", name)
    assert refused.returncode == 3, "nobody was there to ask"
    assert site.run("unpin", name, "--yes").returncode == 0
    assert site.backups("authelia")[0]["pin"] is None


def test_a_download_goes_on_where_it_was_cut_off_and_is_whole(site: Site, tmp_path: Path) -> None:
    backup = site.backups("authelia")[0]
    path = tmp_path / backup["name"]
    first = site.run("download", "authelia", "--to", str(tmp_path))
    assert first.returncode == 0, first.stderr
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == backup["sha256"]
    path.rename(tmp_path / f"{backup['name']}.part")
    os.truncate(tmp_path / f"{backup['name']}.part", len(content) // 3)
    again = site.run("download", backup["name"], "--to", str(tmp_path))
    assert "resuming after" in again.stderr
    assert path.read_bytes() == content
    subprocess.run(["sha256sum", "-c", f"{path.name}.sha256"], cwd=tmp_path, check=True, capture_output=True)


def test_an_inspectors_shell_sees_the_backups_and_cannot_change_them(site: Site) -> None:
    name = site.backups("authelia")[0]["name"]
    look = site.run("inspect", "--", "sh", "-c", f"pg_restore --list /backups/authelia/{name}; touch /backups/x")
    assert "TABLE public items" in look.stdout, look
    assert "Read-only file system" in look.stderr
    write = site.run("inspect", "--write", "--", "python3", "-m", "retention", "list", "/backups")
    assert name in write.stdout


def test_a_database_is_restored_only_when_asked_twice(site: Site) -> None:
    instance = "authelia-postgresql-cnpg-1"
    whole = fingerprint(site.cluster, site.namespace, instance, "authelia")
    sql(site.cluster, site.namespace, instance, "authelia", "DELETE FROM items WHERE id % 2 = 0")
    broken = fingerprint(site.cluster, site.namespace, instance, "authelia")
    assert site.run("restore", "authelia").returncode == 3, "it would have replaced tables"
    unanswered = site.run("restore", "authelia", "--replace")
    assert unanswered.returncode == 3
    assert "database 'authelia' of cluster authelia-postgresql-cnpg" in unanswered.stderr
    assert fingerprint(site.cluster, site.namespace, instance, "authelia") == broken
    done = site.run("restore", "authelia", "--replace", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    drop_previous(site.cluster, site.namespace, instance, "authelia", done.stdout + done.stderr)
    assert fingerprint(site.cluster, site.namespace, instance, "authelia") == whole


def test_archives_of_an_earlier_job_are_adopted_listed_and_restored(site: Site) -> None:
    """One whole and one cut off, as somebody else's job leaves them; and one of a database that is in no values."""
    newest = site.backups("authelia")[0]["name"]
    old, broken, other = "authelia-20260101-120000.dump", "authelia-20260101-140000.dump", "gone-20260101-120000.dump"
    leave = (
        f"cd /backups && mkdir gone && cp authelia/{newest} authelia/{old} && cp authelia/{newest} gone/{other} && "
        f"head -c $(($(stat -c %s authelia/{newest}) / 2)) authelia/{newest} >authelia/{broken} && chmod 644 "
        f"authelia/{old} authelia/{broken} gone/{other}"
    )
    done = site.run("inspect", "--write", "--", "sh", "-c", leave)
    assert done.returncode == 0, done.stderr
    dry = site.run("adopt", "--dry-run")
    assert f"adoptable {old}" in dry.stdout, dry
    assert "authelia: the next prune keeps " in dry.stdout
    unanswered = site.run("adopt", "authelia")
    assert unanswered.returncode == 3, unanswered
    assert old in unanswered.stderr
    assert old not in [backup["name"] for backup in site.backups("authelia")]
    done = site.run("adopt", "--yes")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^adopted {old} ", done.stdout, re.MULTILINE), done.stdout
    assert re.search(rf"^adopted {other} ", done.stdout, re.MULTILINE), done.stdout
    assert re.search(rf"^refused {broken} .*end of file", done.stdout, re.MULTILINE), done.stdout
    (adopted,) = [backup for backup in site.backups("authelia") if backup["name"] == old]
    assert adopted["verified"]
    assert adopted["tables"] == 1
    assert site.run("verify", old, other).returncode == 0
    assert site.jobs("inspect") == set()
    instance = "authelia-postgresql-cnpg-1"
    whole = fingerprint(site.cluster, site.namespace, instance, "authelia")
    sql(site.cluster, site.namespace, instance, "authelia", "DELETE FROM items WHERE id % 2 = 0")
    done = site.run("restore", "authelia", "--backup", old, "--replace", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    drop_previous(site.cluster, site.namespace, instance, "authelia", done.stdout + done.stderr)
    assert fingerprint(site.cluster, site.namespace, instance, "authelia") == whole
    done = site.run("inspect", "--write", "--", "rm", "-r", f"/backups/authelia/{broken}", "/backups/gone")
    assert done.returncode == 0, done.stderr


def test_a_damaged_archive_is_found_and_counts_no_more(site: Site) -> None:
    name = site.backups("kutt")[0]["name"]
    assert site.run("verify", name).returncode == 0
    flip = f"f=open('/backups/kutt/{name}','r+b'); f.seek(2000); b=f.read(1); f.seek(2000); f.write(bytes([b[0]^1]))"
    assert site.run("inspect", "--write", "--", "python3", "-c", flip).returncode == 0
    done = site.run("verify", "kutt")
    assert done.returncode == 1
    assert re.search(rf"^bad +{name} ", done.stdout, re.MULTILINE), done.stdout
    assert name not in [backup["name"] for backup in site.backups("kutt")]
    problems = site.document("status", code=1)["problems"]
    assert any(f"{name}.bad" in problem["problem"] for problem in problems), problems


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_takes_its_own_pod_with_it_and_no_other(site: Site, number: signal.Signals) -> None:
    site.cluster.kubectl("create", "job", "mine", "--from=cronjob/cnpg-backup-inspect", "-n", site.namespace)
    try:
        with subprocess.Popen(
            site.command("list"), env=site.environment(), cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                wait_until("an inspector was started", lambda: len(site.jobs("inspect")) == 2, 60)
                process.send_signal(number)
                _, errors = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert site.jobs("inspect") == {"mine"}
    finally:
        site.cluster.kubectl("delete", "job", "mine", "-n", site.namespace)


def test_no_command_leaves_an_inspector_behind(site: Site) -> None:
    site.run("list")
    site.run("verify", "nonsense/")
    site.run("download", "authelia-20200101-000000.dump")
    assert site.jobs("inspect") == set()


def test_who_may_nothing_is_told_the_rule_that_is_missing(site: Site) -> None:
    done = site.run("list", kubeconfig=site.stranger)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "stranger may not list cronjobs in namespace" in done.stderr


def test_doctor_finds_what_is_missing_without_reading_a_secret(site: Site) -> None:
    done = site.run("doctor", "-o", "json")
    findings = json.loads(done.stdout)
    assert done.returncode == int("wrong" in [one["result"] for one in findings]), done.stderr
    by_subject = {one["subject"]: one for one in findings}
    assert by_subject["your rights"]["result"] == "ok"
    assert by_subject["secrets"]["result"] == "unknown"
    assert by_subject["claim cnpg-backups-pvc"]["result"] == "ok"
    assert by_subject["access policy"]["result"] == "unknown" or "mount" in by_subject["access policy"]["found"]


def test_doctor_names_why_the_pod_of_a_run_cannot_be_made(site: Site) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    site.cluster.apply(quota, namespace=site.namespace)
    job = site.release.start("refused")
    try:
        found: list[dict[str, str]] = []

        def told() -> bool:
            findings = json.loads(site.run("doctor", "-o", "json").stdout)
            found[:] = [one for one in findings if one["subject"] == f"job/{job}"]
            return bool(found)

        wait_until("doctor tells of the refused pod", told, 120)
        assert found[0]["result"] == "wrong"
        assert "exceeded quota: none" in found[0]["found"]
    finally:
        site.cluster.kubectl("delete", "job", job, "-n", site.namespace)
        site.cluster.kubectl("delete", "resourcequota", "none", "-n", site.namespace)


def in_terminal(site: Site, columns: int, *arguments: str) -> str:
    """What the plugin writes to a terminal of so many columns."""
    main, side = pty.openpty()
    environment = {**site.environment(), "COLUMNS": str(columns), "TERM": "xterm-256color"}
    with subprocess.Popen(
        site.command(*arguments), env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=side,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(side)
        written = b""
        while True:
            try:
                chunk = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            written += chunk
        process.wait(SECONDS)
    os.close(main)
    return written.decode()


@pytest.mark.parametrize("columns", [44, 70, 200])
def test_a_narrow_terminal_shows_whole_names_and_no_broken_lines(site: Site, columns: int) -> None:
    text = in_terminal(site, columns, "list", "authelia")
    assert "\x1b[" in text, "a terminal has no colours"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rstrip("\r") for line in plain.splitlines()]
    assert max(map(len, lines)) <= columns, plain
    assert re.search(r"authelia-\d{8}-\d{6}\.dump", plain), plain
