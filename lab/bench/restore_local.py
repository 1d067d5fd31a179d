"""Measure a restore against bare pg_restore, and what databases of very many objects take.

    make bench-restore               or, in the development environment:
    python -m lab.bench.restore_local [--rounds N] [--megabytes N] [--tables N] [--objects N] [--output FILE]

All variants of a round follow each other at once, in an order that turns from round to round, and ratios are taken
within a round: what else the machine does then touches both sides. Ours replaces a database that is there; the bare one
gets an empty database. Ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.bench.dump import stop
from lab.bench.sampling import Sample, measure, paired, processor, say
from tests.lab import data
from tests.lab.postgres import PostgresError, Server, identifier, scratch_folder
from tests.scripts.conftest import PASSWORD, RESTORE, session_processes
from tests.scripts.test_drill import DrillPod

ROOT = Path(__file__).resolve().parents[2]
NAME = "plausible"
BARE = "bare"
SUPERUSER_PASSWORD = "bench"  # noqa: S105
JOBS = 2
IN_PLACE, SINGLE = "in place, as the owner", "`pg_restore --single-transaction`"
BESIDE, PARALLEL = "beside, as superuser", f"`pg_restore -j {JOBS}`"
GOALS = ((IN_PLACE, SINGLE, 1.15), (BESIDE, PARALLEL, 1.1))
PHASES = ("look at server and archive", "restore", "compare", "ANALYZE, rename")
_MARKS = (": comparing with", ": gathering statistics")
_SECONDS = "7200"

_TABLES = """
SELECT format('CREATE TABLE t%1$s (id serial PRIMARY KEY, v text); INSERT INTO t%1$s (v) VALUES (''x'')', i)
FROM generate_series(1, {}) i
\\gexec
"""
_OBJECTS = "CREATE TABLE names (object oid); SELECT count(lo_from_bytea(0, 'x')) FROM generate_series(1, {})"


class BenchError(Exception):
    """The measurement itself went wrong."""


@dataclass(slots=True)
class Run:
    """One script that ran to its end.

    Attributes:
        seconds: From its start to its end.
        processor: Seconds of processor time that it and the server took; see `Clock`.
        memory: What its processes held at most, in bytes, without the page cache.
        log: Its lines.
        moments: When each line was printed, in seconds from the start.
    """

    seconds: float
    processor: float
    memory: int
    log: list[str]
    moments: list[float]

    def phases(self) -> list[float]:
        """Seconds of each of PHASES."""
        begin = next(m for line, m in zip(self.log, self.moments, strict=True) if ": method: " in line)
        marks = [next(m for line, m in zip(self.log, self.moments, strict=True) if mark in line) for mark in _MARKS]
        ends = [begin, *marks, self.seconds]
        return [end - start for start, end in zip([0.0, *ends], ends, strict=False)]


class Clock:
    """Seconds since it was made: of the day, and of all processors together for our children and a server.

    What else the machine does changes the seconds of the day far more than those of the processors.
    """

    __slots__ = ("_began", "_server", "_spent")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._spent = self._processor()
        self._began = time.monotonic()

    def read(self) -> tuple[float, float]:
        """Both numbers. A child counts once it was waited for; a session of the server counts at once."""
        seconds = time.monotonic() - self._began
        return seconds, self._processor() - self._spent

    def _processor(self) -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        leader = self._server.pid
        ticks = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except (OSError, IndexError):
                    continue
                if int(entry.name) == leader:
                    # The third and fourth number are those of its sessions that have ended.
                    ticks += sum(map(int, fields[11:15]))
                elif int(fields[1]) == leader:
                    ticks += int(fields[11]) + int(fields[12])
        return children.ru_utime + children.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def follow(process: subprocess.Popen[str], what: str, clock: Clock) -> Run:
    """Read a script's log to its end, print its progress, and watch its memory.

    Raises:
        BenchError: It failed.
    """
    began = time.monotonic()
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            peak[0] = max(peak[0], sum(map(_held, session_processes(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    log, moments = [], []
    try:
        for line in process.stdout or ():
            log.append(line.rstrip())
            moments.append(time.monotonic() - began)
            if ": restoring: " in line:
                say(f"  {what}: {line.rstrip()}")
        code = process.wait()
    finally:
        ended.set()
        watcher.join()
    if code != 0:
        raise BenchError(f"{what} exited {code}:\n" + "\n".join(log))
    return Run(*clock.read(), peak[0], log, moments)


def _held(entry: Path) -> int:
    """The bytes that a process holds of its own, or in memory shared with others."""
    try:
        status = (entry / "status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))) * 1024


class Bench:
    """A database of a plain owner's, its archive, and the ways to restore it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        top = scratch_folder()
        top.chmod(0o711)
        programs = top / "programs"
        programs.mkdir(mode=0o755)
        busybox = shutil.which("busybox")
        if busybox is None:
            raise BenchError("busybox is not installed")
        subprocess.run([busybox, "--install", "-s", str(programs)], check=True)
        (top / "pod").mkdir()
        self.pod = DrillPod(top / "pod", server, str(programs), timeout=int(_SECONDS))
        server.create_role(name, PASSWORD)
        server.create_database(name, owner=name)
        self.pod.add(name, user=name)
        secret = self.pod.folder / "credentials" / name
        (secret / "owner-username").write_text(name)
        (secret / "owner-password").write_text(PASSWORD)
        self.secret = secret
        self.choose_seconds = 0.0

    def fill(self, sql: str) -> None:
        """Run SQL as the owner."""
        self.server.psql(f"SET ROLE {identifier(self.name)}; {sql}", self.name)

    def back_up(self) -> Run:
        """Dump, verify and publish."""
        clock = Clock(self.server)
        run = follow(self.pod.start_dump(), "dump", clock)
        self.pod.finish(expect=0)
        return run

    @property
    def archive(self) -> Path:
        """The newest archive."""
        return self.pod.archives(self.name)[-1]

    def restore(self, what: str, *, superuser: bool, **options: str) -> Run:
        """The whole of restore.sh; what it set aside is then dropped."""
        for key, value in (("username", "postgres"), ("password", SUPERUSER_PASSWORD)):
            path = self.secret / f"superuser-{key}"
            path.write_text(value) if superuser else path.unlink(missing_ok=True)
        self.server.psql("CHECKPOINT")
        self.pod.renew()
        results = str(self.pod.folder / "results")
        began = time.monotonic()
        self.pod.retention("choose", "--database", self.name, "--requests", results, expect=0)
        self.choose_seconds = time.monotonic() - began
        clock = Clock(self.server)
        run = follow(self.pod.start(RESTORE, **options), what, clock)
        self._clear()
        return run

    def _clear(self) -> None:
        for (name,) in self.server.sql("SELECT datname FROM pg_database WHERE datname ~ '_before_'"):
            self.server.drop_database(name)
        aside = self.server.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ '_before_'", self.name)
        for (name,) in aside:
            self.server.psql(f"DROP SCHEMA {identifier(name)} CASCADE", self.name)

    def bare(self, *arguments: str, superuser: bool) -> tuple[float, float, float]:
        """Seconds of pg_restore into an empty database, connected as restore.sh connects.

        Then its processor seconds, and the seconds of CREATE DATABASE, as superuser, and of ANALYZE afterwards.
        """
        self.server.psql(f"DROP DATABASE IF EXISTS {BARE}")
        began = time.monotonic()
        self.server.create_database(BARE, owner=self.name)
        around = time.monotonic() - began if superuser else 0.0
        if not superuser:
            self.server.psql("ALTER SCHEMA public OWNER TO " + identifier(self.name), BARE)
        self.server.psql("CHECKPOINT")
        environment = {
            "PATH": os.defpath,
            "PGHOST": "localhost",
            "PGPORT": str(self.server.port),
            "PGUSER": "postgres" if superuser else self.name,
            "PGPASSWORD": SUPERUSER_PASSWORD if superuser else PASSWORD,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.server.ca),
        }
        command = [str(self.server.bin / "pg_restore"), "--exit-on-error", "-d", BARE, *arguments, str(self.archive)]
        clock = Clock(self.server)
        subprocess.run(command, env=environment, check=True, cwd="/")
        seconds, spent = clock.read()
        began = time.monotonic()
        subprocess.run(
            [str(self.server.bin / "psql"), "-XAtqw", "-d", BARE, "-c", "ANALYZE"], env=environment, check=True, cwd="/"
        )
        around += time.monotonic() - began
        self.server.psql(f"DROP DATABASE {BARE}")
        return seconds, spent, around

    def drill(self) -> Run:
        """The drill's container, with a server of its own, and its verdict.

        Raises:
            BenchError: The archive was not proved.
        """
        clock = Clock(self.server)
        run = follow(self.pod.start_drill(DRILL_TIMEOUT=_SECONDS), "drill", clock)
        own = (self.pod.own("scratch") / "drill.log").read_text()
        recorded = self.pod.record_drill()
        if "proved" not in recorded:
            raise BenchError(f"the drill did not prove the archive:\n{own}{recorded}")
        return run


