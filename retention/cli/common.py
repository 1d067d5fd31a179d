"""What several commands share: options and their types, one walk over databases, printing, the termination message."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

from retention.errors import ExitCode, RetentionError, UsageError
from retention.message import MOST_BYTES
from retention.names import Kind, is_database
from retention.text import parse_duration, parse_moment, parse_size, shown
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.scan import is_database_folder, scan_root

EPILOG = """\
exit codes: 0 done, 1 a database failed or an archive is bad, 2 usage or configuration error,
3 refused by a safety rule (nothing deleted), 143 stopped by SIGTERM"""


DIRECTORY = "directory of one database, or root of the volume for all databases"


ARCHIVE_OR_DIRECTORY = f"archive, {DIRECTORY}"


_T = TypeVar("_T")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the package."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line.

        Raises:
            UsageError: Always.
        """
        raise UsageError(message, f"see {self.prog} --help")


Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""Where a module adds the parsers of its commands."""


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a command that `run` carries out, and return its parser."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=EPILOG, allow_abbrev=False
    )
    command.set_defaults(command=name, run=run)
    command.add_argument(
        "--now", type=moment, metavar="TIME", help="decide as of this time, such as 2026-01-01T00:00:00Z (default: now)"
    )
    return command


def add_format(command: argparse.ArgumentParser, *formats: str) -> None:
    """Add --format."""
    command.add_argument("--format", choices=formats, default="text", help="output format (default: text)")


def add_lock_timeout(command: argparse.ArgumentParser) -> None:
    """Add --lock-timeout."""
    command.add_argument(
        "--lock-timeout",
        type=duration,
        metavar="60s",
        default=timedelta(seconds=60),
        help="wait this long for the lock of a database (default: 60s)",
    )


def add_termination_log(command: argparse.ArgumentParser, text: str = "file for the pod's termination message") -> None:
    """Add --termination-log; see `write_termination_message`."""
    command.add_argument("--termination-log", type=Path, metavar="FILE", help=text)


def add_directories(command: argparse.ArgumentParser, *directories: tuple[str, str]) -> None:
    """Add options that name directories, each with its help. They are stored as `run_directory` for `--run` and so on.

    `run` alone is what carries the command out.
    """
    for option, text in directories:
        target = f"{option[2:]}_directory"
        command.add_argument(option, dest=target, type=Path, required=True, metavar="DIR", help=text)


def add_drill_limits(command: argparse.ArgumentParser, *, scratch: bool = True) -> None:
    """Add how long a drill may take and, with `scratch`, how much it may write."""
    if scratch:
        command.add_argument(
            "--scratch-size", required=True, metavar="10Gi", help="how much the scratch directory may hold"
        )
    command.add_argument(
        "--seconds", type=int, required=True, metavar="N", help="how long all restores of the drill may take together"
    )


def moment(text: str) -> datetime:
    """Return an option's date and time, UTC."""
    found = parse_moment(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date and time such as 2026-01-01T00:00:00Z")
    return found


def duration(text: str) -> timedelta:
    """Return an option's length of time."""
    try:
        return parse_duration(text)
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> int:
    """Return an option's number of bytes."""
    try:
        return parse_size(text)
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def now_of(options: argparse.Namespace) -> datetime:
    """Return the moment to decide for: --now, or the clock's."""
    now: datetime | None = options.now
    return datetime.now(UTC) if now is None else now


def holder_of(options: argparse.Namespace) -> str:
    """Return how a lock names the command."""
    pod = os.environ.get("BACKUP_POD", "")
    return f"{shown(pod) or os.uname().nodename} ({options.command}, pid {os.getpid()})"


@dataclass(slots=True)
class Visit(Generic[_T]):
    """What a function has returned for each database that a path names."""

    results: list[_T]
    is_root: bool
    code: ExitCode

    def shaped(self, documents: list[Any]) -> object:
        """Return one document for a database's directory, a list of them for the root."""
        return documents if self.is_root else documents[0]


def visit_databases(
    options: argparse.Namespace, work: Callable[[Directory], _T], path: str | Path | None = None
) -> Visit[_T]:
    """Call `work` with the directory of each database that `path`, or else the command line, names.

    Below a root, an error in one database is printed and does not stop the others.
    """
    real = real_path(options.path if path is None else path)
    with Folder.open(real) as folder:
        if is_database_folder(folder, real.name):
            return Visit([work(_directory(folder, real.name, options))], is_root=False, code=ExitCode.DONE)
        root = scan_root(folder)
        for finding in root.ignored:
            print_error(f"ignored {folder.path_of(finding.name)}: {finding.reason}")
        visit: Visit[_T] = Visit([], is_root=True, code=ExitCode.DONE)
        for database in root.databases:
            try:
                with folder.child(database) as child:
                    visit.results.append(work(_directory(child, database, options)))
            except RetentionError as error:
                print_error(f"{database}: {error}")
                visit.code = ExitCode.FAILED
        return visit


def real_path(path: str | Path) -> Path:
    """Return a path of the command line without links.

    Raises:
        UsageError: When it cannot be a path.
    """
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r}: {error}", "check the path") from None


