"""Measure the retention rule against its peers, and the command against what its system calls cost alone.

    make bench-retention             or, in the development environment:
    python -m lab.bench.retention [--rounds N] [--most N] [--backups N] [--output FILE]

All variants of a round follow each other at once, in an order that turns from round to round, and ratios are taken
within a round. The rule is measured in processor time, the command in time and in processor time. Ends with 1 when a
goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab.bench.sampling import Sample, measure, paired, processor, say
from retention import Policy, plan

ROOT = Path(__file__).resolve().parents[2]
SIZES = (1_000, 10_000, 100_000, 1_000_000)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OURS, SORTED = "this rule", "`sorted()`"
DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"
COMMAND_RATIO = 1.5

Delete = Callable[[], Sequence[datetime]]
Prepare = Callable[[Sequence[datetime]], Delete]
"""Takes times, returns what has to be measured; what a peer wants its input to be is made outside of that."""


class BenchError(Exception):
    """The measurement itself went wrong."""


# --- peers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peer:
    """Another program's rule.

    Attributes:
        name: With its version.
        rule: What it was asked to keep.
        prepare: Makes its input.
    """

    name: str
    rule: str
    prepare: Prepare


def fetch_peers(cache: Path) -> None:
    """Install what comes from PyPI into a folder of its own, away from the development environment."""
    if (cache / ".complete").exists():
        return
    shutil.rmtree(cache, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--target", str(cache), "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "grandfatherson"], check=True)
    # It declares Python 3.14 as the least; what is measured here runs on older ones as it is.
    subprocess.run([*pip, "--ignore-requires-python", "hfbr"], check=True)
    (cache / ".complete").touch()


def peers(cache: Path) -> tuple[list[Peer], list[str]]:
    """Return the peers that can be loaded, and why others cannot."""
    sys.path[:0] = [str(cache)]
    # Only after everything else: these are another Python's packages.
    sys.path.append(DEBIAN_PACKAGES)
    found, missing = [], []
    for name, load in (("grandfatherson", _grandfatherson), ("borg", _borg), ("hfbr", _hfbr)):
        try:
            found.append(load())
        except ImportError as error:
            missing.append(f"{name}: {type(error).__name__}: {error}")
    return found, missing


def _grandfatherson() -> Peer:
    module = importlib.import_module("grandfatherson")

    def prepare(times: Sequence[datetime]) -> Delete:
        now = max(times)
        return lambda: list(module.to_delete(times, hours=12, days=7, now=now))

    return Peer("grandfatherson 1.3", "hours=12, days=7", prepare)


@dataclass(frozen=True, slots=True)
class _Archive:
    id: int
    ts: datetime


def _borg() -> Peer:
    split = importlib.import_module("borg.helpers.misc").prune_split
    version = importlib.import_module("borg").__version__

    def prepare(times: Sequence[datetime]) -> Delete:
        archives = [_Archive(index, time) for index, time in enumerate(times)]

        def delete() -> Sequence[datetime]:
            kept: dict[int, object] = {}
            for rule, count in (("hourly", 6), ("daily", 5)):
                split(archives, rule, count, kept)
            return [archive.ts for archive in archives if archive.id not in kept]

        return delete

    return Peer(f"borg {version}", "hourly 6, daily 5", prepare)


def _hfbr() -> Peer:
    module = importlib.import_module("hfbr.retention")

    def prepare(times: Sequence[datetime]) -> Delete:
        files = []
        for moment in times:
            file = module.FileInfo.__new__(module.FileInfo)
            file.filename, file.timestamp, file.when = "", moment.timestamp(), moment
            files.append(file)
        slots = [module.SlotOfRetention(width, keep) for width, keep in ((2 * HOUR, 6), (12 * HOUR, 4), (DAY, 5))]
        for file in files:
            file.pinned = False

        def delete() -> Sequence[datetime]:
            files.sort(key=lambda file: -file.timestamp)
            for slot in slots:
                slot.muster(files)
            return [file.when for file in files if not file.pinned]

        return delete

    return Peer("hfbr 0.2", "2h×6, 12h×4, 1d×5", prepare)


# --- the rule ------------------------------------------------------------------------------------------------------


def two_hourly(count: int) -> list[datetime]:
    """A backup every two hours, as far back as it takes; oldest first."""
    return [NOW - 2 * HOUR * index for index in range(count, 0, -1)]


def one_week(count: int) -> list[datetime]:
    """As many within seven days; oldest first."""
    return [NOW - 7 * DAY * index / count for index in range(count, 0, -1)]


SHAPES: dict[str, Callable[[int], list[datetime]]] = {"one every 2 hours": two_hourly, "all within 7 days": one_week}


def timed(prepare: Prepare, times: Sequence[datetime]) -> float:
    """Milliseconds of processor time of one decision, its input made before."""
    delete = prepare(times)
    began = time.process_time()
    gone = delete()
    took = (time.process_time() - began) * 1000
    if not 0 < len(gone) < len(times):
        raise BenchError(f"{prepare}: {len(gone)} of {len(times)} were deleted; this measures nothing")
    return took


def ours(times: Sequence[datetime]) -> Delete:
    """Our decision."""
    policy = Policy.default()
    return lambda: plan(times, policy).delete


def only_sorting(times: Sequence[datetime]) -> Delete:
    """What Python takes to sort the same list: it returns all but one."""
    return lambda: sorted(times)[1:]


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured for one list of times: milliseconds of each variant."""

    shape: str
    order: str
    count: int
    samples: Mapping[str, Sample]


