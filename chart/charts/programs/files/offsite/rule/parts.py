# Without comments: they are in the project's file of this name.
from dataclasses import dataclass
from typing import Final
from retention.errors import ConfigError
from retention.text import format_size
MIB: Final = 1024 * 1024
MOST_PARTS: Final = 10_000
_LEAST = 8 * MIB
_LARGEST = 5 * 1024 * MIB
_MEMORY = 32 * MIB
_MOST_AT_ONCE = 4
@dataclass(frozen=True, slots=True)
class Parts:
 size: int
 at_once: int
def parts_for(size, most = MOST_PARTS):
 usable = max(1, most - most // 20)
 needed = -(-size // usable)
 part = max(_LEAST, -(-needed // MIB) * MIB)
 if part > _LARGEST:
  raise ConfigError(
   f"an archive of {format_size(size)} needs parts of {format_size(part)}, and no store takes more than 5 GiB",
   "raise offsite.maxParts to what the store takes",
  )
 return Parts(part, max(1, min(_MOST_AT_ONCE, _MEMORY // part)))
