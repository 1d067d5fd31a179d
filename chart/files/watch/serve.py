# Without comments: they are in the project's file of this name.
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError
from watch import metrics, status
from watch.api import ApiError
from watch.memory import Memory, from_json, learn, to_json
from watch.objects import CronJob, Run, read_cronjobs, read_runs
from watch.ping import ping_for, url_of
from watch.sender import SendError, read_url, send
from watch.server import Document
from watch.settings import Settings
from watch.standing import Standing, judge
_PERIOD = timedelta(seconds=30)
_KEY = "memory.json"
_PING = "healthchecks"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
class Cluster(Protocol):
 def list(self, group: str, kind: str, selector: str) -> list[object]: ...
 def read_config_map(self, name: str) -> dict[str, str]: ...
 def write_config_map(self, name: str, data: dict[str, str]) -> None: ...
@dataclass(frozen=True, slots=True)
class _Seen:
 cronjobs: list[CronJob]
 runs: list[Run]
 memory: Memory
 at: datetime | None
@dataclass
class Watcher:
 settings: Settings
 api: Cluster
 clock: Callable[[], datetime] = lambda: datetime.now(UTC)
 secrets: Path = Path("/nonexistent")
 _memory: Memory | None = None
 _saved: str = ""
 _pinged: tuple[datetime, bool] | None = None
 _sent: dict[tuple[str, str], int] = field(default_factory=dict)
 _seen: "_Seen" = field(default_factory=lambda: _Seen([], [], Memory(), None))
 def step(self, now: datetime) -> None:
  its = self.settings
  selector = f"app.kubernetes.io/name=cnpg-backup,app={its.release}"
  if self._memory is None:
   self._saved = self.api.read_config_map(its.memory).get(_KEY, "")
   self._memory = from_json(self._saved)
  cronjobs = read_cronjobs(self._list("apis/batch/v1", "cronjobs", selector))
  jobs = self._list("apis/batch/v1", "jobs", selector)
  runs = read_runs(jobs, self._list("api/v1", "pods", selector), cronjobs)
  self._memory = learn(self._memory, runs, its.configured, its.drilled)
  self._seen = _Seen(cronjobs, runs, self._memory, now)
  text = to_json(self._memory)
  if text != self._saved:
   self.api.write_config_map(its.memory, {_KEY: text})
   self._saved = text
 def ping(self, now: datetime) -> None:
  its = self.settings
  if its.ping_every is None:
   return
  title = f"cnpg-backup {its.namespace}/{its.release}"
  late = status.out_of_date(self._seen.at, now, _PERIOD)
  found = ping_for(self.standing(now).databases, out_of_date=late, title=title)
  if found is None:
   return
  if self._pinged is not None:
   at, failed = self._pinged
   if failed == found.failed and now - at < its.ping_every:
    return
  try:
   send(url_of(read_url(self.secrets / _PING), failed=found.failed), found.body)
   outcome, self._pinged = "ok", (now, found.failed)
  except SendError as error:
   outcome = "failed"
   print(f"{_PING} was not notified: {error}", file=sys.stderr, flush=True)
  self._sent[_PING, outcome] = self._sent.get((_PING, outcome), 0) + 1
 def _list(self, group: str, kind: str, selector: str) -> list[Mapping[str, object]]:
  return [item for item in self.api.list(group, kind, selector) if isinstance(item, Mapping)]
 def standing(self, now: datetime) -> Standing:
  its, seen = self.settings, self._seen
  return judge(
   seen.cronjobs,
   seen.runs,
   seen.memory,
   its.configured,
   now=now,
   stale_after=its.stale_after,
   zones=_zones(its.zone),
  )
 def documents(self) -> Mapping[str, Document]:
  its, now = self.settings, self.clock()
  at = self._seen.at
  standing = self.standing(now)
  text = metrics.render(standing, namespace=its.namespace, release=its.release, version=its.version, read=at)
  text += metrics.notifications(dict(self._sent), namespace=its.namespace, release=its.release)
  found = status.document(
   standing, namespace=its.namespace, release=its.release, read=at, now=now, period=_PERIOD
  )
  return {
   "/metrics": Document(text.encode(errors="replace"), metrics.CONTENT_TYPE),
   "/status.json": Document(found.encode(errors="replace"), _JSON),
   "/healthz": Document(b"ok\n", _TEXT),
  }
 def run(self, stop: threading.Event) -> None:
  while not stop.is_set():
   try:
    self.step(self.clock())
   except ApiError as error:
    print(f"the API server could not be read: {error}", file=sys.stderr, flush=True)
   self.ping(self.clock())
   stop.wait(_PERIOD.total_seconds())
def _zones(name: str) -> dict[str, tzinfo]:
 try:
  return {name: ZoneInfo(name)}
 except (ZoneInfoNotFoundError, ValueError, OSError):
  return {}
