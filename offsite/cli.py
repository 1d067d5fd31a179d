"""The command line: `copy`, `list`, `fetch`, `verify`, `check`, `hand-over`, `record` and `probe`, as pods run them."""

import argparse
import functools
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from offsite.age import Identity, parse_identities, probe
from offsite.remote.rclone import Rclone
from offsite.rule.copies import Copies
from offsite.settings import Settings, read_settings
from offsite.steps import drill, report
from offsite.steps.clock import Clock
from offsite.steps.examine import WRONG, Examination
from offsite.steps.fetch import NEWEST, Fetch, select
from offsite.steps.listing import databases, read_copies
from offsite.steps.run import Run, exit_code
from offsite.steps.verify import SOUND, Checked, verify
from retention.cli.common import (
    Commands,
    Log,
    Parser,
    add_command,
    add_directories,
    add_drill_limits,
    add_format,
    add_lock_timeout,
    add_termination_log,
    holder_of,
    now_of,
    print_json,
    write_error_message,
    write_termination_message,
)
from retention.errors import ConfigError, ExitCode, RetentionError, UsageError, unexpected
from retention.names import is_database
from retention.pod import drill as volume_drill
from retention.pod import handover
from retention.pod.config import read_text
from retention.text import format_age, format_size, shown, table
from retention.volume import locks
from retention.volume.directory import Directory
from retention.volume.folder import Folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. An error is one line, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = argparse.Namespace(termination_log=None)
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except RetentionError as error:
        return _failed(options, error)
    except KeyboardInterrupt:
        return _failed(options, RetentionError("stopped by Ctrl-C"), ExitCode.INTERRUPTED)
    except Exception as error:
        return _failed(options, unexpected(error))


def _failed(options: argparse.Namespace, error: RetentionError, code: ExitCode | None = None) -> int:
    print(f"offsite: {shown(str(error))}", file=sys.stderr, flush=True)
    if getattr(options, "termination_log", None) is not None:
        write_error_message(options, error)
    return error.exit_code if code is None else code


@functools.cache
def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python3 -m offsite",
        description="Keep encrypted copies of the backups outside the cluster, and bring them back.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = add_command(commands, "copy", _copy, "Copy what the policy keeps, check copies, delete what it deletes.")
    command.add_argument("path", type=Path, metavar="ROOT", help="root of the volume, which is only read")
    _add_common(command)
    command = add_command(commands, "list", _list, "List the copies of each database.")
    _add_common(command)
    add_format(command, "text", "json")
    command = add_command(commands, "fetch", _fetch, "Bring a copy to the volume, decrypt it, and publish it there.")
    command.add_argument("path", type=Path, metavar="ROOT", help="root of the volume")
    command.add_argument("--database", required=True, metavar="NAME", help="whose copy")
    command.add_argument("--backup", default=NEWEST, help="`newest`, `newest before TIME`, or an archive's name")
    command.add_argument("--identity", type=Path, metavar="FILE", help="file with the secret key, from age-keygen")
    add_lock_timeout(command)
    _add_common(command)
    command = add_command(
        commands, "verify", _verify, "Read copies back in full; those that have changed no longer count."
    )
    command.add_argument("--database", default="", metavar="NAME", help="whose copy (default: the newest of each)")
    command.add_argument("--backup", default=NEWEST, help="as for fetch")
    _add_common(command)
    _add_drill(commands)
    command = add_command(commands, "check", _check, "Try whether copies can be made: store, rights, lock and clock.")
    _add_common(command)
    add_command(commands, "probe", _probe, "Say whether this image can encrypt.")
    return parser


def _add_drill(commands: Commands) -> None:
    command = add_command(
        commands,
        "hand-over",
        _hand_over,
        "Give the container that drills one database its newest copy, and nothing else.",
    )
    command.add_argument("--database", required=True, metavar="NAME", help="whose copy is handed over")
    command.add_argument(
        "--slot", default="", metavar="NAME", help="the folder that the container sees, if NAME is an <entry>.all"
    )
    command.add_argument("--identity", type=Path, metavar="FILE", help="file with the secret key, from age-keygen")
    _add_places(command, scratch=True)
    _add_common(command)
    command = add_command(
        commands, "record", _record, "Write next to the copies that a drill has restored that it has (its last step)."
    )
    _add_places(command, scratch=False)
    _add_common(command)


