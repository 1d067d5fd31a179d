"""`support-bundle`: canary secrets are put wherever one could be, and none of them is in the archive."""

from __future__ import annotations

import copy
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.commands import support_bundle
from kubectl_cnpg_backup.errors import ForbiddenError
from kubectl_cnpg_backup.model import redaction
from kubectl_cnpg_backup.model.release import read_runs, releases
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.chart.common import OFFSITE
from tests.lab import chart
from tests.plugin.common import ago, job, pod

CANARY = "Canary"
_numbers = iter(range(10_000))


def canary() -> str:
    """A secret that is found again, by which place it came from."""
    return f"{CANARY}{next(_numbers)}xQ7"


SECRET_TEXTS: tuple[Callable[[str], str], ...] = (
    lambda it: f"connection to postgresql://app:{it}@db:5432/app failed",
    lambda it: f"postgres://app:p{it}%40/x@db/app",
    lambda it: f"password={it}",
    lambda it: f"host=db user=app password='{it} with blank' dbname=app",
    lambda it: f"PGPASSWORD={it} pg_dump",
    lambda it: f'{{"password": "{it}", "user": "x"}}',
    lambda it: f'"api_key" : "{it}"',
    lambda it: f"HINT: ALTER ROLE app PASSWORD '{it}';",
    lambda it: f"CREATE ROLE a WITH ENCRYPTED PASSWORD '{it}''s'",
    lambda it: f"Authorization: Bearer {it}",
    lambda it: f"proxy-authorization: Basic {it}==",
    lambda it: f"curl -H 'X-Auth-Token: {it}'",
    lambda it: f"AWS_SECRET_ACCESS_KEY={it}",
    lambda it: f"aws_access_key_id = {it}",
    lambda it: f"vault --token {it} read",
    lambda it: f"eyJhbGciOi.{it}.sig",
    lambda it: f"-----BEGIN RSA PRIVATE KEY-----\n{it}\nabc\n-----END RSA PRIVATE KEY-----",
    lambda it: f"-----BEGIN PRIVATE KEY-----\n{it}",
    lambda it: f"SCRAM-SHA-256$4096:{it}==$stored:server",
    lambda it: f"passphrase: {it}",
    lambda it: f"token={it}&x=1",
)


@pytest.mark.parametrize("number", range(len(SECRET_TEXTS)))
def test_what_looks_like_a_secret_goes_and_the_line_stays(number: int) -> None:
    found = redaction.text(f"before: {SECRET_TEXTS[number](canary())}\nafter it")
    assert CANARY not in found, found
    assert redaction.LEFT_OUT in found
    assert found.startswith("before: ")


@pytest.mark.parametrize(
    "line",
    [
        "authelia: published authelia-20261122-140002.dump, 4.8 MiB, 12 tables",
        "kutt: FAILED: no Secret kutt-app; make it, or set ownerSecret",
        'pg_dump: error: connection to server at "db" (10.0.0.1), port 5432 failed: FATAL: role "x" does not exist',
        'FATAL: password authentication failed for user "app"',
        "sslmode=verify-full host=authelia-rw.default.svc port=5432",
    ],
)
def test_what_a_maintainer_needs_stays(line: str) -> None:
    assert redaction.text(line) == line


def values() -> dict[str, Any]:
    """Values with a secret wherever they take free text."""
    databases = [
        {
            "name": "authelia",
            "cluster": "authelia-postgresql-cnpg",
            "extraArgs": [f"--exclude-table-data=password={canary()}"],
            "drillAssertions": [f"SELECT '{canary()}' = token FROM t"],
        }
    ]
    return {"databases": databases, "commonAnnotations": {"example.org/password": canary()}}


