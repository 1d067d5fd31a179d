"""The errors of the package: one base, and what each means for the exit code."""

import enum


class ExitCode(enum.IntEnum):
    """What the commands answer to their caller."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    STOPPED = 143


class RetentionError(Exception):
    """Something a person has to know: what is wrong, where, and what to do.

    Attributes:
        problem: One sentence without a full stop that names the value and its place.
        remedy: What to do about it, or empty where nothing can be said.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


class UsageError(RetentionError):
    """The command line asks for something that makes no sense."""

    exit_code = ExitCode.USAGE


class ConfigError(RetentionError):
    """A file that configures a run cannot be read, or says something impossible."""

    exit_code = ExitCode.USAGE


class PolicyError(ConfigError):
    """A retention policy contradicts itself."""


class TimeInputError(RetentionError, ValueError):
    """The rule was given something else than aware UTC datetimes."""

    exit_code = ExitCode.USAGE


class VolumeError(RetentionError):
    """The volume refuses an operation; `errno` says why."""

    def __init__(self, problem: str, remedy: str = "", errno: int = 0) -> None:
        super().__init__(problem, remedy)
        self.errno = errno


class LockedError(RetentionError):
    """Somebody else holds the lock, and did not let go in time."""


class StoppedError(RetentionError):
    """SIGTERM arrived; the work stopped at a point from which the next run goes on."""

    exit_code = ExitCode.STOPPED


def unexpected(error: Exception) -> RetentionError:
    """Return a fault in the program as one line that names its place."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}"
    return RetentionError(f"fault in the program: {type(error).__name__}{where}: {error}", "please report this")
