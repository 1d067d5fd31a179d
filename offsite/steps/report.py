"""How a run ended, for people and for programs: a table for the log, and the termination message."""

from collections.abc import Sequence
from datetime import datetime

from offsite.steps.run import Outcome
from retention.message import FAILED, OK, REFUSED, WARNING, Line, write
from retention.text import format_age, table

_HEADERS = ("DATABASE", "RESULT", "NEWEST", "AGE", "VERIFIED", "COPIES", "NEW", "DELETED", "WHY")


def text(outcomes: Sequence[Outcome], *, now: datetime) -> str:
    """Return a table with a line for each database."""
    rows = []
    for outcome in outcomes:
        newest = outcome.newest
        rows.append(
            (
                outcome.database,
                result(outcome),
                f"{newest.time:%Y-%m-%d %H:%M:%S}Z" if newest else "none",
                format_age(now - newest.time) if newest else "-",
                newest.verified if newest else "-",
                "?" if outcome.copies is None else str(len(outcome.copies.complete)),
                str(len(outcome.copied)),
                str(len(outcome.deleted)),
                _why(outcome),
            )
        )
    return table(_HEADERS, rows)


def message(outcomes: Sequence[Outcome]) -> bytes:
    """Return the termination message: that of a run, about the copies; see docs/architecture.md for its numbers."""
    return write([_line(outcome) for outcome in outcomes], done="copied")


def result(outcome: Outcome) -> str:
    """Return how a run ended for a database: ok, warning, refused or failed."""
    if outcome.problems:
        return FAILED
    return REFUSED if outcome.refused else WARNING if outcome.warnings else OK


def _line(outcome: Outcome) -> Line:
    newest, numbers = outcome.newest, {}
    if outcome.copies is not None:
        numbers["kept"] = len(outcome.copies.complete)
    if newest is not None:
        numbers |= {"newest": int(newest.time.timestamp()), "bytes": newest.bytes}
        if newest.checked is not None:
            numbers["read"] = int(newest.checked.timestamp())
        if newest.restored is not None:
            numbers["restored"] = int(newest.restored.timestamp())
    if outcome.copies is not None and (proved := outcome.copies.last_restored) is not None:
        numbers["proved"] = int(proved.timestamp())
    if outcome.slot is not None:
        numbers["slot"] = int(outcome.slot.total_seconds())
    new = newest is not None and newest.base in outcome.copied
    time = None if newest is None else newest.time
    return Line(outcome.database, result(outcome), time, _why(outcome), numbers, unchanged=not new)


def _why(outcome: Outcome) -> str:
    if outcome.problems:
        return outcome.problems[0].problem
    if outcome.refused:
        return outcome.refused.problem
    return (outcome.warnings or ["nothing new" if not outcome.copied else "copied"])[0]
