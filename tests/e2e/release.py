"""A release of the chart on a cluster, the databases that it backs up, and what lies on its claim."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.node import Cluster, NodeError, wait_until
from tests.lab import chart

REPO = Path(__file__).resolve().parents[2]
CHART = REPO / "chart"
PLUGIN = REPO / "tests" / "e2e" / "bin"
"""A folder for PATH with which `kubectl cnpg-backup` is this checkout's."""

# The images that the harness makes: PostgreSQL's programs without Python, and Python without PostgreSQL.
IMAGES: Mapping[str, Any] = {
    "image": {"registry": "localhost", "repository": "postgres", "tag": "17-test"},
    "retention": {"image": {"registry": "localhost", "repository": "python", "tag": "3-test"}},
}
RESTRICTED: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 70,
    "runAsGroup": 70,
    "fsGroup": 70,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_RESTRICTED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def tool(name: str, binary: str | None = None) -> Path:
    """Build a pinned Go tool, or find it in the cache, and give its binary."""
    folder = subprocess.run([str(REPO / "tools" / "build"), name], check=True, capture_output=True, text=True).stdout
    return Path(folder.strip()) / (binary or name)


def cnpg_cluster(name: str, database: str, *, major: int = 17, instances: int = 1, **spec: Any) -> dict[str, Any]:
    """A small CloudNativePG cluster with one database of an owner of the same name."""
    return {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {
            "instances": instances,
            "imageName": f"localhost/postgresql:{major}",
            "imagePullPolicy": "IfNotPresent",
            "storage": {"size": "512Mi", "storageClass": "longhorn"},
            "bootstrap": {"initdb": {"database": database, "owner": database}},
            **spec,
        },
    }


def wait_healthy(cluster: Cluster, namespace: str, *names: str, seconds: float = 180) -> None:
    """Wait until these CNPG clusters are ready."""
    for name in names:
        cluster.kubectl(
            "wait", "--for=condition=Ready", f"cluster/{name}", "-n", namespace, f"--timeout={seconds:g}s",
            seconds=seconds + 10,
        )  # fmt: skip


STRANGER = "stranger"
"""Somebody who may edit a namespace and has nothing to do with the backups there."""


def let_in(cluster: Cluster, namespace: str) -> None:
    """Give the stranger the built-in role `edit` in a namespace."""
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": STRANGER},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": STRANGER}],
    }
    cluster.apply(binding, namespace=namespace)


def refusal(cluster: Cluster, namespace: str, manifest: Mapping[str, Any], who: str = STRANGER) -> str:
    """What is said against an object of somebody's, or the administrator's without `who`; empty if it is admitted."""
    impersonated = ["--as", who] if who else []
    done = cluster.try_kubectl(
        "create", "--dry-run=server", *impersonated, "-n", namespace, "-f", "-", stdin=json.dumps(manifest)
    )
    return " ".join(done.stderr.split()) if done.returncode else ""


def sql(cluster: Cluster, namespace: str, instance: str, dbname: str, query: str) -> str:
    """Run SQL as the superuser inside an instance's pod; what psql prints, unaligned."""
    return cluster.kubectl(
        "exec", "-i", "-n", namespace, instance, "-c", "postgres", "--",
        "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", dbname, "-f", "-", stdin=query,
    ).strip()  # fmt: skip


def fill(cluster: Cluster, namespace: str, instance: str, dbname: str, rows: int = 2000) -> None:
    """Give a database a table of its owner's with so many rows, and a sequence."""
    owner = f'"{dbname}"'
    sql(
        cluster, namespace, instance, dbname,
        f"SET ROLE {owner}; CREATE TABLE IF NOT EXISTS items (id serial PRIMARY KEY, name text NOT NULL); "
        f"INSERT INTO items (name) SELECT md5(i::text) FROM generate_series(1, {rows}) i;",
    )  # fmt: skip


def drop_previous(cluster: Cluster, namespace: str, pod: str, database: str, log: str) -> None:
    """Drop what a restore in place has kept, by the statement that its log gives.

    Raises:
        AssertionError: The log gives none.
    """
    statement = re.search(r"when you no longer need it: (DROP SCHEMA .*)", log)
    assert statement, f"the restore does not say how to drop what was there before:\n{log}"
    sql(cluster, namespace, pod, database, statement[1])


