"""Commands at once, each late at calls by chance: nothing good is lost, nothing bad counts, no pin is taken away."""

import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.server import HUNG
from tests.faults.worlds import (
    ADOPTABLE,
    BASES,
    CORRUPT,
    HELD,
    MINUTE,
    NEW,
    NEWEST,
    NOW,
    Server,
    everything,
    false_backups,
    leftovers,
    server,
    sound,
)
from tests.retention.world import HOUR, REPOSITORY, World, retention_here
from tests.scripts.stand_ins import PROGRAMS

FEW, MANY, PARTS = 10, 1000, 20
DUMP = "dump.sh"
CHANGING = ("finish", "prune", "pin", "unpin", "verify", "adopt", "choose", "choose --drill", "drill", "list", DUMP)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server")) as started:
        yield started


class Dump:
    """A run's dump.sh on the world's volume and in its time, with stand-ins for PostgreSQL's programs."""

    def __init__(self, world: World, top: Path, chance: random.Random) -> None:
        self._top = top
        for name in ("programs", "run", "results", "credentials/app", "credentials/other"):
            shutil.rmtree(top / name, ignore_errors=True)
            (top / name).mkdir(parents=True)
        slow = f"/bin/sleep {chance.choice((0, 0, 0.02, 0.1))}\n"
        since = int(time.time() - (NOW + MINUTE).timestamp())
        clock = f'exec /bin/date -d "{since} seconds ago" "$@"'
        for name, script in {**PROGRAMS, "date": clock}.items():
            (top / "programs" / name).write_text(f"#!/bin/dash\n{'' if name == 'date' else slow}{script}\n")
            (top / "programs" / name).chmod(0o755)
        for database in ("app", "other"):
            world.configure(database, lock_timeout="30", sslmode="disable", wait_timeout="3")
            for name in ("username", "password"):
                (top / "credentials" / database / name).write_text("x")
        folders = {name: str(top / name.lower()) for name in ("RUN", "RESULTS", "CREDENTIALS")}
        environment = {f"BACKUP_{name}": folder for name, folder in folders.items()}
        environment |= {"BACKUP_ROOT": str(world.root), "BACKUP_CONFIG": str(world.config), "BACKUP_PARALLEL": "2"}
        environment |= {"BACKUP_TIMEOUT": "120", "HOME": folders["RUN"], "PATH": f"{top / 'programs'}:/usr/bin:/bin"}
        self._process = subprocess.Popen(
            ["dash", str(REPOSITORY / "scripts" / "dump.sh")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def violations(self, world: World) -> Iterator[str]:
        """Wait for its end; yield what is not as it has to be."""
        log, _ = self._process.communicate(timeout=150)
        if self._process.returncode:
            yield f"dump.sh ends with {self._process.returncode}: {log[-300:]}"
        for database in ("app", "other"):
            lines = (self._top / "results" / f"{database}.result").read_text().splitlines()
            facts = dict(line.split("=", 1) for line in lines)
            if facts["state"] != "staged":
                yield f"dump.sh: {database} {facts['state']}: {log[-300:]}"
            elif facts["sha256"] not in sound(world, database):
                yield f"dump.sh: what it has staged of {database} is lost"


def _race(seed: int, top: Path, running: Server) -> list[str]:
    """Let some commands run at once; return what is not as it has to be."""
    shutil.rmtree(top / "world", ignore_errors=True)
    (top / "world").mkdir()
    world = World(top / "world")
    everything(world)
    before = sound(world, "app")
    chance = random.Random(seed)
    names = chance.choices(CHANGING, k=chance.choice((2, 2, 3, 4)))
    # Each pod has its own requests: here they share a folder.
    names = [name for index, name in enumerate(names) if "choose" not in name or "choose" not in "".join(names[:index])]
    dump = Dump(world, top / "dump", chance) if DUMP in names else None
    names = [name for name in names if name != DUMP]
    if dump is not None:
        time.sleep(chance.uniform(0, 0.5))
    answers = running.run(world, names, seed=seed, patience=10)
    codes = dict(zip(names, answers, strict=True))
    wrong = list(dump.violations(world)) if dump is not None else []
    for name, answer in zip(names, answers, strict=True):
        wrong += [f"{name} hangs"] if answer.code == HUNG else []
        for text in ("fault in the program", "Traceback", "No such file", "standard output"):
            wrong += [f"{name} says {text!r}: {answer.out[-400:]}"] if text in answer.out else []
    folder = world.folder("app")
    there = {base for base, _ in sound(world, "app").values()}
    prunes = {"finish", "prune"} & set(names)
    for base, _ in before.values():
        if base not in there and not prunes and base != CORRUPT:
            wrong.append(f"{base} is lost without a prune")
    if "unpin" not in names and HELD not in there:
        wrong.append("the archive under legal hold is lost")
    if "pin" in names and codes["pin"].code == 0 and BASES[-1] not in there:
        wrong.append("an archive is lost that was pinned")
    if "choose" in names and codes["choose"].code == 0:
        chosen = codes["choose"].out.partition("selected ")[2].partition(".dump")[0]
        if chosen not in there or not (folder / f"{chosen}.dump.pin").exists():
            wrong.append("the archive that was chosen is lost, or without its pin")
    if "drill" in names:
        if not (folder / f"{NEWEST}.drill.json").exists() and "not recorded" not in codes["drill"].out:
            wrong.append(f"the drill is not recorded: {codes['drill'].out[-300:]}")
        proved = [path.name for path in folder.glob("*.pin") if json.loads(path.read_text()).get("by") == "drill"]
        if not proved:
            wrong.append("no proved archive is pinned")
    locked = "verify" in codes and "could not be renamed" in codes["verify"].out
    if (
        "verify" in names
        and not locked
        and CORRUPT in {name.removesuffix(".dump") for name in false_backups(world, "app")}
    ):
        wrong.append(f"the damaged archive counts after verify: {codes['verify'].out[-300:]}")
    if "adopt" in names and codes["adopt"].code == 0 and ADOPTABLE in there and not _complete(folder, ADOPTABLE):
        wrong.append("the archive was not adopted")
    for path in world.results.iterdir():
        path.unlink()
    retention_here("verify", world.root)
    world.fail("app")
    world.fail("other")
    world.finish(NOW + MINUTE)
    for database in ("app", "other"):
        world.stage(database, NEW + 2 * HOUR)
    ran = world.finish(NOW + 2 * HOUR, "--allow-large-prune")
    if "fault in the program" in ran.out or not world.archives("app"):
        wrong.append(f"the next run: {ran.out[-300:]}")
    wrong += [f"left over in the end: {name}" for name in leftovers(world, "app")]
    wrong += [f"{name} counts in the end" for name in false_backups(world, "app")]
    return [f"seed {seed}, {', '.join(names)}: {text}" for text in wrong]


def _complete(folder: Path, base: str) -> bool:
    return (folder / f"{base}.json").exists() and (folder / f"{base}.dump.sha256").exists()


def test_some_interleavings_lose_nothing(quick_path: Path, running: Server) -> None:
    found = [wrong for seed in range(FEW) for wrong in _race(seed, quick_path, running)]
    assert not found, "\n".join(found[:20])


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_many_interleavings_lose_nothing(part: int, quick_path: Path, running: Server) -> None:
    seeds = range(1000 + part, 1000 + MANY, PARTS)
    found = [wrong for seed in seeds for wrong in _race(seed, quick_path, running)]
    print(f"{len(seeds)} interleavings, {len(found)} violations")
    assert not found, "\n".join(found[:20])
