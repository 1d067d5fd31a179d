"""Killed anywhere, healed by the next run: nothing good lost, nothing unverified published, no space held for ever.

Two kinds of end, each at every single change that a run makes to the file system:

* the process is killed: what it has done stands;
* the node loses its power: what was not synced may be there or not, in any combination.

Where a run sets out from is every row of the table of states in `docs/architecture.md`.
"""

import base64
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from retention import Policy, plan
from retention.names import Grammar, Kind, base_of, file_name
from tests.retention.killer import KILLED
from tests.retention.world import HOUR, REPOSITORY, T0, Ran, World, content_of

NOW = T0 + timedelta(days=30)
MINUTE = timedelta(minutes=1)
NEW = NOW - 5 * MINUTE
OLD = NOW - 125 * MINUTE


def base_at(time: object) -> str:
    return base_of("app", time)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Row:
    """A state from which a run sets out, and what has to be there when all is healed."""

    name: str
    prepare: Callable[[World], None]
    published: frozenset[str]
    bad: frozenset[str] = frozenset()
    command: str = "finish"
    partial: frozenset[str] = frozenset()


def _partial(world: World) -> None:
    (world.folder("app") / f".{base_at(OLD)}.dump.partial").write_bytes(b"cut off")
    world.stage("app", NEW)


def _staged_by_a_dead_run(world: World) -> None:
    world.stage("app", OLD, report=False)
    world.stage("app", NEW)


def _sidecars_of_a_staged_archive(world: World) -> None:
    base = world.stage("app", OLD, report=False)
    (world.folder("app") / file_name(base, Kind.STAGED)).unlink()
    world.stage("app", NEW)


def _name_taken(world: World) -> None:
    world.publish("app", NEW, content=b"of the same second")
    world.stage("app", NEW)


def _pinned(world: World) -> None:
    _full(world)
    for hours in (28, 32):
        world.pin(base_at(NOW - hours * HOUR - 7 * MINUTE))


def _spoiled(world: World) -> None:
    base = world.stage("app", NEW)
    (world.folder("app") / file_name(base, Kind.STAGED)).write_bytes(b"spoiled")


def _tombstone(world: World) -> None:
    base = world.publish("app", NOW - 50 * HOUR)
    folder = world.folder("app")
    (folder / f"{base}.dump").rename(folder / file_name(base, Kind.TOMBSTONE))
    world.stage("app", NEW)


def _tombstone_of_a_name_in_use(world: World) -> None:
    world.stage("app", NEW)
    (world.folder("app") / file_name(base_at(NEW), Kind.TOMBSTONE)).write_bytes(b"of long ago")
    (world.folder("app") / file_name(base_at(NEW), Kind.PIN)).write_text("of long ago")


def _sidecars_of_a_deleted_archive(world: World) -> None:
    base = world.publish("app", NOW - 50 * HOUR)
    (world.folder("app") / f"{base}.dump").unlink()
    world.stage("app", NEW)


STEADY = [one.time for one in plan([NEW - 2 * n * HOUR for n in range(1, 200)], Policy.default()).keep]
EXTRA = [NOW - 28 * HOUR - 7 * MINUTE, NOW - 32 * HOUR - 7 * MINUTE]


def _full(world: World) -> None:
    """Seventeen backups, so that one more lets three go: as many as are never refused."""
    for time in [*STEADY, *EXTRA]:
        world.publish("app", time, content=content_of(base_at(time), 100))
    world.stage("app", NEW)


def _full_and_nothing_staged(world: World) -> None:
    _full(world)
    for kind in (Kind.STAGED, Kind.STAGED_SHA256, Kind.STAGED_RESULT, Kind.STAGED_GLOBALS):
        (world.folder("app") / file_name(base_at(NEW), kind)).unlink()


def archives(*times: object) -> frozenset[str]:
    return frozenset(f"{base_at(time)}.dump" for time in times)


