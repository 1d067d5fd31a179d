"""How a restore would go, as `status` and `doctor` show it: by the volume, the last run, and the superuser's Secret."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.commands.common import superusers
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError
from kubectl_cnpg_backup.model import outlook, status
from kubectl_cnpg_backup.model.doctor import examine
from kubectl_cnpg_backup.model.findings import Level
from kubectl_cnpg_backup.model.outlook import Outlook
from kubectl_cnpg_backup.model.release import read_runs
from kubectl_cnpg_backup.model.status import VolumeReport, describe
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.output.screen import Screen
from retention.pod import report
from retention.pod.report import RunOutcome
from tests.plugin.common import NOW, ago, job, pod, release
from tests.plugin.test_doctor import healthy
from tests.plugin.test_login import Server, kubeconfig
from tests.plugin.test_status import CONFIGURED, CRONJOB, entry

ENTRY = {
    "method": "none",
    "role": "kutt's",
    "obstacles": ["table public.t: x belongs to role postgres", "(and 3 more)"],
    "remedies": ["spec: {enableSuperuserAccess: true} in the Cluster", "spec: {managed: {roles: [{}]}} in the Cluster"],
}
CLUSTERS = {"kutt": "default/kutt-postgresql-cnpg"}


def message(**entries: dict[str, Any]) -> str:
    """The termination message of a run that has found out these outlooks."""
    outcomes = [RunOutcome(name, restore=found) for name, found in entries.items()]
    return report.termination_message(outcomes, [], NOW).decode()


def runs(text: str) -> Any:
    return read_runs([job("run", CRONJOB, started=ago(minutes=30), finished=ago(minutes=28))], [pod("run", 0, text)])


@pytest.mark.parametrize(("method", "word"), [("beside", "beside"), ("in-place", "in place"), ("none", "refused")])
def test_line_of_a_run_is_read_as_it_was_written(method: str, word: str) -> None:
    found = outlook.known(runs(message(kutt={**ENTRY, "method": method})), {})["kutt"]
    assert (found.method, found.role) == (word, "kutt's")
    assert found.why == ("table public.t: x belongs to role postgres; (and 3 more)" if method == "none" else "")


def test_status_shows_what_the_volume_says_and_without_it_what_the_last_run_said() -> None:
    text = message(kutt={**ENTRY, "method": "in-place"}, authelia={**ENTRY, "method": "beside", "role": "a"})
    on_volume = VolumeReport([entry("kutt", restore=ENTRY)], [], None, None)
    for volume, methods in ((None, ["beside", "in place"]), (on_volume, ["beside", "refused"])):
        found = describe(release(), CONFIGURED, runs(text), volume, NOW)
        restores = {one.name: one.restore for one in found.databases if one.restore}
        assert [one.method for _, one in sorted(restores.items())] == methods
        assert not any("restore" in one.problem for one in found.problems), "the backups are good"
    (line,) = tables.restore_lines(found, CLUSTERS)
    assert line.startswith("kutt: a restore as 'kutt's' would be refused: table public.t")
    assert "spec: {enableSuperuserAccess: true} in the Cluster; or spec: {managed: " in line
    documents = {one["database"]: one["restore"] for one in status.document(found, NOW)["databases"]}
    assert documents["kutt"]["remedies"] == ENTRY["remedies"]
    assert documents["plausible"] is None


def test_with_the_superusers_secret_a_restore_is_beside_unless_the_server_lacks_an_extension() -> None:
    found = describe(release(), CONFIGURED, runs(message(kutt=ENTRY)), None, NOW, {"kutt": True, "plausible": True})
    methods = {one.name: one.restore and one.restore.text for one in found.databases}
    assert methods["kutt"] == methods["plausible"] == "a restore as the superuser would be beside"
    assert methods["authelia"] is None
    assert tables.restore_lines(found, CLUSTERS) == []
    lost = {**ENTRY, "obstacles": ["extension 'x' is in the database but not on the server"]}
    found = describe(release(), CONFIGURED, runs(message(kutt=lost)), None, NOW, {"kutt": True})
    assert [one.restore.method for one in found.databases if one.restore] == ["refused"]


@pytest.mark.parametrize("superuser", [None, False])
def test_doctor_warns_of_a_restore_that_would_be_refused_and_prints_the_lines(superuser: bool | None) -> None:
    facts = replace(
        healthy(), runs=runs(message(kutt=ENTRY, authelia={**ENTRY, "method": "in-place", "role": "authelia"})),
        superusers={"kutt": superuser}, databases={**CLUSTERS, "authelia": "ns/auth"},
    )  # fmt: skip
    kept, refused = (one for one in examine(facts) if one.subject.startswith("restore "))
    assert (kept.level, refused.level) == (Level.GOOD, Level.CAREFUL)
    assert "in place" in kept.found
    assert kept.remedy.startswith("for beside: spec: {enableSuperuserAccess: true} in Cluster ns/auth")
    assert "table public.t: x belongs to role postgres" in refused.found
    assert "in Cluster default/kutt-postgresql-cnpg" in refused.remedy
    facts = replace(facts, superusers={"kutt": True, "authelia": True})
    findings = [one for one in examine(facts) if one.subject.startswith("restore ")]
    assert {(one.level, one.remedy) for one in findings} == {(Level.GOOD, "")}


def test_role_that_the_cluster_declares_gets_a_line_and_never_a_second_entry() -> None:
    found = Outlook("kutt", "in place", "app", "", tuple(ENTRY["remedies"]))
    assert "managed: {roles: [" in found.improvement("c", [{"name": "other"}])
    declared = found.improvement("c", [{"name": "app", "login": True}])
    assert "managed: {roles: [" not in declared
    assert "createdb: true in the entry of 'app' in spec.managed.roles of Cluster c" in declared


class Api:
    """The API server, as far as the superuser's Secret goes."""

    namespace = "default"

    def __init__(self, secret: bool | None, enabled: bool | None) -> None:
        self._secret, self._enabled = secret, enabled

    def has_secret(self, name: str) -> bool:
        assert name.endswith("-superuser")
        if self._secret is None:
            raise ForbiddenError("no", "")
        return self._secret

    def custom(self, *_: str) -> dict[str, Any]:
        if self._enabled is None:
            raise NotFoundError("no", "")
        return {"spec": {"enableSuperuserAccess": self._enabled}}