def _add_places(command: argparse.ArgumentParser, *, scratch: bool) -> None:
    add_directories(
        command,
        ("--databases", "directory with <database>.conf, as a drill of the volume has it"),
        ("--results", "directory for requests and results; each container sees databases/NAME in it"),
        ("--run", "directory in memory; each container sees databases/NAME in it"),
        ("--scratch", "directory for archives and servers; each container sees databases/NAME in it"),
    )
    add_drill_limits(command, scratch=scratch)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, metavar="DIR", help="directory with offsite.conf")
    command.add_argument(
        "--socket", default="/run/offsite/rc.sock", metavar="FILE", help="socket of `rclone rcd` (default: %(default)s)"
    )
    command.add_argument(
        "--wait", type=int, default=60, metavar="N", help="seconds to wait for rclone (default: %(default)s)"
    )
    add_termination_log(command)


def _probe(_: argparse.Namespace) -> int:
    probe()
    print("this image can encrypt")
    return ExitCode.DONE


def _copy(options: argparse.Namespace) -> int:
    stop = _stop()
    settings, log = read_settings(options.config, options.socket), Log(silent=False)
    clock = Clock(now_of(options), settings.seconds, stop)
    run = Run(settings, Rclone(settings.destination), options.path, options.config, clock, log)
    outcomes = run.run(options.wait)
    code = ExitCode.STOPPED if stop.requested else exit_code(outcomes)
    log.write(report.text(outcomes, now=clock()))
    for outcome in outcomes:
        for warning in outcome.warnings:
            log(f"{outcome.database}: warning: {warning}")
    write_termination_message(options, report.message(outcomes))
    return code


def _stop() -> locks.Stop:
    stop = locks.Stop()
    # The kernel does not deliver SIGTERM to the first process of a container unless it has a handler.
    signal.signal(signal.SIGTERM, stop.request)
    return stop


def _list(options: argparse.Namespace) -> int:
    settings = read_settings(options.config, options.socket)
    remote = Rclone(settings.destination)
    remote.wait(options.wait)
    now, found = now_of(options), _every(remote, settings)
    if options.format == "json":
        print_json([_document(copies) for copies in found])
        return ExitCode.DONE
    rows = [
        (
            copies.database,
            copy.base,
            format_age(now - copy.time),
            format_size(copy.bytes),
            copy.marker.encryption,
            copy.verified,
            *("never" if one is None else f"{one:%Y-%m-%d %H:%M}Z" for one in (copy.checked, copy.restored)),
        )
        for copies in found
        for copy in copies.complete
    ]
    print(table(("DATABASE", "BACKUP", "AGE", "SIZE", "ENCRYPTION", "VERIFIED", "READ BACK", "RESTORED"), rows))
    for copies in found:
        for finding in copies.damaged:
            print(shown(f"{copies.database}: {finding.name} does not count: {finding.reason}"))
    return ExitCode.DONE


def _document(copies: Copies) -> dict[str, object]:
    return {
        "database": copies.database,
        "copies": [
            {
                "base": copy.base,
                "time": copy.time.isoformat(),
                "bytes": copy.bytes,
                "sha256": copy.marker.archive.sha256,
                "uploaded": copy.marker.uploaded.isoformat(),
                "verified": copy.verified,
                "checked": None if copy.checked is None else copy.checked.isoformat(),
                "restored": None if copy.restored is None else copy.restored.isoformat(),
                "recipients": list(copy.marker.recipients),
                "objects": list(copy.names),
            }
            for copy in copies.complete
        ],
        "damaged": [{"name": finding.name, "reason": finding.reason} for finding in copies.damaged],
    }


def _every(remote: Rclone, settings: Settings) -> list[Copies]:
    return [read_copies(remote, settings.cluster_id, one) for one in databases(remote, settings.cluster_id)]


def _verify(options: argparse.Namespace) -> int:
    stop = _stop()
    settings, database, now = read_settings(options.config, options.socket), options.database, now_of(options)
    if options.backup != NEWEST and not database:
        raise UsageError("--backup needs the name of a database", "name it, or leave --backup out")
    if database:
        _check_name(database)
    remote, clock = Rclone(settings.destination), Clock(now, settings.seconds, stop)
    remote.wait(options.wait)
    checked: list[Checked] = []
    for copies in [read_copies(remote, settings.cluster_id, database)] if database else _every(remote, settings):
        newest = select(copies, options.backup, now=now) if database or copies.complete else None
        place = f"{settings.cluster_id}/{copies.database}"
        for one in verify(remote, place, copies, newest, clock=clock, check=clock.check):
            checked.append(one)
            print(
                shown(f"{one.database}: {one.name}: {one.result}{': ' if one.reason else ''}{one.reason}"), flush=True
            )
    wrong = sum(one.result != SOUND for one in checked)
    summary = f"{len(checked)} copies read, {wrong} damaged or unreadable" if checked else "there is no copy to read"
    print(summary)
    write_termination_message(options, summary.encode())
    return ExitCode.DONE if checked and not wrong else ExitCode.FAILED


