"""A restore is killed, or loses a process, at a random moment: the database is as before or as the archive."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.data import Fingerprint, plausible
from tests.lab.postgres import PostgresError, Server
from tests.scripts.conftest import kill_session, session_processes, wait_until
from tests.scripts.test_in_place import Make, Place, make
from tests.scripts.test_restore_script import Case, MakeCase, _superuser, make_case, shell

__all__ = ["_superuser", "make", "make_case", "shell"]

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'cnpg-backup restore'"
_HURT = "DELETE FROM pages WHERE id % 2 = 0"
METHODS = {
    "beside": {"RESTORE_WAY": "beside"},
    "in-place": {"RESTORE_WAY": "in-place"},
    "in-place, not kept": {"RESTORE_WAY": "in-place", "RESTORE_KEEP": "no"},
}
VICTIMS = ("pod", "psql", "pg_restore", "session", "server")


def fill(server: Server, name: str, owner: str) -> None:
    """Ten megabytes; a crash empties unlogged tables, and there are none."""
    plausible(server, name, owner, megabytes=10)
    server.psql("ALTER TABLE salts SET LOGGED", name)


def quiet(server: Server) -> bool:
    """The server answers, and no session of a restore is left on it."""
    try:
        return server.sql(_SESSIONS) == []
    except PostgresError:
        return False


def drop_aside(case: Case) -> None:
    """Drop all that restores in place have set aside."""
    for (name,) in case.server.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ '_before_[0-9_]+$'", case.name):
        case.server.psql(f"DROP SCHEMA {name} CASCADE", case.name)


def kill(case: Case, process: subprocess.Popen[str], victim: str, chance: random.Random) -> bool:
    """End one part of a restore that runs: whether there was one."""
    if victim == "pod":
        kill_session(process)
        return True
    if victim in ("psql", "pg_restore"):
        for entry in session_processes(process.pid):
            with contextlib.suppress(OSError):
                if Path(entry / "comm").read_text().strip() == victim:
                    os.kill(int(entry.name), signal.SIGKILL)
                    return True
        return False
    sessions = [int(pid) for (pid,) in case.server.sql(_SESSIONS)]
    if not sessions:
        return False
    if victim == "session":
        return case.server.value(f"SELECT pg_terminate_backend({chance.choice(sessions)})") == "t"
    # A session that is killed takes all others with it: the server recovers as from a crash.
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(sessions), signal.SIGKILL)
    return True


def outcome(case: Case, way: str, old: Fingerprint, good: Fingerprint) -> str:
    """What the database holds; a restored one is put back to what it was before."""
    server = case.server
    kept = [name for name in case.databases() if name.startswith(f"{case.name}_before_")]
    if kept:
        assert good.differences(case.fingerprint()) == [], "swapped, and not the archive's content"
        assert old.differences(case.fingerprint(kept[0])) == []
        server.drop_database(case.name)
        server.psql(f"ALTER DATABASE {kept[0]} RENAME TO {case.name}")
        return "restored"
    if not (differences := old.differences(case.fingerprint())):
        return "as before"
    assert way == "in-place", differences
    drop_aside(case)
    assert good.differences(case.fingerprint()) == [], "neither the old nor the restored content"
    server.psql(_HURT, case.name)
    return "restored"


@pytest.mark.parametrize(
    ("method", "victim", "kills"),
    [
        ("beside", "pod", 2),
        ("in-place", "pod", 2),
        *(pytest.param(method, victim, 10, marks=pytest.mark.long) for method in METHODS for victim in VICTIMS),
    ],
)
def test_killed_at_random_moments_the_database_is_as_before_or_as_the_archive(
    make_case: MakeCase, method: str, victim: str, kills: int
) -> None:
    case = make_case(fill)
    server, good = case.server, case.fingerprint()
    case.may_create_databases()
    server.psql(_HURT, case.name)
    old = case.fingerprint()
    options = {"RESTORE_REPLACE": "yes", **METHODS[method]}
    began = time.monotonic()
    case.restore(**options)
    length = time.monotonic() - began
    assert outcome(case, options["RESTORE_WAY"], old, good) == "restored"
    chance = random.Random(f"{method} {victim}")
    outcomes = []
    for _ in range(kills):
        process = case.pod.start_restore(case.name, **options)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, length))
        # A part that does not run at this moment may run at the next one.
        wait_until(lambda p=process: kill(case, p, victim, chance) or p.poll() is not None, victim)  # type: ignore[misc]
        log = process.communicate(timeout=120)[0] if victim != "pod" else ""
        wait_until(lambda: quiet(server), "the server's end of the restore")
        found = outcome(case, options["RESTORE_WAY"], old, good)
        outcomes.append(found)
        if process.returncode == 0:
            assert found == "restored", log
        elif victim != "pod":
            assert "FAILED" in log, log
            assert "remedy: " in log, log
            assert "is as it was" not in log or found == "as before", log
    print(f"{method}, {victim} killed: {outcomes.count('as before')} as before, {outcomes.count('restored')} restored")
    log = case.restore(**options)
    drop_aside(case)
    assert good.differences(case.fingerprint()) == []
    # A copy that was finished and not renamed is kept, and named by every later restore.
    left = [name for name in case.databases() if "_restoring_" in name]
    assert all(f"'{name}' is a restored copy" in log for name in left), log


def test_answer_to_commit_that_is_lost_in_place_is_no_failure(make: Make, tmp_path: Path) -> None:
    place = make("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    place.sql("DELETE FROM t")
    # A psql that is gone as soon as its work is done.
    (tmp_path / "psql").write_text(
        f'#!/bin/sh\n{place.server.bin}/psql "$@" || exit\ncase $* in *" public="*) kill -KILL $$ ;; esac\n'
    )
    (tmp_path / "psql").chmod(0o755)
    log = place.restore(RESTORE_KEEP="no", PATH=f"{tmp_path}:{place.pod.environment()['PATH']}")
    assert "not before the transaction was committed" in log
    assert "as it was" not in log
    assert place.server.value("SELECT count(*) FROM t", place.name) == "1"


def test_statements_whose_writer_is_killed_at_once_leave_psql_waiting_for_nothing(make: Make, tmp_path: Path) -> None:
    """Before it has written anything, as by the kernel where memory is short."""
    place = make("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    place.sql("DELETE FROM t")
    log = place.restore(1, PATH=_psql_of_the_restore(place, tmp_path, "kill_others; exec"))
    assert "FAILED: what reads the archive was killed (SIGKILL)" in log
    assert "is as it was" in log
    assert place.server.value("SELECT count(*) FROM t", place.name) == "0"


@pytest.mark.parametrize("rows", [1, 200000])
def test_psql_that_is_killed_at_once_leaves_no_writer_waiting_for_it(make: Make, tmp_path: Path, rows: int) -> None:
    """Whether what it would have read fits into a pipe or not."""
    place = make(f"CREATE TABLE t AS SELECT md5(i::text) FROM generate_series(1, {rows}) i")
    log = place.restore(1, PATH=_psql_of_the_restore(place, tmp_path, "kill -KILL $$;"))
    assert "FAILED" in log
    assert "is as it was" in log
    wait_until(lambda: not _processes_of(place.pod.folder), "the end of what wrote the statements")


def test_session_that_holds_the_new_database_and_is_killed_at_once_is_not_waited_for(
    make: Make, tmp_path: Path
) -> None:
    place = make("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    place.sql("DELETE FROM t")
    path = _psql_of_the_restore(place, tmp_path, "kill -KILL $$;", given="hold.sql")
    log = place.restore(1, superuser=True, RESTORE_WAY="beside", PATH=path)
    assert "FAILED: the new database cannot be reserved" in log
    assert "is as it was" in log
    assert place.server.value("SELECT count(*) FROM t", place.name) == "0"
    assert place.server.sql("SELECT 1 FROM pg_database WHERE datname ~ '_restoring_'") == []


def _psql_of_the_restore(place: Place, folder: Path, begin: str, given: str = " public=") -> str:
    """A PATH whose psql begins with this if its arguments hold `given`: those that get the statements of a restore."""
    (folder / "psql").write_text(
        f"""#!/bin/sh
kill_others() {{
  for one in $(cat "/proc/$PPID/task/$PPID/children"); do [ "$one" = $$ ] || kill -KILL "$one"; done
}}
case $* in *"{given}"*) {begin} {place.server.bin}/psql "$@" ;; esac
exec {place.server.bin}/psql "$@"
"""
    )
    (folder / "psql").chmod(0o755)
    return f"{folder}:{place.pod.environment()['PATH']}"


def _processes_of(folder: Path) -> list[str]:
    """The processes whose environment names the folder of a pod."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(folder) in (entry / "environ").read_text(errors="replace"):
                found.append(entry.name)
    return found