ROWS = [
    Row("partial", _partial, archives(NEW), partial=frozenset({f".{base_at(OLD)}.dump.partial"})),
    Row("staged", lambda world: _ignore(world.stage("app", NEW)), archives(NEW)),
    Row("staged by a dead run too", _staged_by_a_dead_run, archives(OLD, NEW)),
    Row("sidecars of a staged archive alone", _sidecars_of_a_staged_archive, archives(NEW)),
    Row("published, its name taken", _name_taken, archives(NEW, NEW + timedelta(seconds=1))),
    Row("published, and others pruned", _full, archives(*plan([*STEADY, *EXTRA, NEW], Policy.default()).kept)),
    Row("pinned", _pinned, archives(*plan([*STEADY, NEW], Policy.default()).kept, *EXTRA)),
    Row("bad", _spoiled, archives(), bad=frozenset({f"{base_at(NEW)}.dump.bad"})),
    Row("deleted, cut off after the rename", _tombstone, archives(NEW)),
    Row("deleted, its name in use again", _tombstone_of_a_name_in_use, archives(NEW)),
    Row("deleted, sidecars left", _sidecars_of_a_deleted_archive, archives(NEW)),
    Row(
        "prune by hand",
        _full_and_nothing_staged,
        archives(*plan([*STEADY, *EXTRA], Policy.default()).kept),
        command="prune",
    ),
]
BY_NAME = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def _ignore(_: object) -> None:
    pass


class Killer:
    """The server that runs commands and ends them."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "changes.jsonl"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.retention.killer"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, world: World, row: Row, number: int, moment: str) -> tuple[int, list[dict[str, str]]]:
        """Run a row's command up to a change; return its exit code and what it did."""
        return self.run_arguments(_arguments(world, row), number, moment)

    def run_arguments(self, arguments: list[str], number: int, moment: str) -> tuple[int, list[dict[str, str]]]:
        """Run a command line up to a change; return its exit code and what it did."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"number": number, "moment": moment, "log": str(self._log), "arguments": arguments}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return code, [json.loads(line) for line in self._log.read_text().splitlines()]

    def close(self) -> None:
        self._process.communicate(timeout=30)


def _arguments(world: World, row: Row) -> list[str]:
    if row.command == "prune":
        return ["prune", "--now", NOW.isoformat(), str(world.root / "app")]
    return world.finish_arguments(NOW)


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    started = Killer(tmp_path_factory.mktemp("killer"))
    yield started
    started.close()


class Stage:
    """Makes the same world again and again."""

    def __init__(self, top: Path, row: Row) -> None:
        self._top, self._row, self._count = top, row, 0

    def world(self) -> World:
        self._count += 1
        folder = self._top / str(self._count)
        folder.mkdir()
        made = World(folder)
        made.configure("app")
        self._row.prepare(made)
        return made


def contents(world: World) -> dict[str, str]:
    """The sums of all archives in whatever state but deleted, with their names."""
    grammar, sums = Grammar("app"), {}
    for path in world.folder("app").iterdir():
        parsed = grammar.parse(path.name)
        if parsed is not None and parsed.kind in (Kind.ARCHIVE, Kind.STAGED, Kind.BAD):
            sums[hashlib.sha256(path.read_bytes()).hexdigest()] = path.name
    return sums


def assert_nothing_unverified_counts(world: World, where: str) -> None:
    folder = world.folder("app")
    for name in world.archives("app"):
        sidecar, metadata = folder / f"{name}.sha256", folder / name.replace(".dump", ".json")
        assert sidecar.exists(), f"{where}: {name} has its final name without a sha256"
        assert metadata.exists(), f"{where}: {name} has its final name without metadata"
        actual = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert sidecar.read_text().split() == [actual, name], f"{where}: {name} is not what its sha256 says"
        assert json.loads(metadata.read_text())["sha256"] == actual, f"{where}: {name} is not what its metadata say"


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What runs come to that nobody kills.

    Attributes:
        staying: The sums of the archives that have to be there all the time.
        done: What the first run does.
        next_archives: What is there after the run that follows two hours later.
    """

    staying: set[str]
    done: list[dict[str, str]]
    next_archives: set[str]