@contextmanager
def started(**settings: str) -> Iterator[Server]:
    """A server with a password for its superuser."""
    with Server(settings={"autovacuum": "off", "shared_buffers": "512MB", **settings}) as server:
        server.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
        yield server


@dataclass(frozen=True, slots=True)
class Paired:
    """The restores of one database, round by round.

    Attributes:
        seconds: By variant.
        processor: Seconds of processor time, by variant: of client and server together.
        around: Seconds of what a restore by hand needs in addition to pg_restore, by variant of it.
        phases: By method of restore.sh, those of each round.
        choose: Of the container that runs before restore.sh: it reads the archive for its sha256.
        megabytes: Of the database, and of its archive.
        server: Version of PostgreSQL.
    """

    seconds: Mapping[str, Sample]
    processor: Mapping[str, Sample]
    around: Mapping[str, Sample]
    phases: Mapping[str, list[list[float]]]
    choose: Sample
    megabytes: tuple[float, float]
    server: str

    def ratio(self, ours: str, other: str) -> Sample:
        """Ours by theirs."""
        return paired(self.seconds[ours], self.seconds[other], lambda a, b: a / b)

    def ratio_by_hand(self, ours: str, other: str) -> Sample:
        """Ours by theirs and what it needs in addition."""
        by_hand = paired(self.seconds[other], self.around[other], lambda a, b: a + b)
        return paired(self.seconds[ours], by_hand, lambda a, b: a / b)

    @property
    def met(self) -> bool:
        """Whether both goals are met."""
        return all(self.ratio(ours, other).median <= most for ours, other, most in GOALS)


