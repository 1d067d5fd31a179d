"""`page`: what a real listing of a volume looks like as one file, with a picture that says the same as its list."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubectl_cnpg_backup.cli import build_parser
from kubectl_cnpg_backup.commands import page as command
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.status import VolumeReport, describe
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.output.timeline import archives
from kubectl_cnpg_backup.parser import parse
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import NOW, THREE, release
from tests.plugin.test_status import GOOD, described, entry
from tests.watch.test_page import looked_at, parsed
from watch.page import Page, render

GIB = 1024**3


def backup(number: int, **changes: Any) -> dict[str, Any]:
    made = {
        "name": f"authelia-2026112{number % 10}-120000.dump", "time": "2026-11-22T12:00:00+00:00",
        "age_seconds": 7200 * number + 3600, "bytes": GIB, "tier": "Recent", "reason": "the newest", "verified": None,
        "drill": None, "pin": None,
    }  # fmt: skip
    return {**made, **changes}


BACKUPS = [
    backup(0),
    backup(1, drill={"result": "proved", "at": "2026-11-22T13:00:00+00:00"}),
    backup(90, tier="Pinned", pin={"holds": True, "reason": "x", "expires": None}),
    backup(500, tier=None, reason="next prune deletes it: too old"),
]
LISTING = [{"database": "authelia", "full_bytes": 20 * GIB, "backups": BACKUPS, "ignored": []}]


def page_of(**changes: Any) -> Page:
    report = VolumeReport([entry(**changes)], LISTING, 100 * GIB, 40 * GIB)
    return command.made_of(described(GOOD, report=report), report, {"authelia": "apps/pg"}, NOW)


def made(**changes: Any) -> str:
    return render(page_of(**changes))


def test_page_shows_every_archive_in_a_picture_and_in_a_list() -> None:
    text = made()
    assert "All 3 databases are backed up" in text
    assert "As of <b>2026-11-22 14:30Z</b>" in text
    assert text.count("<li>2026-11-22 12:00Z, 1.0 GiB") == len(BACKUPS)
    assert "next prune deletes it: too old" in text
    (picture,) = re.findall(r"<svg class=t .*?</svg>", text)
    assert 'aria-label="Timeline of 4 backups of authelia"' in picture
    drawn = dict(re.findall(r'<path class=(\w) d="([^"]*)"', picture))
    assert {name: drawn[name].count("M") for name in "rqhv"} == {"r": 2, "q": 1, "h": 1, "v": 1}
    places = [int(x) for x in re.findall(r"M(\d+)", drawn["r"] + drawn["q"] + drawn["h"])]
    assert places == sorted(places), "the younger, the more to the left"
    assert 0 <= min(places) <= max(places) <= 600
    assert "40.0 GiB used; 100.0 GiB in all" in text
    assert "apps/pg" in text
    assert "more than 3h is too old" in text or "is too old" in text


def test_page_names_what_is_wrong_and_the_remedy() -> None:
    text = made(bad=["authelia-20261122-120000.dump.bad"], result="failed")
    assert "1 of 3 databases has a problem; the worst: authelia" in text
    assert "failed: bad archives: authelia-20261122-120000.dump.bad" in text
    assert "What to do: see `kubectl cnpg-backup logs`." in text


def test_file_stands_alone() -> None:
    found = parsed(made())
    assert all(one.startswith(("#", "data:")) for one in found.references), found.references
    assert "script" not in found.tags
    assert not found.handlers


def test_hostile_names_on_the_volume_stay_text() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    document = {
        "database": hostile,
        "backups": [backup(1, tier=hostile, drill={"result": hostile})],
        "ignored": [{"name": hostile, "reason": hostile}],
    }
    assert "img" not in parsed(archives(document)).tags
    assert archives({"database": "x", "backups": [], "ignored": []}) == ""


def test_three_hundred_databases_with_fifteen_archives_each_are_under_500_kb() -> None:
    names = [f"database-{number}" for number in range(300)]
    many = [backup(number) for number in range(15)]
    listing = [{**LISTING[0], "database": name, "backups": many} for name in names]
    report = VolumeReport([entry(name) for name in names], listing, 100 * GIB, 40 * GIB)
    status = describe(release(), {"cnpg-pg-dump-backup": names}, [], report, NOW)
    assert len(render(command.made_of(status, report, {}, NOW)).encode()) < 500_000


@pytest.mark.long
def test_file_in_a_browser_has_no_barrier_and_no_overflow_and_its_lists_open_by_keyboard(tmp_path: Path) -> None:
    found = looked_at(tmp_path, {"good": page_of(), "bad": page_of(bad=["x.bad"], result="failed")})
    for name, one in found.items():
        assert not one["violations"], name
        assert not one["overflow"], name
        assert one["requests"] == [(tmp_path / f"{name}.html").as_uri()] * 2
        assert one["focus"] == 1, "the list of the one database with archives"


class _Pod:
    def retention_json(self, verb: str, *_: Any, **__: Any) -> Any:
        from types import SimpleNamespace

        return ([entry()] if verb == "status" else LISTING), SimpleNamespace(errors=b"", code=0)


class _Session(Session):
    @contextlib.contextmanager
    def inspecting(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield _Pod()

    def configs(self, *_: Any) -> Any:
        return {}


def called(*words: str, form: str = "table") -> int:
    options = parse(build_parser(), ["page", *words, "-o", form])
    session = _Session(options, None, Screen(form))  # type: ignore[arg-type]
    session.release, session.now = release(), NOW
    return command.run(session)


def test_file_is_written_where_it_is_asked_for_or_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "status_of", lambda _, report: described(GOOD, report=report))
    assert called(str(tmp_path / "x.html"), form="json") == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(tmp_path / "x.html"), "databases": len(THREE)}
    assert (tmp_path / "x.html").read_text().startswith("<!doctype html>")
    assert called("-") == 0
    assert capsys.readouterr().out == (tmp_path / "x.html").read_text()
    with pytest.raises(PluginError, match="cannot be written: No such file or directory"):
        called(str(tmp_path / "nowhere" / "x.html"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]