def fingerprint(cluster: Cluster, namespace: str, instance: str, dbname: str) -> str:
    """Rows and checksum of the table that `fill` makes."""
    query = "SELECT count(*), md5(string_agg(i::text, ',' ORDER BY id)) FROM items i;"
    return sql(cluster, namespace, instance, dbname, query)


@contextmanager
def table_lock(
    cluster: Cluster, namespace: str, instance: str, dbname: str, table: str = "items"
) -> Iterator[Callable[[], None]]:
    """Hold a lock on a table, so that a dump stops in the middle; gives what releases it.

    The session runs inside the instance's pod and depends on no connection to the API server.
    """
    script = (
        f"PGAPPNAME=locker setsid psql -XAtq -d '{dbname}' -c 'BEGIN; LOCK TABLE {table}; SELECT pg_sleep(900)' "
        "</dev/null >/dev/null 2>&1 &"
    )
    ours = "pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'locker')"
    cluster.kubectl("exec", "-n", namespace, instance, "-c", "postgres", "--", "sh", "-c", script)

    def held() -> bool:
        # The message is there to be committed: that flushes the lock's own record, and standbys learn of it.
        query = (
            f"SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND {ours}; "
            "DO $$ BEGIN PERFORM pg_logical_emit_message(true, 'locker', ''); END $$;"
        )
        return sql(cluster, namespace, instance, dbname, query) != "0"

    def release() -> None:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'locker';"
        sql(cluster, namespace, instance, dbname, query)

    wait_until(f"table {table} of {dbname} is locked", held, 30)
    try:
        yield release
    finally:
        with suppress(NodeError):  # with its instance the lock is gone, too
            release()


def wait_for_dump_behind_lock(
    cluster: Cluster, namespace: str, instances: Sequence[str], dbname: str, seconds: float = 90
) -> str:
    """Wait until pg_dump waits for a table lock on one of these instances; gives the instance."""
    found: list[str] = []
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cnpg-backup' AND wait_event_type = 'Lock' "
        "AND datname = current_database();"
    )

    def waiting() -> bool:
        found[:] = [i for i in instances if sql(cluster, namespace, i, dbname, query) != "0"]
        return bool(found)

    wait_until(f"the dump of {dbname} waits for the lock", waiting, seconds)
    return found[0]


@dataclass(frozen=True, slots=True)
class Run:
    """A Job that has ended: whether it succeeded, its logs, and the termination message."""

    name: str
    succeeded: bool
    dump: str
    retention: str
    message: str
    reason: str

    def __str__(self) -> str:
        """Everything, for a failed assertion."""
        state = "succeeded" if self.succeeded else f"failed ({self.reason})"
        return f"job {self.name} {state}\n--- dump\n{self.dump}\n--- retention\n{self.retention}\n--- {self.message}"


def far_off() -> str:
    """A schedule of every two hours that is due in 55 minutes at the soonest, when the tests are over.

    Nor was it due in the last five minutes: a CronJob that is given another schedule makes up for what it has missed.
    """
    return f"0 {(datetime.now(UTC) - timedelta(minutes=5)).hour % 2}-23/2 * * *"


def not_this_week() -> str:
    """A weekly schedule that is due in three days at the soonest and was not due in the last two.

    The chart's own is 03:45 on Sundays: a run of the tests across that minute met drills that nobody had asked for.
    """
    return f"0 12 * * {(datetime.now(UTC).isoweekday() + 4) % 7}"