def _check(options: argparse.Namespace) -> int:
    settings = read_settings(options.config, options.socket)
    tried = []
    for one in Examination(settings, Rclone(settings.destination)).run(options.wait):
        tried.append(one)
        print(shown(f"{one.what:<11} {one.result:<8} {one.found}"), flush=True)
    wrong = [one for one in tried if one.result == WRONG]
    summary = f"{wrong[0].what}: {wrong[0].found}" if wrong else "copies can be made"
    write_termination_message(options, shown(summary).encode(errors="replace"))
    return ExitCode.FAILED if wrong else ExitCode.DONE


def _check_name(database: str) -> None:
    if not is_database(database):
        raise UsageError(f"{database!r} is not the name of a database", "see: kubectl cnpg-backup offsite list")


def _fetch(options: argparse.Namespace) -> int:
    stop = _stop()
    settings, database = read_settings(options.config, options.socket), options.database
    _check_name(database)
    identities: tuple[Identity, ...] = () if options.identity is None else parse_identities(read_text(options.identity))
    remote, now = Rclone(settings.destination), now_of(options)
    remote.wait(options.wait)
    copies = read_copies(remote, settings.cluster_id, database)
    copy = select(copies, options.backup, now=now)
    print(f"{database}: fetching {copy.base}, {format_age(now - copy.time)} old, {format_size(copy.bytes)}", flush=True)
    # The volume may be new and empty. Its databases' folders belong to one user.
    os.umask(0o077)
    timeout: timedelta = options.lock_timeout
    with Folder.open(options.path) as root:
        root.make_child(database)
        with root.child(database) as folder:
            directory = Directory(folder, database, holder_of(options), timeout.total_seconds())
            fetch = Fetch(remote, f"{settings.cluster_id}/{database}", copy, identities, stop.check)
            done = fetch.run(directory, now=now)
    print(f"{database}: {done.name} {'was there already' if done.was_there else 'is published'}", flush=True)
    return ExitCode.DONE


def _places(options: argparse.Namespace, scratch_size: str = "0") -> handover.Places:
    return handover.Places(
        config=options.databases_directory,
        results=options.results_directory,
        run=options.run_directory,
        scratch=options.scratch_directory,
        scratch_size=scratch_size,
        seconds=options.seconds,
    )


def _hand_over(options: argparse.Namespace) -> int:
    stop = _stop()
    settings, file = read_settings(options.config, options.socket), options.identity

    def identities() -> tuple[Identity, ...]:
        if not file.exists():
            raise ConfigError(f"{file}: there is no secret key", drill.NO_KEY)
        return parse_identities(read_text(file))

    remote = Rclone(settings.destination)
    place = drill.Destination(remote, settings.cluster_id, None if file is None else identities, options.wait)
    drill.hand_over(
        place,
        _places(options, options.scratch_size),
        options.database,
        slot=options.slot,
        only=os.environ.get("BACKUP_ONLY", "").split(),
        now=now_of(options),
        stop=stop,
        log=Log(silent=False),
    )
    return ExitCode.DONE


def _record(options: argparse.Namespace) -> int:
    stop = _stop()
    settings, places, log = read_settings(options.config, options.socket), _places(options), Log(silent=False)
    clock = Clock(now_of(options), options.seconds, stop)
    databases = drill.to_record(places.config, places.results)
    remote = Rclone(settings.destination)
    outcomes = drill.record(
        remote, settings.cluster_id, places.results, databases, wait_seconds=options.wait, clock=clock, log=log
    )
    # The volume in which the archives were decrypted ends with the pod; its node may keep the pod for long.
    handover.clear(places, log)
    log.write(volume_drill.drill_table(outcomes))
    write_termination_message(options, volume_drill.termination_message(outcomes))
    return volume_drill.exit_code(outcomes)
