"""The node loses its power at any step of dump.sh: a whole archive is published by the next finish, or leaves nothing.

What was not synced may be there or not, in any combination: names since the last sync of the directory, and contents
since the last sync of the file (whole, empty, cut in half, or zeros).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.test_dump_sweep import Call, Stage, changed, pytestmark, stage, tracer
from tests.scripts.conftest import shell_paths

__all__ = ["pytestmark", "shell_paths", "stage", "tracer"]

Files = dict[str, bytes]
SOME, MOST_SUBSETS = 20, 64


@dataclass(eq=False, slots=True)
class Inode:
    """A file: what it will hold in the end, how much of that is written, and how much is on the disk."""

    final: bytes = b""
    written: int = 0
    synced: int = 0

    def contents(self) -> set[bytes]:
        """Return what may be read of it after the power loss."""
        now = self.final[: self.written]
        if self.synced >= self.written:
            return {now}
        return {now, b"", now[: len(now) // 2], b"\0" * len(now)}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the directory that is not on the disk yet."""

    old: str
    new: str
    inode: Inode

    def apply(self, names: dict[str, Inode]) -> None:
        if self.old and names.get(self.old) is self.inode:
            del names[self.old]
        if self.new:
            names[self.new] = self.inode


class Disk:
    """A directory as its calls leave it: what programs see, what is certain, and what is pending."""

    def __init__(self, before: Files, after: Files, calls: list[Call], directory: Path) -> None:
        self._visible = {name: Inode(content, len(content), len(content)) for name, content in before.items()}
        self._certain = dict(self._visible)
        self._pending: list[Change] = []
        self._after, self._calls, self._directory = after, calls, directory

    def states(self, chance: random.Random) -> Iterator[Files]:
        """Yield what may be on the disk after a power loss, behind each call."""
        seen = set[frozenset[tuple[str, bytes]]]()
        for index, call in enumerate(self._calls):
            if call.result < 0 or not self._step(index, call):
                continue
            for files in self._now(chance):
                key = frozenset(files.items())
                if key not in seen:
                    seen.add(key)
                    yield files

    def _step(self, index: int, call: Call) -> bool:
        name = self._name(call.path)
        if call.operation == "sync" or (call.operation == "fsync" and Path(call.path) == self._directory):
            for change in self._pending:
                change.apply(self._certain)
            self._pending.clear()
            for inode in self._visible.values() if call.operation == "sync" else ():
                inode.synced = inode.written
        elif not name or name.startswith(".lock"):
            return False
        elif call.operation == "create" and name not in self._visible:
            self._visible[name] = Inode(self._after.get(self._final_name(index, name), b""))
            self._pending.append(Change("", name, self._visible[name]))
        elif call.operation == "write":
            self._visible[name].written += call.result
        elif call.operation == "fsync":
            self._visible[name].synced = self._visible[name].written
        elif call.operation == "rename":
            inode, new = self._visible.pop(name), self._name(call.new)
            self._visible[new] = inode
            self._pending.append(Change(name, new, inode))
        elif call.operation == "unlink":
            self._pending.append(Change(name, "", self._visible.pop(name)))
        else:
            return False
        return True

    def _name(self, path: str) -> str:
        return Path(path).name if Path(path).parent == self._directory else ""

    def _final_name(self, index: int, name: str) -> str:
        for call in self._calls[index:]:
            if call.operation == "rename" and call.result == 0 and self._name(call.path) == name:
                name = self._name(call.new)
        return name

    def _now(self, chance: random.Random) -> Iterator[Files]:
        count = len(self._pending)
        subsets: Iterator[tuple[bool, ...]] = itertools.product((False, True), repeat=count)
        if 2**count > MOST_SUBSETS:
            subsets = iter([tuple(chance.random() < 0.5 for _ in range(count)) for _ in range(MOST_SUBSETS)])
        for subset in subsets:
            names = dict(self._certain)
            for kept, change in zip(subset, self._pending, strict=True):
                if kept:
                    change.apply(names)
            # Of all files that are not synced, one at a time differs from what was written, and all of them at once.
            whole = {name: inode.final[: inode.written] for name, inode in names.items()}
            yield whole
            for name, inode in names.items():
                yield from ({**whole, name: content} for content in inode.contents())
            yield {name: inode.final[: max(inode.synced, 0)] for name, inode in names.items()}


def violations(stage: Stage, files: Files, final: Files) -> Iterator[str]:
    stage.renew()
    directory = stage.pod.directory("app")
    for path in directory.iterdir():
        path.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    _, out = stage.finish()
    yield from (f"{name} lost or changed" for name in changed(stage))
    yield from (f"{path.name}: {out[-300:]}" for path in directory.glob("*.bad"))
    if "fault in the program" in out or "Traceback" in out:
        yield out[-400:]
    staged = [name for name in files if name.endswith(".dump.staged")]
    for name in staged:
        published = directory / name.removeprefix(".").removesuffix(".staged")
        if not published.exists() or published.read_bytes() != final[name]:
            yield f"{name} is not published: {out[-300:]}"
    left = [name for name in stage.pod.unpublished("app") if not name.endswith("partial")]
    yield from (f"left over: {name}" for name in left)


def _lose_power(stage: Stage, most: int | None) -> None:
    stage.renew()
    directory = stage.pod.directory("app")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert stage.dump()[0] == 0
    calls = stage.calls()
    final = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert [name for name in final if name.endswith(".dump.staged")], "nothing was staged: this test is blind"
    chance = random.Random(4)
    states = list(Disk(before, final, calls, directory).states(chance))
    # Those first in which an archive counts as staged: that is when the rest must be there as well.
    states.sort(key=lambda files: not any(name.endswith(".dump.staged") for name in files))
    chosen = states if most is None else [*states[:most], *chance.sample(states[most:], 5)]
    found = [f"{sorted(files)}: {wrong}" for files in chosen for wrong in violations(stage, files, final)]
    print(f"dump.sh: {len(chosen)} of {len(states)} states after a power loss, {len(found)} violations")
    assert not found, f"{len(found)}:\n" + "\n".join(found[:20])


def test_power_lost_at_some_steps_of_dump_leaves_a_whole_archive_or_none(stage: Stage) -> None:
    _lose_power(stage, SOME)


@pytest.mark.long
def test_power_lost_at_any_step_of_dump_leaves_a_whole_archive_or_none(stage: Stage) -> None:
    _lose_power(stage, None)
