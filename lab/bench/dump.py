"""Measure a whole verified backup against bare pg_dump, and what damage to archives is noticed.

    make bench                       or, in the development environment:
    python -m lab.bench.dump [--rounds N] [--megabytes N] [--output FILE]

All variants of a round follow each other at once, in an order that turns from round to round, and ratios are taken
within a round: what else the machine does then touches both sides. Ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lab.bench.sampling import Sample, measure, paired, processor, say
from tests.lab import damage, data
from tests.lab.chart import ChartError, render
from tests.lab.pod import PodError
from tests.lab.postgres import PostgresError, Server, scratch_folder
from tests.lab.site import Site, SiteError, missing_programs

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "plausible"
TINY = "authelia"
TRIALS = 100
FORMATS = ("zstd:1", "gzip:6")
OURS, FLOOR, BARE, PIPED = "our whole run", "floor", "bare `pg_dump -Fc`", "`pg_dump \\| gzip`"
WHAT = {
    OURS: "the rendered pod: zstd:1 dump, read back, sha256, second reading, published, pruned, reported",
    FLOOR: "`pg_dump -Fp -f /dev/null`",
    BARE: "`pg_dump -Fc` (its default, gzip), not verified",
    PIPED: "`pg_dump \\| gzip >FILE`, not verified",
}
RATIOS = {BARE: 0.25, PIPED: 0.20, FLOOR: 1.5}
OVERHEAD_SECONDS = 0.3


class BenchError(Exception):
    """The measurement itself went wrong."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal and how it was met."""

    name: str
    most: float
    unit: str
    sample: Sample

    @property
    def met(self) -> bool:
        """Whether the median is within the goal."""
        return self.sample.median <= self.most


def only(*names: str, compression: str = "zstd:1") -> dict[str, Any]:
    """Values for the chart with these databases alone."""
    entries = [{"name": name, "cluster": f"{name}-postgresql-cnpg"} for name in names]
    return {"databases": entries, "defaults": {"compression": compression}}


class Bench:
    """A server, a site, and the ways to dump a database."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        self.folder = folder
        self.site = Site(folder, dict.fromkeys((DATABASE, TINY), server))

    def environment(self, database: str) -> dict[str, str]:
        """The same connection that the pod makes: TCP, TLS verified in full, a password."""
        return {
            "PATH": f"{self.server.bin}:{os.defpath}",
            "PGHOST": "localhost",
            "PGPORT": str(self.server.port),
            "PGUSER": database,
            "PGPASSWORD": self.site.passwords[database],
            "PGDATABASE": database,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.server.ca),
        }

    def run_pod(self, database: str) -> float:
        """Seconds of both containers."""
        self.await_free_name(database)
        ended = self.site.pod(render_once(database)).run()
        if ended.exit_code != 0:
            raise BenchError(f"our run of {database} ended with {ended.exit_code}:\n{ended.log}")
        return ended.seconds

    def await_free_name(self, database: str) -> None:
        """Wait for the second after the newest archive's: nobody schedules two runs in one."""
        newest = max((path.name for path in self.site.backups.glob(f"{database}/*.dump")), default="")
        while newest[-20:-5] >= time.strftime("%Y%m%d-%H%M%S", time.gmtime()):
            time.sleep(0.02)

    def pg_dump(self, database: str, *arguments: str) -> float:
        """Seconds of one pg_dump."""
        began = time.monotonic()
        subprocess.run(["pg_dump", *arguments], env=self.environment(database), check=True, cwd="/")
        return time.monotonic() - began

    def bare(self, database: str) -> float:
        """Seconds of `pg_dump -Fc` into a file."""
        with self.file() as path:
            return self.pg_dump(database, "-Fc", "-f", str(path))

    def piped(self, database: str) -> float:
        """Seconds of `pg_dump | gzip` into a file."""
        environment = self.environment(database)
        with self.file() as path, path.open("wb") as target:
            began = time.monotonic()
            with subprocess.Popen(["pg_dump"], env=environment, stdout=subprocess.PIPE, cwd="/") as dump:
                subprocess.run(["gzip"], env=environment, stdin=dump.stdout, stdout=target, check=True)
            took = time.monotonic() - began
            if dump.returncode != 0:
                raise BenchError(f"pg_dump ended with {dump.returncode}")
            return took

    def floor(self, database: str) -> float:
        """Seconds of a dump that is written nowhere."""
        return self.pg_dump(database, "-Fp", "-f", "/dev/null")

    @contextlib.contextmanager
    def file(self) -> Iterator[Path]:
        """A file for a dump, gone afterwards."""
        path = self.folder / "bare.dump"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


@functools.cache
def render_once(database: str) -> Any:
    """The chart for one database; rendering is no part of a run."""
    return render(only(database))