def archive_or_directory(given: str) -> tuple[Path, frozenset[str] | None]:
    """Return the directory that a path names or lies in, and the archive's name if it names one.

    Raises:
        UsageError: When the archive does not lie in the directory of a database.
    """
    path = Path(given)
    if not path.name.endswith(Kind.ARCHIVE.value) or path.is_dir():
        return real_path(given), None
    return _place_of(path), frozenset({path.name})


def open_archives(options: argparse.Namespace) -> Iterator[tuple[Directory, str]]:
    """Yield the open directory and the file name of each archive of the command line.

    Raises:
        UsageError: When one does not lie in the directory of a database.
    """
    for path in options.archives:
        place = _place_of(path)
        with Folder.open(place) as folder:
            yield _directory(folder, place.name, options), path.name


def _directory(folder: Folder, database: str, options: argparse.Namespace) -> Directory:
    # A command that takes no lock has no --lock-timeout.
    timeout: timedelta = getattr(options, "lock_timeout", timedelta(0))
    return Directory(folder, database, holder_of(options), timeout.total_seconds())


def _place_of(archive: Path) -> Path:
    place = real_path(archive.parent)
    if not is_database(place.name):
        raise UsageError(
            f"{archive}: {place} is not the directory of a database",
            "give the path of an archive in its database's directory",
        )
    return place


def print_json(document: object) -> None:
    """Print a document for programs."""
    print(printable(json.dumps(document, indent=2, ensure_ascii=False)))


def printable(text: str) -> str:
    """Return a JSON text in which characters are escaped that a terminal might obey; it means the same."""
    lines = text.split("\n")
    return text if all(map(str.isprintable, lines)) else "\n".join(map(_printable_line, lines))


def _printable_line(line: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


def print_error(text: str) -> None:
    """Print one line to standard error, if it is still open."""
    try:
        print(f"retention: {shown(text)}", file=sys.stderr, flush=True)
    except OSError:
        silence_output()


def silence_output() -> None:
    """Send what is left of standard output nowhere: the interpreter would fail again when it flushes at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


class Log:
    """Prints what happens as it happens; the work goes on after its reader has gone."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self.lost = False

    def __call__(self, text: str) -> None:
        """Print a text as one line."""
        if self._silent or self.lost:
            return
        self.write(shown(text))

    def write(self, text: str) -> None:
        """Print complete lines, or note that they cannot be written any more."""
        try:
            print(text, flush=True)
        except OSError:
            self.lost = True
            silence_output()


def write_termination_message(options: argparse.Namespace, content: bytes) -> None:
    """Write the pod's termination message to --termination-log, if given.

    If that fails it prints a warning only: a report must not fail the work that it reports.
    """
    path: Path | None = options.termination_log
    if path is None:
        return
    try:
        # The kubelet has made this file and mounted it: it is written in place, never replaced.
        # A pipe that nobody reads must not block us.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, content[:MOST_BYTES])
        finally:
            os.close(fd)
    except OSError as error:
        print_error(f"{path}: the termination message was not written: {error.strerror}")


def write_error_message(options: argparse.Namespace, error: RetentionError) -> None:
    """Write an error as the pod's termination message."""
    write_termination_message(options, shown(str(error)).encode(errors="replace"))
