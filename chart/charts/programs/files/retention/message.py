# Without comments: they are in the project's file of this name.
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from retention.text import shown
MOST_BYTES = 4096
OK, WARNING, REFUSED, FAILED = "ok", "warning", "refused", "failed"
WORST_FIRST = (FAILED, REFUSED, WARNING, OK)
_WARNING_LENGTH = 200
_LEAST_WHY = 40
_HEADER = re.compile(r"form=2(?: [a-z]+=\S+)*")
_LINE = re.compile(r"(?P<database>\S+) (?P<result>ok|warning|refused|failed) \((?P<newest>[^)]*)\): ?(?P<why>.*)")
_NEWEST = re.compile(r"newest (\d{4}-\d{2}-\d{2} \d{2}:\d{2})Z")
_NUMBERS = re.compile(r"(?P<why>.*?) ?\[(?P<numbers>(?:[a-z]+=[0-9.+-]+(?: [a-z]+=[0-9.+-]+)*)?)\]")
_NUMBER = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,9})?")
@dataclass(frozen=True, slots=True)
class Line:
 database: str
 result: str
 newest: datetime | None
 why: str
 numbers: Mapping[str, float] = field(default_factory=dict)
 unchanged: bool = False
 @property
 def rank(self):
  return 2 * WORST_FIRST.index(self.result) - self.unchanged
 def text(self, most = None, *, numbers = True):
  age = f"newest {self.newest:%Y-%m-%d %H:%M}Z" if self.newest else "no backup"
  why = shown(self.why)
  if most is not None and len(why) > most:
   why = f"{why[: most - 1]}…" if most else ""
  pairs = " ".join(f"{key}={_written(value)}" for key, value in self.numbers.items()) if numbers else ""
  if pairs or _NUMBERS.fullmatch(why):
   why = f"{why} [{pairs}]".lstrip()
  return f"{shown(self.database)} {self.result} ({age}): {why}"
@dataclass(frozen=True, slots=True)
class Message:
 lines: tuple[Line, ...]
 counts: Mapping[str, int] | None = None
 volume: Mapping[str, float] = field(default_factory=dict)
 def unnamed(self):
  if self.counts is None:
   return None
  named = Counter(line.result for line in self.lines)
  left = {result: self.counts[result] - named[result] for result in WORST_FIRST}
  if any(count < 0 for count in left.values()):
   return None
  kinds = [result for result, count in left.items() if count]
  if not kinds:
   return 0, OK
  (kind, *others) = kinds
  worse_come_first = all(not named[result] for result in WORST_FIRST[WORST_FIRST.index(kind) + 1 :])
  if others or not worse_come_first or (kind == OK and named[OK] < self.counts["unchanged"]):
   return None
  return left[kind], kind
