"""Measure copies outside: encryption alone, and an upload against a bare `rclone copyto` of the same file, in pairs.

USAGE: python -m lab.bench.offsite [--megabytes 1000] [--pairs 5] [--page docs/benchmark-offsite.md]

The store is versitygw on loopback, its data and the archive in memory. A pair is one after the other, so that what else
the machine does meets both. What counts is the ratio of a pair: (ours - encryption) / bare.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from offsite.age import encrypted
from tests.lab import tools
from tests.offsite import stores
from tests.offsite.world import NOW, World
from tests.retention.world import HOUR, REPOSITORY

_MIB = 1024 * 1024


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _peak(process: int) -> float:
    """The most memory that a process has had, MiB; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _publish(world: World, size: int) -> Path:
    base = world.volume.publish("app", NOW - HOUR, content=b"")
    archive, digest = world.volume.root / "app" / f"{base}.dump", hashlib.sha256()
    with archive.open("wb") as file:
        for left in range(size, 0, -_MIB):
            piece = os.urandom(min(left, _MIB))
            digest.update(piece)
            file.write(piece)
    (archive.parent / f"{archive.name}.sha256").write_text(f"{digest.hexdigest()}  {archive.name}\n")
    facts = {"schema": 1, "bytes": size, "sha256": digest.hexdigest(), "tables": 1, "compression": "zstd:1"}
    (archive.parent / f"{base}.json").write_text(json.dumps(facts))
    return archive


def _encrypt(world: World, archive: Path) -> None:
    with archive.open("rb", buffering=0) as file:
        for _ in encrypted(file.readinto, [world.identity.recipient, world.identity.recipient]):
            pass


def _bare(world: World, archive: Path, number: int) -> None:
    target = f"OFFSITE:{stores.BUCKET}/bare-{number}/x"
    command = [tools.program("rclone"), "copyto", str(archive), target, "--s3-chunk-size", "8Mi"]
    subprocess.run(command, env=world.carrier.program.environment, check=True)


def _ours(world: World, number: int) -> tuple[float, float]:
    """Copy; return the most memory that Python and rclone have had, MiB."""
    world.configure(path=f"{stores.BUCKET}/ours-{number}")
    command = [sys.executable, "-m", "offsite", "copy", "--config", str(world.config)]
    command += ["--socket", str(world.carrier.socket), "--now", NOW.isoformat(), str(world.volume.root)]
    python = 0.0
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            python = max(python, _peak(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the copy failed: exit code {process.returncode}")
    carrier = world.carrier.program.process
    return python, _peak(carrier.pid) if carrier else 0.0


def main() -> None:
    """Measure, and print a line for each pair."""
    parser = argparse.ArgumentParser(description="Measure copies outside.")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--page", type=Path, help="write the results to this page")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    size, ratios, speeds, memory = options.megabytes * 1_000_000, [], [], 0.0
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        store = stores.s3(Path(folder) / "store")
        world = World(Path(folder) / "world", store)
        archive = _publish(world, size)
        with stores.running(store):
            for number in range(options.pairs):
                world.carrier.start()
                bare = _seconds(lambda number=number: _bare(world, archive, number))  # type: ignore[misc]
                before = time.process_time()
                alone = _seconds(lambda: _encrypt(world, archive))
                processor = time.process_time() - before
                started = time.monotonic()
                python, rclone = _ours(world, number)
                ours = time.monotonic() - started
                world.carrier.end()
                for name in ("bare", "ours"):
                    shutil.rmtree(store.root / f"{name}-{number}")
                ratios.append((ours - alone) / bare)
                speeds.append(size / 1e6 / processor)
                memory = max(memory, python + rclone)
                print(
                    f"bare {bare:.2f} s, encryption {alone:.2f} s, ours {ours:.2f} s, ratio {ratios[-1]:.2f}, "
                    f"Python {python:.0f} MiB, rclone {rclone:.0f} MiB",
                    flush=True,
                )
    print(
        f"median: ratio {statistics.median(ratios):.2f}, encryption {statistics.median(speeds):.0f} MB/s of one core; "
        f"both containers {memory:.0f} MiB at most"
    )
    if options.page is not None:
        options.page.write_text(_page(options.megabytes, load, ratios, speeds, memory))


def _page(megabytes: int, load: float, ratios: list[float], speeds: list[float], memory: float) -> str:
    rows = (
        ("encryption, MB for each second of one core", "at least", 300.0, speeds, "{:.0f}"),
        ("(copy - its encryption alone) / bare `rclone copyto`", "at most", 1.2, ratios, "{:.2f}"),
        ("memory of both containers, MiB", "at most", 128.0, [memory], "{:.0f}"),
    )
    lines = [
        "# Benchmark of copies outside",
        "",
        "`make bench-offsite` wrote this page.",
        f"An archive of {megabytes} MB for two recipients, {os.cpu_count()} cores, load {load:.1f} at the start.",
        "The store is versitygw on the same machine, its data and the archive in memory.",
        "A pair is one copy by `python3 -m offsite copy` and one by bare `rclone copyto` with parts of the same size.",
        "Compare the ratios; the seconds are specific to this machine.",
        "",
        "| goal | | measured | |",
        "| --- | --- | --- | --- |",
    ]
    for name, way, goal, values, form in rows:
        middle = statistics.median(values)
        many = f" [{form.format(min(values))}-{form.format(max(values))}] n={len(values)}" if len(values) > 1 else ""
        met = middle >= goal if way == "at least" else middle <= goal
        lines.append(f"| {name} | {way} {goal:g} | {form.format(middle)}{many} | {'met' if met else 'missed'} |")
    lines += [
        "",
        "A copy does more than that: it compares the archive's sha256 before its last piece goes out,",
        "hashes what goes out, asks the store what has arrived, and copies roles and metadata.",
        "The size of the parts bounds the memory: it is the same up to about 300 GB.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
