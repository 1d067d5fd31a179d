"""The errors of the package and of the plugin: one base class, and what each error means for the exit code."""

import enum


class ExitCode(enum.IntEnum):
    """How the commands of the package and of the plugin end."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    INTERRUPTED = 130
    STOPPED = 143


class RetentionError(Exception):
    """A problem that someone has to solve, as one line: what is wrong, where, and what to do.

    The plugin's errors derive from it as well, so that both programs print, log and document problems alike.

    Attributes:
        problem: One sentence without a full stop that names the value and its place.
        remedy: What to do about it, in the imperative; empty where there is no advice to give.
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
    """A file that configures a run cannot be read, or contains something impossible."""

    exit_code = ExitCode.USAGE


class PolicyError(ConfigError):
    """A retention policy contradicts itself."""


class TimeInputError(RetentionError, ValueError):
    """The rule was given something other than aware UTC datetimes."""

    exit_code = ExitCode.USAGE


class VolumeError(RetentionError):
    """The volume refuses an operation.

    Attributes:
        errno: The operating system's number for the reason; 0 where it did not give one.
        reason: The problem without the path.
    """

    def __init__(self, problem: str, remedy: str = "", errno: int = 0) -> None:
        super().__init__(problem, remedy)
        self.errno = errno
        self.reason = problem.rpartition(": ")[2]


class LockedError(RetentionError):
    """Another process holds the lock, and did not release it in time."""


class StoppedError(RetentionError):
    """SIGTERM arrived; the work stopped at a point from which the next run continues."""

    exit_code = ExitCode.STOPPED


def unexpected(error: Exception) -> RetentionError:
    """Return a bug as an error like all others: one line that names the exception and where it was raised.

    The last resort of a program that shows no traceback: `except Exception as error: print(unexpected(error))`.
    """
    if isinstance(error, MemoryError):
        return RetentionError("not enough memory", "raise the memory limit of the container")
    if isinstance(error, OSError) and error.strerror:
        return RetentionError(f"{error.filename or 'the volume'}: {error.strerror}", "check the storage first")
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}"
    return RetentionError(f"fault in the program: {type(error).__name__}{where}: {error}", "please report this")
