"""The command line: `kubectl cnpg-backup COMMAND`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kubectl_cnpg_backup import interrupt
from kubectl_cnpg_backup.errors import ExitCode, PluginError, UsageError
from retention.errors import RetentionError
from retention.text import parse_duration, shown

if TYPE_CHECKING:
    from kubectl_cnpg_backup.commands import Session

_EPILOG = """\
exit codes: 0 done, 1 a database failed or something is wrong, 2 usage, 3 refused, 130 stopped by Ctrl-C"""
_Commands = Any


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="kubectl cnpg-backup",
        description="Back up, look at and fetch the backups of CloudNativePG databases.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _add_runs(commands)
    _add_volume(commands)
    _add_looking(commands)
    return parser


def _add(commands: _Commands, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=_EPILOG, allow_abbrev=False
    )
    where = command.add_argument_group("which release")
    where.add_argument("-n", "--namespace", help="namespace of the release (default: the context's)")
    where.add_argument("--release", default="", help="which release, where the namespace has several")
    where.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    where.add_argument("--kubeconfig", help="kubeconfig file (default: KUBECONFIG, or ~/.kube/config)")
    command.add_argument(
        "-o", "--output", choices=("table", "json", "yaml"), default="table", help="for people or programs (table)"
    )
    return command


def _add_wait(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--wait",
        type=_seconds,
        default=180.0,
        metavar="3m",
        help="how long to wait for a pod that sees the volume (3m)",
    )


def _add_changes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _add_runs(commands: _Commands) -> None:
    command = _add(commands, "run", "Back up now, and follow it to its end.")
    command.add_argument(
        "--database", action="append", default=[], metavar="NAME", help="only this one; may be repeated"
    )
    command.add_argument("--detach", action="store_true", help="start it, and do not follow it")
    _add_changes(command)
    command = _add(commands, "restore", "Restore a database from a backup: all of it, or nothing.")
    command.add_argument("database", metavar="DATABASE", help="whose backup: its name in values")
    command.add_argument(
        "--backup", default="newest", help="'newest' (default), 'newest before TIME', 'pinned', or an archive's name"
    )
    command.add_argument("--into", default="", metavar="NAME", help="another database of the cluster to restore into")
    command.add_argument(
        "--cluster", default="", metavar="NAME", help="another cluster of the namespace to restore into"
    )
    command.add_argument("--replace", action="store_true", help="the database may have tables, which are replaced")
    command.add_argument("--way", choices=("auto", "beside", "in-place"), default="auto", help="default: auto")
    command.add_argument("--table", action="append", default=[], help="only the rows of this one, with --into")
    command.add_argument("--schema", action="append", default=[], help="only the rows of this one, with --into")
    command.add_argument("--owner", default="", metavar="ROLE", help="the role that shall own everything")
    command.add_argument("--jobs", default="auto", metavar="N", help="how many connections restore at a time (auto)")
    command.add_argument("--dry-run", action="store_true", help="check everything in the cluster, change nothing")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_new_cluster(commands)
    command = _add(commands, "drill", "Restore backups into a throwaway server, to see that they do restore.")
    command.add_argument(
        "--database", action="append", default=[], metavar="NAME", help="only this one; may be repeated"
    )
    _add_changes(command)
    command = _add(commands, "status", "Show how each database stands; exit 1 when something is wrong.")
    command.add_argument("--no-volume", action="store_true", help="ask the API server alone, start no pod")
    _add_wait(command)
    command = _add(commands, "logs", "Show the log of the last run, or of one that is named.")
    command.add_argument("job", nargs="?", default="", metavar="JOB", help="name of a Job (default: the last run)")
    command.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")


def _add_new_cluster(commands: _Commands) -> None:
    command = _add(
        commands, "new-cluster", "Make a new CloudNativePG cluster from a backup; the old one is not touched."
    )
    command.add_argument("database", metavar="DATABASE", help="whose backup: its name in values")
    command.add_argument("--name", required=True, metavar="NEW", help="the new cluster's name")
    command.add_argument(
        "--backup", default="newest", help="'newest' (default), 'newest before TIME', 'pinned', or an archive's name"
    )
    command.add_argument("--storage", default="", metavar="10Gi", help="size of a volume (default: by the database's)")
    command.add_argument("--storage-class", default="", metavar="NAME", help="its class (default: the old cluster's)")
    command.add_argument("--instances", type=_count, default=0, metavar="N", help="how many (default: the old one's)")
    command.add_argument("--image", default="", help="of PostgreSQL (default: the old cluster's)")
    command.add_argument("--jobs", default="auto", metavar="N", help="how many connections restore at a time (auto)")
    command.add_argument(
        "--timeout", type=_seconds, default=900.0, metavar="15m", help="how long the cluster may take to be ready (15m)"
    )
    command.add_argument("--dry-run", action="store_true", help="print what would be made; change nothing")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_wait(command)


def _add_volume(commands: _Commands) -> None:
    command = _add(commands, "list", "List the backups: age, size, tier, verified, drilled, pinned.")
    command.add_argument("database", nargs="*", metavar="DATABASE", help="only these (default: all on the volume)")
    _add_wait(command)
    command = _add(commands, "plan", "Show what the next prune would keep and delete, and why.")
    command.add_argument("database", nargs="*", metavar="DATABASE", help="only these (default: all on the volume)")
    _add_wait(command)
    command = _add(commands, "verify", "Read archives again, whole; one that is damaged counts no more.")
    command.add_argument("what", nargs="*", metavar="DATABASE|ARCHIVE", help="only these (default: all)")
    _add_wait(command)
    command = _add(
        commands, "adopt", "Let archives that came from elsewhere count as backups, once each is read whole."
    )
    command.add_argument("database", nargs="*", metavar="DATABASE", help="only these (default: all on the volume)")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_changes(command)
    _add_wait(command)
    command = _add(commands, "pin", "Keep backups besides the tiers.")
    command.add_argument("archive", nargs="+", metavar="ARCHIVE", help="name of an archive, <database>-….dump")
    until = command.add_mutually_exclusive_group()
    until.add_argument("--for", dest="length", metavar="30d", type=_duration, help="how long (default: for ever)")
    until.add_argument("--until", metavar="TIME", help="until when, as 2026-01-01T00:00:00Z")
    command.add_argument("--reason", default="", help="why, in your words")
    _add_changes(command)
    _add_wait(command)
    command = _add(commands, "unpin", "Hand backups back to the tiers; the next run may delete them.")
    command.add_argument("archive", nargs="+", metavar="ARCHIVE", help="name of an archive, <database>-….dump")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_changes(command)
    _add_wait(command)
    command = _add(commands, "download", "Fetch an archive; resumes, and checks the sha256.")
    command.add_argument("what", metavar="ARCHIVE|DATABASE", help="name of an archive, or a database for its newest")
    command.add_argument(
        "--to", type=Path, default=Path(), metavar="PATH", help="a folder or a file name (default: here)"
    )
    _add_changes(command)
    _add_wait(command)


def _add_looking(commands: _Commands) -> None:
    command = _add(commands, "inspect", "Open a shell in a pod that sees the volume, read-only; ends with the shell.")
    command.add_argument("run", nargs="*", metavar="COMMAND", help="run this instead, after --")
    command.add_argument(
        "--write", action="store_true", help="in the container that may write, with python3 -m retention"
    )
    _add_wait(command)
    _add(
        commands, "doctor", "See whether all is as it should be, each with its remedy; exit 1 when something is wrong."
    )


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. No error reaches a person as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        interrupt.install()
        options = build_parser().parse_args(arguments)
        code = int(_run(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _complain("stopped", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.FAILED
    except PluginError as error:
        code = _complain(str(error), error.exit_code)
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" at {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
        code = _complain(
            f"fault in the program: {type(error).__name__}{where}: {error}; please report this", ExitCode.FAILED
        )
    return code


def _complain(text: str, code: int) -> int:
    print(f"error: {shown(text)}", file=sys.stderr, flush=True)
    return code


def _run(options: argparse.Namespace) -> int:
    # The kubernetes client takes a second to load, which completion and --help do not have to wait for.
    from kubectl_cnpg_backup import commands

    run: Callable[[Session], int] = getattr(commands, f"run_{options.command.replace('-', '_')}")
    return run(commands.Session.open(options))
