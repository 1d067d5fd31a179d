"""`-o wide|name|jsonpath=…`, `--no-headers`, `--sort-by`: a script gets what it asked for, in its order."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from kubectl_cnpg_backup.cli import build_parser, main
from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.commands import listing
from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.output import jsonpath, tables
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import backup, release

DOCUMENT = {
    "ok": True,
    "problems": [],
    "volume": {"bytes": 10, "days_until_full": None},
    "databases": [
        {"database": "kutt", "bytes": 20, "state": "ok", "drill": {"result": "proved"}, "a.b": "dotted"},
        {"database": "authelia", "bytes": 100, "state": "late", "drill": None},
        {"database": "plausible", "bytes": None, "state": "ok"},
    ],
}


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("{.databases[*].database}", "kutt authelia plausible"),
        (".databases[*].database", "kutt authelia plausible"),
        ("databases[0].database", "kutt"),
        ("{$.databases[-1].database}", "plausible"),
        ("{.databases[0:2].database}", "kutt authelia"),
        ("{.databases[0,2].database}", "kutt plausible"),
        ("{.databases[0]['database','bytes']}", "kutt 20"),
        (r"{.databases[0].a\.b}", "dotted"),
        ("{..result}", "proved"),
        ('{.databases[?(@.state=="ok")].database}', "kutt plausible"),
        ("{.databases[?(@.state != 'ok')].database}", "authelia"),
        ("{.databases[?(@.bytes>=20)].database}", "kutt authelia"),
        ("{.databases[?(@.drill.result)].database}", "kutt"),
        ("{.ok}/{.volume.days_until_full}/{.missing}/{.problems}", "true///[]"),
        ("{.volume}", '{"bytes":10,"days_until_full":null}'),
        ('{range .databases[*]}{.database}{"\\t"}{.state}{"\\n"}{end}', "kutt\tok\nauthelia\tlate\nplausible\tok\n"),
        ("{.databases[?(@.database=='}')].state}", ""),
        ("{.volume.*}", "10 "),
    ],
)
def test_a_template_prints_what_kubectl_prints(template: str, printed: str) -> None:
    assert jsonpath.render(jsonpath.parse(template), DOCUMENT) == printed


@pytest.mark.parametrize(
    "template",
    [
        "{.a",
        "{range .a}{.b}",
        "{end}",
        "{.a[}",
        "{.a[b]}",
        "{.a[]}",
        '{"x}',
        "{a b}",
        "{}",
        "{.a[?(@.b==c)]}",
        "{.a.!}",
    ],
)
def test_what_is_not_a_template_is_refused_before_anything_is_asked(
    template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--kubeconfig", "/nowhere", "-o", f"jsonpath={template}"]) == 2
    error = capsys.readouterr().err
    assert "is not a JSONPath" in error
    assert error.count("\n") == 1


ENTRIES: list[dict[str, Any]] = [
    {
        "database": "authelia",
        "backups": [
            backup("authelia-20261122-140002.dump", timedelta(minutes=30), 5_000_000, tables=3, sha256="a" * 64),
            backup("authelia-20261121-140002.dump", timedelta(days=1), 400, tables=12, sha256="b" * 64),
            backup("authelia-20261120-140002.dump", timedelta(days=2), 70_000, tables=None, sha256="c" * 64),
        ],
        "ignored": [{"name": "left-over", "reason": "odd"}],
    },
    {"database": "kutt", "backups": [backup("kutt-20261122-140002.dump", timedelta(0), 1)], "ignored": []},
]


class Listing(Session):
    """A call of `list` on a volume with these backups."""

    def retention(self, *_: Any, **__: Any) -> tuple[list[Any], int]:
        return json.loads(json.dumps(ENTRIES)), 0


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path))


def listed(*arguments: str) -> int:
    options = parse(build_parser(), ["list", *arguments])
    screen = Screen(options.output, headers=not options.no_headers)
    session = Listing(options, cast(Cluster, None), screen)
    session.release = release()
    return listing.run_list(session)


def test_names_are_what_other_commands_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed("-o", "name") == 0
    assert capsys.readouterr().out.splitlines() == [one["name"] for entry in ENTRIES for one in entry["backups"]]


def test_without_headers_only_rows_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    listed("--no-headers")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(".dump" in line for line in lines)


def test_wide_has_more_columns_than_a_pipe_and_no_line_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    listed()
    assert "SHA256" not in capsys.readouterr().out
    listed("-o", "wide")
    text = capsys.readouterr().out
    assert "TABLES" in text
    assert "a" * 64 in text


@pytest.mark.parametrize(
    ("key", "order"), [("size", [1, 2, 0]), (".bytes", [1, 2, 0]), ("Age", [0, 1, 2]), ("tables", [0, 1, 2])]
)
@pytest.mark.parametrize("form", ["name", "table", "json"])
def test_rows_are_sorted_by_the_value_and_not_by_its_text(
    key: str, order: list[int], form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed("--sort-by", key, "-o", form)
    text = capsys.readouterr().out
    names = [str(ENTRIES[0]["backups"][number]["name"]) for number in order]
    assert sorted(names, key=text.index) == names


def test_a_column_that_is_none_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'size'\? give one of age, size,"):
        tables.sort_path(tables.LIST, "sizes")


def test_every_column_that_can_be_sorted_by_has_a_field_of_the_document() -> None:
    entry = {**ENTRIES[0]["backups"][0], "drill": {"finished": "x"}, "pin": {"expires": "y"}, "verified": "z"}
    for column in tables.LIST:
        if column.key:
            assert jsonpath.find(jsonpath.parse_path(column.key), entry), column.header


def test_a_command_without_names_refuses_to_print_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--kubeconfig", "/nowhere", "-o", "name"]) == 2
    assert "`doctor` has no names to print" in capsys.readouterr().err