def poisoned(manifest: dict[str, Any]) -> dict[str, Any]:
    """An object as others may change it: annotations, environment, sidecars, volumes, and hooks with secrets."""
    found = copy.deepcopy(manifest)
    annotations = found["metadata"].setdefault("annotations", {})
    annotations["kubectl.kubernetes.io/last-applied-configuration"] = json.dumps({"data": canary()})
    annotations["vault.example.org/inject"] = canary()
    annotations["cnpg-backup/suspended"] = f"2026-11-22T14:00:00Z password={canary()}"
    spec = found.get("spec", {})
    for step in ("jobTemplate", "spec", "template", "spec"):
        spec = spec.get(step, spec)
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        own = [
            {"name": "DB_URL", "value": canary()},
            {"name": "BACKUP_TOKEN", "value": canary()},
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
        ]
        container["env"] = [*container.get("env", []), *own]
        container["livenessProbe"] = {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": canary()}]}}
        container["lifecycle"] = {"preStop": {"exec": {"command": ["curl", canary()]}}}
    if "containers" in spec:
        sidecar = {
            "name": "vault-agent",
            "image": "vault",
            "args": [canary()],
            "env": [{"name": "BACKUP_X", "value": canary()}],
        }
        spec["containers"] = [*spec["containers"], sidecar]
        spec["volumes"] = [
            *spec.get("volumes", []),
            {"name": "csi", "csi": {"driver": "x", "volumeAttributes": {"password": canary(), "x": canary()}}},
        ]
    return found


class Poisoned:
    """A cluster in which each object, event and log carries secrets; it refuses what `doctor` asks beyond them."""

    def __init__(self) -> None:
        self.namespace = "default"
        self.manifests = chart.render(values())
        self.asked: list[str] = []

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [poisoned(one) for one in self.manifests if one["kind"] == kind]

    def cronjobs(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        found = self.of("CronJob")
        for one in found:
            one["metadata"]["uid"] = f"uid-{one['metadata']['name']}"
        return found

    def jobs(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        own = job("run-1", "cnpg-pg-dump-backup", started=ago(hours=1), finished=ago(minutes=50))
        (cronjob,) = [one for one in self.of("CronJob") if one["metadata"]["name"] == "cnpg-pg-dump-backup"]
        volumes = own["spec"]["template"]["spec"]["volumes"]
        spec = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        own["spec"] = {"template": {"spec": {**spec, "volumes": [*volumes, *spec["volumes"]]}}}
        own["status"]["conditions"][0]["message"] = f"failed: token={canary()}"
        return [poisoned(own)]

    def pods(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        found = pod("run-1", 1, f"1 of 1 databases failed\nauthelia failed (no backup): password={canary()}")
        found["spec"] = {**self.jobs("")[0]["spec"]["template"]["spec"], **found["spec"]}
        injected = {"name": "vault-agent", "state": {"terminated": {"exitCode": 0}}}
        found["status"]["containerStatuses"].append(injected)
        return [poisoned(found)]

    def job(self, name: str) -> dict[str, Any]:  # noqa: ARG002
        return self.jobs("")[0]

    def config_map(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.of("ConfigMap") if one["metadata"]["name"] == name]
        found["data"] = {
            **found["data"],
            "postgresql.conf": f"primary_conninfo={canary()}\nusername=app\nextra_arg=--token {canary()}",
            "other": canary(),
        }
        return found

    def claim(self, name: str) -> dict[str, Any]:  # noqa: ARG002
        return {**self.of("PersistentVolumeClaim")[0], "status": {"phase": "Bound"}}

    def network_policies(self) -> list[dict[str, Any]]:
        return self.of("NetworkPolicy")

    def events_of(self, kind: str, name: str) -> list[dict[str, Any]]:
        note = f"Error: env PGPASSWORD={canary()} of {kind} {name}"
        annotations = {"x": canary()}
        return [{"type": "Warning", "reason": "Failed", "message": note, "metadata": {"annotations": annotations}}]

    def log_lines(self, name: str, container: str, *, follow: bool) -> Iterator[str]:  # noqa: ARG002
        self.asked.append(container)
        yield "authelia: chose authelia-20261122-140002.dump"
        for one in SECRET_TEXTS:
            yield from one(canary()).splitlines()

    def version(self) -> str:
        return "v1.34.1"

    def has_secret(self, name: str) -> bool:  # noqa: ARG002
        return True

    def secret(self, name: str) -> dict[str, Any]:
        raise AssertionError(f"Secret {name} is read")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def refuse(*_: object, **__: object) -> Any:
            raise ForbiddenError(f"you may not {name}, password={canary()}")

        return refuse


def bundled(target: Path, *more: str) -> tuple[dict[str, str], Poisoned]:
    cluster = Poisoned()
    options = parse(build_parser(), ["support-bundle", "--no-volume", "--to", str(target), *more])
    session = Session(options, cluster, Screen("table"))  # type: ignore[arg-type]
    assert support_bundle.run(session) == 0
    (path,) = [target] if target.is_file() else list(target.iterdir())
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        files = {one.name.partition("/")[2]: tar.extractfile(one) for one in tar.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file}, cluster


def test_no_canary_is_in_the_bundle_and_what_helps_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, cluster = bundled(tmp_path)
    leaks = {name: found for name, text in files.items() if (found := re.findall(rf".*{CANARY}.*", text))}
    assert leaks == {}
    assert CANARY not in capsys.readouterr().err
    assert {"version.json", "status.json", "events.json", "README.txt", "objects/cronjobs.json"} <= set(files)
    assert "logs/run-1/retention.log" in files
    assert "vault-agent" not in cluster.asked, "the log of what something injected is no business of ours"
    cronjobs = json.loads(files["objects/cronjobs.json"])
    assert {one["metadata"]["name"] for one in cronjobs} >= {"cnpg-pg-dump-backup", "cnpg-backup-restore"}
    (config,) = [
        text for name, text in files.items() if name.startswith("objects/configmap-") and "authelia.conf" in text
    ][:1]
    assert "host=authelia-postgresql-cnpg-rw.default.svc" in config
    assert "published" in files["logs/run-1/retention.log"] or "chose" in files["logs/run-1/retention.log"]
    assert "doctor.json: " in files["README.txt"], "what could not be had is not said"
    assert json.loads(files["version.json"])["kubernetes"] == "v1.34.1"


def test_a_setting_that_is_not_known_has_a_name_alone() -> None:
    data = {"a.conf": f"host=db\nnew_setting={canary()}\n{canary()}", "passwd": canary(), "b.policy.json": "{}"}
    found = redaction.config_map({"data": data})["data"]
    assert CANARY not in str(found)
    assert found["a.conf"].splitlines() == ["host=db", "new_setting=(left out)", "(left out)"]
    assert found["b.policy.json"] == "{}"


def test_of_a_long_log_the_end_stays(tmp_path: Path) -> None:
    files, _ = bundled(tmp_path / "bundle.tar.gz", "--lines", "2")
    lines = files["logs/run-1/retention.log"].splitlines()
    assert re.fullmatch(r"\(\d+ lines before this one\)", lines[0])
    assert len(lines) == 3


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.gz"
    target.write_text("mine")
    with pytest.raises(Exception, match="exists already"):
        bundled(target)
    assert target.read_text() == "mine"


def test_the_fake_cluster_is_a_release_with_a_run() -> None:
    cluster = Poisoned()
    (found,) = releases(cluster.cronjobs(""), "default")
    (run,) = read_runs(cluster.jobs(""), cluster.pods(""), found)
    assert (run.state, run.foreign) == ("succeeded", "")
    assert timedelta(0) < (run.finished or run.started) - run.started  # type: ignore[operator]


def test_every_container_and_every_setting_of_the_chart_is_known() -> None:
    """What is not known is left out: a new one has to be looked at."""
    names, settings = set(), set()
    for manifest in chart.render(OFFSITE):
        spec = pod_spec(manifest)
        names |= {one["name"] for kind in ("initContainers", "containers") for one in spec.get(kind) or ()}
        for name, content in (manifest.get("data") or {}).items():
            if manifest["kind"] == "ConfigMap" and name.endswith(".conf"):
                settings |= {line.partition("=")[0] for line in content.splitlines()}
    assert {name for name in names if not redaction.is_own(name)} == set()
    lines = "\n".join(f"{key}=known" for key in sorted(settings))
    assert redaction.config_map({"data": {"a.conf": lines}})["data"]["a.conf"] == lines


def test_conditions_and_keys_of_rows_are_left_out() -> None:
    """What `undelete` was given and, if somebody asked for it, has printed of rows."""
    container = {"name": "restore", "env": [
        {"name": "RESTORE_WHERE", "value": "mail = 'a@b'"}, {"name": "RESTORE_UNDELETE", "value": "t"},
    ]}  # fmt: skip
    (pod,) = [redaction.pod({"spec": {"containers": [container]}})]
    assert "a@b" not in json.dumps(pod)
    assert '"RESTORE_UNDELETE", "value": "t"' in json.dumps(pod)
    said = "shop: 2 of them are gone from the table\nshop.x: gone: (a@b,2)\nshop: 2 rows copied back"
    assert redaction.text(said).splitlines() == [
        "shop: 2 of them are gone from the table", f"shop.x: gone: {redaction.LEFT_OUT}", "shop: 2 rows copied back",
    ]  # fmt: skip


def pod_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    """The spec of an object's pods."""
    spec = manifest.get("spec") or {}
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return dict((spec.get("template") or {}).get("spec") or spec) if manifest["kind"] != "Pod" else dict(spec)
