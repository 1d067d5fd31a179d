"""The page: true, readable by everyone, and harmless whatever the names are; a real browser looks at it."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention.message import FAILED, OK, REFUSED, WARNING
from tests.lab.chart import ROOT
from tests.watch.histories import HOUR
from tests.watch.test_notify import PLACE, STALE, database
from tests.watch.test_serve import NOW, Cluster, cluster, served, settings_text  # noqa: F401 - a fixture
from watch.api import ApiError
from watch.memory import UNKNOWN, Drilled, Record
from watch.notices import Place
from watch.page import DARK, LIGHT, STATES, Page, headline, render
from watch.past import Past, add
from watch.problems import certain, problems_of
from watch.serve import Watcher
from watch.settings import read
from watch.standing import LATE, Database, Standing

GIB = 1024**3
VOLUME = {"capacity": 100 * GIB, "used": 40 * GIB, "full": 70 * GIB, "growth": 10**4}


def page(*databases: Database, **changes: Any) -> Page:
    late = changes.get("out_of_date")
    found = problems_of(Standing(databases, (), VOLUME, "claim"), out_of_date=late, read=NOW, now=NOW)
    return replace(Page(PLACE, NOW, NOW, databases, certain(found), VOLUME, "claim", version="0.1.0"), **changes)


def full(name: str, number: int) -> Database:
    """A database of which everything is known."""
    made = database(name)
    assert made.record is not None
    numbers = {"kept": 15, "total": 15 * GIB, "bytes": GIB + number, "pinned": 2, "bad": 0}
    drilled = Drilled((NOW - HOUR, "u", True), "proved", NOW - HOUR, 754)
    return replace(made, record=replace(made.record, numbers=numbers), drilled=drilled)


EVERY_STATE = (
    full("kutt", 1),
    database("plausible", WARNING, state=WARNING),
    database("authelia", REFUSED, state=REFUSED),
    database("shop", FAILED, state=FAILED),
    database("blog", age=6 * HOUR, state=LATE, why="its newest backup is 6h old"),
    database("new", record=None, state=UNKNOWN, why="no run of it has been seen"),
    database("off", suspended=True, next_run=None),
)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            page(full("a", 1), full("b", 2)),
            "All 2 databases are backed up; the oldest of their newest backups is 60m old",
        ),
        (page(full("a", 1)), "The database is backed up; its newest backup is 60m old"),
        (page(full("a", 1), database("shop", FAILED, state=FAILED)), "1 of 2 databases has a problem; the worst: shop"),
        (page(full("a", 1), out_of_date="the API server was last read 7h ago"), "This page is out of date"),
        (page(), "No database is known"),
        (page(read=None), "Nothing is known yet"),
        (
            page(database(record=None, state=UNKNOWN)),
            "Of 1 of 1 databases it is not known how their backups are",
        ),
    ],
)
def test_headline_is_the_most_important_thing_and_never_well_without_knowledge(made: Page, said: str) -> None:
    assert headline(made) == said
    text = render(made)
    assert f"<title>{said} · prod: apps/cnpg-backup</title>" in text
    good = said.startswith(("All", "The database"))
    assert ('<h1><svg class="m ok"' in text) == good


class Strict(HTMLParser):
    """Keeps elements, and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "srcset", "action", "data", "poster", "background"):
                self.references.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)


def parsed(text: str) -> Strict:
    found = Strict()
    found.feed(text)
    found.close()
    return found


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=63) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "'\"><img src=x onerror=alert(1)>",
        "\u202egnp",
        "a" * 63,
        "&amp;",
        "</style>",
        "x y=z",
    ]
)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), NAMES, NAMES)
def test_hostile_names_add_no_element_and_no_reference(names: list[str], why: str, cluster_name: str) -> None:
    def made(texts: Sequence[str], reason: str, cluster_text: str) -> Strict:
        every = [
            database(
                name, FAILED, state=FAILED, why=reason, cluster=cluster_text, cluster_namespace=reason, dbname=name
            )
            for name in texts
        ]
        place = Place(reason, cluster_text, reason, "https://b.example", "https://w.example")
        return parsed(render(page(*every, place=place, out_of_date=reason, version=reason, claim=reason)))

    plain = made([f"n{number}" for number in range(len(names))], "y", "z")
    found = made(names, why, cluster_name)
    assert found.tags == plain.tags
    assert found.references == plain.references
    assert not found.handlers


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("served_page", [True, False])
def test_page_has_no_script_and_asks_for_nothing(served_page: bool, live: bool) -> None:
    text = render(page(*EVERY_STATE, served=served_page, live=live))
    found = parsed(text)
    assert not {"script", "img", "iframe", "object", "embed", "form", "base"} & set(found.tags)
    outside = {one for one in found.references if not one.startswith(("#", "data:"))} - {"live", "./"}
    assert all(one.startswith("https://wiki.example.org/runbooks/") for one in outside), "links of the values alone"
    assert "url(" not in text
    assert "@import" not in text
    assert ('http-equiv="refresh"' in text) == live, "only who asks for it has a page that moves under them"


def test_three_hundred_databases_are_under_500_kb_and_under_a_second() -> None:
    every = [full(f"database-{number}-of-many", number) for number in range(300)]
    best = min(timed(page(*every)) for _ in range(3))
    text = render(page(*every))
    assert len(text.encode()) < 500_000
    assert best < 1, "seconds of the processor"
    failed = [database(f"database-{number}-of-many", FAILED, state=FAILED, why="x" * 300) for number in range(300)]
    assert len(render(page(*failed)).encode()) < 500_000


