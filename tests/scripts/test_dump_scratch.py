"""What grows with the data is not kept in the scratch volume in memory, and nothing there outlives its database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.conftest import DUMP, wait_for
from tests.scripts.stand_ins import PROGRAMS, StandIns, tmpfs
from tests.scripts.test_dump_faults import FILL

LONG = "a-rather-long-name-of-a-function-of-the-application"


@pytest.fixture
def app(tmp_path: Path, shell: str) -> StandIns:
    return StandIns.make(tmp_path, shell)


def list_entries(pod: StandIns, entries: int) -> None:
    """Let each archive have that many entries."""
    listing = (
        f'awk \'BEGIN {{ print "; Archive"; for (i = 1; i <= {entries}; i++) '
        f'print i "; 1259 " i " TABLE public {LONG}_" i " app" }}\''
    )
    pod.program("pg_restore", PROGRAMS["pg_restore"].replace('echo "; Archive"; ', f"{listing}; "))


def dump_in(pod: StandIns, size: str) -> str:
    """Dump with a scratch volume of that size, and see that nothing of a database outlives it."""
    pod.renew()
    with tmpfs(pod.folder / "run", size):
        process = pod.start(DUMP)
        log = wait_for(process, 280)
        assert process.returncode == 0, log
        assert [p.name for p in (pod.folder / "run").iterdir() if p.is_file()] == [], log
    return log


@pytest.mark.parametrize("count", ["false", "true"])
def test_many_databases_of_many_tables_fit(app: StandIns, count: str) -> None:
    """As 28 databases of 1000 tables with the chart's 16 MiB do: 28 lists of some 600 kB; here 5 of 400 kB in 1 MiB."""
    list_entries(app, 4000)
    names = ["app", "app.b", "b", "c", "d"]
    for name in names:
        app.add(name, count_rows=count)
    log = dump_in(app, "1m")
    for name in names:
        assert app.states(name) == ["staged"], log
        assert app.result(name)["tables"] == "4001"


def test_database_of_200000_entries_fits(app: StandIns) -> None:
    list_entries(app, 200000)
    app.add("app", count_rows="true")
    calls = app.folder / "calls"
    counted = f'echo "$*" >>{calls}\ncase "$*" in *--section=data*) exit ;; esac\n'
    app.program("pg_restore", counted + (app.folder / "programs" / "pg_restore").read_text())
    log = dump_in(app, "16m")
    assert app.states() == ["staged"], log
    assert app.result("app")["tables"] == "200001"
    reads = [call for call in calls.read_text().splitlines() if "-l" not in call.split() and "-f" in call.split()]
    assert len(reads) == 1, "its rows could not be counted, so it was read twice"
    assert "--section=data" in reads[0]


def test_messages_of_verbose_do_not_fill_it(app: StandIns) -> None:
    noise = "awk 'BEGIN { for (i = 0; i < 60000; i++) print \"pg_dump: reading table number \" i }' >&2\n"
    app.program("pg_dump", PROGRAMS["pg_dump"] + noise + 'echo "pg_dump: warning: subscriptions not dumped" >&2\n')
    log = dump_in(app, "1m")
    assert app.states() == ["staged"], log
    assert app.result("app")["warning"] == "pg_dump: subscriptions not dumped"


def test_full_scratch_is_named_with_what_to_do(app: StandIns) -> None:
    app.program("pg_restore", FILL.format(app.folder / "run") + PROGRAMS["pg_restore"])
    app.renew()
    with tmpfs(app.folder / "run", "1m"):
        process = app.start(DUMP)
        process.communicate(timeout=60)
    assert app.states() == ["failed"]
    assert f"the scratch volume {app.folder / 'run'} is full" in app.result("app")["error"]
    assert "not the backups' volume" in app.result("app")["remedy"]


def test_killed_dump_leaves_nothing_there(app: StandIns) -> None:
    app.program("sha256sum", "kill -KILL $PPID")
    dump_in(app, "1m")
    assert app.states() == ["failed"]
