"""dump.sh on volumes that fail, fill up or hold the unexpected: one true line each, and nothing half staged."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scripts.conftest import DUMP, in_both_shells, session_processes, wait_for, wait_until
from tests.scripts.stand_ins import StandIns, tmpfs


@pytest.fixture
def app(tmp_path: Path, shell: str) -> StandIns:
    """A pod with one good backup of `app`."""
    pod = StandIns.make(tmp_path, shell)
    pod.run()
    return pod


def good(pod: StandIns) -> Path:
    (archive,) = pod.archives("app")
    return archive


def failed(pod: StandIns, error: str, remedy: str = "", name: str = "app") -> str:
    """A database failed with that one line, nothing of the dump is left, and its good backups are as before."""
    result = pod.result(name)
    assert pod.states(name) == ["failed"], result
    assert re.search(error, result["error"]), result
    assert re.search(remedy, result["remedy"]), result
    assert pod.unpublished(name) == []
    done = pod.finish(expect=1)
    assert result["error"] in done.stdout + done.stderr
    return result["error"]


def fill(folder: Path) -> None:
    """Take all the room there is."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass


FILL = "dd if=/dev/zero of={}/ballast bs=4096 2>/dev/null\n"


def test_directory_is_synced_before_the_rename_that_stages(app: StandIns) -> None:
    """After a power loss the new name of the archive must not be there without those of its sidecars."""
    log = app.folder / "calls"
    for program in ("sync", "mv"):
        app.program(program, f'echo "{program} $*" >>{log}; exec /bin/{program} "$@"')
    app.dump()
    calls = log.read_text().splitlines()
    directory = str(app.directory("app"))
    (rename,) = [i for i, call in enumerate(calls) if call.endswith(".dump.staged") and call.startswith("mv ")]
    last = [call.rpartition(".")[2] for call in calls[:rename]]
    assert calls[rename - 1] == f"sync {directory}"
    assert last.index("sha256") < rename - 1
    assert last.index("result") < rename - 1
    assert f"sync {directory}" in calls[rename + 1 :]


@pytest.mark.parametrize("what", ["*.partial", "*.sha256", "*.result", "*/app", "*/app after the rename"])
@pytest.mark.sample(2)
def test_sync_that_fails_is_a_failure(app: StandIns, what: str) -> None:
    pattern, _, late = what.partition(" ")
    name = app.directory("app")
    condition = f"ls {name}/.*.dump.staged >/dev/null 2>&1" if late else ":"
    app.program(
        "sync",
        f'case "$1" in {pattern}) if {condition}; then echo "sync: error syncing: Input/output error" >&2; exit 1; fi;;'
        " esac\n"
        'exec /bin/sync "$@"',
    )
    before = good(app).read_bytes()
    app.dump()
    failed(app, "Input/output error", "storage system")
    assert good(app).read_bytes() == before


@pytest.mark.parametrize("suffix", [".dump.staged.sha256", ".dump.staged.result"])
def test_volume_that_fills_up_while_it_is_staged_says_no_space_and_heals(app: StandIns, suffix: str) -> None:
    archive = good(app)
    files = {p.name: p.read_bytes() for p in app.directory("app").iterdir() if p.is_file()}
    with tmpfs(app.root, "4m"):
        app.directory("app").mkdir()
        for name, content in files.items():
            (app.directory("app") / name).write_bytes(content)
        app.program(
            "cat",
            f'case $(readlink /proc/$$/fd/1) in *{suffix}) {FILL.format(app.root)};; esac\nexec /bin/cat "$@"',
        )
        app.dump()
        failed(app, "No space left on device", "grow the claim")
        assert app.archives("app") == [archive]
        (app.root / "ballast").unlink()
        (app.folder / "programs" / "cat").unlink()
        app.run()
        assert len(app.archives("app")) == 2
        assert app.unpublished("app") == []


@pytest.mark.parametrize("when", ["before", "after"])
@in_both_shells
@pytest.mark.sample(2)
def test_signal_around_the_rename_has_one_true_result(app: StandIns, when: str) -> None:
    before, after = ("kill -TERM $PPID", ":") if when == "before" else (":", "kill -TERM $PPID")
    app.program(
        "mv",
        f'case "$2" in *.dump.staged) {before}; /bin/mv "$@"; {after}; exit 0;; esac\nexec /bin/mv "$@"',
    )
    app.dump()
    assert app.states() == ["staged"]
    app.finish(expect=0)
    assert len(app.archives("app")) == 2


def test_random_signals_leave_one_state_and_never_call_a_published_archive_lost(app: StandIns) -> None:
    chance = random.Random(7)
    for _ in range(8):
        before = app.archives("app")
        dump = app.start_dump()
        time.sleep(chance.uniform(0.05, 0.9))
        os.kill(dump.pid, signal.SIGTERM)
        log = wait_for(dump, 60)
        result = app.folder / "results" / "app.result"
        state = app.states() if result.exists() else []
        assert len(state) <= 1
        app.finish()
        published = app.archives("app") != before
        assert published == (state == ["staged"]), log
        assert not published or "LOST" not in log
        assert app.unpublished("app") == []