def _undisturbed(stage: Stage, row: Row, killer: Killer) -> Undisturbed:
    world = stage.world()
    before = contents(world)
    code, done = killer.run(world, row, 0, "before")
    assert code == (1 if row.bad else 0), done
    assert world.archives("app") == row.published
    staying = set(contents(world)) & set(before)
    _next_run(world)
    return Undisturbed(staying, done, world.archives("app"))


def _next_run(world: World) -> Ran:
    world.stage("app", NEW + 2 * HOUR)
    return world.finish(NOW + 2 * HOUR)


def assert_heals(world: World, row: Row, where: str, undisturbed: Undisturbed) -> None:
    """Look at what a cut run has left, then let a run without a new dump and the next with one follow."""
    before = world.archives("app")
    assert undisturbed.staying <= set(contents(world)), f"{where}: a good archive is lost"
    assert_nothing_unverified_counts(world, where)
    ran = world.finish(NOW + timedelta(seconds=30))
    if row.command == "finish":
        assert ran.code == (1 if row.bad else 0), f"{where}: {ran}"
    # A run that publishes nothing prunes nothing: what was not deleted yet waits for the next dump.
    assert row.published <= world.archives("app") <= row.published | before, f"{where}: {ran}"
    assert {name for name in world.names("app") if name.endswith(".bad")} == row.bad, where
    for name in row.partial:
        (world.folder("app") / name).unlink(missing_ok=True)
    world.assert_sound("app")
    ran = _next_run(world)
    assert ran.code == (1 if row.bad else 0), f"{where}: {ran}"
    assert undisturbed.next_archives == world.archives("app"), f"{where}: {ran}"
    world.assert_sound("app")
    assert world.status()["app"]["kept"] == len(undisturbed.next_archives)


@BY_NAME
def test_killed_at_any_change_and_healed_by_the_next_run(row: Row, quick_path: Path, killer: Killer) -> None:
    stage = Stage(quick_path, row)
    undisturbed = _undisturbed(stage, row, killer)
    changes = [one for one in undisturbed.done if one["operation"] != "fsync"]
    assert len(changes) > 5, changes
    for number, change in enumerate(changes, 1):
        if row is not ROWS[0] and "/app/" not in change["name"]:
            # Reports at the root and the termination message: the same in each row, and killed in the first.
            continue
        for moment in ["before", "half"] if change["operation"] in ("write", "pwrite") else ["before"]:
            where = f"killed {moment} change {number} of {len(changes)}, {change['operation']} {change['name']}"
            world = stage.world()
            code, _ = killer.run(world, row, number, moment)
            assert code == KILLED, where
            assert_heals(world, row, where, undisturbed)


@dataclass(slots=True)
class Inode:
    """A file's content as the program sees it, and as the disk has it for certain."""

    content: bytes
    synced: bytes | None = None


