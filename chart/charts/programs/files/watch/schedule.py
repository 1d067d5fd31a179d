# Without comments: they are in the project's file of this name.
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
_DAY = timedelta(days=1)
MACROS = {
 "@yearly": "0 0 1 1 *",
 "@annually": "0 0 1 1 *",
 "@monthly": "0 0 1 * *",
 "@weekly": "0 0 * * 0",
 "@daily": "0 0 * * *",
 "@midnight": "0 0 * * *",
 "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = timedelta(days=40 * 366)
class ScheduleError(ValueError):
 pass
@dataclass(frozen=True, slots=True)
class _Field:
 name: str
 low: int
 high: int
 names: tuple[str, ...] = ()
 def parse(self, text):
  found: set[int] = set()
  unrestricted = False
  for part in text.split(","):
   values, every = self._part(part)
   found |= values
   unrestricted |= every
  return frozenset(found), unrestricted
 def _part(self, part):
  span, slash, step_text = part.partition("/")
  step = self._number(step_text, 1, 10**4, part) if slash else 1
  if span in ("*", "?"):
   return set(range(self.low, self.high + 1, step)), step == 1
  first, dash, last = span.partition("-")
  low = self._value(first, part)
  high = self._value(last, part) if dash else self.high if slash else low
  if low > high:
   raise ScheduleError(f"{part!r} in its {self.name} goes backwards")
  return set(range(low, high + 1, step)), False
 def _value(self, text, part):
  if text.lower() in self.names:
   return self.names.index(text.lower()) + self.low
  return self._number(text, self.low, self.high, part)
 def _number(self, text, low, high, part):
  if not (text.isascii() and text.isdigit() and len(text) < 6 and low <= int(text) <= high):
   raise ScheduleError(f"{part!r} is not valid as its {self.name}")
  return int(text)
_FIELDS = (
 _Field("minute", 0, 59),
 _Field("hour", 0, 23),
 _Field("day of the month", 1, 31),
 _Field("month", 1, 12, _MONTHS),
 _Field("weekday", 0, 6, _WEEKDAYS),
)
@dataclass(frozen=True, slots=True)
class Schedule:
 times: tuple[int, ...]
 days: frozenset[int]
 months: frozenset[int]
 weekdays: frozenset[int]
 either: bool
 @classmethod
 def parse(cls, expression):
  fields = MACROS.get(expression.strip().lower(), expression).split()
  if len(fields) != len(_FIELDS):
   raise ScheduleError("it does not have five fields")
  (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = (
   field.parse(text) for field, text in zip(_FIELDS, fields, strict=True)
  )
  times = tuple(sorted(60 * hour + minute for hour in hours for minute in minutes))
  return cls(times, days, months, weekdays, not (any_day or any_weekday))
 def on(self, day):
  if day.month not in self.months:
   return False
  found = day.day in self.days, day.isoweekday() % 7 in self.weekdays
  return any(found) if self.either else all(found)
 def after(self, moment, zone = UTC):
  local = moment.astimezone(zone)
  for day in _days(local.date(), _LONGEST):
   if not self.on(day):
    continue
   for minutes in self.times:
    due = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=zone).astimezone(UTC)
    back = due.astimezone(zone)
    if due > moment and (back.hour, back.minute) == divmod(minutes, 60):
     return due
  return None
def _days(first, length):
 for number in range(length.days):
  yield first + number * _DAY
