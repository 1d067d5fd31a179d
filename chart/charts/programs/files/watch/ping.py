# Without comments: they are in the project's file of this name.
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit
from retention.message import FAILED, REFUSED
from watch.memory import UNKNOWN
from watch.standing import LATE, Database, worst_first
_BAD = (FAILED, LATE, REFUSED)
_MOST_BYTES = 10_000
@dataclass(frozen=True, slots=True)
class Ping:
 failed: bool
 body: bytes
def ping_for(databases, *, out_of_date, title):
 asked = [one for one in databases if not one.suspended]
 bad = any(one.state in _BAD for one in asked)
 if out_of_date is not None or (not bad and any(one.state == UNKNOWN for one in asked)):
  return None
 lines = [title, *(f"{one.name}: {one.state}: {one.why}" for one in worst_first(asked))]
 return Ping(bad, "\n".join(lines).encode(errors="replace")[:_MOST_BYTES])
def url_of(url, *, failed):
 parts = urlsplit(url.strip())
 path = parts.path.rstrip("/") + ("/fail" if failed else "")
 return urlunsplit(parts._replace(path=path))
