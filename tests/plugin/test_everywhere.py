"""`-A`: every release is asked, one that fails stops no other, and the worst of them decides the exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.commands.everywhere import carry_out_everywhere
from kubectl_cnpg_backup.errors import ForbiddenError, UsageError
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import objects


class Everywhere:
    """A cluster with a release in each of three namespaces."""

    def __init__(self, namespace: str = "default") -> None:
        self.namespace = namespace

    def cronjobs_everywhere(self, selector: str) -> list[dict[str, Any]]:  # noqa: ARG002
        return [
            {**one, "metadata": {**one["metadata"], "namespace": namespace}}
            for namespace in ("shop", "blog", "wiki")
            for one in objects("CronJob")
        ]

    def in_namespace(self, namespace: str) -> Everywhere:
        return Everywhere(namespace)


def called(form: str, *more: str) -> tuple[int, list[str]]:
    seen: list[str] = []

    def run(session: Session) -> int:
        seen.append(f"{session.cluster.namespace}/{session.release.name} for {session.options.namespace}")
        if session.cluster.namespace == "shop":
            raise ForbiddenError("you may not look into shop")
        if session.screen.is_table:
            session.screen.line(f"all about {session.cluster.namespace}")
        else:
            session.screen.document({"of": session.cluster.namespace}, [f"name-{session.cluster.namespace}"])
        return 3 if session.cluster.namespace == "wiki" else 0

    options = parse(build_parser(), ["status", "-A", "-o", form, *more])
    return carry_out_everywhere(Session(options, Everywhere(), Screen(form)), run), seen  # type: ignore[arg-type]


def test_each_release_is_asked_and_one_that_fails_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    code, seen = called("table")
    assert code == 1, "a failure beats a refusal"
    assert seen == [f"{one}/cnpg-backup for {one}" for one in ("blog", "shop", "wiki")]
    text = capsys.readouterr().out
    assert text.index("blog") < text.index("error: you may not look into shop") < text.index("all about wiki")


def test_programs_get_one_document_in_which_each_release_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("json")[0] == 1
    blog, shop, wiki = json.loads(capsys.readouterr().out)
    assert blog == {"namespace": "blog", "release": "cnpg-backup", "exit_code": 0, "result": {"of": "blog"}}
    assert shop["error"] == "you may not look into shop"
    assert (wiki["exit_code"], wiki["result"]) == (3, {"of": "wiki"})
    called("jsonpath={[?(@.exit_code==3)].namespace}")
    assert capsys.readouterr().out == "wiki\n"
    called("name")
    assert capsys.readouterr().out.splitlines() == ["name-blog", "name-wiki"]


def test_a_release_of_no_namespace_is_an_error() -> None:
    with pytest.raises(UsageError, match="no namespace has a release of cnpg-backup named 'nightly'"):
        called("table", "--release", "nightly")