def measure_rule(found: Sequence[Peer], sizes: Sequence[int], rounds: int) -> list[Row]:
    """Every shape and order and size; small ones oftener, since a round of them costs nothing."""
    rows = []
    for shape, make in SHAPES.items():
        for count in sizes:
            ordered = make(count)
            shuffled = random.Random(count).sample(ordered, count)
            for order, times in (("sorted", ordered), ("shuffled", shuffled)):
                say(f"{count} times, {shape}, {order}")
                # What others left behind is not to be paid for here.
                variants = {OURS: _of(ours, times), SORTED: _of(only_sorting, shuffled)}
                variants |= {peer.name: _of(peer.prepare, times) for peer in found}
                rows.append(Row(shape, order, count, measure(variants, _rounds(rounds, count), " ms")))
    return rows


def measure_many(found: Sequence[Peer], rounds: int) -> dict[str, Sample]:
    """A thousand databases of sixteen backups each, decided one by one."""
    sets = [[time + timedelta(seconds=index) for time in two_hourly(16)] for index in range(1000)]

    def all_of(prepare: Prepare) -> Callable[[], float]:
        def run() -> float:
            ready = [prepare(times) for times in sets]
            began = time.process_time()
            for delete in ready:
                delete()
            return (time.process_time() - began) * 1000

        return run

    variants = {OURS: all_of(ours)} | {peer.name: all_of(peer.prepare) for peer in found}
    return measure(variants, max(rounds, 5), " ms")


def _of(prepare: Prepare, times: Sequence[datetime]) -> Callable[[], float]:
    return lambda: timed(prepare, times)


def _rounds(rounds: int, count: int) -> int:
    return rounds * 3 if count <= 10_000 else rounds


def memory(found: Sequence[Peer], count: int) -> dict[str, float]:
    """Bytes for each backup that a decision needs at its highest, besides its input."""
    used = {}
    for name, prepare in {OURS: ours, **{peer.name: peer.prepare for peer in found}}.items():
        delete = prepare(two_hourly(count))
        tracemalloc.start()
        delete()
        used[name] = tracemalloc.get_traced_memory()[1] / count
        tracemalloc.stop()
    return used


# --- the command ---------------------------------------------------------------------------------------------------


FLOOR = """
import os, sys
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
size = 0
with os.scandir(directory) as entries:
    for entry in entries:
        size += entry.stat(follow_symlinks=False).st_size
        if not entry.name.endswith(".dump"):
            file = os.open(entry.name, os.O_RDONLY, dir_fd=directory)
            size += len(os.read(file, 65536))
            os.close(file)
"""
"""The least that a program in Python can do to know what lies there: names, sizes, and the sidecars' content."""

SCAN = FLOOR.split("        if not entry")[0]
"""The names and sizes alone."""

FLOOR_PRUNE = (
    FLOOR
    + """
for name in sys.stdin.read().split():
    for suffix in (".dump", ".dump.sha256", ".json"):
        os.unlink(name[:-5] + suffix, dir_fd=directory)
"""
)
"""The same, and every file removed that goes."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a program: seconds, seconds of processor time, and the most memory in MiB."""

    seconds: float
    processor: float
    mebibytes: float