@dataclass
class Release:
    """An installed chart, which runs when told to, and by its own schedule only with `own_schedule`."""

    cluster: Cluster
    namespace: str
    name: str = "cnpg-backup"
    helm: str = "helm"
    own_schedule: bool = False
    chart: Path = CHART
    values: dict[str, Any] = field(default_factory=dict)
    _count: int = 0
    _inspector: str = ""

    @property
    def cronjob(self) -> str:
        """Name of the CronJob of the default image."""
        return "cnpg-pg-dump-backup" if self.name == "cnpg-backup" else f"{self.name}-pg-dump"

    @property
    def claim(self) -> str:
        """Name of the claim."""
        existing = self.values.get("persistence", {}).get("existingClaim")
        if existing:
            return str(existing)
        return "cnpg-backups-pvc" if self.name == "cnpg-backup" else f"{self.name}-backups"

    def run_helm(self, *arguments: str, seconds: float = 180) -> str:
        """Run helm against the cluster.

        Raises:
            NodeError: it failed; the message holds what it said.
        """
        done = subprocess.run(
            [str(tool(self.helm)), *arguments, "--namespace", self.namespace],
            env=self.cluster.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if done.returncode:
            raise NodeError(f"helm {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def shell(self, script: str, seconds: float = 120) -> str:
        """Run a script as a person would paste it, with kubectl and the plugin on PATH; what it prints.

        Raises:
            NodeError: it failed; the message holds what it said.
        """
        done = self.try_shell(script, seconds)
        if done.returncode:
            raise NodeError(f"{script}\nfailed ({done.returncode}): {done.stderr.strip()[-2000:]}")
        return done.stdout

    def try_shell(self, script: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a script like `shell`, failed or not."""
        environment = self.cluster.environment
        path = f"{PLUGIN}:{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
        return subprocess.run(
            ["sh", "-euc", script],
            env={**environment, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    @contextmanager
    def _values_file(self, values: Mapping[str, Any]) -> Iterator[str]:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(dict(values), file)
            file.flush()
            yield file.name

    def install(self, values: Mapping[str, Any] | None = None, *arguments: str, seconds: float = 180) -> str:
        """`helm install NAME ./chart` with the harness's images and these values; gives the notes."""
        # Older charts have no drills.
        schedule: dict[str, Any] = {"drill": {"schedule": not_this_week()}} if self.chart == CHART else {}
        if not self.own_schedule:
            schedule["schedule"] = far_off()
        self.values = chart.merge(IMAGES, schedule, values or {})
        with self._values_file(self.values) as file:
            return self.run_helm("install", self.name, str(self.chart), "-f", file, *arguments, seconds=seconds)

    def upgrade(self, values: Mapping[str, Any], *arguments: str, seconds: float = 180) -> str:
        """`helm upgrade` with values on top of those of the install."""
        self.values = chart.merge(self.values, values)
        with self._values_file(self.values) as file:
            return self.run_helm("upgrade", self.name, str(self.chart), "-f", file, *arguments, seconds=seconds)

    def uninstall(self) -> str:
        """`helm uninstall`."""
        return self.run_helm("uninstall", self.name, "--wait")

    def start(self, job: str | None = None) -> str:
        """Start a run by hand, as the seed's document does; gives the Job's name."""
        self._count += 1
        job = job or f"{self.cronjob}-manual-{self._count}"
        self.cluster.kubectl("create", "job", f"--from=cronjob/{self.cronjob}", job, "-n", self.namespace)
        return job

    def wait(self, job: str, seconds: float = 300) -> Run:
        """Wait until a Job has ended, failed or not."""
        wait_until(f"job {job} has ended", lambda: self._ended(job) is not None, seconds)
        ended = self._ended(job)
        assert ended
        pod = self.pod_of(job)
        statuses = {}
        if pod:
            for status in pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", []):
                statuses[status["name"]] = status["state"].get("terminated", {})
        name = pod["metadata"]["name"] if pod else ""
        return Run(
            job,
            ended["type"] == "Complete",
            self.log(name, "dump"),
            self.log(name, "retention"),
            statuses.get("retention", {}).get("message", ""),
            f"{ended.get('reason', '')}: {ended.get('message', '')}",
        )

    def run(self, seconds: float = 300) -> Run:
        """Run a backup by hand and wait for its end."""
        return self.wait(self.start(), seconds)

    def _ended(self, job: str) -> dict[str, Any] | None:
        conditions = self.cluster.get("job", job, "-n", self.namespace)["status"].get("conditions", [])
        for condition in conditions:
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                found: dict[str, Any] = condition
                return found
        return None

    def pod_of(self, job: str) -> dict[str, Any] | None:
        """The newest pod of a Job, None where there is none (any more)."""
        pods = self.cluster.get("pods", "-n", self.namespace, "-l", f"batch.kubernetes.io/job-name={job}")["items"]
        return max(pods, key=lambda p: str(p["metadata"]["creationTimestamp"])) if pods else None

    def log(self, pod: str, container: str) -> str:
        """Log of a container, empty where it never ran."""
        return self.cluster.try_kubectl("logs", "-n", self.namespace, pod, "-c", container).stdout if pod else ""

    @contextmanager
    def inspector(self, image: str = "localhost/postgres:17-test", name: str = "inspector") -> Iterator[str]:
        """A pod that mounts the claim as the documentation shows, with the release's label."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": self.name}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
                "securityContext": dict(RESTRICTED),
                "containers": [
                    {
                        "name": "inspector",
                        "image": image,
                        "command": ["sleep", "3600"],
                        "securityContext": dict(CONTAINER_RESTRICTED),
                        "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
                    }
                ],
                "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": self.claim}}],
            },
        }
        self.cluster.apply(pod, namespace=self.namespace)
        try:
            self.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", self.namespace, "--timeout=60s")
            yield name
        finally:
            self.cluster.try_kubectl("delete", "pod", name, "-n", self.namespace, "--wait=true", "--timeout=60s")

    @contextmanager
    def kept_inspector(self) -> Iterator[None]:
        """One inspector pod for all that looks at the volume meanwhile, instead of one for each look."""
        with self.inspector(name=f"{self.name}-inspector") as pod:
            self._inspector = pod
            try:
                yield
            finally:
                self._inspector = ""

    def on_volume(self, *command: str, image: str = "localhost/postgres:17-test") -> str:
        """Run a command in an inspector pod."""
        if self._inspector:
            return self.cluster.kubectl("exec", "-n", self.namespace, self._inspector, "--", *command)
        with self.inspector(image) as pod:
            return self.cluster.kubectl("exec", "-n", self.namespace, pod, "--", *command)

    def listing(self) -> dict[str, list[str]]:
        """Published archives on the claim by database, oldest first."""
        found: dict[str, list[str]] = {}
        for line in self.on_volume("find", "/backups", "-name", "*.dump").splitlines():
            _, _, database, archive = line.split("/")
            found.setdefault(database, []).append(archive)
        return {database: sorted(archives) for database, archives in found.items()}

    def check_volume(self, image: str = "localhost/postgres:17-test") -> dict[str, list[str]]:
        """Every published archive passes `sha256sum -c` and a full read; gives the listing.

        Raises:
            NodeError: one does not; the message names it.
        """
        script = (
            "for f in /backups/*/*.dump; do [ -f $f ] || continue; cd ${f%/*} && "
            "sha256sum -c ${f##*/}.sha256 >/dev/null && pg_restore -f /dev/null $f "
            "|| { echo BAD $f >&2; exit 1; }; echo $f; done"
        )
        found: dict[str, list[str]] = {}
        for line in self.on_volume("sh", "-c", script, image=image).splitlines():
            _, _, database, archive = line.split("/")
            found.setdefault(database, []).append(archive)
        return {database: sorted(archives) for database, archives in found.items()}

    def metadata(self, database: str, archive: str) -> dict[str, Any]:
        """The JSON beside a published archive."""
        data: dict[str, Any] = json.loads(
            self.on_volume("cat", f"/backups/{database}/{archive.removesuffix('.dump')}.json")
        )
        return data

    def status(self) -> dict[str, Any]:
        """What the last run wrote into /backups/status.json."""
        data: dict[str, Any] = json.loads(self.on_volume("cat", "/backups/status.json"))
        return data


def plant(release: Release, database: str, *days: int) -> None:
    """Make older backups of a database's newest one."""
    script = """
        cd /backups/$1 && newest=$(ls *.dump | tail -n 1) && newest=${newest%.dump} && shift
        for days; do
            base=${newest%-*-*}-$(date -u -d @$(($(date +%s) - days * 86400)) +%Y%m%d-%H%M%S)
            cp $newest.json $base.json && sed "s/$newest/$base/" $newest.dump.sha256 >$base.dump.sha256
            cp $newest.dump $base.dump
        done
    """
    release.on_volume("sh", "-euc", script, "plant", database, *map(str, days))


def databases(*names: str, **common: Any) -> Sequence[dict[str, Any]]:
    """Entries for the value `databases`, each with a cluster named as the seed's document names them."""
    return [{"name": name, "cluster": f"{name}-postgresql-cnpg", **common} for name in names]
