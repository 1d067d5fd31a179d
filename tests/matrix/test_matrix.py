"""Every kind of database comes back identical in every way of restoring it, or is refused before anything changes."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.matrix.cells import IDENTICAL, NAMED, REFUSED, WRONG, CellError, Row
from tests.matrix.kind import COLUMNS, Kind
from tests.matrix.kinds import ALL
from tests.matrix.page import PAGE, read, render
from tests.matrix.site import Site, running_site


class Sites:
    """A server for each major, started when it is first needed."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self._made: dict[int, Site] = {}

    def __getitem__(self, major: int) -> Site:
        if major not in self._made:
            self._made[major] = self.stack.enter_context(running_site(major))
        return self._made[major]


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    sites = Sites()
    with sites.stack:
        yield sites


@pytest.mark.long
@pytest.mark.parametrize("kind", ALL.values(), ids=ALL)
def test_kind_comes_back_or_is_refused_beforehand_in_every_way(sites: Sites, kind: Kind) -> None:
    """With MATRIX_CELLS, a folder, the cells are written there; otherwise they must be those of the page."""
    cells = Row(sites[kind.major], kind).cells()
    if folder := os.environ.get("MATRIX_CELLS"):
        path = Path(folder) / f"{uuid.uuid4()}.json"
        path.write_text(json.dumps([kind.name, {**cells, **{c: WRONG + why for c, why in kind.wrong.items()}}]))
    wrong = {column: cell for column, cell in cells.items() if cell.startswith(WRONG)}
    assert wrong.keys() == kind.wrong.keys(), wrong
    if not folder:
        shown = read(PAGE.read_text())[kind.name]
        assert {column: cell for column, cell in cells.items() if column not in wrong and cell != shown[column]} == {}


def test_page_has_a_row_of_each_kind_and_no_cell_that_keeps_no_promise() -> None:
    text = PAGE.read_text()
    rows = read(text)
    assert list(rows) == list(ALL)
    assert len(rows) >= 40
    for kind in ALL.values():
        for column in COLUMNS:
            cell = rows[kind.name][column]
            promised = (WRONG,) if column in kind.wrong else (IDENTICAL, REFUSED, NAMED)
            assert cell.startswith(promised), f"{kind.name}: {column}"
    assert render(rows) == text


@pytest.fixture(scope="module")
def row(sites: Sites) -> Row:
    """A small kind that is backed up once for the tests of every run."""
    return Row(sites[17], ALL["plain tables"])


def test_a_sample_of_the_matrix_is_as_the_page_has_it(row: Row) -> None:
    assert row.cell("in place, owner") == read(PAGE.read_text())["plain tables"]["in place, owner"]


_ONE_ROW_ASIDE = """DO $$ BEGIN
  EXECUTE (SELECT format('DELETE FROM %s WHERE id = 1', oid::regclass) FROM pg_class
    WHERE relname = 't' AND relnamespace::regnamespace::text ~ '_before_');
END $$"""


@pytest.mark.parametrize(
    ("meddle", "seen"),
    [
        ("DELETE FROM t WHERE id = 2", "the database differs: -2\tb"),
        ("GRANT SELECT ON t TO stranger", "the database differs: .*GRANT SELECT ON TABLE public.t TO stranger"),
        (_ONE_ROW_ASIDE, r"rows of what was set aside differ: \['public.t'\]"),
        ("CREATE DATABASE shop_left", "databases: .*shop_left"),
    ],
    ids=["row", "right", "row set aside", "database"],
)
def test_the_matrix_sees_what_a_restore_would_have_spoilt(
    row: Row, monkeypatch: pytest.MonkeyPatch, meddle: str, seen: str
) -> None:
    monkeypatch.setattr(row, "meddle", meddle)
    with pytest.raises(CellError, match=seen):
        row.cell("in place, owner")


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ([(1, "FAILED: in the way\nnothing was changed: 'shop' is as it was"), (0, "")], "fails late: in the way"),
        ([(1, "FAILED: x\nremedy: look for the cause in the server's log, then restore again")], "useless remedy: x"),
        ([(1, "FAILED: in the way")], "fails late: in the way"),
        ([(143, "FAILED: stopped")], "exit code 143"),
    ],
    ids=["not by a dry run", "useless remedy", "something was changed", "exit code"],
)
def test_a_refusal_counts_only_before_anything_changes_and_with_a_remedy(
    row: Row, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, str]], seen: str
) -> None:
    left = iter(answers)
    monkeypatch.setattr(row.site, "restore", lambda *_, **__: next(left))
    with pytest.raises(CellError, match=seen):
        row.cell("in place, owner")


def test_cells_with_bars_and_angles_are_read_from_the_page_as_they_were() -> None:
    rows: dict[str, dict[str, str]] = {name: dict.fromkeys(COLUMNS, IDENTICAL) for name in ALL}
    rows["plain tables"]["drill"] = REFUSED + "a | b <c> \\| &"
    assert read(render(rows)) == rows