LAUNCHER = """
import os, sys, time
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
began = time.monotonic()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
_, status, usage = os.wait4(pid, 0)
print(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a program and measures it. A process inherits the most memory of the one that starts it: this one is small."""


def run(arguments: Sequence[str], given: str = "") -> Ran:
    """Run a program to its end, its output thrown away.

    Raises:
        BenchError: It failed.
    """
    launched = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *arguments],
        cwd=ROOT, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    *errors, told = launched.stderr.splitlines() or [""]
    if launched.returncode:
        raise BenchError(f"{' '.join(arguments)} ended with {launched.returncode}: {' '.join([*errors, told])}")
    return Ran(*map(float, told.split()))


def make_backups(folder: Path, count: int) -> None:
    """Fill a database's directory with published backups: small archives, sidecars of the usual size."""
    from tests.retention.world import World  # only here: the rule is measured without it

    sample_top = folder.parent.parent / f"sample-{folder.parent.name}"
    sample_top.mkdir(parents=True)
    world = World(sample_top)
    world.configure("app")
    base = world.stage("app", NOW)
    if world.finish(NOW).code != 0:
        raise BenchError("no sample could be published")
    sample = {suffix: (world.folder("app") / f"{base}{suffix}").read_text() for suffix in (".dump.sha256", ".json")}
    folder.mkdir(parents=True)
    content = (world.folder("app") / f"{base}.dump").read_bytes()
    for index in range(count):
        one = f"app-{NOW - index * 7 * timedelta(minutes=1):%Y%m%d-%H%M%S}"
        files = {f"{one}.dump": content}
        files |= {f"{one}{suffix}": text.replace(base, one).encode() for suffix, text in sample.items()}
        for name, written in files.items():
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, written)
            os.close(fd)


