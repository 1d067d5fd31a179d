"""The moment to decide for, the deadline of a run, and the clock on the wall."""

import time
from datetime import UTC, datetime, timedelta

from retention.errors import ExitCode, StoppedError
from retention.volume import locks


def wall() -> datetime:
    """Return the moment by this node's clock, UTC: what is compared with the clock of the destination."""
    return datetime.now(UTC)


class Clock:
    """The moment of a run, and its deadline."""

    def __init__(self, now: datetime, seconds: float, stop: locks.Stop) -> None:
        self._now = now
        self._started = time.monotonic()
        self._seconds = seconds
        self._stop = stop

    def __call__(self) -> datetime:
        """Return the moment to decide for, UTC; see `--now`."""
        return self._now + timedelta(seconds=time.monotonic() - self._started)

    def check(self) -> None:
        """Raise when the run has to end.

        Raises:
            StoppedError: After SIGTERM, or at the deadline.
        """
        self._stop.check()
        if time.monotonic() - self._started > self._seconds:
            raise DeadlineError(
                f"the run has taken {round(self._seconds)} s, which is its deadline",
                "the next run goes on; raise offsite.timeout or offsite.bandwidth if an archive never gets through",
            )


class DeadlineError(StoppedError):
    """The run's time is over."""

    exit_code = ExitCode.FAILED
