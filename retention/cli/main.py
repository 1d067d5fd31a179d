"""The command line: people's view of the package, and the machine interface that the chart and the plugin use."""

import argparse
import dataclasses
import functools
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from retention.errors import ExitCode, RetentionError, UsageError, VolumeError, unexpected
from retention.names import STATUS, Grammar, Kind, database_of_archive, is_database
from retention.pod import adopt, choose, config, drill, finish, report, status
from retention.pod.report import ALLOW_FLAG, ALLOW_VALUE, REFUSAL_REMEDY, write_termination_log
from retention.rule import decide, diff, simulate, sizing
from retention.rule.backup import Finding, Pin, Scan
from retention.rule.decide import Candidate, Decision
from retention.rule.policy import Limits, Policy, Tier
from retention.text import (
    format_age,
    format_duration,
    format_size,
    parse_duration,
    parse_moment,
    parse_size,
    shown,
    table,
)
from retention.volume import locks, pins, verify
from retention.volume.directory import Directory
from retention.volume.folder import Folder, volume_error
from retention.volume.prune import carry_out, clean
from retention.volume.scan import is_database_folder, scan, scan_root
from retention.volume.sidecars import Evidence, read_evidence

_EPILOG = """\
exit codes: 0 done, 1 a database failed or an archive is bad, 2 usage or configuration, 3 refused by a safety rule
(nothing deleted), 143 stopped by SIGTERM"""


# Keeps all, for databases that no run has any more: two backups never share a second.
_UNPRUNED = Policy((Tier("unpruned", timedelta(seconds=1), 1_000_000),))


_SIMULATION_START = datetime(2026, 1, 1, tzinfo=UTC)


_MOST_BACKUPS_SIMULATED = 100_000