@dataclass(slots=True)
class Disk:
    """A directory whose changes are certain only after a sync.

    Attributes:
        certain: The names that are on disk.
        visible: The names that the program sees.
        pending: Changes of names since the last sync of the directory; any of them may be lost with the power.
    """

    certain: dict[str, Inode]
    visible: dict[str, Inode] = field(init=False)
    pending: list[tuple[str | None, str | None, Inode]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visible = dict(self.certain)

    def apply(self, one: dict[str, str], folder: str) -> None:
        name = Path(one["name"]).name
        match one["operation"]:
            case "fsync" if one["name"] == folder:
                for change in self.pending:
                    _change(self.certain, *change)
                self.pending.clear()
            case "fsync":
                self.visible[name].synced = self.visible[name].content
            case "open":
                if name not in self.visible:
                    self.visible[name] = Inode(b"")
                    self.pending.append((None, name, self.visible[name]))
            case "write":
                self.visible[name].content += base64.b64decode(one["content"])
            case "pwrite":
                self.visible[name].content = base64.b64decode(one["content"])
            case "ftruncate":
                self.visible[name].content = b""
            case "rename":
                new = Path(one["new"]).name
                inode = self.visible.pop(name)
                self.visible[new] = inode
                self.pending.append((name, new, inode))
            case "unlink":
                if name in self.visible:
                    self.pending.append((name, None, self.visible.pop(name)))

    def after_power_loss(self, chance: random.Random) -> Iterator[dict[str, bytes]]:
        """Yield what may be there when the power is back: none, all, each alone, each missing, some by chance."""
        count = len(self.pending)
        choices = {frozenset[int](), frozenset(range(count))}
        choices |= {frozenset({index}) for index in range(count)}
        # With many changes under way the single ones and some by chance say as much in a fraction of the time.
        choices |= {frozenset(range(count)) - {index} for index in range(count)} if count < 5 else set()
        choices |= {frozenset(index for index in range(count) if chance.random() < 0.5) for _ in range(3)}
        for choice in sorted(choices, key=sorted):
            for lazily in (False, True):
                names = dict(self.certain)
                for index in sorted(choice):
                    _change(names, *self.pending[index])
                unsynced = any(inode.synced != inode.content for inode in names.values())
                if lazily and not unsynced:
                    continue
                yield {name: inode.content if lazily else inode.synced or b"" for name, inode in names.items()}


def _change(names: dict[str, Inode], old: str | None, new: str | None, inode: Inode) -> None:
    if old is not None and names.get(old) is inode:
        del names[old]
    if new is not None:
        names[new] = inode


def _disk_of(folder: Path) -> Disk:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Disk({name: Inode(content, content) for name, content in files.items()})


@BY_NAME
def test_power_lost_at_any_change_and_healed_by_the_next_run(row: Row, quick_path: Path, killer: Killer) -> None:
    stage, chance = Stage(quick_path, row), random.Random(1)
    undisturbed = _undisturbed(stage, row, killer)
    world = stage.world()
    folder = world.folder("app")
    folder.joinpath(".lock").touch()
    disk = _disk_of(folder)
    results = {path: path.read_bytes() for path in world.results.iterdir()}
    _, done = killer.run(world, row, 0, "before")
    tried: set[int] = set()
    for number, one in enumerate(done, 1):
        if Path(one["name"]) == folder or Path(one["name"]).parent == folder:
            disk.apply(one, str(folder))
        for files in disk.after_power_loss(chance):
            print_of = hash(frozenset(files.items()))
            if print_of in tried:
                continue
            tried.add(print_of)
            _lay_out(folder, files)
            (world.root / "status.json").unlink(missing_ok=True)
            for path, content in results.items():
                path.write_bytes(content)
            assert_heals(world, row, f"power lost after step {number}, {one['operation']} {one['name']}", undisturbed)
    assert len(tried) > 5


def _lay_out(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_every_state_of_the_table_is_a_row_here() -> None:
    """The table of `docs/architecture.md` and this module name the same states."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    lines = text.split("## States of an archive")[1].split("\n\n")[2].splitlines()[2:]
    states = {line.split("|")[1].strip() for line in lines}
    assert len(states) >= 6, lines
    for state in states:
        assert any(row.name.startswith(state) for row in ROWS), f"no row sets out from {state!r}"


def test_the_recorder_sees_every_change(killer: Killer, quick_path: Path) -> None:
    """What the recorder does not see is no kill point: the volume must not change behind its back."""
    stage = Stage(quick_path, ROWS[0])
    world = stage.world()
    disk = _disk_of(world.folder("app"))
    _, done = killer.run(world, ROWS[0], 0, "before")
    for one in done:
        if Path(one["name"]) == world.folder("app") or Path(one["name"]).parent == world.folder("app"):
            disk.apply(one, str(world.folder("app")))
    seen: dict[str, Any] = {name: inode.content for name, inode in disk.visible.items()}
    assert seen == {path.name: path.read_bytes() for path in world.folder("app").iterdir()}