def compare(rounds: int, megabytes: int) -> Paired:
    """Both methods against both ways of pg_restore, after one of each that does not count."""
    with started() as server:
        bench = Bench(server, NAME)
        say(f"making a database of {megabytes} MB, and its backup")
        data.plausible(server, megabytes=megabytes)
        size = int(server.value("SELECT pg_database_size(current_database())", NAME)) / 1e6
        bench.back_up()
        phases: dict[str, list[list[float]]] = {IN_PLACE: [], BESIDE: []}
        spent = {name: Sample() for name in (IN_PLACE, SINGLE, BESIDE, PARALLEL)}
        around = {name: Sample() for name in (SINGLE, PARALLEL)}
        choose = Sample()

        def ours(method: str, *, superuser: bool, **options: str) -> float:
            run = bench.restore(method, superuser=superuser, RESTORE_REPLACE="yes", **options)
            phases[method].append(run.phases())
            choose.values.append(bench.choose_seconds)
            spent[method].values.append(run.processor)
            return run.seconds

        def theirs(name: str, *arguments: str, superuser: bool) -> float:
            took, processor_seconds, extra = bench.bare(*arguments, superuser=superuser)
            spent[name].values.append(processor_seconds)
            around[name].values.append(extra)
            return took

        variants: dict[str, Callable[[], float]] = {
            IN_PLACE: lambda: ours(IN_PLACE, superuser=False, RESTORE_WAY="in-place"),
            SINGLE: lambda: theirs(SINGLE, "--single-transaction", "--no-owner", superuser=False),
            BESIDE: lambda: ours(BESIDE, superuser=True, RESTORE_WAY="beside", RESTORE_JOBS=str(JOBS)),
            PARALLEL: lambda: theirs(PARALLEL, "-j", str(JOBS), superuser=True),
        }
        measure(variants, 1)
        for own in phases.values():
            own.clear()
        for sample in (choose, *spent.values(), *around.values()):
            sample.values.clear()
        seconds = measure(variants, rounds)
        archive = bench.archive.stat().st_size / 1e6
        return Paired(seconds, spent, around, phases, choose, (size, archive), server.value("SHOW server_version"))


@dataclass(frozen=True, slots=True)
class Many:
    """What a database of many objects takes, by what is done with it."""

    title: str
    runs: Mapping[str, Run]
    archive: float
    locks: str


def many(title: str, sql: str) -> Many:
    """Dump, restore and drill a database of very many objects, on a server whose lock table has room for them."""
    with started(max_locks_per_transaction="2048") as server:
        bench = Bench(server, "many")
        say(f"making {title}")
        bench.fill(sql)
        runs = {}
        say("dump")
        runs["dump"] = bench.back_up()
        say("drill")
        runs["drill"] = bench.drill()
        say(BESIDE)
        runs[BESIDE] = bench.restore(BESIDE, superuser=True, RESTORE_REPLACE="yes", RESTORE_WAY="beside")
        say(IN_PLACE)
        runs[IN_PLACE] = bench.restore(IN_PLACE, superuser=False, RESTORE_REPLACE="yes", RESTORE_WAY="in-place")
        locks = next(line.partition("needs ")[2] for line in runs[IN_PLACE].log if "locks at once" in line)
        return Many(title, runs, bench.archive.stat().st_size / 1e6, locks)


