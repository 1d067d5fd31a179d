# Without comments: they are in the project's file of this name.
from collections.abc import Sequence
from datetime import datetime
from offsite.steps.run import Outcome
from retention.message import FAILED, OK, REFUSED, WARNING, Line, write
from retention.text import format_age, table
_HEADERS = ("DATABASE", "RESULT", "NEWEST", "AGE", "VERIFIED", "COPIES", "NEW", "DELETED", "WHY")
def text(outcomes, *, now):
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
def message(outcomes):
 return write([_line(outcome) for outcome in outcomes], done="copied")
def result(outcome):
 if outcome.problems:
  return FAILED
 return REFUSED if outcome.refused else WARNING if outcome.warnings else OK
def _line(outcome):
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
def _why(outcome):
 if outcome.problems:
  return outcome.problems[0].problem
 if outcome.refused:
  return outcome.refused.problem
 return (outcome.warnings or ["nothing new" if not outcome.copied else "copied"])[0]
