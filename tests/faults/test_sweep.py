"""One fault at each call to the file system of each command, and the end of the process at each: nothing good is lost.

A few hundred here, chosen by chance with a fixed seed; all of them in the long tests.
"""

import errno
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.injector import HALF, KILL, KILLED, SHORT, TERM, Fault
from tests.faults.server import HUNG
from tests.faults.worlds import (
    COMMANDS,
    CORRUPT,
    MINUTE,
    NEW,
    NOW,
    Answer,
    Server,
    Stage,
    false_backups,
    leftovers,
    server,
    sidecars,
    sound,
)
from tests.retention.world import HOUR, World, retention_here

ERRORS: dict[str, tuple[Fault, ...]] = {
    "open": (errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE, errno.EMFILE),
    "create": (errno.EIO, errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS),
    "read": (errno.EIO, errno.ESTALE, SHORT),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, SHORT),
    "fsync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.ENOSPC, errno.EACCES, errno.ENOENT),
    "unlink": (errno.EIO, errno.EACCES, errno.ENOENT),
    "stat": (errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE),
    "readdir": (errno.EIO, errno.ENOENT, errno.ESTALE, errno.EINTR),
    "flock": (errno.ENOLCK, errno.EIO, errno.EINTR),
    "ftruncate": (errno.EIO,),
    "statvfs": (errno.EIO,),
    "fadvise": (errno.EIO, errno.EINVAL),
    "close": (errno.EIO,),
}
ENDS = (KILL, HALF, TERM)
"""Faults that end the process, at once or as soon as it may."""
STICKY = {"open", "create", "read", "write", "fsync", "rename", "unlink", "stat", "readdir"}
_PINNING = ("choose", "drill")
"""Commands that go on without their pin, and say so."""

FEW = 18
"""How many faults of a command are tried in the short tests."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that goes wrong: at which call, what, and whether it goes on."""

    number: int
    operation: str
    path: str
    fault: Fault
    sticky: bool

    def __str__(self) -> str:
        what = os.strerror(self.fault) if isinstance(self.fault, int) else self.fault
        return f"{what}{' from there on' if self.sticky else ''} at call {self.number}, {self.operation} {self.path}"


class Sweep:
    """One command, as it ends undisturbed, and with faults."""

    def __init__(self, name: str, top: Path, running: Server) -> None:
        self.name, self.command, self.server = name, COMMANDS[name], running
        self.tried = Counter[str]()
        self.stage = Stage(top, self.command.prepare)
        world = self.stage.world()
        self.before = {database: sound(world, database) for database in ("app", "other")}
        self.files = {database: sidecars(world, database) for database in ("app", "other")}
        (answer,) = running.run(world, [name], number=0, sticky=False, fault=None, record=True)
        self.code, self.calls = answer.code, answer.calls
        self.after = {database: sound(world, database) for database in ("app", "other")}
        self.files_after = {database: sidecars(world, database) for database in ("app", "other")}
        self.codes = self._heal(world)
        self.final = {database: world.archives(database) for database in ("app", "other")}

    def _heal(self, world: World) -> tuple[int, int]:
        """Let a run without a new dump follow, and one with; return their exit codes."""
        if self.name == "verify":
            # Nothing else finds the damage that it was sent for.
            retention_here("verify", world.root)
        for path in world.results.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for database in ("app", "other"):
            world.fail(database)
        first = world.finish(NOW + MINUTE)
        for database in ("app", "other"):
            world.stage(database, NEW + 2 * HOUR)
        # What a run before it could not prune may be much now.
        second = world.finish(NOW + 2 * HOUR, "--allow-large-prune")
        assert "fault in the program" not in first.out + second.out
        return first.code, second.code

    def cases(self) -> list[Case]:
        """Return every fault at every call."""
        return [
            Case(number, operation, path, fault, sticky)
            for number, (operation, path) in enumerate(self.calls, 1)
            for fault in (*ERRORS[operation], KILL, TERM, *((HALF,) if operation == "write" else ()))
            for sticky in ((False, True) if operation in STICKY and fault not in ENDS else (False,))
        ]

    def violations(self, case: Case) -> list[str]:
        """Let one thing go wrong; return what is not as it has to be."""
        world = self.stage.world()
        (answer,) = self.server.run(world, [self.name], number=case.number, sticky=case.sticky, fault=case.fault)
        self.tried[case.fault if case.fault in ENDS else "error"] += 1
        wrong = [*_program(answer, killed=case.fault in ENDS), *self._volume(world)]
        if answer.code == 0 and not self.command.done(world, answer.out):
            wrong.append(f"exit code 0, and it is not done: {answer.out[-300:]}")
        codes = self._heal(world)
        if codes != self.codes:
            wrong.append(f"the next runs end with {codes} instead of {self.codes}")
        for database in ("app", "other"):
            there = world.archives(database)
            # Without the pin that went wrong another archive is pruned, by the rule.
            if self.name not in (*_PINNING, *(("pin",) if answer.code else ())) and not self.final[database] <= there:
                wrong.append(f"lost in the end: {sorted(self.final[database] - there)}")
            if leftovers(world, database):
                wrong.append(f"left over in the end: {leftovers(world, database)}")
            wrong += [f"{name} counts in the end" for name in self._false(world, database)]
        return wrong

    def _volume(self, world: World) -> Iterator[str]:
        for database in ("app", "other"):
            now = sound(world, database)
            for sha256, (base, _) in self.before[database].items():
                if sha256 in self.after[database] and sha256 not in now:
                    yield f"{base} is lost"
            for name, content in self.files[database].items():
                kept = self.files_after[database].get(name) == content
                path = world.root / database / name
                if kept and (not path.exists() or path.read_bytes() != content):
                    yield f"{name} is lost or changed"
            yield from (f"{name} counts" for name in self._false(world, database))

    def _false(self, world: World, database: str) -> list[str]:
        corrupt = f"{CORRUPT}.dump" if self.name == "verify" else ""
        return [name for name in false_backups(world, database) if name != corrupt]


def _program(answer: Answer, *, killed: bool) -> Iterator[str]:
    if answer.code == HUNG:
        yield "it hangs"
    elif answer.code not in ((0, 1, 2, 3) if not killed else (0, 1, 2, 3, 143, KILLED, -signal.SIGTERM)):
        yield f"it ends with {answer.code}"
    for text in ("fault in the program", "Traceback", "standard output"):
        if text in answer.out:
            yield f"it says {text!r}: {answer.out[-400:]}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server")) as started:
        yield started


def _check(name: str, top: Path, running: Server, most: int | None) -> None:
    sweep = Sweep(name, top, running)
    cases = sweep.cases()
    if most is not None:
        cases = random.Random(name).sample(cases, min(most, len(cases)))
    found = [f"{case}: {wrong}" for case in cases for wrong in sweep.violations(case)]
    print(f"{name}: {len(sweep.calls)} calls, {len(cases)} faults ({dict(sweep.tried)}), {len(found)} violations")
    assert not found, "\n".join(found[:40])


@pytest.mark.parametrize("name", COMMANDS)
def test_fault_at_a_call_by_chance_loses_nothing(name: str, quick_path: Path, running: Server) -> None:
    _check(name, quick_path, running, FEW)


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_fault_at_every_call_loses_nothing(name: str, quick_path: Path, running: Server) -> None:
    _check(name, quick_path, running, None)