def measure_command(top: Path, backups: int, rounds: int) -> tuple[dict[str, list[Ran]], dict[str, list[Ran]]]:
    """Return the runs on the large directory, and those that really delete, on a tenth of it."""
    folder = top / "large" / "app"
    say(f"making {backups} backups")
    make_backups(folder, backups)
    python = sys.executable
    retention = [python, "-m", "retention"]
    variants = {
        "floor": [python, "-c", FLOOR, str(folder)],
        "`scandir` and `stat`": [python, "-c", SCAN, str(folder)],
        "`plan --format names`": [*retention, "plan", "--format", "names", str(folder)],
        "`plan --format json`": [*retention, "plan", "--format", "json", str(folder)],
        "`plan`": [*retention, "plan", str(folder)],
        "`prune --dry-run --format names`": [
            *(*retention, "prune", "--dry-run", "--allow-large-prune", "--format", "names", str(folder)),
        ],
    }
    return _interleaved(
        {name: functools.partial(run, line) for name, line in variants.items()}, rounds
    ), _measure_prune(top, backups // 10, rounds)


def _measure_prune(top: Path, backups: int, rounds: int) -> dict[str, list[Ran]]:
    model = top / "model" / "app"
    make_backups(model, backups)
    retention = [sys.executable, "-m", "retention"]
    gone = subprocess.run(
        [*retention, "plan", "--format", "names", str(model)], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout

    def on_a_copy(work: Callable[[Path], Ran]) -> Callable[[], Ran]:
        def again() -> Ran:
            with tempfile.TemporaryDirectory(dir=top) as parent:
                copy = Path(parent) / "app"
                shutil.copytree(model, copy)
                return work(copy)

        return again

    prune = ["prune", "--allow-large-prune", "--format", "names"]
    return _interleaved(
        {
            "floor": on_a_copy(lambda copy: run([sys.executable, "-c", FLOOR_PRUNE, str(copy)], gone)),
            "`prune`": on_a_copy(lambda copy: run([*retention, *prune, str(copy)])),
        },
        rounds,
    )


def _interleaved(variants: Mapping[str, Callable[[], Ran]], rounds: int) -> dict[str, list[Ran]]:
    names, runs = list(variants), {name: list[Ran]() for name in variants}
    for name in names:
        variants[name]()
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            runs[name].append(variants[name]())
        told = ", ".join(f"{name} {runs[name][-1].seconds:.2f} s ({runs[name][-1].processor:.2f} s)" for name in names)
        say(f"round {number + 1} of {rounds}: {told}")
    return runs


# --- the page ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal and how it was met."""

    name: str
    most: float
    measured: float

    @property
    def met(self) -> bool:
        """Whether it was met."""
        return self.measured <= self.most


def ratio(row: Row, name: str) -> Sample:
    """How much of another's time ours takes, round by round."""
    return paired(row.samples[OURS], row.samples[name], lambda a, b: a / max(b, 1e-9))


def goals_of(rows: Sequence[Row], found: Sequence[Peer], command: Mapping[str, list[Ran]]) -> list[Goal]:
    """All goals; of each peer the case that is worst for us."""
    largest = max(row.count for row in rows)
    top = [row for row in rows if row.count == largest and row.order == "sorted"]
    goals = [
        Goal(f"{largest:,} sorted times planned / `sorted()` of the same list shuffled", 1, max(_medians(top, SORTED)))
    ]
    for peer in found:
        cases = _medians(rows, peer.name)
        goals.append(Goal(f"this rule / {peer.name}, the worst of {len(cases)} cases", 1, max(cases)))
    smallest = min(row.count for row in rows)
    growth = f"growth of time from {smallest:,} to {largest:,} times, sorted, the worst"
    goals.append(Goal(growth, largest / smallest, _growth(rows, smallest, largest)))
    if command:
        name = "`plan --format names`"
        pairs = zip(command[name], command["floor"], strict=True)
        taken = Sample([one.processor / other.processor for one, other in pairs])
        goals.append(Goal(f"{name} / floor, processor time", COMMAND_RATIO, taken.median))
    return goals


def _medians(rows: Sequence[Row], name: str) -> list[float]:
    return [ratio(row, name).median for row in rows]


def _growth(rows: Sequence[Row], smallest: int, largest: int) -> float:
    """How many times as long the largest takes as the smallest, for the shape where that is most."""
    took = {(row.shape, row.count): row.samples[OURS].median for row in rows if row.order == "sorted"}
    return max(took[shape, largest] / max(took[shape, smallest], 1e-9) for shape in SHAPES)


def _steepest(rows: Sequence[Row]) -> float:
    """How many times as long ten times as many take, for the step where that is most."""
    steps = [0.0]
    for shape in SHAPES:
        line = [row.samples[OURS].median for row in rows if row.shape == shape and row.order == "sorted"]
        steps += [later / max(earlier, 1e-9) for earlier, later in itertools.pairwise(line)]
    return max(steps)


def statistics_of(runs: Sequence[Ran], floor: Sequence[Ran]) -> Sample:
    """Ratios of seconds to the floor's of the same round."""
    return Sample([one.seconds / other.seconds for one, other in zip(runs, floor, strict=True)])


def page(
    goals: Sequence[Goal],
    rows: Sequence[Row],
    many: Mapping[str, Sample],
    used: Mapping[str, float],
    found: Sequence[Peer],
    missing: Sequence[str],
    command: tuple[Mapping[str, list[Ran]], Mapping[str, list[Ran]]],
    backups: int,
    load: float,
) -> str:
    """The page for people."""
    missed = [goal.name for goal in goals if not goal.met]
    python = f"Python {sys.version.split()[0]}"
    lines = ["# Benchmark of the retention rule and its commands", ""]
    lines += [
        "`make bench-retention` wrote this page.",
        f"{python}, {os.cpu_count()} cores ({processor()}), load {load:.1f} at the start.",
        "Medians of interleaved rounds. Compare the ratios; the times are specific to this machine.",
        "The rule is measured in processor time.",
    ]
    lines += ["", f"**Missed: {'; '.join(missed)}.**" if missed else "All goals were met.", ""]
    lines += ["## Goals", "", "| goal | at most | measured | |", "| --- | --- | --- | --- |"]
    for goal in goals:
        lines.append(f"| {goal.name} | {goal.most:g} | {goal.measured:.2f} | {'met' if goal.met else '**missed**'} |")
    lines += ["", "## The rule", ""]
    lines += [
        "Milliseconds from a list of times to the list of those to delete. Each peer decides by its own rule, the one",
        "nearest to 6/4/5 that it has, on an input in the form that it needs, prepared before the measurement:",
        "; ".join(f"{peer.name} with {peer.rule}" for peer in found) + ".",
        *(f"Not measured: {why}." for why in missing),
        "",
        f"| times | order | number | {OURS} | {SORTED}, shuffled | {' | '.join(peer.name for peer in found)} |",
        "| --- | --- | --- | --- | --- |" + " --- |" * len(found),
    ]
    for row in rows:
        cells = [f"{row.samples[name].median:.3g}" for name in (OURS, SORTED)]
        cells += [f"{row.samples[peer.name].median:.3g} ({1 / ratio(row, peer.name).median:.1f}×)" for peer in found]
        lines.append(f"| {row.shape} | {row.order} | {row.count:,} | {' | '.join(cells)} |")
    cells = [f"{many[OURS].median:.3g}", "–"]
    cells += [f"{many[peer.name].median:.3g} ({many[peer.name].median / many[OURS].median:.1f}×)" for peer in found]
    lines.append(f"| 1000 databases | sorted | 16 each | {' | '.join(cells)} |")
    lines += [
        "",
        f"From one size to the next, ten times as large, our time grows {_steepest(rows):.1f} times at most:",
        "a million moments are more than the processor's cache holds.",
    ]
    lines += ["", "Peak memory in addition to the input, bytes for each of 100,000 backups: "]
    lines[-1] += ", ".join(f"{name} {size:.0f}" for name, size in used.items()) + "."
    lines += _command_lines(command, backups)
    return "\n".join(lines) + "\n"


def _command_lines(command: tuple[Mapping[str, list[Ran]], Mapping[str, list[Ran]]], backups: int) -> list[str]:
    if not command[0]:
        return []
    lines = ["", "## The command", ""]
    lines += [
        f"A directory of {backups:,} backups, {3 * backups:,} files, in the page cache; each run is a separate "
        "process.",
        "*Floor* is a loop in Python that only calls `os.scandir`, `stat` of every file, and opens, reads and closes",
        "both sidecar files of each backup.",
        "",
    ]
    lines += _table(command[0])
    lines += [
        "",
        f"Real deletion of all but 15 of {backups // 10:,} backups; the floor here also unlinks the same files.",
        "The command renames each archive out of view, syncs the directory, writes its log and only then unlinks.",
        "",
    ]
    return lines + _table(command[1])


def _table(runs: Mapping[str, list[Ran]]) -> list[str]:
    lines = ["| program | seconds | of the floor | processor seconds | of the floor | MiB |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, ran in runs.items():
        taken = Sample([one.seconds for one in ran])
        used = Sample([one.processor for one in ran])
        shares = Sample([one.processor / other.processor for one, other in zip(ran, runs["floor"], strict=True)])
        most = max(one.mebibytes for one in ran)
        lines.append(
            f"| {name} | {taken.text()} | {statistics_of(ran, runs['floor']).median:.2f} | {used.median:.2f} "
            f"| {shares.median:.2f} | {most:.0f} |"
        )
    return lines


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder on a disk, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-retention-") as folder:
        yield Path(folder)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench_retention", description="Measure the retention rule and its commands.")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each comparison (default 7)")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest number of times (default 1000000)")
    parser.add_argument("--backups", type=int, default=100_000, help="backups on disk; 0 for none (default 100000)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmark-retention.md", help="page to write")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    tag = f"{sysconfig.get_python_version()}-{(ROOT / 'constraints.txt').stat().st_size}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnpg-backup" / f"peers-{tag}"
    try:
        fetch_peers(cache)
        found, missing = peers(cache)
        rows = measure_rule(found, [size for size in SIZES if size <= arguments.most], arguments.rounds)
        many = measure_many(found, arguments.rounds)
        used = memory(found, 100_000)
        command: tuple[dict[str, list[Ran]], dict[str, list[Ran]]] = ({}, {})
        if arguments.backups:
            with scratch() as top:
                command = measure_command(top, arguments.backups, arguments.rounds)
    except (BenchError, subprocess.CalledProcessError, OSError) as error:
        say(f"bench_retention: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench_retention: interrupted; everything was removed")
        return 130
    goals = goals_of(rows, found, command[0])
    text = page(goals, rows, many, used, found, missing, command, arguments.backups, load)
    arguments.output.write_text(text)
    print(text)
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