@pytest.mark.parametrize("which", ["run", "results"])
@in_both_shells
@pytest.mark.sample(2)
def test_full_scratch_never_stages_an_incomplete_result(app: StandIns, which: str) -> None:
    """Filled at each step in turn."""
    for step in ("pg_dump", "pg_restore", "sha256sum", "pg_dumpall", "sync"):
        app.renew()
        before = app.archives("app")
        with tmpfs(app.folder / which, "1m"):
            real = (app.folder / "programs" / step).read_text() if (app.folder / "programs" / step).exists() else ""
            app.program(
                step,
                FILL.format(app.folder / which) + (real.removeprefix("#!/bin/dash\n") or f'exec /usr/bin/{step} "$@"'),
            )
            process = app.start(DUMP)
            log = wait_for(process, 60)
            assert process.returncode == 0, log
            done = app.finish()
            assert not list(app.directory("app").glob("*.bad")), done.stdout
            result = app.folder / "results" / "app.result"
            if result.exists() and app.states() == ["failed"]:
                assert (
                    f"{app.folder / which} is full" in app.result("app")["error"]
                    or "No space" in app.result("app")["error"]
                )
            elif not result.exists():
                assert f"{app.folder / which}" in log, log
            assert not result.exists() or len(app.states()) == 1
            (app.folder / "programs" / step).unlink()
            if real:
                app.program(step, real.removeprefix("#!/bin/dash\n"))
        time.sleep(1.1)
        assert app.unpublished("app") == [], before
    app.run()


def make_fifo(path: Path, _archive: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path, archive: Path) -> None:
    path.symlink_to(archive.name)


def make_second_name(path: Path, archive: Path) -> None:
    os.link(archive, path)


def make_device(path: Path, _archive: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 7))


@pytest.mark.parametrize("make", [make_fifo, make_link, make_second_name, make_device])
@pytest.mark.sample(2)
def test_lock_that_is_no_file_of_its_own_is_neither_opened_nor_written(app: StandIns, make: object) -> None:
    archive = good(app)
    before = archive.read_bytes()
    (app.directory("app") / ".lock").unlink()
    make(app.directory("app") / ".lock", archive)  # type: ignore[operator]
    began = time.monotonic()
    app.dump()
    assert time.monotonic() - began < 20
    assert app.states() == ["failed"]
    assert "not a file of its own" in app.result("app")["error"]
    assert archive.read_bytes() == before


@pytest.mark.parametrize("make", [make_fifo, make_link, make_second_name, make_device])
@pytest.mark.sample(1)
def test_last_error_log_replaces_what_lies_under_its_name(app: StandIns, make: object) -> None:
    archive = good(app)
    before = archive.read_bytes()
    log = app.directory("app") / "last-error.log"
    make(log, archive)  # type: ignore[operator]
    app.program(
        "pg_dump",
        '[ "$1" != --version ] || { echo "pg_dump (PostgreSQL) 17.5"; exit; }\necho "pg_dump: error: no" >&2; exit 1',
    )
    app.dump()
    failed(app, "pg_dump: error: no", "last-error.log")
    assert archive.read_bytes() == before
    assert log.is_file()
    assert not log.is_symlink()
    assert "pg_dump: error: no" in log.read_text()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("flock: 9: No locks available", 71),
        ("flock: Function not implemented", 1),
        ("flock: 9: Operation not supported", 65),
    ],
)
@in_both_shells
@pytest.mark.sample(2)
def test_volume_without_locks_says_so_at_once(app: StandIns, said: str, code: int) -> None:
    app.add("app", lock_timeout="600")
    app.program("flock", f'echo "{said}" >&2; exit {code}')
    began = time.monotonic()
    app.dump()
    assert time.monotonic() - began < 30
    failed(app, f"cannot lock files: {said.rpartition(': ')[2]}", "flock")


def test_lock_file_that_lost_its_name_is_not_the_lock(app: StandIns) -> None:
    """Removed by hand while a run waits for it, and made again by another run, whose files must not be touched."""
    app.add("app", lock_timeout="4")
    lock = app.directory("app") / ".lock"
    with lock.open("a") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        dump = app.start_dump()
        wait_until(lambda: sleeps(dump), "the run to wait for the lock")
        lock.unlink()
        with lock.open("a") as new:
            fcntl.flock(new, fcntl.LOCK_EX)
            new.write("the other run\n")
            new.flush()
            partial = app.directory("app") / ".app-20260101-000500.dump.partial"
            partial.write_bytes(b"under way")
            fcntl.flock(old, fcntl.LOCK_UN)
            dump.communicate(timeout=60)
            assert app.states() == ["failed"]
            assert "another run holds the lock: the other run" in app.result("app")["error"]
            assert partial.read_bytes() == b"under way"
    app.run()


