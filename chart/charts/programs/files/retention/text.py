# Without comments: they are in the project's file of this name.
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from retention.errors import PolicyError
LONGEST = timedelta(days=36525)
_DURATION = re.compile(r"([0-9]{1,10})([smhdw])")
_UNITS = {
 "w": timedelta(weeks=1),
 "d": timedelta(days=1),
 "h": timedelta(hours=1),
 "m": timedelta(minutes=1),
 "s": timedelta(seconds=1),
}
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)([A-Za-z]*)")
_SIZES = {
 "": 1,
 **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), 1)},
 **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P"), 1)},
}
_LARGEST = 1024**6
DURATION_HELP = "write a whole number and one unit of s, m, h, d, w, such as 2h, 90m or 7d"
def parse_duration(text):
 match = _DURATION.fullmatch(text)
 if match is None:
  raise PolicyError(f"{text!r} is not a duration", DURATION_HELP)
 number, unit = int(match.group(1)), _UNITS[match.group(2)]
 if number == 0:
  raise PolicyError(f"{text!r} is an empty duration", DURATION_HELP)
 if number > LONGEST // unit:
  raise PolicyError(f"{text!r} is longer than a century", DURATION_HELP)
 return number * unit
def format_duration(duration):
 if duration <= timedelta(days=2) and duration % _UNITS["h"] == timedelta(0):
  return f"{duration // _UNITS['h']}h"
 for name in ("d", "h", "m"):
  if duration % _UNITS[name] == timedelta(0):
   return f"{duration // _UNITS[name]}{name}"
 return f"{duration // timedelta(seconds=1)}s"
def parse_size(text):
 match = _SIZE.fullmatch(text)
 if match is None or match.group(2) not in _SIZES:
  raise PolicyError(f"{text!r} is not a size", f"write a number and one unit of {', '.join(_SIZES)[2:]}")
 whole, _, fraction = match.group(1).partition(".")
 size: int = -(-int(whole + fraction) * _SIZES[match.group(2)] // 10 ** len(fraction))
 if not 1 <= size <= _LARGEST:
  raise PolicyError(f"{text!r} is not between 1 byte and 1 EiB", "give another size")
 return size
def format_size(size):
 number, unit = float(size), "B"
 for larger in ("KiB", "MiB", "GiB", "TiB"):
  if number < 1024:
   break
  number, unit = number / 1024, larger
 return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
def parse_moment(text):
 try:
  moment = datetime.fromisoformat(text)
  return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
 except (ValueError, OverflowError):
  return None
def later(moment, length):
 last = datetime.max.replace(microsecond=0, tzinfo=UTC)
 return last if length > last - moment else moment + length
def shown(text):
 if text.isprintable():
  return text
 return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
def table(header, rows):
 lines = [tuple(header), *(tuple(map(shown, row)) for row in rows)]
 widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
 form = "  ".join([*(f"{{:<{width}}}" for width in widths), "{}"])
 return "\n".join(form.format(*line) for line in lines)
def format_age(age):
 if age < timedelta(0):
  return f"in {format_age(-age)}"
 if age < timedelta(hours=2):
  return f"{age // timedelta(minutes=1)}m"
 if age < timedelta(days=2):
  return f"{age // timedelta(hours=1)}h"
 return f"{age / timedelta(days=1):.1f}d"
