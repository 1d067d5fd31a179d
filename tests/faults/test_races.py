"""Commands at once, each late at calls by chance: nothing good is lost, nothing bad counts, no pin is taken away."""

import json
import random
import shutil
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
from tests.retention.world import HOUR, World, retention_here

FEW, MANY = 10, 1000
CHANGING = ("finish", "prune", "pin", "unpin", "verify", "adopt", "choose", "choose --drill", "drill", "list")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server")) as started:
        yield started


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
    answers = running.run(world, names, seed=seed, patience=10)
    codes = dict(zip(names, answers, strict=True))
    wrong = []
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
def test_many_interleavings_lose_nothing(quick_path: Path, running: Server) -> None:
    found = [wrong for seed in range(1000, 1000 + MANY) for wrong in _race(seed, quick_path, running)]
    print(f"{MANY} interleavings, {len(found)} violations")
    assert not found, "\n".join(found[:20])
