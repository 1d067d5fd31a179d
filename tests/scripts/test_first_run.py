"""first-run.sh: whether backups can be kept on the volume, one clear reason where they cannot, and the first backup."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.conftest import REPO, Pod, in_both_shells

FIRST = REPO / "scripts" / "first-run.sh"
UNUSABLE = {
    "locks": ("flock", 'echo "flock: 9: No locks available" >&2; exit 71', "No locks available", "NFS takes version 4"),
    "locks that exclude nobody": ("flock", "exit 0", "grants one lock to two processes at once", "local_lock"),
    "sync": (
        "sync",
        'case $1 in *.sh) exit 0 ;; esac; echo "sync: x: Input/output error" >&2; exit 1',
        "Input",
        "storage",
    ),
    "rename": ("mv", 'echo "mv: cannot rename: Operation not permitted" >&2; exit 1', "not permitted", "log above"),
    "write": ("cat", 'echo "cat: write error: No space left on device" >&2; exit 1', "No space", "free space"),
    "room": ("df", "echo h; echo /dev/x 100000 99000 1000 99% /backups", "only 1 MiB free", "grow the claim"),
    "names": ("stat", "echo 2", "counts 2 names of a new file", "file system"),
    "folders": ("mkdir", 'echo "mkdir: cannot create: Permission denied" >&2; exit 1', "Permission denied", "let user"),
    "an answer": ("flock", "exec sleep 60", "does not answer: locking a file took more than 1 s", "lock service"),
}
"""What a volume lacks: the program that fails for it, how; the reason and the remedy that have to be named."""


def first_run(pod: Pod, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the Job's script in a pod whose scratch volumes are empty."""
    pod.renew()
    quick = {"FIRST_RUN_PAUSE": "0", "FIRST_RUN_ATTEMPTS": "2", "BACKUP_POD": "cnpg-backup-first-0123456789-abcde"}
    return subprocess.run(
        ["sh", str(FIRST), *arguments],
        env=pod.environment() | quick | environment,
        executable=f"{pod.shell_path.rpartition(':')[2]}/sh",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def stand_in(pod: Pod, folder: Path, name: str, body: str) -> None:
    """Put a program in front of the pod's own of that name."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / name).write_text(f"#!/bin/sh\n{body}\n")
    (programs / name).chmod(0o755)
    pod.shell_path = f"{programs}:{pod.shell_path}"


@pytest.fixture
def names(server: Server) -> Iterator[list[str]]:
    """Two databases with a table each."""
    made = [f"db-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in made:
        server.create_database(name)
        server.psql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)", name)
    yield made
    for name in made:
        server.drop_database(name)


@in_both_shells
def test_a_usable_volume_is_reported_in_one_line_and_left_as_it_was(pod: Pod) -> None:
    done = first_run(pod)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("volume: ok: user ")
    assert "can write, sync, rename and lock files" in line
    assert list(pod.root.iterdir()) == []


@pytest.mark.parametrize("lacking", UNUSABLE)
def test_each_thing_that_a_volume_lacks_fails_with_its_reason_and_remedy(
    pod: Pod, tmp_path: Path, lacking: str
) -> None:
    program, body, reason, remedy = UNUSABLE[lacking]
    stand_in(pod, tmp_path, program, body)
    patience = {"FIRST_RUN_SECONDS": "1"} if lacking == "an answer" else {}
    done = first_run(pod, **patience)
    assert done.returncode == 1, done.stdout + done.stderr
    failed, advice, then = done.stdout.splitlines()[-3:]
    assert failed.startswith("volume: FAILED: ")
    assert reason in failed
    assert advice.startswith("volume: remedy: ")
    assert remedy in advice
    assert "delete the Job cnpg-backup-first-0123456789 and" in then
    assert list(pod.root.iterdir()) == []


def test_what_passes_by_itself_gets_another_attempt(pod: Pod, tmp_path: Path) -> None:
    """A file server that starts refuses locks for a moment."""
    seen, real = tmp_path / "seen", f"{pod.shell_path.rpartition(':')[2]}:/usr/bin:/bin"
    refusal = f'[ -e {seen} ] || {{ : >{seen}; echo "flock: 9: No locks available" >&2; exit 71; }}'
    stand_in(pod, tmp_path, "flock", f'{refusal}\nPATH={real}\nexec flock "$@"')
    done = first_run(pod)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "attempt 1 of 2: the volume cannot lock files: No locks available" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("volume: ok: ")


def test_a_link_in_the_place_of_its_folder_is_not_followed(pod: Pod, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (pod.root / ".check-cnpg-backup-first-0123456789-abcde").symlink_to(elsewhere)
    done = first_run(pod)
    assert done.returncode == 1
    assert "is a link, not a directory" in done.stdout
    assert (elsewhere / "precious").read_text() == "x"


def test_the_first_backup_is_published_and_a_second_job_dumps_only_what_has_none(pod: Pod, names: list[str]) -> None:
    old, new = names
    pod.add(old)
    assert first_run(pod, "--backup").returncode == 0
    selected = pod.folder / "results" / "first"
    assert sorted(path.name for path in selected.iterdir()) == [f"{old}.conf", "policy.json"]
    assert "state=staged" in (pod.folder / "results" / f"{old}.result").read_text()
    pod.finish(expect=0)
    (archive,) = pod.directory(old).glob("*.dump")
    pod.add(new)
    done = first_run(pod, "--backup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{old}: it has a backup: {archive.name}" in done.stdout
    assert not (pod.folder / "results" / f"{old}.result").exists()
    assert "state=staged" in (pod.folder / "results" / f"{new}.result").read_text()


def test_where_every_database_has_a_backup_nothing_is_dumped(pod: Pod, names: list[str]) -> None:
    pod.add(names[0])
    pod.run()
    done = first_run(pod, "--backup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((pod.folder / "results" / "first").iterdir()) == []
    assert list((pod.folder / "results").glob("*.result")) == []


def test_the_first_backup_of_a_newer_server_names_the_line_of_the_values(pod: Pod, newer_server: Server) -> None:
    pod.add("newer", port=str(newer_server.port), sslmode="disable", dbname="postgres")
    assert first_run(pod, "--backup").returncode == 0
    first, results = str(pod.folder / "results" / "first"), str(pod.folder / "results")
    done = pod.retention("finish", "--config", first, "--results", results, expect=1)
    for text in (done.stdout + done.stderr, (pod.folder / "termination-log").read_text()):
        assert "this image's pg_dump is 17." in text
    assert "'newer' of databases, or for all of them at the top of the values: image: {tag: 18-alpine}" in done.stdout
