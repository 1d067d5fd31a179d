"""What the API server knows is shown at once in a terminal, until the result replaces it; elsewhere not."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from rich.console import Console

from kubectl_cnpg_backup.cluster import inspector
from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.cluster.inspector import Inspector
from kubectl_cnpg_backup.commands import listing, status
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import ago, config_of, job, pod, release

CRONJOB = "cnpg-pg-dump-backup"
MESSAGE = (
    "1 of 3 databases failed\nkutt failed (newest 2026-11-22 14:00Z): no Secret\n"
    "authelia ok (newest 2026-11-22 14:00Z): published"
)


class Api:
    """An API server with one run, whose inspector says something only after the preview."""

    namespace, context = "default", "test"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def jobs(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        return [job("run", CRONJOB, state="Failed", started=ago(minutes=30), finished=ago(minutes=28))]

    def pods(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        return [pod("run", 1, MESSAGE)]

    def config_map(self, name: str) -> dict[str, Any]:  # noqa: ARG002
        return config_of(CRONJOB)

    def has_secret(self, name: str) -> bool:
        self.asked.append(name)
        return True


def screen_of(form: str, *, terminal: bool) -> tuple[Screen, io.StringIO, io.StringIO]:
    screen, output, errors = Screen(form), io.StringIO(), io.StringIO()
    screen.output = Console(file=output, force_terminal=terminal, width=80, color_system=None)
    screen.errors = Console(file=errors, force_terminal=terminal, width=80, color_system=None)
    return screen, output, errors


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()

    @contextmanager
    def inspecting(*given: Any) -> Iterator[Inspector]:
        api.asked.append("the pod was started")
        given[4]()
        api.asked.append("the pod is ready")
        yield cast(Inspector, Volume())

    monkeypatch.setattr(inspector, "inspecting", inspecting)
    return api


class Volume:
    """A volume without a backup."""

    def retention_json(self, *_: str, config: bool = False) -> tuple[list[Any], Any]:  # noqa: ARG002
        return [], argparse.Namespace(errors="", code=0)

    def documents(self, *_: Any, config: bool = False) -> tuple[list[Any], list[int], list[str]]:  # noqa: ARG002
        return [], [0], []


def session_of(api: Api, screen: Screen, **options: Any) -> Session:
    given = {"wait": 1.0, "no_volume": False, "sort_by": "", "watch": False, "all_namespaces": False, "database": []}
    session = Session(argparse.Namespace(**{**given, **options}), cast(Cluster, api), screen)
    session.release = release()
    return session


@pytest.mark.parametrize("command", [status._show, listing._list])
def test_a_terminal_shows_what_is_known_before_the_pod_is_ready(api: Api, command: Any) -> None:
    screen, output, errors = screen_of("table", terminal=True)
    command(session_of(api, screen))
    shown = errors.getvalue()
    assert status.PREVIEW in shown
    assert "kutt" in shown
    assert "failed" in shown
    assert "\x1b[2K" in shown, "it stays on the screen"
    assert status.PREVIEW not in output.getvalue()


@pytest.mark.parametrize(("form", "terminal"), [("table", False), ("json", True), ("wide", True), ("name", True)])
@pytest.mark.parametrize("command", [status._show, listing._list])
def test_a_pipe_and_a_program_get_the_result_alone(
    api: Api, command: Any, form: str, terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    screen, output, errors = screen_of(form, terminal=terminal)
    command(session_of(api, screen))
    assert status.PREVIEW not in output.getvalue() + errors.getvalue() + capsys.readouterr().out


def test_secrets_are_asked_for_while_the_pod_starts(api: Api) -> None:
    screen, _, _ = screen_of("json", terminal=False)
    status._show(session_of(api, screen))
    assert api.asked[0] == "the pod was started"
    assert api.asked[-1] == "the pod is ready"
    assert len(api.asked) > 2


def test_text_that_is_printed_meanwhile_is_on_a_line_of_its_own() -> None:
    screen, output, errors = screen_of("table", terminal=True)
    with screen.waiting("waiting for the pod"):
        screen.note("it waits")
        screen.line("result")
        screen.progress("it runs")
    assert output.getvalue() == "result\n"
    assert errors.getvalue().endswith(("\x1b[2K", "\x1b[?25h")) or "\x1b[1A\x1b[2K" in errors.getvalue()
