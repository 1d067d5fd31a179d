"""Stands between the package and the operating system, and lets single calls below some folders go wrong.

The product knows nothing of this: inside the context every function of `os` by which the package reaches a file is
wrapped, in this process only. What Python itself hides (it repeats a call that a signal interrupts) is not injected.
"""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SHORT, KILL, HALF, TERM = "short", "kill", "half", "term"
"""Faults besides error numbers: half of what was asked for, the end of the process, half a write and then the end,
and SIGTERM, after which the call is made."""

KILLED = 137

_BY_DESCRIPTOR = {
    "read": "read",
    "readv": "read",
    "pread": "read",
    "write": "write",
    "pwrite": "write",
    "fsync": "fsync",
    "fstat": "stat",
    "ftruncate": "ftruncate",
    "fstatvfs": "statvfs",
    "posix_fadvise": "fadvise",
    "close": "close",
}
_BY_NAME = {"stat": "stat", "unlink": "unlink", "listdir": "readdir"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call to the operating system.

    Attributes:
        number: Its number, from 1, among the calls below the folders.
        operation: `open`, `create`, `read`, `write`, `fsync`, `rename`, `unlink`, `stat`, `readdir`, `flock`, …
        path: The file.
    """

    number: int
    operation: str
    path: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]


Fault = int | float | str | None
"""An error number, seconds to sleep before the call, one of SHORT, KILL, HALF and TERM, or nothing."""


class Injector:
    """A context in which `decide` says of each call below `folders` how it goes wrong."""

    def __init__(self, decide: Callable[[Call], Fault], *folders: Path) -> None:
        self._decide = decide
        self._folders = tuple(str(folder) for folder in folders)
        self._real: dict[str, Any] = {}
        self._flock = fcntl.flock
        self._inside = False
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        for name in (*_BY_DESCRIPTOR, *_BY_NAME, "open", "rename", "scandir", "readlink", "_exit"):
            self._real[name] = getattr(os, name)
        for name, operation in _BY_DESCRIPTOR.items():
            setattr(os, name, self._wrapped(name, operation, by_descriptor=True))
        for name, operation in _BY_NAME.items():
            setattr(os, name, self._wrapped(name, operation, by_descriptor=False))
        os.open = self._open
        os.rename = self._rename  # type: ignore[assignment]
        os.scandir = self._scandir  # type: ignore[assignment]
        fcntl.flock = self._locked
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)
        fcntl.flock = self._flock

    def _path(self, given: Any, directory: int | None) -> str:
        if isinstance(given, int):
            directory, given = given, ""
        if directory is None:
            return os.fspath(given) if isinstance(given, (str, os.PathLike)) else str(given)
        try:
            place = self._real["readlink"](f"/proc/self/fd/{directory}")
        except OSError:
            return ""
        return f"{place}/{given}" if given else str(place)

    def _fault(self, operation: str, path: str) -> Fault:
        if self._inside or not path.startswith(self._folders):
            return None
        self._inside = True
        try:
            self.calls.append(Call(len(self.calls) + 1, operation, path))
            fault = self._decide(self.calls[-1])
        finally:
            self._inside = False
        if isinstance(fault, float):
            time.sleep(fault)
            return None
        if isinstance(fault, int):
            raise OSError(fault, os.strerror(fault), path)
        if fault == KILL or (fault == HALF and operation != "write"):
            self._real["_exit"](KILLED)
        if fault == TERM:
            os.kill(os.getpid(), signal.SIGTERM)
            return None
        return fault

    def _wrapped(self, name: str, operation: str, *, by_descriptor: bool) -> Callable[..., Any]:
        real = self._real[name]

        def wrapped(*arguments: Any, **options: Any) -> Any:
            path = self._path(arguments[0] if arguments else ".", options.get("dir_fd"))
            try:
                fault = self._fault(operation, path)
            except OSError:
                if name == "close":
                    # A descriptor is gone whatever close says about it.
                    real(*arguments)
                raise
            if fault in (SHORT, HALF) and by_descriptor:
                return self._in_part(name, real, arguments, fault)
            return real(*arguments, **options)

        return wrapped

    def _in_part(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], fault: Fault) -> Any:
        if name in ("write", "pwrite"):
            content = bytes(arguments[1])
            done = real(arguments[0], content[: max(1, len(content) // 2)], *arguments[2:])
            if fault == HALF:
                self._real["_exit"](KILLED)
            return done
        if name == "read":
            return real(arguments[0], max(1, min(arguments[1], 100) // 2))
        if name == "readv":
            return real(arguments[0], [memoryview(arguments[1][0])[:100]])
        return real(*arguments)

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self._fault("create" if flags & os.O_CREAT else "open", self._path(path, dir_fd))
        return int(self._real["open"](path, flags, mode, dir_fd=dir_fd))

    def _rename(self, old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        self._fault("rename", self._path(old, src_dir_fd))
        self._real["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def _scandir(self, given: Any = ".") -> "_Entries":
        place = self._path(given, None)
        self._fault("readdir", place)
        return _Entries(self._real["scandir"](given), place, self._fault)

    def _locked(self, fd: Any, operation: int) -> None:
        self._fault("flock", self._path(fd, None))
        self._flock(fd, operation)


class _Entries:
    """A directory's entries, each step and each look at one of them a call of its own."""

    def __init__(self, entries: Any, place: str, fault: Callable[[str, str], Fault]) -> None:
        self._entries, self._place, self._fault = entries, place, fault

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> "_Entry":
        entry = next(self._entries)
        return _Entry(entry, f"{self._place}/{entry.name}", self._fault)

    def close(self) -> None:
        self._entries.close()


class _Entry:
    """A directory entry of a file system that does not say what it is: every question is a look at the file."""

    def __init__(self, entry: Any, path: str, fault: Callable[[str, str], Fault]) -> None:
        self._entry, self._path, self._fault = entry, path, fault
        self.name: str = entry.name

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        self._fault("stat", self._path)
        result: os.stat_result = self._entry.stat(follow_symlinks=follow_symlinks)
        return result

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is("is_file", follow_symlinks)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is("is_dir", follow_symlinks)

    def is_symlink(self) -> bool:
        self._fault("stat", self._path)
        return bool(self._entry.is_symlink())

    def _is(self, question: str, follow_symlinks: bool) -> bool:
        try:
            self._fault("stat", self._path)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return bool(getattr(self._entry, question)(follow_symlinks=follow_symlinks))


def once(operation: str, name: str, fault: Fault, times: int = 1) -> Callable[[Call], Fault]:
    """Return a decision: the first calls of an operation on files of a name go wrong, all others do not."""
    left = [times]

    def decide(call: Call) -> Fault:
        if call.operation == operation and call.name == name and left[0] > 0:
            left[0] -= 1
            return fault
        return None

    return decide


ALWAYS = 1_000_000
"""For `once`: every time."""
