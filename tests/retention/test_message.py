"""The termination message is all that is known of a run outside its pod: what it says, and what may be concluded."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from retention import Policy, message
from retention.errors import RetentionError
from retention.message import FAILED, OK, REFUSED, WARNING, WORST_FIRST, Line
from retention.pod.report import Measured, RunOutcome, termination_message
from retention.rule.backup import Backup
from retention.rule.policy import Limits
from retention.rule.sizing import Sizing
from tests.retention.world import HOUR, World

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
FIRST_FORM = re.compile(r"(?P<database>\S+) (?P<result>ok|warning|refused|failed) \((?P<newest>[^)]*)\): (?P<why>.*)")
"""How plugins read a line that were installed before the second form."""

reasons = st.one_of(
    st.text(max_size=80),
    st.text("äß…€𝄞 [a=1]", max_size=700),
    st.sampled_from(
        ["no Secret [bytes=1]", "[]", "x []", "a (b): c [d=2 e=3]", "form=2 ok=9", "\nkutt ok (no backup): x"]
    ),
)
numbers = st.dictionaries(
    st.sampled_from(["bytes", "kept", "total", "dump", "verify"]),
    st.integers(0, 10**15) | st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000),
)


@st.composite
def line_of(draw: st.DrawFn, name: str) -> Line:
    result = draw(st.sampled_from(WORST_FIRST))
    newest = draw(st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)))
    newest = newest and newest.replace(microsecond=0)
    found = draw(numbers) | ({"newest": int(newest.timestamp())} if newest else {})
    unchanged = result == OK and draw(st.integers(0, 3)) == 0
    return Line(name, result, newest, draw(reasons), found, unchanged)


@st.composite
def runs(draw: st.DrawFn) -> list[Line]:
    """Few databases drawn one by one, or up to 400 that are alike but for their names and a few of them."""
    length = draw(st.integers(1, 50))
    few = [draw(line_of(f"d{index}".ljust(length, "x"))) for index in range(draw(st.integers(1, 6)))]
    many = draw(st.sampled_from([0, 0, 5, 30, 100, 394]))
    copies = [draw(st.sampled_from(few)) for _ in range(draw(st.integers(1, 3)))]
    more = [copies[index % len(copies)] for index in range(many)]
    return few + [
        Line(f"m{index}".ljust(length, "y"), one.result, one.newest, one.why, one.numbers, one.unchanged)
        for index, one in enumerate(more)
    ]


warnings = st.lists(st.text(max_size=500), max_size=6)


def quickly(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def check(lines: list[Line], texts: list[str]) -> None:
    """What has to hold for every run."""
    # A warning is a text of ours; one that reads like a line of a database is none.
    assume(not any(FIRST_FORM.fullmatch(text) for text in texts))
    content = message.write(lines, warnings=texts, volume={"capacity": 10, "growth": -1.5}, more=texts)
    assert len(content) <= 4096
    text = content.decode()
    read = message.read(text)
    assert read.volume == {"capacity": 10, "growth": -1.5}
    by_name = {line.database: line for line in lines}
    for found in read.lines:
        meant = by_name[found.database]
        assert (found.result, found.newest) == (meant.result, meant.newest if found.numbers else _minute(meant.newest))
        assert found.numbers in ({}, _rounded(meant.numbers))
    assert len({found.database for found in read.lines}) == len(read.lines), "a database is named twice"
    left = [by_name[name] for name in by_name.keys() - {found.database for found in read.lines}]
    kinds = {one.result for one in left}
    concluded = read.unnamed()
    if concluded is not None:
        assert concluded[0] == len(left)
        assert kinds <= {concluded[1]}, "what is concluded is not so"
        assert concluded[1] != OK or not any(one.unchanged for one in left), "it has no new backup"
    if left:
        assert f"\nand {len([one for one in left if one.result == left[0].result])} more: {left[0].result}" in text
    if concluded is None and not any(one.unchanged for one in left):
        assert len(kinds) > 1, "it is certain, and not concluded"
    named = Counter(found.result for found in read.lines)
    if named[OK]:
        assert kinds <= {OK}, "what is not ok comes first"
    # The first form: the same lines to the minute.
    old = [FIRST_FORM.fullmatch(one) for one in text.splitlines()]
    assert [(one["database"], one["result"]) for one in old if one] == [
        (one.database, one.result) for one in read.lines
    ]


def _minute(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(second=0)


def _rounded(found: dict[str, float] | object) -> dict[str, float]:
    assert isinstance(found, dict)
    return {key: round(value, 3) for key, value in found.items()}


@quickly(40)
@given(runs(), warnings)
def test_message_of_any_run_fits_and_what_is_cut_is_concluded_soundly(lines: list[Line], texts: list[str]) -> None:
    check(lines, texts)


@pytest.mark.long
@quickly(10_000)
@given(runs(), warnings)
def test_message_of_very_many_runs_fits_and_what_is_cut_is_concluded_soundly(
    lines: list[Line], texts: list[str]
) -> None:
    check(lines, texts)


@quickly(30)
@given(runs(), st.integers(0, 4096))
def test_message_that_lost_its_end_never_leads_to_a_wrong_conclusion(lines: list[Line], length: int) -> None:
    """As a kubelet may cut it that keeps less."""
    content = message.write(lines)[:length].decode(errors="ignore")
    read = message.read(content)
    results = {line.database: line.result for line in lines}
    complete = [found for found in read.lines if found.database in results]
    assert all(found.result == results[found.database] for found in complete)
    named = {found.database for found in complete}
    concluded = read.unnamed()
    if concluded is not None and concluded[0]:
        assert {result for name, result in results.items() if name not in named} == {concluded[1]}


@pytest.mark.parametrize("why", ["no Secret [bytes=1]", "[bytes=1]", "[]", "x []", "a (b): c [d=2 e=3]", "x\ny", ""])
@pytest.mark.parametrize("found", [{}, {"kept": 3, "dump": 0.5}])
def test_reason_that_looks_like_numbers_stays_a_reason(why: str, found: dict[str, float]) -> None:
    (line,) = message.read(message.write([Line("app", WARNING, NOW, why, found)]).decode()).lines
    assert (line.why, line.numbers) == (why.replace("\n", "\\n"), found)


def test_counts_that_do_not_agree_with_the_lines_conclude_nothing() -> None:
    text = message.write([Line("a", FAILED, NOW, "x"), Line("b", OK, NOW, "x")]).decode()
    assert message.read(text).unnamed() == (0, OK)
    for wrong in (text.replace("failed=1", "failed=0"), text.replace("unchanged=0 ", "")):
        assert message.read(wrong).unnamed() is None
    assert message.read(text.replace("ok=1", "ok=3")).unnamed() == (2, OK)


def test_name_from_the_volume_begins_no_line_of_its_own() -> None:
    content = message.write([Line("a\nb failed (no backup): x", OK, NOW, "published")]).decode()
    assert len(content.splitlines()) == 3


def test_message_that_lost_its_beginning_concludes_nothing() -> None:
    lines = [Line(f"d{index}", OK, NOW, "published") for index in range(40)]
    content = message.write(lines).decode()
    assert message.read(content).unnamed() == (0, OK)
    assert message.read(content.split("\n", 3)[3]).unnamed() is None


def outcome(name: str, *, backups: int = 15, problem: str = "", **more: object) -> RunOutcome:
    made = [
        Backup(f"{name}-{n}", NOW - n * 2 * HOUR - timedelta(seconds=30), 2_000_000_000 + n, "", 340, "", None)
        for n in range(backups)
    ]
    found = RunOutcome(name, backups=made, published=[f"{name}-0.dump"], measured=Measured(10**10, 4123, 1234))
    found.notes.append(f"published {name}-20261122-142930.dump (1.9 GiB, 340 tables)")
    if problem:
        found.problems.append(RetentionError(problem, ""))
    found.kept_by = Policy.default(), Limits()
    for key, value in more.items():
        setattr(found, key, value)
    return found


def test_numbers_of_a_run_are_read_back() -> None:
    bad = outcome("kutt", problem="no Secret", bad=["kutt-9.dump.bad"], refusal=RetentionError("no", ""))
    content = termination_message([outcome("authelia"), bad], ["a warning"], NOW, Sizing(10**12, 5, 6, 1234.5678))
    read = message.read(content.decode())
    assert read.volume == {"capacity": 10**12, "used": 5, "full": 6, "growth": 1234.568}
    assert read.counts == {FAILED: 1, REFUSED: 0, WARNING: 0, OK: 1, "unchanged": 0}
    first, second = read.lines
    assert (first.database, first.result, first.why) == ("kutt", FAILED, "no Secret")
    assert first.numbers["bad"] == first.numbers["refused"] == 1
    assert second.newest == NOW - timedelta(seconds=30)
    assert second.numbers == {
        "newest": NOW.timestamp() - 30,
        "oldest": NOW.timestamp() - 30 - 28 * 3600,
        "bytes": 2_000_000_000,
        "tables": 340,
        "kept": 15,
        "total": 15 * 2_000_000_000 + 105,
        "dump": 4123,
        "verify": 1234,
    }


def test_twenty_databases_have_all_their_numbers() -> None:
    read = message.read(termination_message([outcome(f"database-{n}") for n in range(20)], [], NOW).decode())
    assert len([line for line in read.lines if line.numbers]) == 20


@pytest.mark.parametrize("databases", [1, 30, 100, 300, 400])
def test_what_failed_is_named_among_any_number_of_databases_and_the_rest_is_known_to_be_ok(databases: int) -> None:
    outcomes = [outcome(f"database-{n}", problem="x" * 300 if n % 50 == 9 else "") for n in range(databases)]
    read = message.read(termination_message(outcomes, ["the volume will be too small: " + "x" * 900], NOW).decode())
    failed = {one.database for one in outcomes if one.result == FAILED}
    assert {line.database for line in read.lines if line.result == FAILED} == failed
    assert read.unnamed() == (databases - len(read.lines), OK)


def test_people_read_how_many_are_not_named() -> None:
    for length in range(1, 60):
        lines = [Line(f"d{index}".ljust(length, "x"), OK, NOW, "published", {"kept": index}) for index in range(90)]
        text = message.write(lines).decode()
        assert text.endswith(f"\nand {90 - len(message.read(text).lines)} more: ok"), length


def test_database_whose_newest_backup_is_not_of_this_run_is_never_concluded_to_have_one() -> None:
    outcomes = [outcome(f"database-{n:03}") for n in range(300)]
    for old in outcomes[200:205]:
        old.published.clear()
    outcomes[205].recovered.append(outcomes[205].published[0])
    read = message.read(termination_message(outcomes, [], NOW).decode())
    assert read.counts is not None
    assert read.counts["unchanged"] == 6
    assert {f"database-{n}" for n in range(200, 206)} <= {line.database for line in read.lines}
    many = [outcome(f"database-{n:03}", published=[]) for n in range(300)]
    assert message.read(termination_message(many, [], NOW).decode()).unnamed() is None


def test_what_is_not_known_is_missing_and_not_0() -> None:
    unread = RunOutcome("app", problems=[RetentionError("the folder cannot be read", "")])
    (line,) = message.read(termination_message([unread], [], NOW).decode()).lines
    assert line.numbers == {}
    (line,) = message.read(termination_message([outcome("app", backups=0)], [], NOW).decode()).lines
    assert line.numbers.keys() == {"kept", "total", "dump", "verify"}
    assert "capacity" not in message.read(termination_message([unread], [], NOW).decode()).volume


def test_run_writes_what_it_measured(world: World) -> None:
    world.publish("app", NOW - 30 * HOUR)
    base = world.stage("app", NOW)
    assert world.finish(NOW + HOUR).code == 0
    read = message.read(world.termination_log.read_text())
    (line,) = read.lines
    assert (line.database, line.result, line.newest) == ("app", OK, NOW)
    assert line.why.startswith(f"published {base}.dump")
    assert {key: line.numbers[key] for key in ("bytes", "tables", "kept", "total", "dump", "verify")} == {
        "bytes": 2000,
        "tables": 34,
        "kept": 2,
        "total": 4000,
        "dump": 2,
        "verify": 1,
    }
    assert read.volume["full"] > read.volume["used"] > 4000
    assert read.volume["capacity"] > read.volume["used"]
    assert read.volume["growth"] == 0


drilled = st.tuples(st.sampled_from(message.DRILLS), reasons, st.none() | st.integers(0, 10**6))


@quickly(40)
@given(st.lists(drilled, min_size=1, max_size=8), st.sampled_from([1, 1, 20, 50]), st.integers(1, 60))
def test_message_of_any_drill_fits_and_is_read_back(
    drawn: list[tuple[str, str, int | None]], times: int, length: int
) -> None:
    drills = {
        f"d{number}".ljust(length, "x"): message.Drill(f"d{number}".ljust(length, "x"), result, text, took)
        for number, (result, text, took) in enumerate(drawn * times)
    }
    content = message.write_drills(list(drills.values()))
    assert len(content) <= 4096
    read = message.read_drills(content.decode())
    assert read.counts == {result: sum(one.result == result for one in drills.values()) for result in message.DRILLS}
    for one in read.drills:
        meant = drills[one.database]
        assert (one.result, one.restore_seconds) == (meant.result, meant.restore_seconds)
    results = [message.DRILLS.index(one.result) for one in read.drills]
    assert results == sorted(results), "what failed comes first"
    left = [one for name, one in drills.items() if name not in {one.database for one in read.drills}]
    assert not left or len(content) > 3800, "something is cut though there is room"
    assert content.decode().count("\nand ") == len({one.result for one in left})
