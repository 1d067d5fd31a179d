# Without comments: they are in the project's file of this name.
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from retention.errors import PolicyError
from retention.text import DURATION_HELP, LONGEST, format_duration, parse_duration
RESERVED_NAMES: Final = frozenset({"newest", "oldest", "pinned", "future"})
DEFAULT_PHASE: Final = timedelta(seconds=-900)
_SECOND = timedelta(seconds=1)
_MOST = 1_000_000
WORDS: Final = {
 "last": _SECOND,
 "hourly": timedelta(hours=1),
 "daily": timedelta(days=1),
 "weekly": timedelta(days=7),
 "monthly": timedelta(days=28),
 "yearly": timedelta(days=364),
}
MOST_OF_A_WORD: Final = 1000
@dataclass(frozen=True, slots=True)
class Tier:
 name: str
 every: timedelta
 keep: int
 until: timedelta | None = None
@dataclass(frozen=True, slots=True)
class Quota:
 marks: int
 transit: int
@dataclass(frozen=True, slots=True)
class Policy:
 tiers: tuple[Tier, ...]
 phase: timedelta = DEFAULT_PHASE
 def __post_init__(self):
  _check(self)
 @classmethod
 def default(cls):
  hour = timedelta(hours=1)
  return cls(
   (
    Tier("Hourly", 2 * hour, 6, 12 * hour),
    Tier("12-Hourly", 12 * hour, 4, 48 * hour),
    Tier("Daily", 24 * hour, 5),
   )
  )
 @classmethod
 def from_words(cls, keep, phase = DEFAULT_PHASE):
  for word, number in keep.items():
   if word not in WORDS:
    raise PolicyError(f"keep: {word!r} is not a word for a tier", f"known are {', '.join(WORDS)}")
   if not 0 <= number <= MOST_OF_A_WORD:
    raise PolicyError(f"keep: {word} is {number}", f"give a whole number from 0 to {MOST_OF_A_WORD}")
  words = [word for word in WORDS if keep.get(word)]
  if not words:
   raise PolicyError("keep names nothing to keep", 'give at least one number above 0, such as "daily": 7')
  tiers, until = [], timedelta(0)
  for word in words:
   until += keep[word] * WORDS[word]
   tiers.append(Tier(word.capitalize(), WORDS[word], keep[word], None if word is words[-1] else until))
  return cls(tuple(tiers), phase)
 @property
 def most(self):
  return sum(tier.keep for tier in self.tiers)
 def quotas(self):
  quotas = []
  begin = timedelta(0)
  for tier in self.tiers:
   marks = tier.keep
   if tier.until is not None:
    marks = min(tier.keep, (tier.until - begin) // tier.every)
    begin = tier.until
   quotas.append(Quota(marks, tier.keep - marks))
  return tuple(quotas)
 @classmethod
 def from_json(cls, text, source = "policy"):
  try:
   tiers, phase = _fields_of(text)
   return cls.from_words(tiers, phase) if isinstance(tiers, Mapping) else cls(tiers, phase)
  except PolicyError as error:
   raise PolicyError(f"{source}: {error.problem}", error.remedy) from None
 def to_json(self):
  tiers = []
  for tier in self.tiers:
   fields: dict[str, Any] = {"name": tier.name, "every": format_duration(tier.every), "keep": tier.keep}
   if tier.until is not None:
    fields["until"] = format_duration(tier.until)
   tiers.append(fields)
  return json.dumps({"phase": self.phase // _SECOND, "tiers": tiers}, indent=2)
@dataclass(frozen=True, slots=True)
class Limits:
 large_percent: int = 50
 max_bytes: int | None = None
 min_backups: int = 3
 def __post_init__(self):
  if not 1 <= self.large_percent <= 99:
   raise PolicyError(f"a large prune of {self.large_percent} percent", "give a whole number from 1 to 99")
  if self.max_bytes is not None and self.max_bytes < 1:
   raise PolicyError(f"a budget of {self.max_bytes} bytes", "give 1 or more, or leave it out")
  if self.min_backups < 1:
   raise PolicyError(f"a budget that leaves {self.min_backups} backups", "give 1 or more")
DEFAULT_LIMITS: Final = Limits()
def _check(policy):
 if not policy.tiers:
  raise PolicyError("tiers is empty", "name at least one tier; a policy that keeps nothing is refused")
 if policy.phase % _SECOND:
  raise PolicyError(f"phase of {policy.phase} is not a whole number of seconds", "round it")
 if abs(policy.phase) > LONGEST:
  raise PolicyError(f"phase of {policy.phase // _SECOND} seconds is more than a century", "give less")
 begin = timedelta(0)
 for index, tier in enumerate(policy.tiers):
  place = f"tiers[{index}] {tier.name!r}"
  _check_name(policy, index, place)
  _check_width(policy, index, place)
  if not 1 <= tier.keep <= _MOST:
   raise PolicyError(
    f"{place}: keep is {tier.keep}", f"keep a whole number from 1 to {_MOST}, or leave the tier out"
   )
  begin = _check_range(policy, index, place, begin)
def _check_name(policy, index, place):
 name = policy.tiers[index].name
 if not name.strip() or not name.isprintable() or len(name) > 63:
  raise PolicyError(f"{place}: this is not a valid name", "give it 1 to 63 printable characters")
 if name in RESERVED_NAMES:
  raise PolicyError(f"{place}: the name is reserved for backups outside the tiers", "choose another name")
 if name in (tier.name for tier in policy.tiers[:index]):
  raise PolicyError(f"{place}: the name is used twice", "give each tier its own name")
def _check_width(policy, index, place):
 every = policy.tiers[index].every
 if every < _SECOND or every % _SECOND:
  raise PolicyError(f"{place}: every is {every}", "give a whole number of seconds above 0")
 if every > LONGEST:
  raise PolicyError(f"{place}: every is longer than a century", "give less")
 if index and every % policy.tiers[index - 1].every:
  finer = policy.tiers[index - 1]
  raise PolicyError(
   f"{place}: every {format_duration(every)} is not a multiple of {finer.name!r}'s "
   f"{format_duration(finer.every)}",
   f"write {format_duration(max(every - every % finer.every, finer.every))}, "
   "or list tiers from fine to coarse, each width a multiple of the one before",
  )
def _check_range(policy, index, place, begin):
 tier = policy.tiers[index]
 if index == len(policy.tiers) - 1:
  if tier.until is not None:
   raise PolicyError(f"{place}: the last tier has an until", "leave it out: the last tier ends by count alone")
  return begin
 if tier.until is None:
  raise PolicyError(f"{place}: until is missing", "give the age at which the next tier begins")
 if tier.until > LONGEST:
  raise PolicyError(f"{place}: until is longer than a century", "give less")
 span, rest = divmod(tier.until - begin, tier.every)
 if span < 1 or rest:
  raise PolicyError(
   f"{place}: from {format_duration(begin)} until {format_duration(tier.until)} is not a whole number of "
   f"{format_duration(tier.every)}, 1 or more",
   "let each tier end a multiple of its width after the one before it",
  )
 if index == 0 and tier.keep > span:
  raise PolicyError(
   f"{place}: keep is {tier.keep}, but there are only {span} slots of {format_duration(tier.every)} until "
   f"{format_duration(tier.until)}",
   f"keep at most {span}, or let the tier end later",
  )
 return tier.until
def _fields_of(text):
 document = _members(_decode(text), "the document", required=(), optional=("tiers", "keep", "phase"))
 phase = document.get("phase", DEFAULT_PHASE // _SECOND)
 if type(phase) is not int:
  raise PolicyError(f"phase is {_shown(phase)}", "give a whole number of seconds, such as -900")
 if abs(phase) > LONGEST // _SECOND:
  raise PolicyError(f"phase of {_shown(phase)} seconds is more than a century", "give less")
 if ("tiers" in document) == ("keep" in document):
  both = "tiers" in document
  problem = "tiers and keep are both given" if both else "tiers is missing"
  raise PolicyError(problem, "leave one of them out" if both else 'give tiers, or keep, such as {"daily": 7}')
 if "keep" in document:
  keep = _members(document["keep"], "keep", required=(), optional=tuple(WORDS))
  for word, number in keep.items():
   if type(number) is not int:
    raise PolicyError(f"keep: {word} is {_shown(number)}", "give a whole number")
  return keep, timedelta(seconds=phase)
 tiers = document["tiers"]
 if type(tiers) is not list:
  raise PolicyError(f"tiers is {_shown(tiers)}", "give a list of tiers, finest first")
 return tuple(_tier(value, f"tiers[{index}]") for index, value in enumerate(tiers)), timedelta(seconds=phase)
def _tier(value, place):
 fields = _members(value, place, required=("name", "every", "keep"), optional=("until",))
 name, keep = fields["name"], fields["keep"]
 if type(name) is not str:
  raise PolicyError(f"{place}: name is {_shown(name)}", "give a text")
 if type(keep) is not int:
  raise PolicyError(f"{place}: keep is {_shown(keep)}", "give a whole number, 1 or more")
 until = fields.get("until")
 return Tier(
  name,
  _duration(fields["every"], f"{place}: every"),
  keep,
  None if until is None else _duration(until, f"{place}: until"),
 )
def _duration(value, place):
 if type(value) is not str:
  raise PolicyError(f"{place} is {_shown(value)}", DURATION_HELP)
 try:
  return parse_duration(value)
 except PolicyError as error:
  raise PolicyError(f"{place}: {error.problem}", error.remedy) from None
def _decode(text):
 def members(pairs):
  names = [name for name, _ in pairs]
  for name in names:
   if names.count(name) > 1:
    raise PolicyError(f"the key {_shown(name)} occurs twice in one object", "keep one of them")
  return dict(pairs)
 try:
  return json.loads(text, object_pairs_hook=members)
 except (ValueError, RecursionError) as error:
  raise PolicyError(
   f"this is not JSON ({error})", 'write {"tiers": [{"name", "every", "keep", "until"}, …]}'
  ) from None
def _members(value, place, required, optional):
 if type(value) is not dict:
  raise PolicyError(f"{place} is {_shown(value)}", f"give an object with {', '.join(required or optional)}")
 for name in value:
  if name not in required + optional:
   raise PolicyError(f"{place}: unknown key {_shown(name)}", f"known are {', '.join(required + optional)}")
 for name in required:
  if name not in value:
   raise PolicyError(f"{place}: {name} is missing", f"required are {', '.join(required)}")
 return value
def _shown(value):
 text = json.dumps(value)
 return text if len(text) <= 60 else f"{text[:57]}…"
