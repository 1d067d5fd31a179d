# Without comments: they are in the project's file of this name.
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from retention.message import WORST_FIRST, Line, Message
ETAG, READBACK, RESTORED = "etag", "readback", "restored"
VERIFIED = (ETAG, READBACK, RESTORED)
@dataclass(frozen=True, slots=True)
class Outside:
 judged: datetime
 result: str
 why: str
 newest: datetime | None = None
 verified: str = ""
 looked: datetime | None = None
 restored: datetime | None = None
def learn(before, ended, message):
 return {**before, **{line.database: _one(before.get(line.database), ended, line) for line in message.lines}}
def _one(before, ended, line):
 found = Outside(ended, line.result, line.why) if before is None else before
 if found.judged <= ended:
  found = replace(found, judged=ended, result=line.result, why=line.why)
 if "kept" in line.numbers and (found.looked is None or found.looked <= ended):
  verified, restored = proof_of(line)
  found = replace(found, newest=line.newest, verified=verified, looked=ended, restored=restored)
 return found
def proof_of(line):
 how = RESTORED if "restored" in line.numbers else READBACK if "read" in line.numbers else ETAG
 proved = line.numbers.get("proved")
 restored = None if proved is None else datetime.fromtimestamp(max(0, min(proved, 2**36)), UTC)
 return "" if line.newest is None else how, restored
def to_list(one):
 moments = _text(one.looked), _text(one.restored)
 return [_text(one.judged), one.result, one.why, _text(one.newest), one.verified, *moments]
def from_list(found):
 judged, result, why, newest, verified, looked, restored = [*found, None][:7]
 if result not in WORST_FIRST or verified not in ("", *VERIFIED):
  raise ValueError(found)
 ended = _moment(judged)
 if ended is None:
  raise ValueError(found)
 return Outside(ended, result, str(why), _moment(newest), verified, _moment(looked), _moment(restored))
def _text(moment):
 return None if moment is None else moment.isoformat()
def _moment(text):
 if text is None:
  return None
 moment = datetime.fromisoformat(text)
 if moment.tzinfo is None:
  raise ValueError(text)
 return moment
