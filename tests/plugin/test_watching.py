"""`--watch`: shown again when something has changed, not otherwise, and through outages of the API server."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from kubectl_cnpg_backup.commands import watching
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.session import Session


def watched(essences: list[Any], monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], int]:
    """What is shown while a cluster goes through these states; Ctrl-C ends it."""
    shown: list[Any] = []
    states = iter(essences)
    now: list[Any] = []

    def essence(session: Session) -> Any:  # noqa: ARG001
        state = next(states, None)
        if state is None:
            raise KeyboardInterrupt
        if isinstance(state, Exception):
            raise state
        now[:] = [state]
        return state

    def show(session: Session) -> int:  # noqa: ARG001
        shown.append(now[0])
        return 0

    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    session = Session(argparse.Namespace(watch=True), None, Screen("table"))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        watching.watch(session, essence, show)
    return shown, len(waits)


def test_a_result_is_shown_again_when_it_has_changed_and_not_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, waits = watched(["ok", "ok", "running", "running", "ok"], monkeypatch)
    assert shown == ["ok", "running", "ok"]
    assert waits == 5, "it asks without a pause"


def test_an_api_server_that_does_not_answer_for_a_while_ends_no_watch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, _ = watched(["ok", PluginError("the API server does not answer"), "late"], monkeypatch)
    assert shown == ["ok", "late"]
    assert "does not answer; trying again in 5 s" in capsys.readouterr().err


def test_a_watch_that_cannot_begin_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="no release"):
        watched([PluginError("no release")], monkeypatch)
