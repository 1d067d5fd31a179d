"""`undelete`: nothing is copied before it was tried and confirmed, and wrong options start no Job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.commands import undelete
from kubectl_cnpg_backup.errors import RefusedError, UsageError
from kubectl_cnpg_backup.model.words import in_options
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import config_of, release


class Api:
    namespace = "default"

    def config_map(self, name: str) -> dict[str, Any]:  # noqa: ARG002
        return config_of("cnpg-backup-restore")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, str]]]]:
    def call(
        *words: str, answer: bool | None = None, codes: tuple[int, ...] = (0, 0)
    ) -> tuple[int, list[dict[str, str]]]:
        ran: list[dict[str, str]] = []

        def carry_out(session: Session, jobs: list[dict[str, Any]]) -> int:  # noqa: ARG001
            (job,) = jobs
            (container,) = job["spec"]["template"]["spec"]["containers"]
            ran.append({one["name"]: one.get("value", "") for one in container["env"]})
            return codes[len(ran) - 1]

        monkeypatch.setattr(undelete, "carry_out", carry_out)
        monkeypatch.setattr(Screen, "can_ask", property(lambda _: answer is not None))
        monkeypatch.setattr(Screen, "confirm", lambda *_: bool(answer))
        options = parse(build_parser(), ["undelete", *words])
        session = Session(options, cast(Cluster, Api()), Screen(options.output))
        session.release = release()
        try:
            return undelete.run(session), ran
        except RefusedError:
            return 3, ran

    return call


ROWS = ("kutt", "--table", "public.orders", "--where", "customer = 4711", "--key", "a, b", "--show", "5")


def test_it_is_tried_and_confirmed_before_anything_is_copied(
    called: Callable[..., tuple[int, list[dict[str, str]]]],
) -> None:
    code, (trial, real) = called(*ROWS, answer=True)
    assert code == 0
    assert (trial["RESTORE_DRY_RUN"], real["RESTORE_DRY_RUN"]) == ("yes", "no")
    assert {**trial, "RESTORE_DRY_RUN": "no"} == real, "what was tried is what is done"
    assert real["RESTORE_UNDELETE"] == "public.orders"
    assert (real["RESTORE_WHERE"], real["RESTORE_KEY"], real["RESTORE_SHOW"]) == ("customer = 4711", "a, b", "5")
    for answer, codes, expected in ((False, (0,), 3), (True, (1,), 1)):
        code, ran = called(*ROWS, answer=answer, codes=codes)
        assert (code, [one["RESTORE_DRY_RUN"] for one in ran]) == (expected, ["yes"])


def test_without_a_terminal_it_needs_a_yes(called: Callable[..., tuple[int, list[dict[str, str]]]]) -> None:
    assert called(*ROWS) == (3, [])
    code, (only,) = called(*ROWS, "--yes")
    assert (code, only["RESTORE_DRY_RUN"]) == (0, "no")
    code, (only,) = called(*ROWS, "--dry-run")
    assert (code, only["RESTORE_DRY_RUN"]) == (0, "yes")


@pytest.mark.parametrize(
    "words",
    [
        ("kutt", "--table", "t", "--where", "true; DROP TABLE t"),
        ("kutt", "--table", "t", "--where", "a\nb"),
        ("kutt", "--table", "t", "--backup", "shop-20261129-101500.dump"),
        ("kut", "--table", "t", "--yes"),
        ("kutt",),
    ],
)
def test_wrong_options_start_no_job(
    called: Callable[..., tuple[int, list[dict[str, str]]]], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        called(*words, answer=True)


def test_remedies_speak_of_the_options_of_the_command() -> None:
    line = "remedy: name the columns of a unique constraint in RESTORE_KEY"
    assert in_options(line) == "remedy: name the columns of a unique constraint in --key"
