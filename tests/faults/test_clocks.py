"""The clock of a node is set while something runs: nothing is lost, no wait ends or goes on for it, all lines are true.

By a second, an hour, a day and a year, back and forth: a clock that was wrong is corrected by any amount, in one step.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import random
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.scripts.conftest import REPO, in_both_shells, kill_session, session_processes, shell, shell_paths, wait_until
from tests.scripts.stand_ins import PROGRAMS, StandIns

__all__ = ["shell", "shell_paths"]

JUMPS = [sign * seconds for seconds in (1, 3600, 86400, 365 * 86400) for sign in (1, -1)]
YEAR = JUMPS[-2]
PLACES = ("psql", "pg_dump", "pg_restore", "pg_dumpall")
FEW = 1
HANG_SECONDS = 40


class Clock:
    """The clock of a pod: its `date` is off by as many seconds as a file says."""

    def __init__(self, pod: StandIns) -> None:
        self._pod = pod
        self.offset = pod.folder / "offset"
        self.set(0)
        pod.program("date", f'exec /bin/date -d "$(/bin/cat {self.offset}) seconds" "$@"')

    def set(self, seconds: int) -> None:
        """Set the clock off by some seconds."""
        self.offset.write_text(f"{seconds:+}")

    def set_by(self, program: str, seconds: int, then: str = "") -> None:
        """Let a program set the clock when it is called, do something and go on."""
        self._pod.program(program, f"echo {seconds:+} >{self.offset}\n{then}\n{PROGRAMS[program]}")


@pytest.fixture
def pod(tmp_path: Path, shell: str) -> StandIns:
    """A pod with one good backup of `app`."""
    made = StandIns.make(tmp_path, shell)
    # What goes is never the rule's doing.
    policy = {"phase": 0, "tiers": [{"name": "All", "every": "1s", "keep": 1000}]}
    (made.folder / "config" / "policy.json").write_text(json.dumps(policy))
    made.run()
    return made


@pytest.fixture
def clock(pod: StandIns) -> Clock:
    return Clock(pod)


def ends(dump: subprocess.Popen[str]) -> str:
    """Wait for the end of a dump; return its log."""
    try:
        return dump.communicate(timeout=HANG_SECONDS)[0]
    except subprocess.TimeoutExpired:
        kill_session(dump)
        raise AssertionError("it waits for a clock that was set back") from None


def sums(pod: StandIns) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in pod.archives("app")}


def _jump(pod: StandIns, clock: Clock, program: str, seconds: int, *, corrected: bool) -> None:
    before = sums(pod)
    clock.set_by(program, seconds)
    log = pod.dump()
    pod.program(program, PROGRAMS[program])
    assert pod.states() == ["staged"], log
    for text in re.findall(r"(-?[0-9]+) s\b", log):
        assert 0 <= int(text) < HANG_SECONDS, log
    sha256 = pod.result("app")["sha256"]
    now = datetime.now(UTC) + timedelta(seconds=0 if corrected else seconds)
    done = pod.finish("--now", now.isoformat(), expect=0)
    assert sums(pod) == before | {sha256}, done.stdout
    base = pod.result("app")["base"]
    dated = datetime.strptime(base.removeprefix("app-"), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    assert ("dated after now" in done.stdout) == any(_moment(path) > now for path in pod.archives("app"))
    assert abs((dated - datetime.now(UTC)).total_seconds()) < abs(seconds) + HANG_SECONDS
    clock.set(0)
    pod.run()
    assert before | {sha256} <= sums(pod)
    assert pod.unpublished("app") == []
    for archive in pod.archives("app"):
        subprocess.run(["sha256sum", "-c", "--quiet", f"{archive.name}.sha256"], cwd=archive.parent, check=True)
        assert pod.metadata(archive)["dump_seconds"] is not None


def _moment(archive: Path) -> datetime:
    return datetime.strptime(archive.stem.removeprefix("app-"), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def _jumps() -> list[tuple[str, int, bool]]:
    return [(place, seconds, corrected) for place in PLACES for seconds in JUMPS for corrected in (True, False)]


@in_both_shells
def test_clock_that_is_set_while_it_is_dumped_loses_nothing(pod: StandIns, clock: Clock) -> None:
    for case in random.Random(8).sample(_jumps(), FEW):
        _jump(pod, clock, case[0], case[1], corrected=case[2])


@pytest.mark.long
@in_both_shells
@pytest.mark.parametrize("place", PLACES)
def test_clock_that_is_set_at_any_step_of_a_dump_loses_nothing(pod: StandIns, clock: Clock, place: str) -> None:
    for case in _jumps():
        if case[0] == place:
            _jump(pod, clock, place, case[1], corrected=case[2])


def test_clock_that_is_set_forward_ends_no_wait_for_the_lock(pod: StandIns, clock: Clock) -> None:
    pod.add("app", lock_timeout="30")
    with (pod.directory("app") / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        dump = pod.start_dump()
        wait_until(lambda: sleeper(dump) != "", "the run to wait for the lock")
        clock.set(YEAR)
        waited = sleeper(dump)
        wait_until(lambda: sleeper(dump) not in ("", waited) or dump.poll() is not None, "it to try the lock again")
        fcntl.flock(lock, fcntl.LOCK_UN)
        log = ends(dump)
    assert pod.states() == ["staged"], log


def test_clock_that_is_set_back_does_not_prolong_a_wait_for_the_lock(pod: StandIns, clock: Clock) -> None:
    pod.add("app", lock_timeout="2")
    with (pod.directory("app") / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        dump = pod.start_dump()
        wait_until(lambda: sleeper(dump) != "", "the run to wait for the lock")
        clock.set(-YEAR)
        ends(dump)
    assert "another run holds the lock" in pod.result("app")["error"]


def sleeper(dump: subprocess.Popen[str]) -> str:
    """Return the process of a dump's `sleep`, or nothing."""
    for entry in session_processes(dump.pid):
        try:
            if b"sleep" in (entry / "cmdline").read_bytes():
                return entry.name
        except OSError:
            continue
    return ""