def write(
 lines,
 *,
 warnings = (),
 volume = None,
 more = (),
 done = "done",
):
 ranked = sorted(lines, key=lambda line: line.rank)
 counts = Counter(line.result for line in ranked)
 failed, unchanged = counts[FAILED], sum(line.unchanged for line in ranked)
 first = f"{failed} of {len(ranked)} databases failed" if failed else f"{len(ranked)} databases {done}"
 facts: dict[str, float] = {result: counts[result] for result in WORST_FIRST[:-1]}
 facts |= {"unchanged": unchanged, OK: counts[OK], **(volume or {})}
 head = [first, "form=2 " + " ".join(f"{key}={_written(value)}" for key, value in facts.items())]
 for warning in map(shown, warnings):
  head.append(warning if len(warning) <= _WARNING_LENGTH else f"{warning[: _WARNING_LENGTH - 1]}…")
 head = fitting(head, MOST_BYTES // 2)
 room = MOST_BYTES - _size(head)
 body = _body(ranked, room)
 return "\n".join(fitting([*head, *body, *map(shown, more)], MOST_BYTES)).encode(errors="replace")
def _body(ranked, room):
 wrong = [line for line in ranked if line.result != OK]
 good = [line for line in ranked if line.result == OK]
 for most in (None, 0):
  body = [*(line.text() for line in wrong), *(line.text(most) for line in good)]
  if _size(body) <= room:
   return body
 body = _shortened(wrong, room - _size(_rest(ranked)))
 for line in good if len(body) == len(wrong) else ():
  following = [*body, line.text(0)]
  if _size([*following, *_rest(ranked[len(following) :])]) > room:
   break
  body = following
 return [*body, *_rest(ranked[len(body) :])]
def _shortened(wrong, room):
 for numbers, least in ((True, _LEAST_WHY), (False, 0)):
  def lines(most, numbers = numbers):
   return [line.text(most, numbers=numbers) for line in wrong]
  if _size(lines(least)) <= room:
   return lines(_largest(least, MOST_BYTES, lambda most: _size(lines(most)) <= room))
 return fitting([line.text(0, numbers=False) for line in wrong], room)
def _largest(least, most, fits):
 while least < most:
  middle = (least + most + 1) // 2
  least, most = (middle, most) if fits(middle) else (least, middle - 1)
 return least
def _rest(left):
 counts = Counter(line.result for line in left)
 return [f"and {counts[result]} more: {result}" for result in WORST_FIRST if counts[result]]
def _size(lines):
 return sum(len(line.encode(errors="replace")) + 1 for line in lines)
def fitting(lines, room):
 fitting: list[str] = []
 for line in lines:
  room -= len(line.encode(errors="replace")) + bool(fitting)
  if room < 0:
   break
  fitting.append(line)
 return fitting
def _written(value):
 return str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")
def read(text):
 lines: list[Line] = []
 facts: dict[str, float] | None = None
 for line in text.splitlines():
  if facts is None and not lines and _HEADER.fullmatch(line):
   facts = _numbers(line.removeprefix("form=2"))
  elif match := _LINE.fullmatch(line):
   lines.append(_read_line(match))
 if facts is None:
  return Message(tuple(lines))
 counts = {key: int(facts.pop(key)) for key in (*WORST_FIRST, "unchanged") if key in facts}
 complete = len(counts) == len(WORST_FIRST) + 1
 return Message(tuple(lines), counts if complete else None, facts)
PROVED, NONE = "proved", "none"
DRILLS = (FAILED, NONE, PROVED)
_DRILL_HEADER = re.compile(r"drills failed=(?P<failed>\d{1,6}) none=(?P<none>\d{1,6}) proved=(?P<proved>\d{1,6})")
_DRILL_LINE = re.compile(
 r"(?P<database>\S+): .*\[drill=(?P<result>failed|none|proved)(?: restore=(?P<restore>\d{1,9}))?\]"
)
@dataclass(frozen=True, slots=True)
class Drill:
 database: str
 result: str
 text: str = ""
 restore_seconds: int | None = None
 def line(self, most = None):
  text = shown(self.text)
  if most is not None and len(text) > most:
   text = f"{text[: most - 1]}…" if most else ""
  took = "" if self.restore_seconds is None else f" restore={self.restore_seconds}"
  return f"{shown(self.database)}: {text} [drill={self.result}{took}]"
@dataclass(frozen=True, slots=True)
class DrillMessage:
 drills: tuple[Drill, ...]
 counts: Mapping[str, int] | None = None
def write_drills(drills):
 ranked = sorted(drills, key=lambda drill: DRILLS.index(drill.result))
 counts = Counter(drill.result for drill in ranked)
 failed = counts[FAILED]
 first = f"{failed} of {len(ranked)} drills failed" if failed else f"{counts[PROVED]} databases proved"
 head = [first, "drills " + " ".join(f"{result}={counts[result]}" for result in DRILLS)]
 room = MOST_BYTES - _size(head)
 def lines(most):
  return [drill.line(most) for drill in ranked]
 if _size(lines(0)) <= room:
  body = lines(_largest(0, MOST_BYTES, lambda most: _size(lines(most)) <= room))
 else:
  body = fitting(lines(0), room - 3 * len("and 999999 more: proved\n"))
  left = Counter(drill.result for drill in ranked[len(body) :])
  body += [f"and {left[result]} more: {result}" for result in DRILLS if left[result]]
 return "\n".join([*head, *body]).encode(errors="replace")
def read_drills(text):
 drills, counts = [], None
 for line in text.splitlines():
  if match := _DRILL_LINE.fullmatch(line):
   took = match["restore"]
   drills.append(Drill(match["database"], match["result"], "", int(took) if took else None))
  elif counts is None and not drills and (match := _DRILL_HEADER.fullmatch(line)):
   counts = {result: int(match[result]) for result in DRILLS}
 return DrillMessage(tuple(drills), counts)
def _read_line(match):
 why, numbers = match["why"], {}
 if found := _NUMBERS.fullmatch(why):
  why, numbers = found["why"], _numbers(found["numbers"])
 newest = _NEWEST.fullmatch(match["newest"])
 moment = _moment(newest[1]) if newest else None
 if moment is not None and "newest" in numbers:
  moment = _exact(numbers["newest"], moment)
 return Line(match["database"], match["result"], moment, why, numbers)
def _moment(text):
 try:
  return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
 except ValueError:
  return None
def _exact(seconds, minute):
 offset = seconds - minute.timestamp()
 return datetime.fromtimestamp(seconds, UTC) if 0 <= offset < 60 else minute
def _numbers(text):
 found: dict[str, float] = {}
 for pair in text.split():
  key, _, value = pair.partition("=")
  if match := _NUMBER.fullmatch(value):
   found[key] = float(value) if match[1] else int(value)
 return found
