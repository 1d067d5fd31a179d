"""Earlier runs: each is remembered as it ended, whenever that is learned, in little room; and drawn without a lie."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention.message import FAILED, OK, REFUSED, WARNING
from tests.watch.histories import HOUR, MINUTE, START, job_object
from tests.watch.test_page import EVERY_STATE, full, page, timed
from tests.watch.test_serve import NOW
from tests.watch.test_standing import good, listed, look, ran
from watch import marks, past
from watch.memory import MOST_BYTES, UNKNOWN, Memory, from_json, to_json
from watch.page import render
from watch.past import MOST_DAYS, MOST_RUNS, Past, add

DAY = timedelta(days=1)
WORST_FIRST = (FAILED, REFUSED, UNKNOWN, WARNING, OK)
RUNS = st.lists(st.tuples(st.integers(1, 3 * 24 * 60), st.sampled_from(WORST_FIRST)), max_size=80)


def told(runs: Sequence[tuple[datetime, str]], found: Past | None = None) -> Past:
    """The past in which these runs were added one after the other."""
    found = Past() if found is None else found
    for at, result in runs:
        found = add(found, at, result, again=False)
    return found


def every(hours: float, *results: str) -> list[tuple[datetime, str]]:
    """Runs that ended at equal distances, the last one a minute before NOW."""
    last = len(results) - 1
    return [(NOW - MINUTE - (last - number) * hours * HOUR, result) for number, result in enumerate(results)]


def moments(found: Past) -> list[tuple[datetime, str]]:
    epoch = datetime.fromtimestamp(0, NOW.tzinfo)
    return [(epoch + minute * MINUTE, result) for minute, result in found.ended()]


@settings(deadline=None)
@given(RUNS)
def test_last_runs_and_the_worst_of_each_day_are_remembered_whatever_happened(steps: list[tuple[int, str]]) -> None:
    at, runs = START, []
    for minutes, result in steps:
        at += minutes * MINUTE
        runs.append((at, result))
    found = told(runs)
    assert moments(found) == runs[-MOST_RUNS:]
    assert past.read(found.runs, found.days) == found
    days: dict[Any, str] = {}
    for at, result in runs:
        days[at.date()] = min((days.get(at.date(), OK), result), key=WORST_FIRST.index)
    known = found.by_day()
    assert (known is None) == (not runs)
    if known is not None:
        last, results = known
        dates = [last - (len(results) - 1 - number) * DAY for number in range(len(results))]
        assert {at: one for at, one in zip(dates, results, strict=True) if one} == days


@settings(deadline=None)
@given(RUNS, st.randoms())
def test_order_in_which_runs_are_learned_changes_nothing(steps: list[tuple[int, str]], dice: Any) -> None:
    at, runs = START, []
    for minutes, result in steps[:40]:
        at += minutes * MINUTE
        runs.append((at, result))
    shuffled = list(runs)
    dice.shuffle(shuffled)
    assert told(shuffled) == told(runs)


def test_what_is_learned_later_of_a_run_replaces_what_was_known_of_it_and_of_its_day() -> None:
    before = told(every(2, OK, UNKNOWN))
    after = add(before, NOW - MINUTE, OK, again=True)
    assert after == told(every(2, OK, OK))
    assert add(before, NOW - MINUTE, OK, again=False) == before, "another run at that minute hides nothing"


def test_worst_of_a_day_stays_when_its_run_is_no_more_among_the_last_ones() -> None:
    runs = every(1 / 60, FAILED, *[OK] * 100)
    found = told(runs)
    assert FAILED not in {result for _, result in found.ended()}
    known = found.by_day()
    assert known is not None
    assert known[1] == [FAILED]


def test_hundreds_of_days_take_little_room_and_no_more_than_a_year_is_kept() -> None:
    found = told([(START + number * DAY, OK if number % 100 else FAILED) for number in range(500)])
    known = found.by_day()
    assert known is not None
    assert (known[0] - START.date()).days == 499
    assert len(known[1]) == MOST_DAYS
    assert known[1].count(FAILED) == 3
    assert len(found.days) < 50
    worst = told([(START + number * HOUR * 23, WORST_FIRST[number % 5]) for number in range(500)])
    assert len(worst.days) < 400
    assert len(worst.runs) < 250


@pytest.mark.parametrize(
    ("runs", "days"),
    [("x", "y"), ("O", "2026-13-01 O"), ("3cO" * 49, "2026-03-01 O999"), (None, 3), ("3cX", "2026-03-01 O366")],
)
def test_past_that_cannot_be_understood_is_none(runs: object, days: object) -> None:
    assert past.read(runs, days) == Past()


def test_memory_of_a_chart_without_a_past_is_kept() -> None:
    """What is known of backups must not be lost with an upgrade, nor by someone who spoils the past."""
    job, pod = ran("run-1", [good("app")])
    memory, _ = look(Memory(), [job], [pod], listed("app"))
    document = json.loads(to_json(memory))
    for changed in (None, 3, {"app": 3}, {"app": ["?", "?"]}):
        read = from_json(json.dumps({**document, "past": changed}))
        assert replace(read, past={}) == replace(memory, past={})
        assert not read.past.get("app", Past()).runs
    del document["past"]
    assert from_json(json.dumps(document)) == replace(memory, past={})


def test_every_run_leaves_its_mark_and_a_restart_keeps_them() -> None:
    first, pod = ran("run-1", [good("app"), good("blog")])
    killed = job_object("run-2", START + 2 * HOUR, START + 3 * HOUR, failed=True, reason="DeadlineExceeded")
    gone = job_object("run-3", START + 4 * HOUR, START + 5 * HOUR)
    configured = listed("app", "blog")
    memory, standing = look(Memory(), [first, killed, gone], [pod], configured, START + 6 * HOUR)
    results = [(START + 5 * MINUTE, OK), (START + 3 * HOUR, FAILED), (START + 5 * HOUR, UNKNOWN)]
    assert {one.name: moments(one.past) for one in standing.databases} == {"app": results, "blog": results}
    again, _ = look(from_json(to_json(memory)), [], [], configured)
    assert again.past == memory.past
    only, _ = look(again, [], [], listed("app"))
    assert set(only.past) == {"app"}, "what is not configured any more is forgotten"


def test_run_that_is_dated_after_now_hides_none_that_follow() -> None:
    """The clock of the control plane was ahead: what it dated must not be the last word for hours."""
    ahead, pod = ran("run-1", [good("app")], started=START + 5 * HOUR)
    memory, _ = look(Memory(), [ahead], [pod], listed("app"), START + HOUR)
    killed = job_object("run-2", START + 2 * HOUR, START + 3 * HOUR, failed=True, reason="DeadlineExceeded")
    memory, standing = look(memory, [ahead, killed], [pod], listed("app"), START + 3 * HOUR)
    assert [one.state for one in standing.databases] == [FAILED]
    assert [result for _, result in standing.databases[0].past.ended()] == [OK, FAILED]


def test_memory_that_would_be_too_large_loses_days_and_runs_before_anything_that_is_judged() -> None:
    job, pod = ran("run-1", [good("app")])
    memory, _ = look(Memory(), [job], [pod], listed("app"))
    long = told([(START + number * 23 * HOUR, WORST_FIRST[number % 5]) for number in range(400)])
    memory = replace(memory, past={f"database-{number}": long for number in range(3000)})
    text = to_json(memory)
    assert len(text.encode()) <= MOST_BYTES
    read = from_json(text)
    assert read.records == memory.records
    assert len(read.past) == 3000
    assert {one.days for one in read.past.values()} == {""}
    assert replace(from_json(to_json(memory, 2000)), past=memory.past) == memory


def test_three_hundred_databases_of_which_everything_is_remembered_fit_into_a_config_map() -> None:
    names = [f"database-{number:03}-of-many" for number in range(300)]
    job, pod = ran("run-1", [good(name) for name in names])
    memory, _ = look(Memory(), [job], [pod], listed(*names))
    worst = told([(START + number * 23 * HOUR, WORST_FIRST[number % 5]) for number in range(400)])
    whole = replace(
        memory,
        past=dict.fromkeys(names, worst),
        records={name: replace(one, why="€" * 300) for name, one in memory.records.items()},
    )
    assert from_json(to_json(whole)) == whole


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (every(2, OK, OK, FAILED), [OK, OK, FAILED]),
        ([*every(2, OK, OK, OK, OK, OK)[:2], *every(2, OK, OK)], [OK, OK, "", OK, OK]),
        ([(at - 6 * HOUR, result) for at, result in every(2, OK, OK, OK)], [OK, OK, OK, "", ""]),
        ([(at - 99 * DAY, result) for at, result in every(2, OK, OK, OK)], [""] * MOST_RUNS),
        (every(2, FAILED), [FAILED]),
        ([*every(2, OK, OK, OK), (NOW, WARNING)], [OK, OK, OK, WARNING]),
    ],
    ids=["one after the other", "one missed", "two not come", "stopped long ago", "the first", "by hand"],
)
def test_time_in_which_no_run_was_seen_is_a_gap(runs: list[tuple[datetime, str]], expected: list[str]) -> None:
    assert marks.slots(told(runs).ended(), int(NOW.timestamp()) // 60) == expected


class Pen:
    """Follows a path, and keeps where marks or bars begin."""

    def __init__(self, path: str) -> None:
        self.at = 0.0
        self.spans: list[tuple[float, float]] = []
        for command, text in re.findall(r"([MmhlzZ])([^MmhlzZ]*)", path):
            numbers = [float(one) for one in re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)", text)]
            if command == "M":
                self.at = numbers[0]
            elif command == "m":
                self.at += numbers[0]
            elif command == "h":
                self.spans.append((self.at, self.at + numbers[0]))
                self.at += numbers[0]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", *WORST_FIRST]), min_size=1, max_size=MOST_DAYS))
def test_bars_are_where_their_days_are(days: list[str]) -> None:
    runs = [(NOW - (len(days) - 1 - at) * DAY, result) for at, result in enumerate(days) if result]
    drawn = marks.draw({"app": told(runs)}, NOW).pictures
    assert bool(drawn) == bool(runs)
    found = [""] * MOST_DAYS
    for result, path in re.findall(r'<path class=(\w+) d="([^"]*)"', drawn.get("app", "").partition("class=y")[2]):
        for begin, end in Pen(path).spans:
            found[int(begin) : int(end)] = [result] * int(end - begin)
    assert found[-len(days) :] == days
    assert not any(found[: -len(days)])


def test_pictures_of_many_databases_are_cut_for_all_of_them_alike_and_the_page_says_so() -> None:
    chaos = told(every(24, *(WORST_FIRST[number % 5] for number in range(400))))
    for count, runs, days in ((1, 48, 365), (60, 48, 365), (300, 12, 0)):
        drawn = marks.draw({f"database-{number}": chaos for number in range(count)}, NOW)
        assert (drawn.runs, drawn.days) == (runs, days)
        assert len(drawn.pictures) == count
        text = render(page(*(replace(full(f"database-{number}", 1), past=chaos) for number in range(count))))
        assert f"its last {runs} runs" in text
        assert ("the higher the worse" in text) == bool(days)
        assert len(text.encode()) < 500_000


def test_page_of_three_hundred_databases_with_a_past_is_under_500_kb_and_under_a_second() -> None:
    usual = told(every(2, *(FAILED if number % 97 == 5 else OK for number in range(4000))))
    made = page(*(replace(full(f"database-{number}-of-many", number), past=usual) for number in range(300)))
    assert len(render(made).encode()) < 500_000
    assert min(timed(made) for _ in range(3)) < 1, "seconds of the processor"


def test_pictures_say_in_words_what_they_show() -> None:
    text = marks.draw({"app": told(every(24, OK, OK, FAILED, OK))}, NOW).pictures["app"]
    assert 'aria-label="Last runs: 3 ok, 1 failed. The last: ok, 2026-03-01 02:59Z"' in text
    assert 'aria-label="Last 4 days: 3 ok, 1 failed"' in text


def test_page_without_a_past_has_no_legend_for_it() -> None:
    assert "Runs and days" not in render(page(*EVERY_STATE))
