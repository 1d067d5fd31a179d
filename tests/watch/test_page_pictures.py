"""The pictures of the page in the documentation are of a page as it is now."""

from __future__ import annotations

import re
from pathlib import Path

from lab.page_pictures import example
from tests.lab.chart import ROOT
from watch.page import STATES, render

PICTURES = ROOT / "docs" / "pictures"


def size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n"), path
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def test_pictures_are_there_where_the_page_shows_them_and_small() -> None:
    shown = set(re.findall(r"\(pictures/(page[\w-]*\.png)\)", (ROOT / "docs" / "monitoring.md").read_text()))
    assert shown == {path.name for path in PICTURES.glob("page*.png")} == {"page.png", "page-phone.png"}
    for name in shown:
        assert min(size(PICTURES / name)) >= 400
        assert (PICTURES / name).stat().st_size < 200_000


def test_invented_release_shows_what_the_page_can_say() -> None:
    """`python3 -m lab.page_pictures` draws them again; whoever changes the page looks at them."""
    text = render(example())
    for said in ("has no new backup", "was not backed up", "restored in", "Last runs:", "in gaps", "without a run"):
        assert said in text, said
    found = set(re.findall(r"<path class=(\w{2,}) ", text))
    assert found == set(STATES) - {"late"}
    assert {one.state for one in example().databases} >= {"ok", "warning", "late", "failed"}
    assert render(example()) == text, "invented by a seed, so that it is the same each time"