def sleeps(dump: subprocess.Popen[str]) -> bool:
    """Whether the dump runs a `sleep`."""
    for entry in session_processes(dump.pid):
        with contextlib.suppress(OSError):
            if b"sleep" in (entry / "cmdline").read_bytes():
                return True
    return False


def test_whatever_ends_a_dump_leaves_the_last_line_that_was_printed(app: StandIns) -> None:
    app.program("sha256sum", 'echo "sha256sum: out of luck" >&2; exit 4')
    app.dump()
    failed(app, "sha256sum: out of luck")


@in_both_shells
def test_killed_dump_says_so(app: StandIns) -> None:
    app.program("sha256sum", "kill -KILL $PPID")
    app.dump()
    assert app.states() == ["failed"]
    assert "killed" in app.result("app")["error"]
    assert "memory" in app.result("app")["remedy"]
    (app.folder / "programs" / "sha256sum").unlink()
    app.run()
    assert app.unpublished("app") == []


@pytest.mark.parametrize(("reader", "state"), [("NR <= 200", "staged"), ("tables=", "failed")])
def test_reader_that_is_killed_at_once_leaves_no_program_waiting_for_it(app: StandIns, reader: str, state: str) -> None:
    """Before it has opened anything. What it would have read from the archive fails the dump, messages do not."""
    app.add("app", timeout="60")
    app.program("awk", f'case "$1" in *"{reader}"*) kill -KILL $$;; esac\nexec /usr/bin/awk "$@"')
    app.dump()
    assert app.states() == [state]
    assert "not done within" not in app.result("app").get("error", "")


def test_claim_that_cannot_be_made_is_a_line_and_a_result_of_each_database(app: StandIns) -> None:
    app.add("other")
    app.renew()
    (app.folder / "run" / "claims").write_text("")
    process = app.start(DUMP)
    log = wait_for(process, 60)
    for name in ("app", "other"):
        assert app.states(name) == ["failed"]
        assert "scratch" in app.result(name)["error"]
        assert f"{name}: FAILED" in log


def test_name_of_a_base_is_taken_by_whatever_has_it(app: StandIns) -> None:
    """A link that lies under a name that the dump would write must not be followed."""
    archive = good(app)
    before = archive.read_bytes()
    stamps = [time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() + i)) for i in range(8)]
    for stamp in stamps:
        (app.directory("app") / f".app-{stamp}.dump.staged.sha256").symlink_to(archive.name)
    app.dump()
    assert app.states() == ["staged"]
    assert app.result("app")["base"].removeprefix("app-") not in stamps
    assert archive.read_bytes() == before


def test_partials_of_every_kind_are_removed(app: StandIns) -> None:
    for suffix in (".dump.partial", ".globals.sql.partial", ".error.partial", ".x.partial"):
        (app.directory("app") / f".app-20260101-000000{suffix}").write_text("stale")
    (app.directory("app") / ".app-b-20260101-000000.dump.partial").write_text("of another database")
    app.run()
    assert [n for n in app.unpublished("app") if "partial" in n] == [".app-b-20260101-000000.dump.partial"]


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.long)])
def test_volume_that_another_process_fills_heals_each_time(app: StandIns, rounds: int) -> None:
    """A neighbour takes all the room at a random moment of a run; after it gave it back, the next run needs no help."""
    chance = random.Random(rounds)
    files = {p.name: p.read_bytes() for p in app.directory("app").iterdir() if p.is_file()}
    with tmpfs(app.root, "6m"):
        app.directory("app").mkdir()
        for name, content in files.items():
            (app.directory("app") / name).write_bytes(content)
        for _ in range(rounds):
            kept = {p.name for p in app.archives("app")}
            dump = app.start_dump()
            time.sleep(chance.uniform(0, 0.5))
            fill(app.root)
            log = wait_for(dump, 60)
            state = app.states()
            assert len(state) == 1
            if state == ["failed"]:
                assert re.search("No space|free on the volume", app.result("app")["error"]), log
            app.finish()
            there = {p.name for p in app.archives("app")}
            # Thanks to the room that is reserved, the run may end; then the policy removes the older one of an hour.
            assert kept <= there or (state == ["staged"] and max(there) > max(kept)), "a good backup was lost"
            assert not list(app.directory("app").glob("*.bad"))
            for archive in app.archives("app"):
                digest = archive.with_name(f"{archive.name}.sha256").read_text().split()[0]
                assert hashlib.sha256(archive.read_bytes()).hexdigest() == digest
            (app.root / "ballast").unlink()
            app.run()
            assert app.unpublished("app") == []
            for archive in app.archives("app"):
                subprocess.run(["sha256sum", "-c", "--quiet", f"{archive.name}.sha256"], cwd=archive.parent, check=True)
            for archive in app.archives("app")[2:]:
                for part in app.directory("app").glob(f"{archive.stem}.*"):
                    part.unlink()
