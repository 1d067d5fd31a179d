"""dump.sh with a fault at each call to the file system that any of its processes makes, a kill and a signal at each.

The programs of PostgreSQL are stand-ins; the shell, its tools and the calls are real. A few here, chosen by chance
with a fixed seed; every call in the long tests.
"""

from __future__ import annotations

import errno
import platform
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.retention.world import retention_here
from tests.scripts.conftest import DUMP, kill_session, shell_paths
from tests.scripts.stand_ins import StandIns

__all__ = ["shell_paths"]

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="tracer.c knows the calls of x86_64 only")

SHORT, HALF, KILL, KILL_ALL, TERM = "short", "half", "kill", "killall", "term"
ENDS = (HALF, KILL, KILL_ALL, TERM)
ERRORS = {
    "open": ("EIO", "ENOENT", "EACCES", "ESTALE", "EMFILE"),
    "create": ("EIO", "ENOSPC", "EROFS", "EACCES"),
    "read": ("EIO", "ESTALE", "EINTR"),
    "write": ("EIO", "ENOSPC", "EDQUOT"),
    "fsync": ("EIO", "ENOSPC"),
    "sync": (),
    "close": ("EIO",),
    "rename": ("EIO", "ENOSPC", "EACCES", "ENOENT"),
    "unlink": ("EIO", "EACCES"),
    "mkdir": ("EIO", "ENOSPC", "EACCES"),
    "stat": ("EIO", "ENOENT", "EACCES", "ESTALE"),
    "statvfs": ("EIO",),
    "readdir": ("EIO", "ESTALE"),
    "flock": ("ENOLCK", "EIO"),
    "ftruncate": ("EIO",),
}
STICKY = {"open", "create", "read", "write", "fsync", "rename", "unlink", "stat"}
HANG_SECONDS = 60
FEW = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A call that dump.sh has made; `new` is the new path of a rename, `result` what it returned."""

    number: int
    operation: str
    path: str
    new: str
    result: int


@dataclass(frozen=True, slots=True)
class Case:
    """What goes wrong at which call; `sticky`: and at all later ones of that operation."""

    call: Call
    fault: str
    sticky: bool = False

    def __str__(self) -> str:
        sticky = " from there on" if self.sticky else ""
        return f"{self.fault}{sticky} at call {self.call.number}, {self.call.operation} {self.call.path}"


@pytest.fixture(scope="module")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that injects."""
    program = tmp_path_factory.mktemp("tracer") / "tracer"
    source = Path(__file__).with_name("tracer.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)], check=True)
    return program


class Stage:
    """A pod with one good backup, made from scratch for every case."""

    def __init__(self, top: Path, shell: str, tracer: Path) -> None:
        (top / "pod").mkdir()
        self.pod = StandIns.make(top / "pod", shell)
        self.pod.run()
        self._kept, self._tracer, self._log = top / "kept", tracer, top / "log"
        shutil.copytree(self.pod.root, self._kept)
        self.good = {path.name: path.read_bytes() for path in self.pod.directory("app").glob("app-*")}

    def renew(self) -> None:
        """Put the volume back as it was."""
        shutil.rmtree(self.pod.root)
        shutil.copytree(self._kept, self.pod.root)
        self.pod.renew()

    def dump(self, case: Case | None = None) -> tuple[int | str, str]:
        """Run dump.sh, with a fault, or without one to record its calls; return its exit code and its log."""
        number, fault, sticky = (case.call.number, case.fault, case.sticky) if case else (0, "0", False)
        return self._run(number, str(getattr(errno, fault)) if fault.startswith("E") else fault, sticky=sticky)

    def dump_undisturbed(self) -> tuple[int | str, str]:
        """Run dump.sh as it is."""
        return self._run(-1, "0", sticky=False)

    def _run(self, number: int, fault: str, *, sticky: bool) -> tuple[int | str, str]:
        folders = ":".join(str(self.pod.folder / name) for name in ("backups", "run", "results"))
        process = subprocess.Popen(
            [str(self._tracer), str(self._log), folders, str(number), str(int(sticky)), fault, "sh", str(DUMP)],
            env=self.pod.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            log, _ = process.communicate(timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            kill_session(process)
            return "it hangs", ""
        return process.returncode, log

    def calls(self) -> list[Call]:
        """Return what the last dump has called."""
        lines = [line.split("\t") for line in self._log.read_text(errors="replace").splitlines()]
        results = {line[0]: int(line[1]) for line in lines if len(line) == 2}
        begun = [line for line in lines if len(line) == 4]
        return [Call(int(n), operation, path, new, results.get(n, 0)) for n, operation, path, new in begun]

    def finish(self) -> tuple[int, str]:
        """Run the other container."""
        pod = self.pod
        config, results = str(pod.folder / "config"), str(pod.folder / "results")
        done = retention_here("finish", "--config", config, "--results", results, str(pod.root))
        return done.code, done.out + done.err


def cases(calls: list[Call]) -> Iterator[Case]:
    """Every fault at every call."""
    for call in calls:
        for fault in ERRORS[call.operation]:
            yield Case(call, fault)
            if call.operation in STICKY and fault != "EINTR":
                yield Case(call, fault, sticky=True)
        for fault in (KILL, KILL_ALL, TERM):
            yield Case(call, fault)
        if call.operation in ("read", "write"):
            yield Case(call, SHORT)
        if call.operation == "write":
            yield Case(call, HALF)


def violations(stage: Stage, case: Case) -> Iterator[str]:
    """Let one thing go wrong; yield what is not as it has to be."""
    stage.renew()
    code, log = stage.dump(case)
    if code not in (0, 2, 143, 137, 128 + signal.SIGKILL):
        yield f"dump.sh: {code}: {log[-300:]}"
    pod = stage.pod
    yield from (f"{text} lost or changed" for text in changed(stage))
    result = pod.folder / "results" / "app.result"
    states = pod.states() if result.exists() else []
    if len(states) > 1 or (result.exists() and not states):
        yield f"its states are {states}"
    # A results volume that cannot be written leaves no result; then the log says so.
    if code == 0 and not states and case.fault not in ENDS and "cannot be" not in log:
        yield f"no result and no line: {log[-300:]}"
    if states == ["failed"]:
        said = pod.result("app")
        if not said.get("error") or not said.get("remedy"):
            yield f"a failure without its reason or remedy: {said}"
    staged = list(pod.directory("app").glob(".app-*.dump.staged"))
    if states == ["staged"] and not staged:
        yield "its result says staged, and nothing is"
    code, out = stage.finish()
    for text in ("fault in the program", "Traceback", "was not written by dump.sh"):
        if text in out:
            yield f"finish says {text!r}: {out[-400:]}"
    bad = sorted(path.name for path in pod.directory("app").glob("*.bad"))
    if bad:
        yield f"it is bad: {bad}: {out[-300:]}"
    if staged and len(pod.archives("app")) != 2:
        yield f"what was staged is not published: {out[-300:]}"
    yield from (f"{text} lost or changed in the end" for text in changed(stage))
    pod.renew()
    _, log = stage.dump_undisturbed()
    code, out = stage.finish()
    if code or pod.states() != ["staged"]:
        yield f"the next run ends with {code}: {log[-300:]}{out[-300:]}"
    if pod.unpublished("app"):
        yield f"left over in the end: {pod.unpublished('app')}"


def changed(stage: Stage) -> Iterator[str]:
    for name, content in stage.good.items():
        path = stage.pod.directory("app") / name
        if not path.exists() or path.read_bytes() != content:
            yield name


def check(stage: Stage, chosen: list[Case], calls: int) -> None:
    tried = Counter(case.fault if case.fault in ENDS else "error" for case in chosen)
    found = [f"{case}: {wrong}" for case in chosen for wrong in violations(stage, case)]
    print(f"dump.sh: {calls} calls, {len(chosen)} faults ({dict(tried)}), {len(found)} violations")
    assert not found, f"{len(found)}:\n" + "\n".join(found[:60])


@pytest.fixture(params=["dash", "busybox"])
def stage(request: pytest.FixtureRequest, quick_path: Path, shell_paths: dict[str, str], tracer: Path) -> Stage:
    return Stage(quick_path, shell_paths[request.param], tracer)


def test_fault_at_a_call_of_dump_by_chance_loses_nothing(stage: Stage) -> None:
    stage.renew()
    assert stage.dump()[0] == 0
    calls = stage.calls()
    chosen = random.Random(3).sample(list(cases(calls)), FEW)
    check(stage, chosen, len(calls))


@pytest.mark.long
@pytest.mark.parametrize("part", range(8))
def test_fault_at_every_call_of_dump_loses_nothing(stage: Stage, part: int) -> None:
    """Kills and signals at every call; of the errors, two at each."""
    stage.renew()
    assert stage.dump()[0] == 0
    calls = stage.calls()
    chance = random.Random(part)
    chosen = []
    for call in calls[part::8]:
        every = list(cases([call]))
        errors = [case for case in every if case.fault not in ENDS]
        chosen += [case for case in every if case.fault in ENDS]
        chosen += chance.sample(errors, min(2, len(errors)))
    check(stage, chosen, len(calls[part::8]))
