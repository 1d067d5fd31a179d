"""Photograph the watcher's page for the documentation: `python3 -m lab.page_pictures [FOLDER]`, in Chromium.

It shows an invented release with every state, in light on a wide screen and in dark on a phone. Look at the pictures.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from retention.message import FAILED, OK, REFUSED, WARNING
from watch.memory import UNKNOWN, Drilled, Record
from watch.notices import Place
from watch.page import Page, render
from watch.past import Past, add
from watch.problems import certain, problems_of
from watch.standing import LATE, Database, Standing

ROOT = Path(__file__).resolve().parents[1]
_NOW = datetime(2026, 3, 1, 14, 5, tzinfo=UTC)
_HOUR, _GIB = timedelta(hours=1), 1024**3
_VOLUME = {"capacity": 100 * _GIB, "used": 41 * _GIB, "full": 70 * _GIB, "growth": 3000}
_SHOTS = """
import sys
from pathlib import Path
from shutil import which
from playwright.sync_api import sync_playwright
page, folder = sys.argv[1], Path(sys.argv[2])
with sync_playwright() as driver:
    browser = driver.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox", "--disable-gpu"])
    for name, scheme, width, height in (("page", "light", 1100, 1060), ("page-phone", "dark", 400, 900)):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        shown = context.new_page()
        shown.goto(Path(page).as_uri())
        if name == "page-phone":
            shown.locator("tbody").scroll_into_view_if_needed()
            shown.evaluate("document.querySelector('tbody').scrollIntoView()")
        shown.screenshot(path=folder / f"{name}.png")
    browser.close()
"""


def example() -> Page:
    """Return the page of an invented release."""
    names = ("kutt", "authelia", "plausible", "shop", "vaultwarden", "miniflux")
    dice = random.Random(3)
    every = [_database(name, dice, number) for number, name in enumerate(names)]
    every[1] = _last(every[1], WARNING, "its archive has less than half of the tables of the last one")
    every[2] = _last(every[2], FAILED, "no password for user plausible: the Secret plausible-app has none")
    old = replace(every[3].record or _record("", OK), newest=_NOW - 9 * _HOUR)
    every[3] = replace(every[3], state=LATE, why="its newest backup is 9h old", record=old)
    standing = Standing(tuple(every), (), _VOLUME, "cnpg-backups")
    found = certain(problems_of(standing, out_of_date=None, read=_NOW, now=_NOW))
    place = Place("databases", "cnpg-backup", "production", runbooks="https://wiki.example.org/runbooks")
    return Page(place, _NOW, _NOW, every, found, _VOLUME, "cnpg-backups", version="1.0.0")


def _database(name: str, dice: random.Random, number: int) -> Database:
    drilled = Drilled((_NOW - 9 * _HOUR, "", True), "proved", _NOW - 9 * _HOUR, 40 + 300 * number)
    return Database(
        name, "cnpg-backup", f"{name}-postgresql", "default", name, False, OK, "published",
        _record("published", OK, (1 + number) * _GIB // 5), drilled, _NOW.replace(hour=16, minute=0),
        timedelta(seconds=18600), None, _past(dice, number),
    )  # fmt: skip


def _record(why: str, result: str, size: int = _GIB) -> Record:
    numbers = {"kept": 15, "total": 14 * size, "bytes": size, "bad": 0}
    key = (_NOW, "", True)
    return Record(key, result, why, key, _NOW - timedelta(minutes=64), numbers, _NOW, _NOW)


def _last(one: Database, result: str, why: str) -> Database:
    record = replace(one.record or _record("", OK), result=result, why=why)
    return replace(one, state=result, why=why, record=record, past=add(one.past, _NOW, result, again=True))


def _past(dice: random.Random, number: int) -> Past:
    found = Past()
    days = [_NOW - timedelta(days=day) for day in range(300 - 40 * number, 5, -1) if not 120 < day < 132]
    last = range(59, 4, -1) if number == 3 else range(59, -1, -1)
    for at in (*days, *(_NOW - 2 * _HOUR * run for run in last if run not in (31, 32, 33))):
        (result,) = dice.choices([OK, WARNING, REFUSED, FAILED, UNKNOWN], [960, 15, 4, 15, 4])
        found = add(found, at, result, again=False)
    return found


def main(folder: Path) -> None:
    """Write the pictures."""
    programs = subprocess.run([ROOT / "tools" / "venv", "browser"], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as name:
        page = Path(name, "page.html")
        page.write_text(render(example()))
        subprocess.run([f"{programs.strip()}/python", "-c", _SHOTS, str(page), str(folder)], check=True, timeout=300)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")
