"""`open`: the copy is there as long as the command and no longer, and what it says is true."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.cluster.api import Cluster, Executed
from kubectl_cnpg_backup.commands import opening
from kubectl_cnpg_backup.errors import PluginError, UsageError
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import config_of, release

READY = (
    "database=kutt\nbase=kutt-20261129-101500\nwrite=no\nwarning=the drill's image lacks its locale\n"
    "dbname=kutt_copy_20261129_101500\nserver_version=16.10\nseconds=12\nstate=ready\nstep=\n"
)


class Api:
    """An API server with a pod whose container says one state after the other."""

    namespace, context = "default", "test"

    def __init__(self, *states: str, phase: str = "Running") -> None:
        self.states = list(states)
        self.phase = phase
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []

    def config_map(self, name: str) -> dict[str, Any]:
        found = config_of("cnpg-backup-open")
        assert name == found["metadata"]["name"]
        return found

    def create_job(self, job: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        if not dry_run:
            self.made.append(job)
        return job

    def delete_job(self, name: str) -> bool:
        self.deleted.append(name)
        return True

    def pods(self, selector: str) -> list[dict[str, Any]]:
        name = selector.partition("=")[2]
        status: dict[str, Any] = {"phase": self.phase, "conditions": [{"type": "Ready", "status": "True"}]}
        if self.phase == "Failed":
            ended = {"exitCode": 1, "message": "kutt-1.dump: it needs about 9 MiB of scratch space"}
            status = {
                "phase": self.phase,
                "initContainerStatuses": [{"name": "choose", "state": {"terminated": ended}}],
            }
        labels = {"batch.kubernetes.io/job-name": name}
        return [{"metadata": {"name": f"{name}-x", "labels": labels}, "spec": {}, "status": status}]

    def events_of(self, kind: str, name: str) -> list[dict[str, Any]]:  # noqa: ARG002
        return []

    def execute(self, pod: str, container: str, command: list[str]) -> Executed:  # noqa: ARG002
        assert container == "open"
        if command[-1] == "--login":
            return Executed(0, b"user=cnpg_backup_reader\npassword=a/b@c\n", "")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "lost":
            raise ConnectionError("reset")
        return Executed(0, state.encode(), "")


class Forward:
    """kubectl port-forward, at which somebody presses Ctrl-C."""

    def __init__(self, command: list[str], **_: Any) -> None:
        assert command[-1] == "6543:5432"

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def wait(self) -> None:
        raise KeyboardInterrupt

    def terminate(self) -> None:
        return None


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[str]]]:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/kubectl")
    monkeypatch.setattr("time.sleep", lambda _: None)

    def call(api: Api, *words: str, code: int = 0) -> tuple[int, list[str]]:
        ran: list[str] = []

        def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:  # noqa: ARG001
            ran.extend(command)
            return subprocess.CompletedProcess(command, code)

        monkeypatch.setattr(opening, "subprocess", SimpleNamespace(run=run, Popen=Forward, DEVNULL=subprocess.DEVNULL))
        options = parse(build_parser(), ["open", *words])
        session = Session(options, cast(Cluster, api), Screen(options.output))
        session.release = release()
        return opening.run(session), ran

    return call


def test_the_copy_is_opened_for_the_command_and_deleted_with_it(
    called: Callable[..., tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api("", "state=restoring\nstep=reading the archive\n", "lost", READY)
    code, ran = called(api, "kutt", "--as", "me", "-c", "SELECT 1")
    assert code == 0
    (job,) = api.made
    (choose, hand_over) = job["spec"]["template"]["spec"]["initContainers"]
    for container in (choose, hand_over):
        variables = {one["name"]: one.get("value") for one in container["env"]}
        assert (variables["RESTORE_DATABASE"], variables["RESTORE_BACKUP"]) == ("kutt", "newest")
    assert api.deleted == [job["metadata"]["name"]]
    assert " ".join(ran[1:6]) == "exec --namespace default --context test"
    assert ran[6:8] == ["--as", "me"]
    assert ran[-4:] == ["/opt/cnpg-backup/scripts/open.sh", "--psql", "-c", "SELECT 1"]
    said = capsys.readouterr().err
    assert "open: reading the archive" in said
    assert "kutt-20261129-101500.dump is open as database kutt_copy_20261129_101500: a read-only copy" in said
    assert "warning: the drill's image lacks its locale" in said


@pytest.mark.parametrize("failure", ["state=failed\nbase=kutt-1\nerror=no\nremedy=do this\n", "lost"])
def test_a_copy_that_fails_is_deleted_and_says_why(called: Callable[..., tuple[int, list[str]]], failure: str) -> None:
    api = Api(*[failure] * 9)
    with pytest.raises(PluginError) as raised:
        called(api, "kutt")
    assert str(raised.value) in ("kutt-1.dump: no; do this", "the connection to pod " + api.made[0]["metadata"]["name"]
                                 + "-x was lost: reset; try again")  # fmt: skip
    assert len(api.deleted) == 1
    refused = Api(phase="Failed")
    with pytest.raises(PluginError, match="it needs about 9 MiB of scratch space"):
        called(refused, "kutt")
    assert len(refused.deleted) == 1


def test_a_copy_that_takes_too_long_is_deleted(called: Callable[..., tuple[int, list[str]]]) -> None:
    api = Api(*["state=restoring\nstep=restoring 9 MiB\n"])
    with pytest.raises(PluginError, match=r"not ready after 1 s \(now: restoring 9 MiB\); --timeout allows more time"):
        called(api, "kutt", "--timeout", "1s")
    assert len(api.deleted) == 1


def test_errors_of_sql_are_a_failure_and_no_refusal(called: Callable[..., tuple[int, list[str]]]) -> None:
    assert called(Api(READY), "kutt", "-c", "SELECT wrong", code=3)[0] == 1


def test_nothing_is_started_for_a_wrong_name_or_a_dry_run(called: Callable[..., tuple[int, list[str]]]) -> None:
    api = Api()
    for words in (["kut"], ["kutt", "--backup", "shop-20261129-101500.dump"], ["kutt", "--backup", "yesterday"]):
        with pytest.raises(UsageError):
            called(api, *words)
    assert called(api, "kutt", "--dry-run")[0] == 0
    assert not api.made


def test_a_client_gets_an_address_that_it_can_read(
    called: Callable[..., tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(READY)
    assert called(api, "kutt", "--port", "6543", "-o", "json")[0] == 0, "Ctrl-C is how it ends"
    document = json.loads(capsys.readouterr().out)
    assert document["url"] == ("postgresql://cnpg_backup_reader:a%2Fb%40c@127.0.0.1:6543/kutt_copy_20261129_101500")
    assert len(api.deleted) == 1