@dataclass(frozen=True, slots=True)
class Noticed:
    """What became of damaged archives of one format.

    Attributes:
        compression: Of the archives.
        kind: The damage.
        finish: Staged ones, damaged after their sha256 was taken, that `finish` did not publish.
        verify: Published ones that `verify` found.
        read: Those that were damaged before a sha256 was taken.
    """

    compression: str
    kind: damage.Kind
    finish: int
    verify: int
    read: damage.ReadBack


def without_finish(manifests: Sequence[Any]) -> list[Any]:
    """The same pod with a second container that does nothing, as if the node had died in between."""
    changed = copy.deepcopy(list(manifests))
    for manifest in changed:
        if manifest["kind"] == "CronJob":
            container = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
            container |= {"command": ["python3", "-c", ""], "args": []}
    return changed


def notice(server: Server, passwords: Mapping[str, str], folder: Path, compression: str, kind: damage.Kind) -> Noticed:
    """Damage copies of an archive at each stage of its life, and count who notices.

    Args:
        server: With the tiny database.
        passwords: Of the databases' roles.
        folder: An empty one, for a volume of its own.
        compression: Of the archives.
        kind: The damage.

    Raises:
        BenchError: A sound archive was not published, or was called bad: the counts would mean nothing.
    """
    site = Site(folder, {TINY: server}, dict(passwords))
    manifests = render(only(TINY, compression=compression))
    site.pod(without_finish(manifests)).run()
    directory = site.backups / TINY
    sound = next(path.name for path in directory.glob(".*.dump.staged"))[1 : -len(".dump.staged")]
    damaged = damage.stage_copies(directory, sound, kind, TRIALS)
    log = site.pod(manifests).run().log
    published = {path.stem for path in directory.glob("*.dump")}
    if sound not in published:
        raise BenchError(f"the sound archive {sound} was not published:\n{log}")
    finish = sum(base not in published for base in damaged)
    for path in directory.glob("*.dump.bad"):
        path.unlink()
    copies = damage.publish_copies(directory, sound, kind, TRIALS)
    results = damage.verify(site.backups)
    if results.get(f"{sound}.dump") != "good":
        raise BenchError(f"verify calls the sound archive {sound} {results.get(f'{sound}.dump')}")
    caught = sum(results.get(f"{base}.dump") == "bad" for base in copies)
    read = damage.read_back(server.installation, directory / f"{sound}.dump", kind, TRIALS, folder)
    return Noticed(compression, kind, finish, caught, read)


def document(
    goals: Sequence[Goal],
    samples: Mapping[str, Sample],
    tiny: Mapping[str, Sample],
    noticed: Sequence[Noticed],
    facts: Sequence[str],
) -> str:
    """The page for people."""
    missed = [goal.name for goal in goals if not goal.met]
    missed += [f"damage of {row.compression}, {row.kind}" for row in noticed if min(row.finish, row.verify) < TRIALS]
    lines = ["# Benchmark", "", "`make bench` wrote this page.", *facts, ""]
    lines += [f"**Missed: {'; '.join(missed)}.**" if missed else "All goals were met.", ""]
    lines += ["## Goals", ""]
    lines += [
        "Median [least-most] of paired rounds.",
        "",
        "| goal | at most | measured | |",
        "| --- | --- | --- | --- |",
    ]
    for goal in goals:
        verdict = "met" if goal.met else "**missed**"
        lines.append(f"| {goal.name} | {goal.most:g}{goal.unit} | {goal.sample.text(goal.unit)} | {verdict} |")
    lines += ["", "## Seconds", "", "| variant | what | large | tiny |", "| --- | --- | --- | --- |"]
    for name, sample in samples.items():
        small = tiny[name].text() if name in tiny else "–"
        lines.append(f"| {name} | {WHAT[name]} | {sample.text(digits=1)} | {small} |")
    return "\n".join(lines + damage_lines(noticed)) + "\n"


