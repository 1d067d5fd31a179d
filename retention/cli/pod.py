"""`finish`, `choose` and `drill`: what the chart's pods run."""

import argparse
import dataclasses
import json
import random
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from retention.cli.common import (
    Commands,
    Log,
    add_command,
    add_format,
    add_termination_log,
    duration,
    holder_of,
    now_of,
    write_error_message,
    write_termination_message,
)
from retention.errors import ExitCode, RetentionError, UsageError
from retention.pod import choose, config, drill, finish, report
from retention.pod.report import ALLOW_FLAG
from retention.text import format_age, format_size, shown
from retention.volume import locks
from retention.volume.directory import Directory
from retention.volume.folder import Folder
from retention.volume.scan import scan_root


def add(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_finish(commands)
    _add_choose(commands)
    _add_drill(commands)


def _add_root(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=Path, metavar="ROOT", help="the root of the volume")


def _add_finish(commands: Commands) -> None:
    command = add_command(commands, "finish", _finish, "Judge, publish, prune and report: the second half of a run.")
    _add_root(command)
    command.add_argument("--config", type=Path, required=True, help="the directory of <database>.conf and policy.json")
    command.add_argument("--results", type=Path, required=True, help="the directory with <database>.result")
    add_termination_log(command)
    command.add_argument(ALLOW_FLAG, action="store_true", help="say yes to a large prune, for all databases")
    add_format(command, "text", "json")


def _finish(options: argparse.Namespace) -> int:
    stop = locks.Stop()
    # As the first process of a container it would not hear SIGTERM at all without a handler.
    signal.signal(signal.SIGTERM, stop.request)
    now, log = now_of(options), Log(silent=options.format == "json")
    settings = finish.Settings(
        root=options.path,
        config=options.config,
        results=options.results,
        now=now,
        holder=holder_of(options),
        allow_large_prune=options.allow_large_prune,
    )
    try:
        run = finish.run(settings, stop, log)
    except RetentionError as error:
        write_error_message(options, error)
        raise
    code = ExitCode.STOPPED if run.stopped else report.exit_code(run.outcomes)
    for warning in run.warnings:
        log(f"warning: {warning}")
    if options.format == "json":
        documents = [report.status_entry(outcome, None, now) for outcome in run.outcomes]
        document: dict[str, Any] = {"databases": documents, "warnings": run.warnings, "exit_code": code}
        if run.sizing is not None:
            document["volume"] = dataclasses.asdict(run.sizing)
        log.write(json.dumps(document, indent=2))
    else:
        _print_report(log, run, now)
    write_termination_message(options, report.termination_message(run.outcomes, run.warnings, now))
    if log.lost:
        code = code or ExitCode.FAILED
    return code


def _print_report(log: Log, run: finish.Run, now: datetime) -> None:
    """End the log: one line a database, then the remedies of those that failed; the rest was told as it happened."""
    log.write(report.finish_table(run.outcomes, now))
    if run.sizing is not None:
        log(run.sizing.line())
    for outcome in run.outcomes:
        for error in (*outcome.problems, *([outcome.refusal] if outcome.refusal else [])):
            if error.remedy:
                log(f"{outcome.database}: remedy: {error.remedy}")
        for warning in outcome.warnings:
            log(f"{outcome.database}: warning: {warning}")


def _add_choose(commands: Commands) -> None:
    command = add_command(commands, "choose", _choose, "Choose an archive to restore: the first part of a restore.")
    _add_root(command)
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--database", help="whose archive")
    which.add_argument(
        "--drill",
        type=Path,
        metavar="CONFIG",
        help="for a drill: of each <database>.conf there the newest and one more",
    )
    command.add_argument("--backup", default=choose.NEWEST, help=f"which one: {choose.WORDS}")
    command.add_argument("--requests", type=Path, required=True, help="where <base>.request goes")
    command.add_argument("--look", action="store_true", help="only say which one it is: no pin, and it is not read")
    add_termination_log(command, "where the pod's last words go on an error")
    command.add_argument(
        "--pin-for",
        type=duration,
        default=timedelta(days=1),
        help="how long prune leaves the archive alone, for the restore's sake (1d)",
    )


def _choose(options: argparse.Namespace) -> int:
    try:
        return _choose_archive(options) if options.drill is None else _choose_sample(options)
    except RetentionError as error:
        write_error_message(options, error)
        raise


def _choose_archive(options: argparse.Namespace) -> int:
    now, database = now_of(options), options.database
    with Folder.open(options.path) as root:
        databases = scan_root(root).databases
        if database not in databases:
            raise UsageError(
                f"database {shown(database)!r}: there is no directory of it on the volume",
                f"there are {', '.join(databases) or 'none at all: is this the right claim?'}",
            )
        with root.child(database) as folder:
            directory = Directory(folder, database, holder_of(options), choose.LOCK_SECONDS)
            backup = choose.select(directory.scan(), options.backup, now=now)
            age = format_age(now - backup.time)
            print(f"{database}: chose {backup.name}, {age} old, {format_size(backup.bytes)}", flush=True)
            if not options.look:
                warning = choose.protect(directory, backup, now=now, length=options.pin_for)
                if warning:
                    print(f"{database}: warning: {warning}", flush=True)
                choose.check(directory, backup)
            choose.write(options.requests, [choose.request(directory, backup)])
    if not options.look:
        print(f"{database}: {backup.name} read whole, its sha256 is right", flush=True)
    return ExitCode.DONE


def _choose_sample(options: argparse.Namespace) -> int:
    now, chance = now_of(options), random.SystemRandom()
    with Folder.open(options.path) as root:
        for database in config.databases_in(options.drill):
            if root.stat(database) is None:
                print(f"{database}: there is no backup yet", flush=True)
                continue
            with root.child(database) as folder:
                directory = Directory(folder, database, holder_of(options), choose.LOCK_SECONDS)
                chosen = choose.sample(directory, now=now, chance=chance)
                choose.write(options.requests, [choose.request(directory, backup) for backup in chosen])
            print(f"{database}: chose {', '.join(backup.name for backup in chosen) or 'nothing'}", flush=True)
    return ExitCode.DONE


def _add_drill(commands: Commands) -> None:
    command = add_command(commands, "drill", _drill, "Judge and record what a drill has restored: its last part.")
    _add_root(command)
    command.add_argument("--config", type=Path, required=True, help="the directory of <database>.conf")
    command.add_argument("--results", type=Path, required=True, help="the directory with <base>.request, <base>.drill")
    add_termination_log(command)


def _drill(options: argparse.Namespace) -> int:
    now, holder, log = now_of(options), holder_of(options), Log(silent=False)
    with Folder.open(options.path) as root:
        databases = config.databases_in(options.config)
        outcomes = drill.record(root, options.results, databases, now=now, holder=holder, say=log)
        warning = drill.write_status(root, outcomes, now=now, holder=holder)
    if warning:
        log(f"warning: {warning}")
    log.write(drill.drill_table(outcomes))
    write_termination_message(options, drill.last_words(outcomes))
    return drill.exit_code(outcomes)
