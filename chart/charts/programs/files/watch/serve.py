# Without comments: they are in the project's file of this name.
import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError
from watch import metrics, page, problems, status
from watch.api import ApiError
from watch.couriers import Couriers, Now
from watch.events import EVENTS, Involved, events_of
from watch.memory import Memory, from_json, learn, to_json
from watch.notices import Notice
from watch.objects import CronJob, Run, read_cronjobs, read_runs
from watch.ping import ping_for
from watch.sender import SendError
from watch.server import Document
from watch.settings import Settings
from watch.standing import Standing, judge
_PERIOD = timedelta(seconds=30)
_KEY = "memory.json"
_NOTIFIED = "notified.json"
TEST, TESTED = "notify-test", "notify-tested.json"
_TEST_ID = re.compile(r"[0-9a-f]{8,64}")
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_LIVE = f"/{page.LIVE}"
_HTML = "text/html; charset=utf-8"
class Cluster(Protocol):
 def list(self, group, kind, selector): ...
 def read_config_map(self, name): ...
 def write_config_map(self, name, data): ...
 def create_event(self, event): ...
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
 _saved: dict[str, str] = field(default_factory=dict)
 _now: Now | None = None
 _tested: str = ""
 _seen: "_Seen" = field(default_factory=lambda: _Seen([], [], Memory(), None))
 def __post_init__(self):
  its = self.settings
  names = (*its.targets, *((EVENTS,) if its.events else ()))
  self.couriers = Couriers(its.place, self.secrets, names, its.remind_after, its.ping_every, self._record)
 def step(self, now):
  its = self.settings
  selector = f"app.kubernetes.io/name=cnpg-backup,app={its.release}"
  self._read(self.api.read_config_map(its.memory), now)
  cronjobs = read_cronjobs(self._list("apis/batch/v1", "cronjobs", selector))
  jobs = self._list("apis/batch/v1", "jobs", selector)
  runs = read_runs(jobs, self._list("api/v1", "pods", selector), cronjobs)
  self._memory = learn(self._memory or Memory(), runs, its.configured, its.drilled, now=now)
  self._seen = _Seen(cronjobs, runs, self._memory, now)
  self._save()
 def _read(self, found, now):
  if self._memory is None:
   self._saved = {key: found.get(key, "") for key in (_KEY, _NOTIFIED)}
   self._memory = from_json(self._saved[_KEY])
   self.couriers.remember(_parsed(self._saved[_NOTIFIED]))
   done = _parsed(found.get(TESTED, ""))
   self._tested = str(done.get("id", "")) if isinstance(done, dict) else ""
  wanted = found.get(TEST, "")
  if wanted != self._tested and _TEST_ID.fullmatch(wanted):
   self._tested = wanted
   threading.Thread(target=self._test, args=(wanted, self.look(now)), daemon=True).start()
 def _test(self, wanted, now):
  outcome = json.dumps({"id": wanted, "targets": self.couriers.test(now)})
  try:
   self.api.write_config_map(self.settings.memory, {TESTED: outcome})
  except ApiError as error:
   print(f"the outcome of a test could not be saved: {error}", file=sys.stderr, flush=True)
 def _save(self):
  if self._memory is None:
   return
  texts = {_KEY: to_json(self._memory)}
  if self.couriers.names:
   texts[_NOTIFIED] = json.dumps(self.couriers.memory(), ensure_ascii=False)
  changed = {key: text for key, text in texts.items() if text != self._saved.get(key)}
  if changed:
   self.api.write_config_map(self.settings.memory, changed)
   self._saved |= changed
 def look(self, now):
  before, seen = self._now, self._seen
  if before is not None and now - before.at < _PERIOD / 2 and before.read == seen.at:
   return before
  its, standing = self.settings, self.standing(now)
  late = status.out_of_date(seen.at, now, _PERIOD)
  found = problems.problems_of(standing, out_of_date=late, read=seen.at, now=now)
  databases = [one.name for one in standing.databases]
  drills = (f"{problems.DRILLS_OF}{name}" for name in databases)
  names = frozenset({*databases, *drills, problems.VOLUME, problems.WATCHER})
  title = f"cnpg-backup {its.namespace}/{its.release}"
  self._now = Now(
   now,
   seen.at,
   found,
   problems.apart(standing, found, now) if its.events else [],
   None if seen.at is None else names,
   problems.summary(standing, found),
   ping_for(standing.databases, out_of_date=late, title=title),
  )
  return self._now
 def _list(self, group, kind, selector):
  return [item for item in self.api.list(group, kind, selector) if isinstance(item, Mapping)]
 def standing(self, now):
  its, seen = self.settings, self._seen
  return judge(
   seen.cronjobs,
   seen.runs,
   seen.memory,
   its.configured,
   now=now,
   stale_after=its.stale_after,
   zones=_zones(its.zone),
   drill_stale_after=its.drill_stale_after,
   outside_stale_after=its.outside_stale_after,
  )
 def _record(self, notice, at):
  its, uids = self.settings, {cronjob.name: cronjob.uid for cronjob in self._seen.cronjobs}
  backs_up = {one.name: one.cronjob for one in self.standing(at).databases}
  first = min(its.configured, default="")
  def involved(subject, is_drill):
   cronjob = backs_up.get(subject, first)
   entry = its.configured[cronjob].entry_of(subject) if cronjob in its.configured else ""
   drills = (name for name, names in its.drilled.items() if names & {subject, entry})
   name = next(drills, cronjob) if is_drill else cronjob
   return Involved(name, uids.get(name, ""))
  try:
   for event in events_of(notice, its.place, at, involved):
    self.api.create_event(event)
  except ApiError as error:
   raise SendError(str(error)) from None
 def document(self, path):
  if path == "/healthz":
   return Document(b"ok\n", _TEXT)
  if path not in ("/", _LIVE, "/metrics", "/status.json"):
   return None
  its, now = self.settings, self.clock()
  at = self._seen.at
  standing = self.standing(now)
  kind, release = _TEXT, {"namespace": its.namespace, "release": its.release}
  if path == "/metrics":
   kind = metrics.CONTENT_TYPE
   text = metrics.render(standing, **release, version=its.version, read=at)
   text += metrics.notifications(self.couriers.sent(), **release)
  elif path == "/status.json":
   kind, text = _JSON, status.document(standing, **release, read=at, now=now, period=_PERIOD)
  else:
   late = status.out_of_date(at, now, _PERIOD)
   found = problems.problems_of(standing, out_of_date=late, read=at, now=now)
   kind, text = (
    _HTML,
    page.render(
     page.Page(
      its.place,
      now,
      at,
      standing.databases,
      problems.certain(found),
      standing.volume,
      standing.claim,
      late,
      live=path == _LIVE,
      version=its.version,
     )
    ),
   )
  return Document(text.encode(errors="replace"), kind)
 def run(self, stop):
  self.couriers.start(lambda: self.look(self.clock()), stop, _PERIOD)
  while not stop.is_set():
   try:
    self.step(self.clock())
   except ApiError as error:
    print(f"the API server could not be read: {error}", file=sys.stderr, flush=True)
   stop.wait(_PERIOD.total_seconds())
  try:
   self._save()
  except ApiError as error:
   print(f"what was sent could not be saved: {error}", file=sys.stderr, flush=True)
def _zones(name):
 try:
  return {name: ZoneInfo(name)}
 except (ZoneInfoNotFoundError, ValueError, OSError):
  return {}
def _parsed(text):
 try:
  return json.loads(text)
 except (ValueError, RecursionError):
  return None
