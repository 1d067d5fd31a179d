"""When a schedule is due."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from watch.schedule import Schedule, ScheduleError

START = datetime(2026, 2, 27, 13, 7, 33, tzinfo=UTC)


def field(low: int, high: int, *, weekday: bool = False) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(2, max(2, (high - low) // 2))
    # cronsim ignores the end of `1-1/2`.
    wide = st.tuples(st.integers(low, high - 1), st.integers(1, high - low)).map(
        lambda pair: f"{pair[0]}-{min(sum(pair), high)}"
    )
    stepped = st.tuples(wide, step).map(lambda pair: f"{pair[0]}/{pair[1]}")
    part = number.map(str) | span | stepped
    several = st.lists(part, min_size=1, max_size=3).map(",".join)
    starred = st.nothing() if weekday else step.map(lambda every: f"*/{every}")
    return st.just("*") | several | starred


schedules = st.tuples(
    field(0, 59),
    field(0, 23),
    # With a weekday too, `*/2` means something else to Kubernetes than to cronsim.
    st.one_of(
        st.tuples(field(1, 28), field(1, 12), st.just("*")),
        st.tuples(st.just("*"), field(1, 12), field(0, 6, weekday=True)),
        st.tuples(st.integers(1, 28).map(str), field(1, 12), st.integers(0, 6).map(str)),
    ),
).map(lambda drawn: " ".join([drawn[0], drawn[1], *drawn[2]]))


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_next_due_time_is_the_one_that_another_implementation_finds(expression: str) -> None:
    theirs = CronSim(expression, START)
    moment: datetime | None = START
    for _ in range(5):
        assert moment is not None
        moment = Schedule.parse(expression).after(moment)
        assert moment == next(theirs), expression


def test_starred_step_restricts_days_as_it_does_to_kubernetes() -> None:
    found = Schedule.parse("0 0 */10 * 1").after(datetime(2026, 3, 1, 1, tzinfo=UTC))
    assert found == datetime(2026, 3, 2, tzinfo=UTC), "a Monday, though not the 1st, 11th, 21st or 31st"
    assert Schedule.parse("0 0 */1 * 1").after(datetime(2026, 3, 3, tzinfo=UTC)) == datetime(2026, 3, 9, tzinfo=UTC)


def test_time_that_the_clocks_leave_out_is_skipped() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    found = Schedule.parse("30 2 * * *").after(datetime(2026, 3, 28, 12, tzinfo=UTC), berlin)
    assert found == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "* * 0 * *",
        "* * * * 7",
        "²",
    ],
)
def test_what_is_not_a_schedule_is_refused(expression: str) -> None:
    with pytest.raises(ScheduleError):
        Schedule.parse(expression)
