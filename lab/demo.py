"""Show the whole product on this machine, without a cluster: back up, prune, fail, lose, restore.

Throwaway PostgreSQL servers replace the clusters, and folders replace the claim. Everything else is real: the chart is
rendered with its own values, and its pod's commands, environment and mounted files run as rendered.

    make demo                       or, in the development environment:
    python -m lab.demo [--keep] [--megabytes N]

Exit: 0 if every promise was kept, 1 if one was not, 2 if this machine lacks a program.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.lab import data
from tests.lab.chart import ChartError, render
from tests.lab.pod import PodEnded, PodError
from tests.lab.postgres import PostgresError, Server, scratch_folder
from tests.lab.site import Site, SiteError, config_files, missing_programs

ROOT = Path(__file__).resolve().parent.parent
DATABASES = ("authelia", "kutt", "plausible")
LOST = "plausible"
LOCKED_OUT = "kutt"
# Eight days and not seven: the five daily places reach back up to a week, wherever in its slots the demo runs.
WEEK = timedelta(days=8)
EVERY = timedelta(hours=2)
# The chart's default policy: slots begin 15 minutes before the schedule's minute.
PHASE = timedelta(minutes=-15)
PROMISED = {"Hourly": 6, "12-Hourly": 4, "Daily": 5}
COLOURS = {"Hourly": "green", "12-Hourly": "cyan", "Daily": "magenta"}
DELETIONS_SHOWN = 3
LETTERS = {"Hourly": "H", "12-Hourly": "T", "Daily": "D"}


class BrokenPromiseError(Exception):
    """Something did not come out as promised; the message says what."""


@dataclass(slots=True)
class Report:
    """What the terminal shows, and the promises that were checked."""

    console: Console
    kept: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    deletions: int = 0

    def chapter(self, title: str) -> None:
        """Begin a part."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left", style="dim")

    def say(self, text: str) -> None:
        """A sentence for the reader."""
        self.console.print(text)

    def command(self, line: str) -> None:
        """A command, before it runs."""
        self.console.print(Text(f"$ {line}", style="bold"))

    def log(self, container: str, line: str) -> None:
        """A line of a container's log; of many lines about deletions only the first few."""
        if ": deleted " in line:
            self.deletions += 1
            if self.deletions > DELETIONS_SHOWN:
                return
        # Not broken at the terminal's width, so that it can be searched and copied.
        self.console.print(Text(f"{container} | {line}", style="dim"), soft_wrap=True)

    def end_log(self) -> None:
        """After the last line of a pod's log."""
        if self.deletions > DELETIONS_SHOWN:
            self.console.print(f"(and {self.deletions - DELETIONS_SHOWN} more lines about deletions)", style="dim")
        self.deletions = 0

    def check(self, promise: str, true: bool, otherwise: str = "") -> None:
        """Hold a promise against what happened.

        Raises:
            BrokenPromiseError: It is not true.
        """
        if not true:
            raise BrokenPromiseError(f"not as promised: {promise}{f': {otherwise}' if otherwise else ''}")
        self.kept.append(promise)
        self.console.print(Text.assemble(("ok ", "green"), promise))

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something takes its time."""
        began = time.monotonic()
        with self.console.status(text):
            yield
        self.console.print(f"{text}: {time.monotonic() - began:.1f} s")


@dataclass(frozen=True, slots=True)
class Backup:
    """A published archive: its files share the base."""

    archive: Path

    @property
    def metadata(self) -> dict[str, Any]:
        """What its `.json` says."""
        found: dict[str, Any] = json.loads(self.archive.with_suffix(".json").read_text())
        return found

    @property
    def time(self) -> datetime:
        """When its dump began."""
        return moment(self.archive.name)


def moment(name: str) -> datetime:
    """The time in an archive's name."""
    return datetime.strptime(name.removesuffix(".dump")[-15:], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


class Demo:
    """The demo's chapters, in order; each builds on the one before."""

    def __init__(self, site: Site, report: Report, megabytes: int) -> None:
        self.site = site
        self.report = report
        self.megabytes = megabytes
        self.manifests = render()

    def play(self) -> None:
        """All chapters.

        Raises:
            BrokenPromiseError: Something did not come out as promised.
        """
        self._make_databases()
        self._first_run()
        self._run_after_a_week()
        self._run_with_one_failure()
        self._lose_and_restore()

    def published(self, database: str) -> list[Backup]:
        """The backups of a database, newest first."""
        found = (self.site.backups / database).glob(f"{database}-*.dump")
        return [Backup(path) for path in sorted(found, reverse=True)]

    def _make_databases(self) -> None:
        self.report.chapter("Three databases")
        made: dict[str, Callable[[Server], None]] = {
            "authelia": data.authelia,
            "kutt": data.kutt,
            "plausible": lambda server: data.plausible(server, megabytes=self.megabytes),
        }

        def make(name: str) -> None:
            self.site.add_role(name)
            made[name](self.site.servers[name])

        with self.report.waiting("made, each on its own PostgreSQL server"):
            at_once(make, DATABASES)
        table = columns("database", "on disk", "tables", "server")
        for name, server in self.site.servers.items():
            size = int(server.value("SELECT pg_database_size(current_database())", name))
            tables = server.value("SELECT count(*) FROM pg_stat_user_tables", name)
            version = server.value("SELECT current_setting('server_version') || ', TLS ' || current_setting('ssl')")
            table.add_row(name, mebibytes(size), tables, f"PostgreSQL {version}")
        self.report.console.print(table)

    def run(self, expected: int, manifests: Sequence[Any] | None = None, **passwords: str) -> PodEnded:
        """Run the rendered pod and check its exit code."""
        before = {backup.archive for name in DATABASES for backup in self.published(name)}
        pod = self.site.pod(manifests or self.manifests, passwords=passwords)
        ended = pod.run(self.report.log)
        self.report.end_log()
        codes = ", ".join(f"{name} {c.exit_code} after {c.seconds:.1f} s" for name, c in ended.containers.items())
        self.report.say(f"Exit codes: {codes}")
        self.report.check(f"the run ends with exit code {expected}", ended.exit_code == expected, codes)
        after = [backup for name in DATABASES for backup in self.published(name)]
        self._check_archives([backup for backup in after if backup.archive not in before])
        return ended

    def _first_run(self) -> None:
        self.report.chapter("A run, with the chart's default values")
        self.report.say(
            "The pod runs as `helm template cnpg-backup ./chart` renders it; only hosts, paths and images are mapped."
        )
        self.run(0)
        table = columns("database", "archive", "tables", "dump", "read back", "format")
        for name in DATABASES:
            for backup in self.published(name):
                facts = backup.metadata
                table.add_row(
                    name,
                    mebibytes(facts["bytes"]),
                    str(facts["tables"]),
                    seconds(facts["dump_seconds"]),
                    seconds(facts["verification"]["seconds"]),
                    facts["compression"],
                )
        self.report.console.print(table)
        one_each = all(len(self.published(name)) == 1 for name in DATABASES)
        self.report.check("each database has one published backup", one_each)

    def _check_archives(self, backups: Sequence[Backup]) -> None:
        """Each archive passes sha256sum and a full read by pg_restore, like anyone could do it."""
        for backup in backups:
            folder, name = backup.archive.parent, backup.archive.name
            done = subprocess.run(
                ["sha256sum", "-c", f"{name}.sha256"], cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise BrokenPromiseError(f"sha256sum -c {name}.sha256: {done.stdout}{done.stderr}")
            server = self.site.servers[folder.name]
            try:
                server.installation.run("pg_restore", "-f", "/dev/null", backup.archive)
            except PostgresError as error:
                raise BrokenPromiseError(f"pg_restore cannot read {name}: {error}") from None
            self.report.check(f"{name} passes sha256sum -c and pg_restore -f /dev/null", True)

    def _run_after_a_week(self) -> None:
        self.report.chapter("A run after a week of backups every 2 hours")
        for name in DATABASES:
            count = lay_a_week(self.published(name)[0])
        self.report.say(f"Next to each backup lie {count} earlier ones now. A single run sees all of them at once:")
        before = {name: len(self.published(name)) for name in DATABASES}
        self.run(3)
        untouched = all(len(self.published(name)) == before[name] + 1 for name in DATABASES)
        self.report.check("backups were made, and pruning more than half of them at once was refused", untouched)
        self.report.say("\nHere it is intended, so run again with `defaults.allowLargePrune: true`:")
        before = {name: len(self.published(name)) for name in DATABASES}
        self.run(0, render({"defaults": {"allowLargePrune": True}}))
        for name in DATABASES:
            self._check_kept(name, before[name] + 1)
        self._show_kept(LOST)
        self._show_deleted(LOST)

    def plan(self, database: str) -> dict[str, Any]:
        """What the command line of the package says about a database's backups."""
        policy = self.site.folder / "policy.json"
        policy.write_text(config_files(self.manifests)["policy.json"])
        command = ["retention", "plan", "--policy", str(policy), "--format", "json", str(self.site.backups / database)]
        done = subprocess.run(
            [sys.executable, "-S", "-m", *command],
            cwd=ROOT,
            env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BrokenPromiseError(f"`python3 -m {' '.join(command)}` ended with {done.returncode}: {done.stderr}")
        found = json.loads(done.stdout)
        answer: dict[str, Any] = found[0] if isinstance(found, list) else found
        return answer

    def _check_kept(self, database: str, before: int) -> None:
        plan = self.plan(database)
        tiers = dict(Counter(kept["tier"] for kept in plan["keep"]))
        here = {backup.archive.name for backup in self.published(database)}
        promise = f"{database}: of {before} backups {sum(PROMISED.values())} are kept: " + ", ".join(
            f"{count} {tier}" for tier, count in PROMISED.items()
        )
        true = tiers == PROMISED and here == {kept["name"] for kept in plan["keep"]} and not plan["delete"]
        self.report.check(promise, true, f"it kept {tiers} and would still delete {plan['delete']}")

    def _show_kept(self, database: str) -> None:
        keep = self.plan(database)["keep"]
        self.report.say(f"\nThe backups of {database} that are kept, and the rule that keeps each of them:")
        table = columns("backup", "tier", "rule")
        for kept in keep:
            table.add_row(
                f"{moment(kept['name']):%a %d %b %H:%M}", Text(kept["tier"], COLOURS[kept["tier"]]), kept["reason"]
            )
        self.report.console.print(table)
        self.report.console.print(timeline({moment(kept["name"]): kept["tier"] for kept in keep}))

    def _show_deleted(self, database: str) -> None:
        entries = [
            json.loads(line) for line in (self.site.backups / database / "deletions.jsonl").read_text().splitlines()
        ]
        rules: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            rules.setdefault(entry["rule"], []).append(entry)
        self.report.say(f"\nThe backups of {database} that were deleted, from its deletions.jsonl:")
        table = columns("rule", "backups", "for example")
        for rule, gone in rules.items():
            table.add_row(rule, str(len(gone)), f"{gone[0]['name']}: {gone[0]['reason']}")
        self.report.console.print(table)

    def _run_with_one_failure(self) -> None:
        self.report.chapter(f"A run in which {LOCKED_OUT} fails: someone has changed its password")
        before = {name: {backup.archive.name for backup in self.published(name)} for name in DATABASES}
        ended = self.run(1, **{LOCKED_OUT: "not-the-password"})
        self.report.say("\nThe pod's termination message:")
        self.report.console.print(Text(ended.message.rstrip(), style="yellow"))
        after = {name: {backup.archive.name for backup in self.published(name)} for name in DATABASES}
        self.report.check(f"the message names {LOCKED_OUT}", LOCKED_OUT in ended.message, ended.message)
        self.report.check("no password is in the log", not self._passwords_in(ended.log + ended.message))
        self.report.check(f"no backup of {LOCKED_OUT} was published or pruned", after[LOCKED_OUT] == before[LOCKED_OUT])
        for name in DATABASES:
            if name != LOCKED_OUT:
                self.report.check(f"{name} was backed up nevertheless", len(after[name] - before[name]) == 1)

    def _passwords_in(self, text: str) -> bool:
        return any(password in text for password in (*self.site.passwords.values(), "not-the-password"))

    def _lose_and_restore(self) -> None:
        self.report.chapter(f"{LOST} is dropped, and restored from its newest archive")
        server, archive = self.site.servers[LOST], self.published(LOST)[0].archive
        with self.report.waiting("fingerprints taken of all tables"):
            before = data.fingerprint(server, LOST)
        self.report.command(f"DROP DATABASE {LOST}")
        server.drop_database(LOST)
        gone = [LOST] not in server.sql("SELECT datname FROM pg_database")
        self.report.check(f"{LOST} is gone", gone)
        self.report.command(f"sha256sum -c {archive.name}.sha256")
        self._check_archives([Backup(archive)])
        self.report.command(f"pg_restore -j2 --exit-on-error -d {LOST} {archive.name}")
        server.create_database(LOST, owner=LOST)
        with self.report.waiting("restored"):
            server.installation.run(
                "pg_restore", "-j2", "--exit-on-error", "-d", LOST, archive, env=server.superuser_env
            )
        with self.report.waiting("fingerprints taken again"):
            after = data.fingerprint(server, LOST)
        self._show_compared(before, after)
        differences = before.differences(after)
        promise = (
            f"{before.rows} rows, {len(before.sequences)} sequences, {len(before.schema)} definitions are as before"
        )
        self.report.check(promise, not differences, "; ".join(differences[:5]))

    def _show_compared(self, before: data.Fingerprint, after: data.Fingerprint) -> None:
        table = columns("table", "rows", "checksum of all rows", "after")
        for name, content in sorted(before.tables.items()):
            now = after.tables.get(name)
            same = Text("same", "green") if now == content else Text(f"differs: {now}", "red")
            table.add_row(name, str(content.rows), f"{abs(hash_of(content.checksum)):016x}", same)
        self.report.console.print(table)


def at_once(work: Callable[[str], None], names: Sequence[str]) -> None:
    """Do the work for all names at a time; an interruption waits for none of it."""
    pool = ThreadPoolExecutor(len(names))
    try:
        list(pool.map(work, names))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def hash_of(checksum: str) -> int:
    """A short form of a checksum, for the eye; what is compared is the whole."""
    return sum(int(part) for part in checksum.split("/")) % 2**64


def lay_a_week(backup: Backup) -> int:
    """Put copies of a backup beside it, one for each slot of the days before; how many."""
    facts = backup.metadata
    slot = (backup.time - datetime(1970, 1, 1, tzinfo=UTC) - PHASE) // EVERY
    database = backup.archive.parent.name
    count = WEEK // EVERY
    for number in range(1, count + 1):
        # A cron's pod needs a few seconds, more or less, until it dumps.
        start = datetime.fromtimestamp(0, UTC) + (slot - number) * EVERY + timedelta(seconds=2 + number * 7 % 31)
        base = backup.archive.with_name(f"{database}-{start:%Y%m%d-%H%M%S}")
        target = Path(f"{base}.dump")
        os.link(backup.archive, target)
        Path(f"{target}.sha256").write_text(f"{facts['sha256']}  {target.name}\n")
        took = datetime.fromisoformat(facts["finished"]) - datetime.fromisoformat(facts["started"])
        times = {"started": start.isoformat(), "finished": (start + took).isoformat()}
        Path(f"{base}.json").write_text(json.dumps({**facts, **times}))
        globals_file = backup.archive.with_suffix(".globals.sql")
        if globals_file.exists():
            os.link(globals_file, f"{base}.globals.sql")
    return count


def timeline(kept: dict[datetime, str]) -> Text:
    """The kept backups on a calendar: a line for each day back from the newest, a place for each two hours."""
    newest = max(kept)
    places = {int((newest - time + EVERY / 2) / EVERY): tier for time, tier in kept.items()}
    text = Text()
    per_day = timedelta(days=1) // EVERY
    for day in range(max(places) // per_day + 1):
        text.append(f"{f'{day} d ago' if day else 'newest':>8}  ", style="dim")
        for place in range(day * per_day, (day + 1) * per_day):
            tier = places.get(place)
            text.append(f"{LETTERS[tier]} " if tier else ". ", style=f"bold {COLOURS[tier]}" if tier else "dim")
        text.append("\n")
    for tier, letter in LETTERS.items():
        text.append(f"          {letter}", style=f"bold {COLOURS[tier]}")
        text.append(f" {tier}: {sum(other == tier for other in kept.values())}\n")
    text.append("          . deleted; each place is two hours, older ones to the right and downwards", style="dim")
    return text


def columns(*names: str) -> Table:
    """A table that also a narrow terminal can show."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def mebibytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**20:.1f} MiB"


def seconds(whole: int) -> str:
    """A duration that was measured in whole seconds."""
    return f"{whole} s" if whole else "< 1 s"


def stop(signum: int, _: object) -> NoReturn:
    """End as after Ctrl-C, with everything cleaned up."""
    raise SystemExit(128 + signum)


def prerequisites() -> str | None:
    """What this machine lacks, as one sentence; None if nothing."""
    missing = missing_programs()
    if missing:
        return f"not installed: {', '.join(missing)}; on Debian: apt-get install coreutils util-linux mawk sed"
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 3 * 2**30:
        return (
            f"{tempfile.gettempdir()} has only {mebibytes(free)} free, 3 GiB are needed; set TMPDIR to a larger folder"
        )
    return None


def demonstrate(report: Report, folder: Path, megabytes: int) -> None:
    """Bring up the servers and play the demo.

    Raises:
        BrokenPromiseError: Something did not come out as promised.
        PostgresError, ChartError, PodError, SiteError: Something could not run at all.
    """
    with contextlib.ExitStack() as stack:
        with report.waiting("PostgreSQL started, one server for each cluster"):
            servers = {name: stack.enter_context(Server()) for name in DATABASES}
        Demo(Site(folder, servers), report, megabytes).play()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="demo", description="Back up, prune, fail, lose and restore, without a cluster."
    )
    parser.add_argument("--keep", action="store_true", help="keep the backups on disk and print where they are")
    parser.add_argument("--megabytes", type=int, default=300, help="size of the largest database (default 300)")
    arguments = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    report = Report(Console(highlight=False, soft_wrap=False))
    if problem := prerequisites():
        print(f"demo: {problem}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="cnpg-backup-demo-")) if arguments.keep else scratch_folder()
    try:
        demonstrate(report, folder, arguments.megabytes)
    except (BrokenPromiseError, PostgresError, ChartError, PodError, SiteError) as error:
        report.console.print(Text(f"demo: {error}", style="bold red"), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        report.console.print("demo: interrupted; everything was removed")
        return 130
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    finale(report, folder, arguments.keep)
    return 0


def finale(report: Report, folder: Path, keep: bool) -> None:
    """Say what was shown and where it lies."""
    report.chapter("Done")
    report.say(f"{len(report.kept)} promises checked, all kept, in {time.monotonic() - report.began:.0f} s.")
    report.say("The servers are stopped and removed.")
    if keep:
        report.say(f"The backups are in {folder / 'backups'}; remove {folder} when you no longer need them.")
    else:
        report.say(f"The backups were in {folder / 'backups'} and have been removed too; --keep keeps them.")


if __name__ == "__main__":
    sys.exit(main())
