# Without comments: they are in the project's file of this name.
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from watch import notices, targets
from watch.events import EVENTS
from watch.notices import Notice, Place, State
from watch.ping import Ping, url_of
from watch.problems import Problem
from watch.sender import SendError, read_url, send
from watch.targets import Post
HEALTHCHECKS = "healthchecks"
AUTHORITY = "ca.crt"
_LONGEST_PAUSE = timedelta(hours=1)
_SHORTEST_PAUSE = timedelta(seconds=30)
_TEST_SECONDS = 60
@dataclass(frozen=True, slots=True)
class Now:
 at: datetime
 read: datetime | None
 problems: list[Problem]
 apart: list[Problem]
 subjects: frozenset[str] | None
 summary: str
 ping: Ping | None
@dataclass
class Couriers:
 place: Place
 secrets: Path
 names: tuple[str, ...]
 remind_after: timedelta
 ping_every: timedelta | None = None
 record: Callable[[Notice, datetime], None] | None = None
 _states: dict[str, State] = field(default_factory=dict)
 _sent: dict[tuple[str, str], int] = field(default_factory=dict)
 _pinged: tuple[datetime, bool] | None = None
 _failures: dict[str, int] = field(default_factory=dict)
 _next: dict[str, datetime] = field(default_factory=dict)
 _lock: threading.Lock = field(default_factory=threading.Lock)
 @property
 def all(self):
  return (*((HEALTHCHECKS,) if self.ping_every is not None else ()), *self.names)
 def start(self, look, stop, period):
  for name in self.all:
   threading.Thread(target=self._work, args=(name, look, stop, period), daemon=True, name=name).start()
 def _work(self, name, look, stop, period):
  while not stop.is_set():
   try:
    self.notify(name, look())
   except Exception as error:
    _log(name, type(error).__name__)
    self._count(name, "failed")
   stop.wait(period.total_seconds())
 def notify(self, name, now):
  if now.at < self._next.get(name, now.at):
   return
  if name == HEALTHCHECKS:
   self._ping(now)
   return
  after = targets.RESEND_AFTER if name in targets.RESENT else self.remind_after
  with self._lock:
   before = self._states.get(name)
  state = before or {}
  problems = now.apart if name == EVENTS else now.problems
  notice, seen, known = notices.due(state, problems, now.at, after, subjects=now.subjects, summary=now.summary)
  arrived = notice is None or self._deliver(name, now.at, lambda: self._post(name, notice, now.at))
  with self._lock:
   if self._states.get(name) is before:
    self._states[name] = known if arrived else seen
 def _ping(self, now):
  ping = now.ping
  if ping is None or self.ping_every is None:
   return
  if self._pinged is not None:
   at, failed = self._pinged
   if failed == ping.failed and now.at - at < self.ping_every:
    return
  if self._deliver(HEALTHCHECKS, now.at, lambda: self._life(ping)):
   self._pinged = (now.at, ping.failed)
 def _life(self, ping):
  url = url_of(read_url(self.secrets / HEALTHCHECKS), failed=ping.failed)
  send(Post(url, ping.body, {"Content-Type": "text/plain; charset=utf-8"}), self._authority())
 def _post(self, name, notice, at):
  if name == EVENTS and self.record is not None:
   self.record(notice, at)
   return
  send(targets.post_to(name, read_url(self.secrets / name), notice, self.place, at), self._authority())
 def _authority(self):
  path = self.secrets / AUTHORITY
  return path if path.exists() else None
 def _deliver(self, name, at, work):
  try:
   work()
  except SendError as error:
   _log(name, str(error))
   self._count(name, "failed")
   failures = self._failures[name] = min(self._failures.get(name, 0) + 1, 10)
   if name != HEALTHCHECKS:
    self._next[name] = at + min(_SHORTEST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
   return False
  self._count(name, "ok")
  self._failures.pop(name, None)
  self._next.pop(name, None)
  return True
 def _count(self, name, outcome):
  with self._lock:
   self._sent[name, outcome] = self._sent.get((name, outcome), 0) + 1
 def sent(self):
  with self._lock:
   return dict(self._sent)
 def memory(self):
  with self._lock:
   return notices.to_json(self._states, targets.RESENT)
 def remember(self, found):
  with self._lock:
   self._states = {name: state for name, state in notices.from_json(found).items() if name in self.names}
 def test(self, now):
  outcome = dict.fromkeys(self.all, "it did not answer in time")
  def try_one(name):
   try:
    if name == HEALTHCHECKS:
     if now.ping is None:
      outcome[name] = "nothing is known yet, so no sign of life may be sent"
      return
     self._life(now.ping)
    else:
     self._post(name, targets.test_notice(now.summary), now.at)
    outcome[name] = ""
   except SendError as error:
    outcome[name] = str(error)
   self._count(name, "failed" if outcome[name] else "ok")
  threads = [threading.Thread(target=try_one, args=(name,), daemon=True) for name in self.all]
  for thread in threads:
   thread.start()
  for thread in threads:
   thread.join(_TEST_SECONDS / len(threads))
  return dict(outcome)
def _log(name, text):
 print(f"{name} was not notified: {text}", file=sys.stderr, flush=True)
