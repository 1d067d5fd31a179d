# Without comments: they are in the project's file of this name.
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from retention.errors import ConfigError
from watch.memory import Configured
from watch.notices import Place
from watch.targets import TARGETS
_REMEDY = "upgrade the release: the chart writes this file"
@dataclass(frozen=True, slots=True)
class Settings:
 namespace: str
 release: str
 version: str
 memory: str
 configured: Mapping[str, Configured]
 drilled: Mapping[str, frozenset[str]]
 stale_after: Mapping[str, timedelta]
 drill_stale_after: timedelta | None
 zone: str
 place: Place
 targets: tuple[str, ...]
 remind_after: timedelta
 ping_every: timedelta | None = None
 events: bool = False
 outside_stale_after: timedelta | None = None
def read(text):
 try:
  document = json.loads(text)
  configured, drilled, stale_after = {}, {}, {}
  for name, cronjob in dict(document["cronjobs"]).items():
   config = str(cronjob.get("config") or "")
   found = Configured(_databases(cronjob["databases"]), _databases(cronjob["entries"]), config)
   if cronjob["component"] == "drill":
    drilled[name] = frozenset({*found.databases, *found.entries})
   else:
    configured[name] = found
    stale_after[name] = timedelta(seconds=int(cronjob["staleAfter"]))
  place = Place(
   str(document["namespace"]),
   str(document["release"]),
   *(str(document.get(key) or "") for key in ("clusterName", "url", "runbookUrl")),
  )
  wanted = list(document.get("targets") or ())
  return Settings(
   str(document["namespace"]),
   str(document["release"]),
   str(document["version"]),
   str(document["memory"]),
   configured,
   drilled,
   stale_after,
   _seconds(document, "drillStaleAfter"),
   str(document["timeZone"]),
   place,
   tuple(target for target in TARGETS if target in wanted),
   timedelta(seconds=int(document.get("remindAfter") or 86400)),
   _seconds(document, "pingEvery"),
   bool(document.get("events")),
   _seconds(document, "outsideStaleAfter"),
  )
 except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
  raise ConfigError(f"watch.json is not valid: {type(error).__name__}: {error}", _REMEDY) from None
def _seconds(document, key):
 return timedelta(seconds=int(document[key])) if document.get(key) else None
def _databases(found):
 return {str(name): {str(key): str(value) for key, value in its.items()} for name, its in found.items()}
