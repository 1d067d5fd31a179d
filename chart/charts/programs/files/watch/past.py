# Without comments: they are in the project's file of this name.
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from retention.message import FAILED, OK, REFUSED, WARNING
UNKNOWN = "unknown"
MOST_RUNS = 48
MOST_DAYS = 365
_RESULTS = {"F": FAILED, "R": REFUSED, "U": UNKNOWN, "W": WARNING, "O": OK}
_LETTERS = {result: letter for letter, result in _RESULTS.items()}
_RANK = {result: number for number, result in enumerate(_RESULTS.values())}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_RUN = re.compile(r"([0-9a-z]{1,6})([FRUWO])")
_RUNS = re.compile(rf"(?:{_RUN.pattern}){{0,{MOST_RUNS}}}")
_SPAN = re.compile(r"([FRUWO.])([0-9]{0,3})")
_DAYS = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}) ((?:{_SPAN.pattern}){{1,{MOST_DAYS}}})")
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Ended = tuple[int, str]
@dataclass(frozen=True, slots=True)
class Past:
 runs: str = ""
 days: str = ""
 def ended(self):
  found, at = [], 0
  for since, letter in _RUN.findall(self.runs):
   at += int(since, 36)
   found.append((at, _RESULTS[letter]))
  return found
 def by_day(self):
  if not self.days:
   return None
  last, _, spans = self.days.partition(" ")
  results = [_RESULTS.get(letter, "") for letter, count in _SPAN.findall(spans) for _ in range(int(count or 1))]
  return date.fromisoformat(last), results
def read(runs, days):
 past = Past(str(runs), str(days))
 try:
  found = past.by_day() if _DAYS.fullmatch(past.days) else None
 except ValueError:
  found = None
 if found is None or len(found[1]) > MOST_DAYS:
  past = Past(past.runs)
 return past if _RUNS.fullmatch(past.runs) else Past("", past.days)
def add(past, at, result, *, again):
 minute = (at - _EPOCH) // _MINUTE
 runs = dict[int, str]()
 for moment, known in past.ended():
  runs[moment] = _worst((known, runs.get(moment, OK)))
 runs[minute] = result if again or minute not in runs else _worst((result, runs[minute]))
 kept = sorted(runs.items())[-MOST_RUNS:]
 day = _day(minute)
 of_day = [known for moment, known in kept if _day(moment) == day]
 whole = len(runs) < MOST_RUNS or _day(kept[0][0]) < day
 return Past(_runs_text(kept), _with_day(past, day, of_day or [result], whole=whole))
def _with_day(past, day, results, *, whole):
 last, days = past.by_day() or (day, [""])
 if day > last:
  days += [""] * min((day - last).days, MOST_DAYS)
  last = day
 at = len(days) - 1 - (last - day).days
 if at < 0 and len(days) - at <= MOST_DAYS:
  days = [""] * -at + days
  at = 0
 if at < 0:
  return past.days
 days[at] = _worst(results if whole or not days[at] else [*results, days[at]])
 return _days_text(last, days[-MOST_DAYS:])
def _worst(results):
 return min(results, key=_RANK.__getitem__)
def _day(minute):
 return (_EPOCH + minute * _MINUTE).date()
def _runs_text(runs):
 parts, before = [], 0
 for minute, result in runs:
  parts.append(_base_36(minute - before) + _LETTERS[result])
  before = minute
 return "".join(parts)
def _days_text(last, days):
 parts: list[str] = []
 at = 0
 while at < len(days):
  count = 1
  while at + count < len(days) and days[at + count] == days[at]:
   count += 1
  parts.append(f"{_LETTERS.get(days[at], '.')}{count if count > 1 else ''}")
  at += count
 return f"{last.isoformat()} {''.join(parts)}"
def _base_36(number):
 digits = _DIGITS[number % 36]
 while number := number // 36:
  digits = _DIGITS[number % 36] + digits
 return digits