def timed(made: Page) -> float:
    before = time.process_time()
    render(made)
    return time.process_time() - before


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_and_marks_stand_out_from_the_paper(palette: dict[str, str]) -> None:
    def contrast(name: str) -> float:
        darker, lighter = sorted((luminance(palette[name]), luminance(palette["paper"])))
        return (lighter + 0.05) / (darker + 0.05)

    for name in ("ink", "faint", "link", *STATES):
        assert contrast(name) >= 4.5, f"{name}: {contrast(name):.2f}"


def test_each_state_has_a_word_a_shape_and_a_colour_of_its_own() -> None:
    text = render(page(*EVERY_STATE))
    shapes = dict(re.findall(r'<symbol id="(\w+)" [^>]*>(.*?)</symbol>', text))
    assert set(shapes) == set(STATES)
    assert len(set(shapes.values())) == len(STATES)
    for state in STATES:
        assert re.search(rf'<svg class="m {state}"[^>]*><use href="#{state}"/></svg> {state}\b', text)


def test_worst_databases_come_first_and_each_problem_links_to_what_to_do() -> None:
    text = render(page(*EVERY_STATE))
    table = text.split("<tbody")[1]
    order = [table.index(f"<b>{name}</b>") for name in ("shop", "blog", "authelia", "new", "plausible", "kutt")]
    assert order == sorted(order)
    assert '<a href="https://wiki.example.org/runbooks/CnpgBackupFailing.md">CnpgBackupFailing</a>' in text
    assert "kubectl cnpg-backup restore" in text
    assert "restored in 12m" in text


@pytest.fixture
def watcher(cluster: Cluster) -> Watcher:  # noqa: F811 - the fixture
    return Watcher(read(settings_text()), cluster.api, clock=lambda: NOW)


def test_served_page_is_of_this_moment_and_says_when_it_is_not(
    watcher: Watcher,
    cluster: Cluster,  # noqa: F811 - the fixture
) -> None:
    assert "Nothing is known yet" in served(watcher, "/")
    watcher.step(NOW)
    assert served(watcher, "/").count("refresh") == 0
    assert served(watcher, "/live").count('http-equiv="refresh"') == 1
    assert "All 2 databases are backed up" in served(watcher, "/")
    cluster.status = 500
    watcher.clock = lambda: NOW + 7 * HOUR
    with pytest.raises(ApiError):
        watcher.step(NOW + 7 * HOUR)
    text = served(watcher, "/")
    assert '<h1><svg class="m unknown"' in text
    assert "This page is out of date" in text
    assert "the API server was last read 7h ago" in text


def test_page_that_is_left_open_says_that_it_is_old() -> None:
    """Without a script: a page that is frozen in a browser must not look well."""
    assert re.search(r"\.o\{visibility:hidden.*?animation:o 0s 300s forwards\}", render(page(full("a", 1))))


def looked_at(folder: Path, pages: dict[str, Page]) -> dict[str, Any]:
    paths = []
    for name, made in pages.items():
        paths.append(str(folder / f"{name}.html"))
        Path(paths[-1]).write_text(render(made))
    programs = subprocess.run([ROOT / "tools" / "venv", "browser"], capture_output=True, text=True, check=True).stdout
    command = [f"{programs.strip()}/python", str(Path(__file__).with_name("browser.py")), *paths]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, Any] = json.loads(ended.stdout)
    return {Path(path).stem: one for path, one in found.items()}


def lived(seed: int) -> Past:
    """A year of a database: daily, then every two hours, with every result and a gap."""
    dice, found = random.Random(seed), Past()
    moments = [NOW - timedelta(days=day, minutes=2) for day in range(360, 4, -1) if not 200 < day < 200 + 5 * seed]
    moments += [NOW - timedelta(hours=2 * number, minutes=1) for number in range(50, -1, -1) if number not in (7, 8)]
    for at in moments:
        (result,) = dice.choices([OK, WARNING, REFUSED, FAILED, UNKNOWN], [90, 3, 2, 1 + seed, 1])
        found = add(found, at, result, again=False)
    return found


@pytest.mark.long
def test_page_in_a_browser_has_no_barrier_no_overflow_no_request_and_marks_that_stay_apart(tmp_path: Path) -> None:
    long = "a" * 63
    hostile = [full(long, 1), database("<script>", FAILED, state=FAILED, why="\u202e" + "w" * 200, cluster=long)]
    found = looked_at(
        tmp_path,
        {
            "states": page(*(replace(one, past=lived(number)) for number, one in enumerate(EVERY_STATE))),
            "hostile": page(*hostile, place=Place(long, long, "", "", "")),
            "nothing": page(read=None),
            "dated": page(full("a", 1), out_of_date="the API server was last read 7h ago", served=False),
        },
    )
    for name, one in found.items():
        assert not one["violations"], name
        assert not one["overflow"], name
        assert one["requests"] == [(tmp_path / f"{name}.html").as_uri()] * 2, "the page itself, in light and in dark"
        assert one["checked"] > 20, "axe has looked at something"
    for name, apart in found["states"]["marks"].items():
        assert apart > 12, f"two marks look alike: {name}"
    assert len(found["states"]["marks"]) == 30, "three kinds, five ways to see, light and dark"
    assert "<script>" in found["hostile"]["text"]


def test_dates_ahead_of_now_are_no_negative_age() -> None:
    ahead = full("a", 1)
    assert isinstance(ahead.record, Record)
    ahead = replace(ahead, record=replace(ahead.record, newest=NOW + 3 * HOUR))
    assert "in 3h" not in render(page(ahead))
    assert list(itertools.islice(re.findall(r'd="M0 1h(\d+)v6H0z"', render(page(ahead))), 1)) == ["0"]
    assert timedelta(hours=5) == STALE
    assert OK in STATES