def damage_lines(noticed: Sequence[Noticed]) -> list[str]:
    """The page's second half."""
    lines = ["", "## Damage", ""]
    lines += [
        f"{TRIALS} random truncations and {TRIALS} random flips of one bit, of the tiny database's archive, in each",
        "format.",
        "*After* its sha256 was taken, `finish` checks a staged archive, and `verify` a published one.",
        "*Before*, only the read back checks it, `pg_restore -f /dev/null`; *silent* is damage that it lets pass",
        "although a restore then brings back something else.",
        "zstd data carry no checksum; gzip data do, but the table of contents has none in either format.",
        "",
        "| format | damage | caught by `finish` | caught by `verify` | before: caught by the read | before: silent |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in noticed:
        caught = f"| {row.finish} of {TRIALS} | {row.verify} of {TRIALS} "
        lines.append(f"| {row.compression} | {row.kind} {caught}| {row.read.caught} | {row.read.silent} |")
    return lines


def facts_of(server: Server, load: float) -> list[str]:
    """What was measured on, a sentence a line."""
    size = int(server.value("SELECT pg_database_size(current_database())", DATABASE)) / 1e6
    tiny = int(server.value("SELECT pg_database_size(current_database())", TINY)) / 1e6
    version = server.value("SHOW server_version")
    return [
        f"PostgreSQL {version}, server and client on one machine, {os.cpu_count()} cores ({processor()}), "
        f"load {load:.1f} at the start.",
        "All variants connect by TCP with TLS `verify-full`.",
        f"Large: {size:.0f} MB, made for the benchmark; tiny: {tiny:.0f} MB.",
        "Compare the ratios; the seconds are specific to this machine.",
    ]


def bench(folder: Path, rounds: int, megabytes: int) -> tuple[str, bool]:
    """All measurements; the page, and whether every goal was met."""
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}): ratios within a round suffer least, but they do suffer")
    with Server(settings={"autovacuum": "off", "shared_buffers": "512MB"}) as server:
        bench = Bench(folder, server)
        make_databases(bench, megabytes)
        samples = measure_large(bench, rounds)
        tiny = measure_tiny(bench, rounds)
        noticed = []
        for number, compression in enumerate(FORMATS):
            for kind in damage.KINDS:
                say(f"{TRIALS} times: {kind} of {compression}")
                trial = folder / f"damage-{number}-{kind.replace(' ', '-')}"
                trial.mkdir()
                noticed.append(notice(server, bench.site.passwords, trial, compression, kind))
        facts = facts_of(server, load)
    goals = [
        Goal(f"{OURS} / {other}", most, "", paired(samples[OURS], samples[other], lambda a, b: a / b))
        for other, most in RATIOS.items()
    ]
    overhead = paired(tiny[OURS], tiny[BARE], lambda a, b: a - b)
    goals.append(Goal(f"{OURS} − {BARE}, tiny database", OVERHEAD_SECONDS, " s", overhead))
    sound = all(min(row.finish, row.verify) == TRIALS for row in noticed)
    return document(goals, samples, tiny, noticed, facts), sound and all(goal.met for goal in goals)


def make_databases(bench: Bench, megabytes: int) -> None:
    """Fill the server and bring it to rest."""
    say(f"making a database of {megabytes} MB")
    for name in (DATABASE, TINY):
        bench.site.add_role(name)
    data.plausible(bench.server, megabytes=megabytes)
    data.authelia(bench.server)
    for name in (DATABASE, TINY):
        # What the first reader of new rows would otherwise do.
        bench.server.psql("VACUUM FREEZE", name)
    bench.server.psql("CHECKPOINT")


def measure_large(bench: Bench, rounds: int) -> dict[str, Sample]:
    """The four variants on the large database, after one of each that does not count."""
    variants: dict[str, Callable[[], float]] = {
        OURS: lambda: bench.run_pod(DATABASE),
        FLOOR: lambda: bench.floor(DATABASE),
        BARE: lambda: bench.bare(DATABASE),
        PIPED: lambda: bench.piped(DATABASE),
    }
    bench.floor(DATABASE)
    bench.run_pod(DATABASE)
    return measure(variants, rounds)


def measure_tiny(bench: Bench, rounds: int) -> dict[str, Sample]:
    """Our run and the bare dump on the tiny database; more rounds, as they cost nothing."""
    variants: dict[str, Callable[[], float]] = {OURS: lambda: bench.run_pod(TINY), BARE: lambda: bench.bare(TINY)}
    measure(variants, 1)
    return measure(variants, max(rounds, 15))


def stop(signum: int, _: object) -> NoReturn:
    """End as after Ctrl-C, with everything cleaned up."""
    raise SystemExit(128 + signum)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure a whole verified backup against bare pg_dump.")
    parser.add_argument("--rounds", type=int, default=7, help="paired rounds, at least 7 for a result (default 7)")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the large database (default 1000)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmark.md", help="page to write")
    arguments = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, stop)
    if missing := missing_programs():
        say(f"bench: not installed: {', '.join(missing)}")
        return 2
    if arguments.rounds < 1:
        say(f"bench: --rounds {arguments.rounds}: at least 1 is needed")
        return 2
    try:
        page, met = bench(scratch_folder(), arguments.rounds, arguments.megabytes)
    except (BenchError, PostgresError, ChartError, PodError, SiteError, subprocess.CalledProcessError) as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted; everything was removed")
        return 130
    arguments.output.write_text(page)
    print(page)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