def test_clock_that_is_set_forward_ends_no_wait_for_the_server(pod: StandIns, clock: Clock) -> None:
    pod.add("app", wait_timeout="30")
    count = pod.folder / "count"
    refused = f'echo >>{count}; [ $(wc -l <{count}) -gt 2 ] || {{ echo "psql: error: refused" >&2; exit 2; }}'
    clock.set_by("psql", YEAR, refused)
    log = ends(pod.start_dump())
    assert pod.states() == ["staged"], log


def test_clock_that_is_set_back_does_not_prolong_a_wait_for_the_server(pod: StandIns, clock: Clock) -> None:
    pod.add("app", wait_timeout="2")
    clock.set_by("psql", -YEAR, 'echo "psql: error: connection refused" >&2; exit 2')
    ends(pod.start_dump())
    assert "no answer within 2 s" in pod.result("app")["error"]


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
def test_end_of_a_dump_has_its_true_reason_whatever_the_clock_says(pod: StandIns, clock: Clock, seconds: int) -> None:
    """One that took too long took too long; one that was stopped by a signal was not too slow."""
    pod.add("app", timeout="2")
    clock.set_by("pg_dump", seconds, '[ "$1" = --version ] || exec /bin/sleep 60')
    ends(pod.start_dump())
    assert "not done within 2 s" in pod.result("app")["error"]
    pod.add("app", timeout="300")
    clock.set(0)
    dump = pod.start_dump()
    wait_until(lambda: sleeper(dump) != "", "the dump to be under way")
    dump.send_signal(signal.SIGTERM)
    ends(dump)
    assert "stopped by SIGTERM" in pod.result("app")["error"]


def test_clock_that_is_set_forward_costs_no_other_database_its_dump(pod: StandIns, clock: Clock) -> None:
    pod.parallel = 1
    for name in ("b", "c"):
        pod.add(name)
    clock.set_by("pg_dumpall", YEAR)
    log = ends(pod.start_dump())
    assert [pod.states(name) for name in ("app", "b", "c")] == [["staged"]] * 3, log


def test_clock_that_can_be_set_is_never_reckoned_with() -> None:
    """`now` and `date` are for what is recorded; what is measured or waited for takes `seconds`."""
    recorded = re.compile(r'(put (started|finished) "\$\(now\)"( && )?)+$|started=\$\(now\)$')
    for script in (REPO / "scripts").glob("*.sh"):
        for line in script.read_text().splitlines():
            if "$(now)" in line:
                assert recorded.search(line), f"{script.name}: {line.strip()}"
            assert "date +%s" not in line or line.startswith("now()"), f"{script.name}: {line.strip()}"
