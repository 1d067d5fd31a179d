"""`notify --test`: what the plugin asks the watcher for, and what it prints of the outcome."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.commands import notify
from kubectl_cnpg_backup.errors import NotFoundError, PluginError, UsageError
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import release
from watch.serve import TEST, TESTED


class Server:
    """An API server with a watcher that answers at the third look; tests/watch has the real one."""

    def __init__(self, outcome: Any, *, watched: bool = True) -> None:
        self.data: dict[str, str] = {"memory.json": "{}", TESTED: json.dumps({"id": "old", "targets": {"slack": ""}})}
        self.outcome, self.watched, self.looks = outcome, watched, 0

    def config_map(self, name: str) -> dict[str, Any]:
        if not self.watched or name != "cnpg-backup-status":
            raise NotFoundError(f"no ConfigMap {name}", "")
        self.looks += 1
        if TEST in self.data and self.looks > 3 and self.outcome is not None:
            self.data[TESTED] = json.dumps({"id": self.data[TEST], "targets": self.outcome})
        return {"data": dict(self.data)}

    def patch_config_map(self, name: str, data: dict[str, str]) -> None:
        assert name == "cnpg-backup-status"
        assert set(data) == {TEST}, "nothing else of it is the plugin's to write"
        self.data |= data


def called(server: Server, *words: str, form: str = "table") -> int:
    options = parse(build_parser(), ["notify", *words, "-o", form])
    session = Session(options, server, Screen(form))  # type: ignore[arg-type]
    session.release = release()
    return notify.run(session)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_EVERY", 0.001)


def test_each_target_has_its_result_and_one_that_fails_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert called(Server({"slack": "", "ntfy": "it answered 403"}), "--test") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[1:]] == [
        ["ntfy", "failed: it answered 403"],
        ["slack", "delivered"],
    ]
    assert called(Server({"slack": ""}), "--test", form="json") == 0
    assert json.loads(capsys.readouterr().out) == [{"target": "slack", "delivered": True, "why": ""}]


def test_an_older_outcome_is_not_taken_for_this_one() -> None:
    options = parse(build_parser(), ["notify", "--test"])
    options.wait = 0.05
    session = Session(options, Server(None), Screen("table"))  # type: ignore[arg-type]
    session.release = release()
    with pytest.raises(PluginError, match=r"did not answer within 0 s.*describe deployment cnpg-backup-status"):
        notify.run(session)


@pytest.mark.parametrize(
    ("server", "words", "said"),
    [
        (Server({}, watched=False), ["--test"], "has no watcher.*monitoring.enabled: true"),
        (Server({}), ["--test"], "has no target for messages"),
    ],
)
def test_nobody_to_notify_is_an_error_that_says_what_to_set(server: Server, words: list[str], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        called(server, *words)


def test_without_test_and_in_a_dry_run_nothing_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server({"slack": ""})
    with pytest.raises(UsageError, match="--test"):
        called(server)
    assert called(server, "--test", "--dry-run") == 0
    assert TEST not in server.data
    assert "would ask the watcher" in capsys.readouterr().out