_T = TypeVar("_T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. No error reaches a person as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
        code = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:
        code = _closed_output()
    except RetentionError as error:
        code = _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = _complain("stopped by Ctrl-C", 130)
    except OSError as error:
        code = _complain(str(volume_error(error, str(error.filename or "standard output"))), ExitCode.FAILED)
        _silence_output()
    except Exception as error:
        code = _complain(str(unexpected(error)), ExitCode.FAILED)
    return code if _flushed() else code or ExitCode.FAILED


def _flushed() -> bool:
    """Write out what an error has left behind; return whether that worked."""
    try:
        sys.stdout.flush()
    except OSError:
        _silence_output()
        return False
    return True


def _complain(text: str, code: int) -> int:
    try:
        print(f"retention: {shown(text)}", file=sys.stderr, flush=True)
    except OSError:
        _silence_output()
    return code


def _closed_output() -> int:
    _silence_output()
    return _complain("standard output was closed before all was written", ExitCode.FAILED)


def _silence_output() -> None:
    """Keep the interpreter from failing once more when it flushes at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout,):
        os.dup2(null, stream.fileno())
    os.close(null)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


@functools.cache
def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python3 -m retention",
        description="Keep, prune and check backups in tiers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_planning(commands)
    _add_looking(commands)
    _add_pinning(commands)
    _add_adopt(commands)
    _add_simulate(commands)
    _add_finish(commands)
    _add_choose(commands)
    _add_drill(commands)
    return parser


def _command(
    commands: "argparse._SubParsersAction[Any]", name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=_EPILOG, allow_abbrev=False
    )
    command.set_defaults(run=run)
    command.add_argument("--now", type=_moment, help="the moment to decide for, as 2026-01-01T00:00:00Z (default: now)")
    return command


def _with_policy(command: argparse.ArgumentParser) -> None:
    command.add_argument("--policy", type=Path, metavar="FILE.json", help="the policy (default: 6/4/5 of 2h, 12h, 24h)")


def _with_rules(command: argparse.ArgumentParser) -> None:
    _with_policy(command)
    command.add_argument(
        "--config", type=Path, metavar="DIR", help="a run's configuration: decide for each database as that run would"
    )
    command.add_argument("--max-bytes", type=_size, metavar="SIZE", help="the most that its archives may take, as 4Gi")
    command.add_argument("--min-backups", type=int, metavar="N", help="never less for --max-bytes (default: 3)")
    command.add_argument("--large-prune-percent", type=int, metavar="N", help="what a large prune is (default: 50)")


def _with_format(command: argparse.ArgumentParser, *formats: str) -> None:
    command.add_argument("--format", choices=formats, default="text", help="default: text")


def _with_lock(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--lock-timeout", type=_duration, default=timedelta(seconds=60), help="how long to wait for a lock (60s)"
    )


def _add_planning(commands: "argparse._SubParsersAction[Any]") -> None:
    path_help = "a database's directory, or the root of all"
    command = _command(commands, "plan", _plan, "Show what a prune would keep and delete; changes nothing.")
    command.add_argument("path", metavar="PATH|-", help=f"{path_help}; - reads one file name a line")
    _with_rules(command)
    _with_format(command, "text", "json", "names")
    command = _command(commands, "diff", _diff, "Show what another policy would do today; changes nothing.")
    command.add_argument("path", metavar="PATH", help=path_help)
    command.add_argument("--to", type=Path, required=True, metavar="NEW.json", help="the other policy")
    _with_rules(command)
    _with_format(command, "text", "json", "names")
    command = _command(commands, "prune", _prune, "Delete what the policy does not keep.")
    command.add_argument("path", metavar="PATH", help=path_help)
    command.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    command.add_argument(
        ALLOW_FLAG,
        action="store_true",
        help=f"go ahead when more than {decide.FREE_DELETIONS} and more than the large share of the backups would go",
    )
    _with_rules(command)
    _with_format(command, "text", "json", "names")
    _with_lock(command)


def _add_looking(commands: "argparse._SubParsersAction[Any]") -> None:
    command = _command(commands, "list", _list, "Show all backups: age, size, tier, why.")
    command.add_argument("path", metavar="PATH", help="a database's directory, or the root of all")
    _with_rules(command)
    _with_format(command, "text", "json", "names")
    command = _command(commands, "status", _status, "Show how each database stands, and how its last run ended.")
    command.add_argument("path", metavar="PATH", help="a database's directory, or the root of all")
    _with_format(command, "text", "json")
    command = _command(commands, "verify", _verify, "Read archives again, whole; a bad one counts no more.")
    command.add_argument("path", metavar="PATH", help="an archive, a database's directory, or the root of all")
    _with_format(command, "text", "json", "names")
    _with_lock(command)


def _add_pinning(commands: "argparse._SubParsersAction[Any]") -> None:
    command = _command(commands, "pin", _pin, "Keep backups besides the tiers.")
    command.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="path of a <base>.dump")
    command.add_argument("--reason", default="", help="why, in your words")
    until = command.add_mutually_exclusive_group()
    until.add_argument("--for", type=_duration, dest="length", metavar="30d", help="how long (default: for ever)")
    until.add_argument("--until", type=_moment, metavar="TIME", help="until when, as 2026-01-01T00:00:00Z")
    _with_lock(command)
    command = _command(commands, "unpin", _unpin, "Hand backups back to the tiers.")
    command.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="path of a <base>.dump")
    _with_lock(command)


def _add_adopt(commands: "argparse._SubParsersAction[Any]") -> None:
    command = _command(
        commands, "adopt", _adopt, "Let archives that came from elsewhere count: give sidecars to those read whole."
    )
    command.add_argument("path", metavar="PATH", help="an archive, a database's directory, or the root of all")
    command.add_argument("--results", type=Path, metavar="DIR", help="where adopt.sh has left what it read")
    command.add_argument("--dry-run", action="store_true", help="only say which archives lack sidecars")
    _with_rules(command)
    _with_format(command, "text", "json", "names")
    _with_lock(command)


def _add_simulate(commands: "argparse._SubParsersAction[Any]") -> None:
    command = _command(commands, "simulate", _simulate, "Show what a policy would keep over a time.")
    _with_policy(command)
    command.add_argument("--every", type=_duration, help="the schedule's interval (default: the first tier's)")
    command.add_argument("--days", type=int, default=30, help="how long (default: 30)")
    command.add_argument("--start", type=_moment, default=_SIMULATION_START, help="when the first backup is due")
    command.add_argument("--jitter", type=_duration, default=timedelta(0), help="the most that a start is late")
    command.add_argument("--fail-percent", type=int, default=0, metavar="N", help="how many of a hundred runs fail")
    command.add_argument("--manual", type=int, default=0, metavar="N", help="backups made by hand each day, besides")
    command.add_argument("--size", type=_size, default=0, metavar="SIZE", help="of the first archive, as 200Mi")
    command.add_argument(
        "--growth-percent", type=float, default=0.0, metavar="N", help="by how much archives grow in 30 days"
    )
    command.add_argument("--seed", type=int, default=0, help="chooses what is random")
    command.add_argument(
        "--outage",
        type=_outage,
        action="append",
        default=[],
        metavar="10d+24h",
        help="no backups from 10 days after the start, for 24 hours; may be repeated",
    )
    _with_format(command, "text", "json", "svg", "html")


def _add_finish(commands: "argparse._SubParsersAction[Any]") -> None:
    command = _command(commands, "finish", _finish, "Judge, publish, prune and report: the second half of a run.")
    command.add_argument("path", type=Path, metavar="ROOT", help="the root of the volume")
    command.add_argument("--config", type=Path, required=True, help="the directory of <database>.conf and policy.json")
    command.add_argument("--results", type=Path, required=True, help="the directory with <database>.result")
    command.add_argument("--termination-log", type=Path, help="where the pod's last words go")
    command.add_argument(ALLOW_FLAG, action="store_true", help="say yes to a large prune, for all databases")
    _with_format(command, "text", "json")


def _add_choose(commands: "argparse._SubParsersAction[Any]") -> None:
    command = _command(commands, "choose", _choose, "Choose an archive to restore: the first part of a restore.")
    command.add_argument("path", type=Path, metavar="ROOT", help="the root of the volume")
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
    command.add_argument("--termination-log", type=Path, help="where the pod's last words go on an error")
    command.add_argument(
        "--pin-for",
        type=_duration,
        default=timedelta(days=1),
        help="how long prune leaves the archive alone, for the restore's sake (1d)",
    )


def _add_drill(commands: "argparse._SubParsersAction[Any]") -> None:
    command = _command(commands, "drill", _drill, "Judge and record what a drill has restored: its last part.")
    command.add_argument("path", type=Path, metavar="ROOT", help="the root of the volume")
    command.add_argument("--config", type=Path, required=True, help="the directory of <database>.conf")
    command.add_argument("--results", type=Path, required=True, help="the directory with <base>.request, <base>.drill")
    command.add_argument("--termination-log", type=Path, help="where the pod's last words go")


def _moment(text: str) -> datetime:
    moment = parse_moment(text)
    if moment is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date and time such as 2026-01-01T00:00:00Z")
    return moment


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except RetentionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _outage(text: str) -> simulate.Outage:
    begin, plus, length = text.partition("+")
    if not plus:
        raise argparse.ArgumentTypeError(f"{text!r} is not begin+length such as 10d+24h")
    return simulate.Outage(_duration(begin), _duration(length))


def _policy(options: argparse.Namespace) -> Policy:
    if options.policy is None:
        return Policy.default()
    return Policy.from_json(config.read_text(options.policy), str(options.policy))


@dataclass(frozen=True, slots=True)
class _Rules:
    """By what a database's backups are decided: policy, limits, and whether a large prune may go ahead."""

    policy: Policy
    limits: Limits
    allow: bool


_OTHERS = _Rules(_UNPRUNED, Limits(), allow=False)


def _rules(options: argparse.Namespace) -> Callable[[str], _Rules]:
    """Return what decides about a database, by its name; errors of the command line come before any work."""
    flags = {
        "max_bytes": options.max_bytes,
        "min_backups": options.min_backups,
        "large_percent": options.large_prune_percent,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    allow = bool(getattr(options, "allow_large_prune", False))
    directory: Path | None = options.config
    if directory is None:
        rules = _Rules(_policy(options), Limits(**given), allow)
        return lambda _: rules
    if options.policy is not None or given:
        raise UsageError("--config says policy and limits already", "leave out --policy and the limits")

    def configured(database: str) -> _Rules:
        settings = config.read_database(directory, database)
        return _Rules(config.read_policy(directory, database), settings.limits, allow or settings.allow_large_prune)

    return configured


def _sparing_others(options: argparse.Namespace, rules: Callable[[str], _Rules]) -> Callable[[str], _Rules]:
    """Return the same rules, but for databases that the configuration does not name: no run prunes them."""
    directory: Path | None = options.config
    if directory is None:
        return rules
    # Asked where the first database is looked at, whose error it then is.
    configured = functools.cache(lambda: frozenset(config.databases_in(directory)))
    return lambda database: rules(database) if database in configured() else _OTHERS


def _now(options: argparse.Namespace) -> datetime:
    now: datetime | None = options.now
    return datetime.now(UTC) if now is None else now


def _holder(command: str) -> str:
    pod = os.environ.get("BACKUP_POD", "")
    return f"{shown(pod) or os.uname().nodename} ({command}, pid {os.getpid()})"


@dataclass(slots=True)
class _Visit(Generic[_T]):
    """What some work has returned for each database that a path names."""

    results: list[_T]
    is_root: bool
    code: ExitCode

    def shaped(self, documents: list[Any]) -> object:
        """Return one document for a database's directory, a list of them for the root."""
        return documents if self.is_root else documents[0]


def _visit(path: str | Path, work: Callable[[str, Folder], _T]) -> _Visit[_T]:
    """Do some work in the directory of each database that a path names.

    Below a root, what goes wrong with one database is told and does not stop the others.
    """
    real = _real(path)
    with Folder.open(real) as folder:
        if is_database_folder(folder, real.name):
            return _Visit([work(real.name, folder)], is_root=False, code=ExitCode.DONE)
        root = scan_root(folder)
        for finding in root.ignored:
            _complain(f"ignored {folder.path_of(finding.name)}: {finding.reason}", 0)
        visit: _Visit[_T] = _Visit([], is_root=True, code=ExitCode.DONE)
        for database in root.databases:
            try:
                with folder.child(database) as child:
                    visit.results.append(work(database, child))
            except RetentionError as error:
                visit.code = ExitCode(_complain(f"{database}: {error}", ExitCode.FAILED))
        return visit


def _real(path: str | Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r}: {error}", "check the path") from None


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _plan(options: argparse.Namespace) -> int:
    rules, now = _rules(options), _now(options)
    sparing = _sparing_others(options, rules)

    def work(database: str, folder: Folder) -> Decision:
        chosen = sparing(database)
        return decide.decide_scan(scan(folder, database), chosen.policy, now=now, limits=chosen.limits)

    if options.path == "-":
        visit = _Visit([_decide_names(sys.stdin, rules, now)], is_root=False, code=ExitCode.DONE)
    else:
        visit = _visit(options.path, work)
    if options.format == "json":
        _print_json(visit.shaped([decision.to_dict() for decision in visit.results]))
    elif options.format == "names":
        _print_names(visit.results)
    else:
        for decision in visit.results:
            _print_decision(decision, now, "delete")
            if decision.refusal:
                print(f"prune will refuse: {decision.refusal}; it takes {ALLOW_FLAG}")
    return visit.code


def _diff(options: argparse.Namespace) -> int:
    rules, now = _rules(options), _now(options)
    other = Policy.from_json(config.read_text(options.to), str(options.to))

    def work(database: str, folder: Folder) -> diff.Difference:
        chosen, found = rules(database), scan(folder, database)
        before, after = (
            decide.decide_scan(found, policy, now=now, limits=chosen.limits) for policy in (chosen.policy, other)
        )
        return diff.compare(before, after)

    visit = _visit(options.path, work)
    if options.format == "json":
        _print_json(visit.shaped([difference.to_dict() for difference in visit.results]))
    elif options.format == "names":
        for difference in visit.results:
            for change in difference.of(diff.DELETE):
                print(change.name)
    else:
        for difference in visit.results:
            _print_difference(difference, now)
    return visit.code


def _print_difference(difference: diff.Difference, now: datetime) -> None:
    gone, saved, moved = (difference.of(what) for what in (diff.DELETE, diff.KEEP, diff.MOVE))
    size = format_size(sum(change.bytes or 0 for change in gone))
    print(
        f"{difference.database}: deletes {len(gone)} that would stay ({size}), keeps {len(saved)} that would go, moves "
        f"{len(moved)} to another tier"
    )
    rows = [
        (
            change.what,
            format_age(now - change.time),
            "-" if change.bytes is None else format_size(change.bytes),
            change.before or "-",
            change.after or "-",
            change.name,
            change.reason,
        )
        for change in difference.changes
    ]
    if rows:
        print(table(("CHANGE", "AGE", "SIZE", "BEFORE", "AFTER", "NAME", "WHY"), rows))
    if difference.refusal:
        print(f"prune will refuse: {difference.refusal}; it takes {ALLOW_FLAG}")


def _print_names(decisions: Iterable[Decision]) -> None:
    for decision in decisions:
        sys.stdout.writelines(f"{gone.name}\n" for gone in decision.delete)


def _print_decision(decision: Decision, now: datetime, verb: str) -> None:
    rows: list[tuple[datetime, str, int | None, str, str, str]] = [
        *((kept.time, "keep", kept.bytes, kept.tier, kept.name, kept.reason) for kept in decision.keep),
        *((gone.time, verb, gone.bytes, "-", gone.name, gone.reason) for gone in decision.delete),
    ]
    rows.sort(key=lambda row: row[0], reverse=True)
    print(f"{decision.database}: {len(decision.keep)} kept, {len(decision.delete)} to {verb}")
    if rows:
        lines = [
            (action, format_age(now - time), "-" if size is None else format_size(size), tier, name, why)
            for time, action, size, tier, name, why in rows
        ]
        print(table(("ACTION", "AGE", "SIZE", "TIER", "NAME", "WHY"), lines))
    for finding in decision.ignored:
        print(f"ignored {finding.name}: {finding.reason}")
    if decision.over_budget:
        print(f"over the budget: {decision.over_budget}")


def _decide_names(lines: Iterable[str], rules: Callable[[str], _Rules], now: datetime) -> Decision:
    """Decide about file names, one a line; each counts as published."""
    names, ignored, pinned = _sorted_names(lines)
    databases = sorted(set(names.values()))
    if len(databases) > 1:
        raise UsageError(
            f"standard input names archives of several databases: {', '.join(databases[:5])}",
            "plan each database by itself",
        )
    database = databases[0] if databases else ""
    candidates = []
    for name in names:
        parsed = Grammar(database).parse(name)
        if parsed is None:
            ignored.append(Finding(name, Grammar(database).objection(name)))
        else:
            pin = Pin("", None) if parsed.base in pinned else None
            candidates.append(Candidate(name, parsed.base, parsed.time, pin))
    chosen = rules(database)
    return decide.decide(database, candidates, ignored, chosen.policy, now=now, limits=chosen.limits)


def _sorted_names(lines: Iterable[str]) -> tuple[dict[str, str], list[Finding], set[str]]:
    """Return archives' names with their databases, what is none, and the bases that have a pin."""
    names: dict[str, str] = {}
    ignored: list[Finding] = []
    pinned: set[str] = set()
    for line in lines:
        name = line.rstrip("\r\n")
        if not name:
            continue
        database = database_of_archive(name)
        if database is not None and name in names:
            ignored.append(Finding(name, "named twice"))
        elif database is not None:
            names[name] = database
        elif name.endswith(Kind.PIN.value):
            pinned.add(name.removesuffix(Kind.PIN.value))
        else:
            ignored.append(Finding(shown(name), "not an archive's name (<database>-YYYYMMDD-HHMMSS.dump)"))
    return names, ignored, pinned


@dataclass(frozen=True, slots=True)
class _Pruned:
    decision: Decision
    refusal: RetentionError | None
    problems: list[RetentionError]


def _prune(options: argparse.Namespace) -> int:
    rules, now = _rules(options), _now(options)

    def work(database: str, folder: Folder) -> _Pruned:
        chosen = rules(database)
        if options.dry_run:
            decision = decide.decide_scan(scan(folder, database), chosen.policy, now=now, limits=chosen.limits)
            return _Pruned(decision, _refused(decision, chosen), [])
        directory = Directory(folder, database, _holder("prune"), _seconds(options))
        with directory.locked():
            found = directory.scan()
            if clean(folder, found, now=now):
                found = directory.scan()
            decision = decide.decide_scan(found, chosen.policy, now=now, limits=chosen.limits)
            refusal = _refused(decision, chosen)
            problems = [] if refusal else carry_out(folder, decision, now=now)
            return _Pruned(decision, refusal, problems)

    visit = _visit(options.path, work)
    code: int = visit.code
    for pruned in visit.results:
        for problem in pruned.problems:
            _complain(str(problem), 0)
        if pruned.refusal is not None:
            code = code or _complain(str(pruned.refusal), ExitCode.REFUSED)
    _print_pruned(options, visit, now)
    return code


def _refused(decision: Decision, rules: _Rules) -> RetentionError | None:
    if not decision.refusal or rules.allow:
        return None
    return RetentionError(decision.refusal, REFUSAL_REMEDY)


def _print_pruned(options: argparse.Namespace, visit: _Visit[_Pruned], now: datetime) -> None:
    if options.format == "json":
        documents = [
            {
                **pruned.decision.to_dict(),
                "dry_run": options.dry_run,
                "refused": None if pruned.refusal is None else str(pruned.refusal),
            }
            for pruned in visit.results
        ]
        _print_json(visit.shaped(documents))
    elif options.format == "names":
        _print_names(pruned.decision for pruned in visit.results if options.dry_run or pruned.refusal is None)
    else:
        for pruned in visit.results:
            would = options.dry_run or pruned.refusal is not None
            _print_decision(pruned.decision, now, "delete" if would else "deleted")


def _list(options: argparse.Namespace) -> int:
    rules, now = _sparing_others(options, _rules(options)), _now(options)

    def work(database: str, folder: Folder) -> tuple[Scan, Decision, _Rules, list[Evidence]]:
        chosen, found = rules(database), scan(folder, database)
        proofs = [read_evidence(folder, backup) for backup in found.backups] if options.format == "json" else []
        return found, decide.decide_scan(found, chosen.policy, now=now, limits=chosen.limits), chosen, proofs

    visit = _visit(options.path, work)
    if options.format == "json":
        _print_json(visit.shaped([_listed(*result, now) for result in visit.results]))
    elif options.format == "names":
        for found, *_ in visit.results:
            for backup in found.backups:
                print(backup.name)
    else:
        for found, decision, *_ in visit.results:
            _print_list(found, decision, now)
    return visit.code


def _full_bytes(rules: _Rules, found: Scan, now: datetime) -> int:
    """Return what a database takes at most once its tiers are full; what it takes now where no run prunes it."""
    newest = next((backup for backup in found.backups if backup.time <= now), None)
    if newest is None or rules is _OTHERS:
        return sum(backup.bytes for backup in found.backups)
    return sizing.of_database(newest.bytes, rules.policy, rules.limits)


def _fates(decision: Decision) -> dict[str, tuple[str, str]]:
    fates = {kept.name: (kept.tier, kept.reason) for kept in decision.keep}
    fates |= {gone.name: ("-", f"next prune deletes it: {gone.reason}") for gone in decision.delete}
    return fates


def _listed(
    found: Scan, decision: Decision, rules: _Rules, proofs: Sequence[Evidence], now: datetime
) -> dict[str, object]:
    fates = _fates(decision)
    backups = []
    for backup, proof in zip(found.backups, proofs, strict=True):
        tier, reason = fates[backup.name]
        pin = backup.pin
        backups.append(
            {
                "name": backup.name,
                "time": backup.time.isoformat(),
                "age_seconds": (now - backup.time) // timedelta(seconds=1),
                "bytes": backup.bytes,
                "tables": backup.tables,
                "sha256": backup.sha256,
                "tier": None if tier == "-" else tier,
                "reason": reason,
                "verified": proof.verified,
                "drill": proof.drill,
                "pin": None
                if pin is None
                else {
                    "reason": pin.reason,
                    "expires": None if pin.expires is None else pin.expires.isoformat(),
                    "holds": pin.holds(now),
                },
            }
        )
    not_counted = [{"name": finding.name, "reason": finding.reason} for finding in found.not_counted()]
    return {
        "database": found.database,
        "full_bytes": _full_bytes(rules, found, now),
        "backups": backups,
        "ignored": not_counted,
    }


def _print_list(found: Scan, decision: Decision, now: datetime) -> None:
    fates = _fates(decision)
    total = format_size(sum(backup.bytes for backup in found.backups))
    print(f"{found.database}: {len(found.backups)} backups, {total}")
    rows = [
        (format_age(now - backup.time), format_size(backup.bytes), *_split(fates, backup.name))
        for backup in found.backups
    ]
    if rows:
        print(table(("AGE", "SIZE", "TIER", "NAME", "WHY"), rows))
    for finding in found.not_counted():
        print(f"ignored {finding.name}: {finding.reason}")


def _split(fates: dict[str, tuple[str, str]], name: str) -> tuple[str, str, str]:
    tier, reason = fates[name]
    return tier, name, reason


def _status(options: argparse.Namespace) -> int:
    now = _now(options)
    visit = _visit(options.path, lambda database, folder: scan(folder, database))
    room = _room(options.path)
    last = _last_runs(options.path, is_root=visit.is_root)
    entries = [_standing(found, last.get(found.database), now) for found in visit.results]
    if visit.is_root:
        # A database that has failed since its first day has no directory, and is what one looks for here.
        there = {found.database for found in visit.results}
        entries += [_standing(Scan(name), last[name], now) for name in sorted(last) if name not in there]
    if options.format == "json":
        _print_json(visit.shaped([{**entry, **room} for entry in entries]))
    else:
        _print_status(entries)
    results = {entry["result"] for entry in entries}
    if visit.code or report.FAILED in results:
        return ExitCode.FAILED
    return ExitCode.REFUSED if report.REFUSED in results else ExitCode.DONE


def _room(path: str) -> dict[str, int | None]:
    """Return what the backups' user can ever have on the volume, and what is used of it; None where nobody can say."""
    try:
        with Folder.open(_real(path)) as folder:
            capacity, used = folder.space()
    except VolumeError as error:
        _complain(str(error), 0)
        return {"volume_bytes": None, "volume_used_bytes": None}
    return {"volume_bytes": capacity, "volume_used_bytes": used}


def _last_runs(path: str, *, is_root: bool) -> dict[str, Any]:
    """Return what `status.json` says about the last run of each database."""
    real = _real(path)
    try:
        with Folder.open(real if is_root else real.parent) as root:
            content = status.read(root)
    except VolumeError as error:
        _complain(str(error), 0)
        return {}
    databases = {} if content is None else report.read_status(content)
    if databases is None:
        _complain(f"{real / STATUS}: cannot be understood; the next finish writes it anew", 0)
        return {}
    return {name: entry for name, entry in databases.items() if is_database(name) and isinstance(entry, dict)}


def _standing(found: Scan, last: dict[str, Any] | None, now: datetime) -> dict[str, Any]:
    newest = next((backup for backup in found.backups if backup.time <= now), None)
    last = last or {}
    bad = [*(f"{base}{Kind.BAD.value}" for base in found.bad), *(finding.name for finding in found.damaged)]
    drilled = last.get("drill")
    drilled = drilled if isinstance(drilled, dict) else None
    failed = bad or (drilled is not None and drilled.get("result") == "failed")
    result = report.FAILED if failed else str(last.get("result", "unknown"))
    return {
        "database": found.database,
        "result": result,
        "newest": None if newest is None else newest.name,
        "newest_age_seconds": None if newest is None else (now - newest.time) // timedelta(seconds=1),
        "backups": len(found.backups),
        "bytes": sum(backup.bytes for backup in found.backups),
        "pinned": sum(backup.pin is not None and backup.pin.holds(now) for backup in found.backups),
        "future": sum(backup.time > now for backup in found.backups),
        "staged": len(found.staged),
        "bad": bad,
        "last_run": last.get("last_run"),
        "last_success": last.get("last_success"),
        "problems": last.get("problems", []),
        "refused": last.get("refused"),
        "warnings": last.get("warnings", []),
        "drill": drilled,
    }


def _print_status(entries: Iterable[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        age = entry["newest_age_seconds"]
        rows.append(
            (
                entry["database"],
                entry["result"],
                "none" if age is None else format_age(timedelta(seconds=age)),
                str(entry["backups"]),
                format_size(entry["bytes"]),
                str(entry["pinned"]),
                str(entry["last_run"] or "never"),
                _drill_told(entry["drill"]),
                _why(entry),
            )
        )
    print(table(("DATABASE", "RESULT", "NEWEST", "BACKUPS", "SIZE", "PINNED", "LAST RUN", "DRILL", "WHY"), rows))


def _drill_told(drilled: dict[str, Any] | None) -> str:
    return "never" if drilled is None else shown(f"{drilled.get('result')} {str(drilled.get('at'))[:10]}")


def _why(entry: dict[str, Any]) -> str:
    if entry["bad"]:
        return f"bad archives: {', '.join(entry['bad'])}"
    drilled = entry["drill"]
    if drilled is not None and drilled.get("result") == "failed":
        return shown(f"the drill failed: {drilled.get('problem')}; {drilled.get('remedy')}")
    problems = [
        shown(f"{problem.get('problem')}; {problem.get('remedy')}")
        for problem in entry["problems"]
        if isinstance(problem, dict)
    ]
    # What is refused is told even where something worse is.
    first = [*problems[:1], *([shown(str(entry["refused"]))] if entry["refused"] else [])]
    return "; ".join(first or [shown(str(text)) for text in entry["warnings"]][:1])


def _archive_or_more(given: str) -> tuple[Path, frozenset[str] | None]:
    """Return the directory that a path names or lies in, and the archive's name where it names one."""
    path = Path(given)
    if not path.name.endswith(Kind.ARCHIVE.value) or path.is_dir():
        return _real(given), None
    directory = _real(path.parent)
    if not is_database(directory.name):
        raise UsageError(f"{directory}: not a database's directory", "give the path of an archive where it lies")
    return directory, frozenset({path.name})


def _adopt(options: argparse.Namespace) -> int:
    if options.results is None and not options.dry_run:
        raise UsageError("--results is missing", "let adopt.sh read the archives first, or give --dry-run")
    sparing, now = _sparing_others(options, _rules(options)), _now(options)
    path, only = _archive_or_more(options.path)

    def done(adoption: adopt.Adoption) -> None:
        if options.format == "text":
            why = f": {adoption.reason}; {adoption.remedy}" if adoption.reason else ""
            print(shown(f"{adoption.name}: {adoption.result}{why}"), flush=True)

    def work(database: str, folder: Folder) -> tuple[str, list[adopt.Adoption], Decision, _Rules]:
        chosen = sparing(database)
        directory = Directory(folder, database, _holder("adopt"), _seconds(options))
        adoptions = adopt.examine(directory, only)
        if options.dry_run:
            for adoption in adoptions:
                done(adoption)
        else:
            adoptions = adopt.adopt(directory, adoptions, options.results, options.config, now=now, done=done)
        decision = adopt.next_prune(directory, adoptions, chosen.policy, chosen.limits, now=now)
        return database, adoptions, decision, chosen

    visit = _visit(path, work)
    if options.format == "json":
        _print_json(visit.shaped([_adoption_document(*result) for result in visit.results]))
    elif options.format == "names":
        for _, adoptions, *_ in visit.results:
            for adoption in adoptions:
                if adoption.result != adopt.REFUSED:
                    print(adoption.name)
    else:
        for database, adoptions, decision, rules in visit.results:
            if any(adoption.result != adopt.REFUSED for adoption in adoptions):
                print(f"{database}: {_next_prune(decision, rules)}")
        if not any(adoptions for _, adoptions, *_ in visit.results):
            print("no archive lacks its sidecars")
    refused = any(adoption.result == adopt.REFUSED for _, adoptions, *_ in visit.results for adoption in adoptions)
    return ExitCode.FAILED if refused else visit.code


def _adoption_document(
    database: str, adoptions: list[adopt.Adoption], decision: Decision, rules: _Rules
) -> dict[str, object]:
    return {
        "database": database,
        "archives": [adoption.to_dict() for adoption in adoptions],
        "next_prune": {
            "delete": [gone.name for gone in decision.delete],
            "refusal": decision.refusal if decision.refusal and not rules.allow else None,
            "told": _next_prune(decision, rules),
        },
    }


def _next_prune(decision: Decision, rules: _Rules) -> str:
    """Say what the next prune does once all that can be adopted counts."""
    count, kept = len(decision.delete), len(decision.keep)
    if rules is _OTHERS:
        return f"{kept} backups then; it is not configured here, so no run prunes them"
    if decision.refusal and not rules.allow:
        return (
            f"the next prune would delete {count} of {count + kept} backups, and refuses to do that at once: set "
            f"{ALLOW_VALUE}: true for one run, or pin what has to stay"
        )
    return f"the next prune keeps {kept} backups and deletes {count}" + (
        f", {decision.delete[-1].name} to {decision.delete[0].name}: pin what has to stay" if count else ""
    )


def _verify(options: argparse.Namespace) -> int:
    path, only = _archive_or_more(options.path)

    def done(checked: verify.Checked) -> None:
        if options.format == "text":
            print(f"{checked.name}: {checked.result}{': ' if checked.reason else ''}{checked.reason}", flush=True)

    def work(database: str, folder: Folder) -> tuple[str, list[verify.Checked]]:
        directory = Directory(folder, database, _holder("verify"), _seconds(options))
        return database, verify.verify(directory, only, done=done)

    visit = _visit(path, work)
    wrong = [checked.name for _, checks in visit.results for checked in checks if checked.result in ("bad", "unread")]
    if options.format == "json":
        documents = [
            {"database": database, "archives": [checked.to_dict() for checked in checks]}
            for database, checks in visit.results
        ]
        _print_json(visit.shaped(documents))
    elif options.format == "names":
        for name in wrong:
            print(name)
    else:
        count = sum(len(checks) for _, checks in visit.results)
        print(f"{count} archives read, {len(wrong)} not good")
    return ExitCode.FAILED if wrong else visit.code


def _pin(options: argparse.Namespace) -> int:
    now = _now(options)
    expires: datetime | None = options.until if options.length is None else now + options.length
    if expires is not None and expires <= now:
        raise UsageError(f"--until {expires.isoformat()} has passed", "give a moment to come")
    for directory, name in _archives(options, "pin"):
        pins.pin(directory, name, reason=options.reason, expires=expires, now=now)
        print(f"{name}: pinned {'for ever' if expires is None else f'until {expires:%Y-%m-%d %H:%M}Z'}")
    return ExitCode.DONE


def _unpin(options: argparse.Namespace) -> int:
    for directory, name in _archives(options, "unpin"):
        removed = pins.unpin(directory, name)
        print(f"{name}: {'unpinned' if removed else 'was not pinned'}")
    return ExitCode.DONE


def _archives(options: argparse.Namespace, command: str) -> Iterator[tuple[Directory, str]]:
    """Yield the open directory and the file name of each archive that is named on the command line."""
    for path in options.archives:
        directory = _real(path.parent)
        if not is_database(directory.name):
            raise UsageError(f"{path}: {directory} is not a database's directory", "give the path of a <base>.dump")
        with Folder.open(directory) as folder:
            yield Directory(folder, directory.name, _holder(command), _seconds(options)), path.name


def _seconds(options: argparse.Namespace) -> float:
    timeout: timedelta = options.lock_timeout
    return timeout.total_seconds()


def _simulate(options: argparse.Namespace) -> int:
    policy = _policy(options)
    every: timedelta = options.every or policy.tiers[0].every
    if options.days < 1:
        raise UsageError(f"--days {options.days} is less than a day", "give 1 or more")
    if options.days > _MOST_BACKUPS_SIMULATED * (every / timedelta(days=1)):
        raise UsageError(
            f"--days {options.days} at every {format_duration(every)} are more than {_MOST_BACKUPS_SIMULATED} backups",
            "simulate fewer days",
        )
    for flag, value, most in (
        ("--fail-percent", options.fail_percent, 100),
        ("--manual", options.manual, 1000),
        ("--growth-percent", options.growth_percent, 1000),
    ):
        if not 0 <= value <= most:
            raise UsageError(f"{flag} {value}", f"give 0 to {most}")
    scenario = simulate.Scenario(
        policy=policy,
        start=options.start,
        every=every,
        length=timedelta(days=options.days),
        jitter=options.jitter,
        outages=tuple(options.outage),
        fail_percent=options.fail_percent,
        manual=options.manual,
        size=options.size,
        growth_percent=options.growth_percent,
        seed=options.seed,
    )
    simulation = simulate.simulate(scenario)
    if options.format == "json":
        _print_json(simulate.to_dict(simulation))
    elif options.format in ("svg", "html"):
        # Only here: no other command draws.
        from retention.rule import picture

        print(picture.to_svg(simulation) if options.format == "svg" else picture.to_html(simulation))
    else:
        print(simulate.to_text(simulation))
    return ExitCode.DONE


def _choose(options: argparse.Namespace) -> int:
    try:
        return _choose_one(options) if options.drill is None else _choose_sample(options)
    except RetentionError as error:
        _last_words(options, str(error).encode(errors="replace"))
        raise


def _choose_one(options: argparse.Namespace) -> int:
    now = _now(options)
    database = options.database
    with Folder.open(options.path) as root:
        databases = scan_root(root).databases
        if database not in databases:
            raise UsageError(
                f"database {shown(database)!r}: there is no directory of it on the volume",
                f"there are {', '.join(databases) or 'none at all: is this the right claim?'}",
            )
        with root.child(database) as folder:
            directory = Directory(folder, database, _holder("choose"), choose.LOCK_SECONDS)
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
    now, chance = _now(options), random.SystemRandom()
    with Folder.open(options.path) as root:
        for database in config.databases_in(options.drill):
            if root.stat(database) is None:
                print(f"{database}: there is no backup yet", flush=True)
                continue
            with root.child(database) as folder:
                directory = Directory(folder, database, _holder("choose"), choose.LOCK_SECONDS)
                chosen = choose.sample(directory, now=now, chance=chance)
                choose.write(options.requests, [choose.request(directory, backup) for backup in chosen])
            print(f"{database}: chose {', '.join(backup.name for backup in chosen) or 'nothing'}", flush=True)
    return ExitCode.DONE


def _drill(options: argparse.Namespace) -> int:
    now, holder, log = _now(options), _holder("drill"), _Log(silent=False)
    with Folder.open(options.path) as root:
        databases = config.databases_in(options.config)
        outcomes = drill.record(root, options.results, databases, now=now, holder=holder, say=log)
        warning = drill.write_status(root, outcomes, now=now, holder=holder)
    if warning:
        log(f"warning: {warning}")
    log.write(drill.drill_table(outcomes))
    _last_words(options, drill.last_words(outcomes))
    return drill.exit_code(outcomes)


class _Log:
    """Tells what happens as it happens; a reader who went away does not stop the work."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self.lost = False

    def __call__(self, text: str) -> None:
        if self._silent or self.lost:
            return
        self.write(shown(text))

    def write(self, text: str) -> None:
        """Write whole lines, or note that nobody reads them."""
        try:
            print(text, flush=True)
        except OSError:
            self.lost = True
            _silence_output()


def _finish(options: argparse.Namespace) -> int:
    stop = locks.Stop()
    # As the first process of a container it would not hear SIGTERM at all without a handler.
    signal.signal(signal.SIGTERM, stop.request)
    now, log = _now(options), _Log(silent=options.format == "json")
    settings = finish.Settings(
        root=options.path,
        config=options.config,
        results=options.results,
        now=now,
        holder=_holder("finish"),
        allow_large_prune=options.allow_large_prune,
    )
    try:
        run = finish.run(settings, stop, log)
    except RetentionError as error:
        _last_words(options, str(error).encode(errors="replace"))
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
        _report(log, run, now)
    _last_words(options, report.termination_message(run.outcomes, run.warnings, now))
    if log.lost:
        code = code or ExitCode.FAILED
    return code


def _report(log: _Log, run: finish.Run, now: datetime) -> None:
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


def _last_words(options: argparse.Namespace, content: bytes) -> None:
    if options.termination_log is not None:
        warning = write_termination_log(options.termination_log, content[: report.TERMINATION_BYTES])
        if warning:
            _complain(warning, 0)
