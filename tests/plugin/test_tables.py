"""Tables fit the terminal, and lose nothing in a pipe."""

from __future__ import annotations

import argparse
import io
import re
import sys
from datetime import datetime, timedelta
from typing import cast

import pytest
from rich.console import Console

from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.commands import doctor
from kubectl_cnpg_backup.model import doctor as doctor_model
from kubectl_cnpg_backup.model.findings import Finding, Level
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.output.tables import Column
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import NOW, backup

NAME = "authelia-20261122-140002.dump"
ENTRY = {
    "database": "authelia",
    "backups": [
        backup(NAME, timedelta(minutes=30), 5_000_000, verified="2026-11-22T14:00:09+00:00"),
        backup(
            "authelia-20261121-140002.dump",
            timedelta(days=1),
            4_000_000,
            pin={"reason": "before the migration", "expires": "2026-12-22T14:00:00+00:00", "holds": True},
            drill={"result": "proved", "finished": "2026-11-22T02:30:00+00:00"},
        ),
    ],
}


def printed(width: int, *, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    screen, out = Screen("table"), io.StringIO()
    screen.output = Console(file=out, width=width, force_terminal=terminal, highlight=False)
    monkeypatch.setattr(sys, "stdout", out)
    screen.table(tables.backups(ENTRY, NOW))
    return out.getvalue()


def test_age_size_tier_verified_drilled_pinned_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    header, newest, older = printed(80, terminal=False, monkeypatch=monkeypatch).splitlines()
    assert header.split() == ["AGE", "SIZE", "TIER", "VERIFIED", "DRILLED", "PINNED", "NAME", "WHY"]
    assert newest.split()[:3] == ["30m", "4.8", "MiB"]
    assert "2026-11-22 14:00Z" in newest
    assert "proved 12h" in older
    assert "to 2026-12-22 14:00Z" in older


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_a_name_is_whole_and_no_line_too_long_in_a_terminal_of_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(width, terminal=True, monkeypatch=monkeypatch))
    assert NAME in text
    assert max(map(len, text.splitlines())) <= width
    assert ("WHY" in text) == (width > 150)
    assert ("SIZE" in text) == (width > 45)


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in printed(80, terminal=False, monkeypatch=monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed(80, terminal=True, monkeypatch=monkeypatch)


@pytest.mark.parametrize(
    ("pin", "told"),
    [
        (None, "-"),
        ({"reason": "", "expires": None, "holds": True}, "forever"),
        ({"reason": "", "expires": "2026-11-01T00:00:00+00:00", "holds": False}, "expired"),
    ],
)
def test_pins_are_told(pin: object, told: str) -> None:
    assert tables.pinned(pin) == told


def test_a_plan_has_its_newest_first() -> None:
    entry = {
        "keep": [{"name": "b", "tier": "Daily", "reason": "r"}],
        "delete": [{"name": "a", "reason": "too many"}],
    }
    table = tables.plan(entry, {"a": timedelta(hours=5), "b": timedelta(hours=9)})
    assert [row[0] for row in table.rows] == ["delete", "keep"]


def test_a_column_of_nothing_is_left_out_where_people_look() -> None:
    table = tables.plan({"keep": [{"name": "b", "tier": "Daily", "reason": ""}], "delete": []}, {})
    assert "WHY" not in [column.header for column in table.fitted(200).columns]


def test_moments_are_told_from_now() -> None:
    assert tables.since(NOW - timedelta(hours=3), NOW) == "3h"
    assert tables.since(NOW + timedelta(minutes=30), NOW) == "in 30m"
    assert tables.since(None, datetime.now().astimezone()) == "-"


@pytest.mark.parametrize(("color", "escapes"), [("auto", False), ("always", True), ("never", False)])
def test_colours_in_a_pipe_are_there_only_on_demand_and_change_no_text(
    color: str, escapes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("NO_COLOR", "1")
    why = "it is long " * 40
    Screen("table", color).table(tables.make([Column("RESULT"), Column("WHY", 1, wraps=True)], [["bad", why]]), "title")
    assert ("\x1b[31m" in out.getvalue()) is escapes
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert [line.split() for line in plain.splitlines()] == [["title"], ["RESULT", "WHY"], ["bad", *why.split()]]


def test_the_spinner_is_off_its_line_while_a_line_of_a_log_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    screen = Screen("table")
    screen.errors = Console(file=out, force_terminal=True, width=80)
    with screen.waiting("waiting for the pod"):
        for number in range(3):
            screen.log(f"line {number}")
    before = re.findall(r"^(.*)line \d$", out.getvalue(), re.MULTILINE)
    assert len(before) == 3
    assert all(text.endswith("\x1b[2K") for text in before), "the line is not erased before the text"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_remedy_of_doctor_is_shown_in_a_terminal_of_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    findings = [
        Finding(Level.WRONG, "networkpolicy/cnpg-backup-with-a-long-name", "it is missing", "upgrade-the-release"),
        Finding(Level.GOOD, "claim/cnpg-backup-volume", "bound", ""),
    ]
    screen = Screen("table")
    screen.output = Console(file=out, width=width, force_terminal=True, highlight=False)
    monkeypatch.setattr(doctor_model, "examine", lambda _: findings)
    monkeypatch.setattr(doctor, "facts", lambda _: None)
    doctor.run(Session(argparse.Namespace(), cast(Cluster, None), screen))
    assert out.getvalue().count("upgrade-the-release") == 1