@pytest.mark.parametrize(
    ("secret", "enabled", "found"),
    [(True, None, True), (False, True, False), (None, True, True), (None, False, False), (None, None, None)],
)
def test_superuser_is_known_by_the_secret_or_else_by_the_cluster(
    secret: bool | None, enabled: bool | None, found: bool | None
) -> None:
    session: Any = type("Session", (), {"release": release(), "cluster": Api(secret, enabled)})()
    clusters = {name: f"default/{name}-postgresql-cnpg" for name in ("authelia", "kutt", "plausible")}
    assert set(superusers(session, clusters).items()) == {(name, found) for name in clusters}
    elsewhere = {name: f"other/{name}-postgresql-cnpg" for name in clusters}
    if secret is None:
        assert set(superusers(session, elsewhere).values()) == {None}, "a Secret of another namespace is not this one"


@pytest.mark.parametrize(("code", "there"), [(200, True), (404, False), (403, None)])
def test_secret_is_looked_for_as_this_user_and_its_content_is_not_asked_for(
    tmp_path: Path, code: int, there: bool | None
) -> None:
    seen: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.update(self.headers, path=self.path)
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"kind": "PartialObjectMetadata", "metadata": {"name": "x"}}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        cluster = Cluster.connect(kubeconfig(tmp_path, server, {"as": "alice"}), None, None)
        if there is None:
            with pytest.raises(ForbiddenError):
                cluster.has_secret("kutt-superuser")
        else:
            assert cluster.has_secret("kutt-superuser") is there
    finally:
        server.shutdown()
        server.server_close()
    assert seen["path"] == "/api/v1/namespaces/shop/secrets/kutt-superuser"
    assert seen["Accept"].startswith("application/json;as=PartialObjectMetadata;")
    assert seen["Impersonate-User"] == "alice"


def test_status_shows_the_method_in_a_hundred_columns() -> None:
    drill = {"result": "proved", "at": ago(days=2)}
    report = VolumeReport([entry("kutt-production", restore=ENTRY, drill=drill)], [], None, None)
    found = describe(release(), CONFIGURED, [], report, NOW)
    screen = Screen("table")
    screen.output = Console(file=(out := io.StringIO()), width=100, force_terminal=True, color_system=None)
    screen.table(tables.status(found, NOW))
    header, *lines = out.getvalue().splitlines()
    assert "RESTORE" in header
    assert max(map(len, (header, *lines))) <= 100
    assert any("refused" in line for line in lines)


@pytest.mark.parametrize("values", ["default", "uris"])
def test_the_superusers_secret_is_found_whatever_its_keys_are(values: str) -> None:
    assert outlook.superuser_secrets(release(values))["kutt"] == "kutt-postgresql-cnpg-superuser"
