# Without comments: they are in the project's file of this name.
from collections.abc import Mapping
from dataclasses import dataclass
from retention.errors import ConfigError
from retention.text import shown
REPEATABLE = frozenset({"exclude", "extra_arg", "warning"})
@dataclass(frozen=True, slots=True)
class KeyValues:
 source: str
 values: dict[str, str]
 repeated: dict[str, tuple[str, ...]]
 def text(self, key):
  return self.values.get(key, "")
 def number(self, key):
  text = self.text(key)
  return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
 def require(self, key, remedy):
  if key not in self.values:
   raise ConfigError(f"{self.source}: {key} is missing", remedy)
  return self.values[key]
 @property
 def warnings(self):
  return self.repeated.get("warning", ())
def parse(text, source):
 values: dict[str, str] = {}
 repeated: dict[str, tuple[str, ...]] = {}
 for number, line in enumerate(text.split("\n"), 1):
  if not line:
   continue
  key, equals, value = line.partition("=")
  if not equals or not key:
   raise ConfigError(f"{source}: line {number} is not key=value", "check which program wrote this file")
  if key in REPEATABLE:
   repeated[key] = (*repeated.get(key, ()), value)
  elif key in values:
   raise ConfigError(f"{source}: {key} occurs twice", "keep one of the two lines")
  else:
   values[key] = value
 return KeyValues(source, values, repeated)
def format_lines(values):
 return "".join(f"{key}={shown(value)}\n" for key, value in values.items())