def page(pairs: Paired, many: Sequence[Many], load: float) -> str:
    """The page for people."""
    size, archive = pairs.megabytes
    lines = [
        "# Benchmark of restores",
        "",
        "`make bench-restore` wrote this page.",
        f"PostgreSQL {pairs.server}, server and client on one machine, {os.cpu_count()} cores ({processor()}), "
        f"load {load:.1f} at the start.",
        "All variants connect by TCP with TLS `verify-full`.",
        "Compare the ratios; the seconds are specific to this machine.",
        "",
        "## Against pg_restore",
        "",
        f"A database of {size:.0f} MB: tables, partitions, indexes, foreign keys, large objects, a materialized view; "
        f"its archive has {archive:.0f} MB.",
        "restore.sh replaces a full database, compares the result with the archive and runs ANALYZE.",
        "pg_restore does none of that, and gets an empty database.",
        "This takes about the same time at any size, so that the ratio is larger for a small database.",
        "",
        "Median [least-most] of paired rounds.",
        "",
        "| goal | at most | measured | |",
        "| --- | --- | --- | --- |",
    ]
    for ours, other, most in GOALS:
        ratio = pairs.ratio(ours, other)
        verdict = "met" if ratio.median <= most else "**missed**"
        lines.append(f"| {ours} / {other} | {most:g} | {ratio.text()} | {verdict} |")
    lines += [
        "",
        "A restore by hand also runs CREATE DATABASE (beside) and ANALYZE:",
        "",
        "| | measured |",
        "| --- | --- |",
    ]
    lines += [
        f"| {ours} / {other}, with these | {pairs.ratio_by_hand(ours, other).text()} |" for ours, other, _ in GOALS
    ]
    lines += ["", "| variant | seconds | processor seconds, client and server |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {sample.text(digits=1)} | {pairs.processor[name].text(digits=1)} |"
        for name, sample in pairs.seconds.items()
    ]
    lines += [
        "",
        f"Before restore.sh, `retention choose` reads the archive for its sha256, in {pairs.choose.text()} s.",
    ]
    lines += ["", "| where restore.sh spends its seconds | in place | beside |", "| --- | --- | --- |"]
    for number, phase in enumerate(PHASES):
        cells = [Sample([round_[number] for round_ in pairs.phases[way]]).text() for way in (IN_PLACE, BESIDE)]
        lines.append(f"| {phase} | {' | '.join(cells)} |")
    lines += ["", "## Very many objects", ""]
    lines += [
        "Memory is what all processes of the container held at once, without the page cache.",
        "For the drill that includes its server.",
        "The chart's default limit is 1 GiB for each of these containers.",
    ]
    for one in many:
        lines += ["", f"{one.title[0].upper()}{one.title[1:]}; an archive of {one.archive:.0f} MB.", ""]
        lines += [f"In place, it needs {one.locks}.", "", "| what | seconds | memory |", "| --- | --- | --- |"]
        lines += [f"| {what} | {run.seconds:.0f} | {run.memory / 2**20:.0f} MiB |" for what, run in one.runs.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench-restore", description="Measure restores against bare pg_restore.")
    parser.add_argument("--rounds", type=int, default=7, help="paired rounds, at least 7 for a result (default 7)")
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the database (default 2000)")
    parser.add_argument("--tables", type=int, default=20000, help="in the database of many tables; 0 for none")
    parser.add_argument("--objects", type=int, default=100000, help="in the database of large objects; 0 for none")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmark-restore.md", help="page to write")
    arguments = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, stop)
    if arguments.rounds < 1:
        say(f"bench-restore: --rounds {arguments.rounds}: at least 1 is needed")
        return 2
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}): ratios within a round suffer least, but they do suffer")
    wanted = (
        (arguments.tables, f"{arguments.tables} tables with a sequence, an index and a row each", _TABLES),
        (arguments.objects, f"{arguments.objects} large objects", _OBJECTS),
    )
    try:
        pairs = compare(arguments.rounds, arguments.megabytes)
        found = [many(title, sql.format(count)) for count, title, sql in wanted if count]
    except (BenchError, PostgresError, subprocess.CalledProcessError, AssertionError) as error:
        say(f"bench-restore: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench-restore: interrupted; everything was removed")
        return 130
    text = page(pairs, found, load)
    arguments.output.write_text(text)
    print(text)
    return 0 if pairs.met else 1


if __name__ == "__main__":
    sys.exit(main())
