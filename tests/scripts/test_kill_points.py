"""dump.sh killed between any two of its steps: docs/architecture.md names what is left, and the next run heals it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.conftest import Pod, kill_session, wait_until

# State of the archive at the kill, and the step before which it happens: a program and which of its calls.
KILL_POINTS = [
    ("nothing", "pg_dump", 2),  # the first call asks for its version
    ("partial", "pg_restore", 1),
    ("partial", "pg_restore", 2),
    ("partial", "sha256sum", 1),
    ("partial", "pg_dumpall", 1),
    ("partial with partial globals", "mv", 1),
    ("partial with staged globals", "sync", 2),  # the first call asks whether it knows files
    ("partial with all sidecars", "sync", 3),
    ("partial with all sidecars", "sync", 4),
    ("partial with all sidecars", "sync", 5),
    ("partial with all sidecars", "sync", 6),
    ("partial with all sidecars, on disk", "mv", 2),
    ("staged", "sync", 7),
    ("staged, on disk, result ready", "mv", 3),
]
LEFT = {
    "nothing": [],
    "partial": [".dump.partial"],
    "partial with partial globals": [".dump.partial", ".globals.sql.partial"],
    "partial with staged globals": [".dump.partial", ".globals.sql.staged"],
    "partial with all sidecars": [
        ".dump.partial",
        ".dump.staged.result",
        ".dump.staged.sha256",
        ".globals.sql.staged",
    ],
    "staged": [".dump.staged", ".dump.staged.result", ".dump.staged.sha256", ".globals.sql.staged"],
}


@pytest.fixture
def killable(tmp_path: Path, server: Server, shell_paths: dict[str, str]) -> Iterator[Pod]:
    """A pod with one database and one good backup of it."""
    name = f"kill-{uuid.uuid4().hex[:8]}"
    server.create_database(name)
    server.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 1000) i", name)
    pod = Pod(tmp_path, server, shell_paths["dash"])
    pod.add(name)
    pod.run()
    yield pod
    server.drop_database(name)


def stop_before(folder: Path, program: str, call: int, path: str) -> str:
    """Make a PATH on which that call of a program never begins; `folder/reached` appears when it is reached."""
    real = shutil.which(program, path=path)
    assert real, program
    programs = folder / "programs"
    programs.mkdir()
    script = (
        f"#!/bin/sh\necho call >>{folder}/calls\n"
        f"[ $(wc -l <{folder}/calls) -ne {call} ] || {{ : >{folder}/reached; exec sleep 600; }}\n"
        f'exec {real} "$@"\n'
    )
    (programs / program).write_text(script)
    (programs / program).chmod(0o755)
    return f"{programs}:{path}"


@pytest.mark.parametrize(
    ("state", "program", "call"),
    KILL_POINTS,
    ids=[f"{state.replace(' ', '_')}-before_{program}_{call}" for state, program, call in KILL_POINTS],
)
@pytest.mark.sample(6)
def test_killed_there_the_dump_loses_nothing_and_the_next_run_heals(
    killable: Pod, tmp_path: Path, state: str, program: str, call: int
) -> None:
    pod = killable
    (name,) = (path.stem for path in (pod.folder / "config").glob("*.conf"))
    (good,) = pod.archives(name)
    path = stop_before(tmp_path, program, call, pod.environment()["PATH"])
    dump = pod.start_dump(PATH=path)
    wait_until((tmp_path / "reached").exists, f"call {call} of {program}")
    kill_session(dump)

    prefix = len(f".{name}-20260101-000000")
    left = sorted(file[prefix:] for file in pod.unpublished(name))
    assert left == LEFT[state.partition(", ")[0]], left
    assert pod.archives(name) == [good], "dump.sh published something"

    staged = state.startswith("staged")
    finished = pod.finish(expect=1)
    assert "the dump container reported nothing" in finished.stdout + finished.stderr
    archives = pod.archives(name)
    assert good in archives, "a good backup was lost"
    assert len(archives) == (2 if staged else 1), "what was staged is judged by the next finish, what was not is not"
    for archive in archives:
        pod.check(archive)
    assert [file for file in pod.unpublished(name) if not file.endswith(".partial")] == []

    pod.run()
    assert pod.unpublished(name) == []
    for archive in pod.archives(name):
        pod.check(archive)
