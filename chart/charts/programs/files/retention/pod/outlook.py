# Without comments: they are in the project's file of this name.
import json
from datetime import datetime
from typing import Any
from retention.keyvalue import KeyValues
BESIDE, IN_PLACE, NONE = "beside", "in-place", "none"
_WORDS = {BESIDE: "would be beside", IN_PLACE: "would be in place", NONE: "would be refused"}
_SHORT = {BESIDE: "beside", IN_PLACE: "in place", NONE: "refused"}
def from_result(result, now):
 method = result.text("restore_method")
 if method not in _WORDS:
  return None
 return {
  "method": method,
  "role": result.text("restore_role"),
  "obstacles": _numbered(result, "restore_obstacle"),
  "remedies": _numbered(result, "restore_remedy"),
  "managed_role": _object(result.text("restore_createdb")),
  "max_locks_per_transaction": result.number("restore_max_locks"),
  "at": now.isoformat(timespec="seconds"),
 }
def _numbered(result, key):
 found: list[str] = []
 while value := result.text(f"{key}_{len(found) + 1}"):
  found.append(value)
 return found
def _object(text):
 try:
  found = json.loads(text)
 except (ValueError, RecursionError):
  return None
 return found if isinstance(found, dict) else None
def word(outlook):
 return _SHORT.get(str(outlook.get("method")), "?") if isinstance(outlook, dict) else "?"
def sentence(outlook, *, remedies = True):
 method = str(outlook.get("method")) if isinstance(outlook, dict) else ""
 if not isinstance(outlook, dict) or method not in _WORDS:
  return ""
 obstacles, ways_out = _texts(outlook.get("obstacles")), _texts(outlook.get("remedies"))
 text = f"a restore as '{outlook.get('role')}' {_WORDS[method]}"
 if method == NONE and obstacles:
  text += f": {'; '.join(obstacles)}"
 if not remedies or not ways_out:
  return text
 return f"{text}; {'for beside: ' if method == IN_PLACE else ''}{'; or '.join(ways_out)}"
def _texts(found):
 return list(map(str, found)) if isinstance(found, list) else []
