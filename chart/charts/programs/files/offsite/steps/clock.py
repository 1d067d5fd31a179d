# Without comments: they are in the project's file of this name.
import time
from datetime import UTC, datetime, timedelta
from retention.errors import ExitCode, StoppedError
from retention.volume import locks
def wall():
 return datetime.now(UTC)
class Clock:
 def __init__(self, now, seconds, stop):
  self._now = now
  self._started = time.monotonic()
  self._seconds = seconds
  self._stop = stop
 def __call__(self):
  return self._now + timedelta(seconds=time.monotonic() - self._started)
 def check(self):
  self._stop.check()
  if time.monotonic() - self._started > self._seconds:
   raise DeadlineError(
    f"the run has taken {round(self._seconds)} s, which is its deadline",
    "the next run goes on; raise offsite.timeout or offsite.bandwidth if an archive never gets through",
   )
class DeadlineError(StoppedError):
 exit_code = ExitCode.FAILED
