"""adopt.sh and `retention adopt`: an existing archive counts once it was read in full, and not otherwise."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.data import fingerprint
from tests.lab.postgres import Server, scratch_folder, server_user
from tests.scripts.conftest import PASSWORD, REPO, Pod, drop_owner, wait_for

ADOPT = REPO / "scripts" / "adopt.sh"
STAMP = "20260101-120000"


@pytest.fixture
def shell(request: pytest.FixtureRequest, shell_paths: dict[str, str]) -> str:
    """The pod's own shell, unless a test asks for another one."""
    return shell_paths[getattr(request, "param", "busybox")]


Foreign = Callable[..., Path]


@pytest.fixture
def foreign(pod: Pod, server: Server) -> Iterator[Foreign]:
    """Write an archive as someone else's job would: no sidecars, readable by all; return its path."""
    made: list[str] = []

    def make(*arguments: str, stamp: str = STAMP, configured: bool = True, name: str = "") -> Path:
        database = name or f"a{uuid.uuid4().hex[:7]}"
        if not name:
            made.append(database)
            server.create_role(database, PASSWORD)
            server.create_database(database, owner=database)
            server.psql(
                f"SET ROLE {database}; CREATE TABLE t (id serial PRIMARY KEY, v text);"
                "INSERT INTO t (v) SELECT md5(n::text) FROM generate_series(1, 900) n",
                database,
            )
        if configured:
            pod.add(database, user=database)
        folder = pod.directory(database)
        folder.mkdir(exist_ok=True)
        path = folder / f"{database}-{stamp}.dump"
        command = [str(server.bin / "pg_dump"), *(arguments or ("-Fc",)), "-d", database, "-f", str(path)]
        subprocess.run(command, env=server.superuser_env, check=True)
        path.chmod(0o644)
        return path

    yield make
    for database in made:
        drop_owner(server, database)


def read(pod: Pod, *archives: Path) -> str:
    """Run the first half in the container with PostgreSQL's programs."""
    pod.renew()
    process = pod.start(ADOPT) if not archives else None
    if process is None:
        process = subprocess.Popen(
            ["sh", str(ADOPT), *map(str, archives)], executable=f"{pod.shell_path}/sh", env=pod.environment(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    log = wait_for(process, 120)
    assert process.returncode == 0, log
    return log


def settle(pod: Pod, expect: int, *arguments: str, path: Path | None = None) -> str:
    """Run the second half in the container of the package."""
    command = ["adopt", "--results", str(pod.folder / "results"), "--config", str(pod.folder / "config"), *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "retention", *command, str(path or pod.root)],
        cwd=REPO, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def adopt(pod: Pod, expect: int = 0) -> str:
    read(pod)
    return settle(pod, expect)


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file in a directory except the lock."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.name != ".lock" and path.is_file()
    }


def listed(pod: Pod, database: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "retention", "list", "--format", "json", str(pod.directory(database))],
        cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout)["backups"]
    return found


@pytest.mark.parametrize("shell", ["busybox", "dash", pytest.param("bash", marks=pytest.mark.long)], indirect=True)
def test_whole_archive_is_adopted_as_it_is_and_restores(pod: Pod, foreign: Foreign) -> None:
    archive = foreign()
    database = archive.parent.name
    before = state(archive.parent)
    assert f"{archive.name}: adopted" in adopt(pod)
    after = state(archive.parent)
    assert after[archive.name] == before[archive.name], "the archive was touched"
    assert set(after) == {archive.name, f"{archive.name}.sha256", f"{archive.stem}.json"}
    pod.check(archive)
    metadata = pod.metadata(archive)
    assert metadata["adopted"] is True
    assert (metadata["tables"], metadata["rows"], metadata["dbname"]) == (1, 900, database)
    assert (metadata["cluster"], metadata["format"], metadata["compression"]) == (
        "app-postgresql-cnpg",
        "custom",
        "gzip",
    )
    assert metadata["started"] == "2026-01-01T12:00:00+00:00"
    assert metadata["server_version"].startswith("17.")
    assert metadata["finished"] is metadata["database_bytes"] is metadata["host"] is None
    (backup,) = listed(pod, database)
    assert backup["verified"] == metadata["published"]
    good = fingerprint(pod.server, database)
    pod.server.psql("DELETE FROM t", database)
    for name, value in (("owner-username", database), ("owner-password", PASSWORD)):
        (pod.folder / "credentials" / database / name).write_text(value)
    pod.restore(database, RESTORE_REPLACE="yes", RESTORE_KEEP="no")
    assert good.differences(fingerprint(pod.server, database)) == []


def test_database_that_is_in_no_configuration_is_adopted_too(pod: Pod, foreign: Foreign) -> None:
    foreign()
    archive = foreign(configured=False)
    output = adopt(pod)
    assert f"{archive.name}: adopted" in output
    assert "it is not configured here, so no run prunes them" in output
    assert pod.metadata(archive)["cluster"] is None


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def flip(path: Path) -> None:
    """One bit in the middle of the compressed rows."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def head_gone(path: Path) -> None:
    path.write_bytes(path.read_bytes()[1:])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "20260101-000001": (cut(0.9), "end of file|could not uncompress"),
    "20260101-000002": (cut(0.4), "end of file|could not uncompress"),
    "20260101-000003": (cut(0.001), "end of file|valid archive|too short"),
    "20260101-000004": (flip, "could not uncompress|corrupt|invalid"),
    "20260101-000005": (head_gone, "valid archive"),
    "20260101-000006": (lambda path: path.write_bytes(b""), "it is empty"),
    "20260101-000007": (lambda path: path.write_text("-- a script of psql\n" * 100), "valid archive"),
    "20260101-000008": (lambda path: path.write_bytes(bytes(4096)), "valid archive|end of file"),
}


def test_archive_that_cannot_be_read_whole_is_left_alone_and_told_in_a_line(pod: Pod, foreign: Foreign) -> None:
    good = foreign()
    database = good.parent.name
    for stamp, (damage, _) in DAMAGES.items():
        copy = good.parent / f"{database}-{stamp}.dump"
        shutil.copy2(good, copy)
        damage(copy)
    before = state(good.parent)
    output = adopt(pod, 1)
    for stamp, (_, reason) in DAMAGES.items():
        name = f"{database}-{stamp}.dump"
        (line,) = [line for line in output.splitlines() if line.startswith(f"{name}: ")]
        assert line.startswith(f"{name}: refused: "), line
        assert re.search(reason, line), line
        assert line.endswith("; it is left as it is; find a better copy, or remove it by hand"), line
    assert f"{good.name}: adopted" in output, "one that is broken kept another from being adopted"
    after = state(good.parent)
    assert set(after) - set(before) == {f"{good.name}.sha256", f"{good.stem}.json"}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("option", "output"), [("-Ft", "its format is TAR"), ("-Fp", "text format dump")])
def test_other_formats_of_pg_dump_are_refused(pod: Pod, foreign: Foreign, option: str, output: str) -> None:
    archive = foreign(option)
    assert output in adopt(pod, 1)
    assert [path.name for path in archive.parent.iterdir() if path.name != ".lock"] == [archive.name]


def test_empty_database_is_refused_unless_it_may_be_empty(pod: Pod, foreign: Foreign) -> None:
    archive = foreign("-Fc", "--exclude-table=t")
    assert "it holds no table; if that is right, set allowEmpty: true" in adopt(pod, 1)
    pod.add(archive.parent.name, allow_empty="true")
    assert f"{archive.name}: adopted" in adopt(pod)


def test_archive_of_another_name_is_told_and_left(pod: Pod, foreign: Foreign) -> None:
    archive = foreign()
    database = archive.parent.name
    names = [f"{database}.dump", "other-20260101-120000.dump", f"{database}-20261301-120000.dump", f"{database}-1.dump"]
    for name in names:
        shutil.copy(archive, archive.parent / name)
    archive.unlink()
    before = state(archive.parent)
    output = adopt(pod, 1)
    for name in names:
        assert f"{name}: refused: " in output
    assert output.count(f"rename it to {database}-YYYYMMDD-HHMMSS.dump") == len(names)
    assert state(archive.parent) == before


def test_link_is_never_followed(pod: Pod, foreign: Foreign) -> None:
    archive = foreign()
    elsewhere = archive.rename(pod.folder / "elsewhere")
    archive.symlink_to(elsewhere)
    output = adopt(pod, 1)
    assert "a link, never followed" in output
    assert set(state(archive.parent)) == {archive.name}


def test_what_counts_already_is_not_touched_again(pod: Pod, foreign: Foreign) -> None:
    archive = foreign()
    adopt(pod)
    before = state(archive.parent)
    assert read(pod) == ""
    assert settle(pod, 0) == "nothing to adopt: every archive has its sidecars\n"
    assert state(archive.parent) == before
    settle(pod, 1, path=archive)


@pytest.mark.parametrize("missing", ["sha256", "json"])
def test_sidecar_that_is_there_and_right_stays_and_the_other_is_made(pod: Pod, foreign: Foreign, missing: str) -> None:
    archive = foreign()
    adopt(pod)
    names = {"sha256": f"{archive.name}.sha256", "json": f"{archive.stem}.json"}
    (archive.parent / names.pop(missing)).unlink()
    before = state(archive.parent)
    assert f"{archive.name}: adopted" in adopt(pod)
    after = state(archive.parent)
    assert {name: after[name] for name in before} == before
    assert len(listed(pod, archive.parent.name)) == 1


@pytest.mark.parametrize("present", ["sha256", "json"])
def test_sidecar_that_says_something_else_is_not_replaced(pod: Pod, foreign: Foreign, present: str) -> None:
    archive = foreign()
    path = archive.parent / {"sha256": f"{archive.name}.sha256", "json": f"{archive.stem}.json"}[present]
    path.write_text(f"{'0' * 64}  {archive.name}\n" if present == "sha256" else "{}\n")
    before = state(archive.parent)
    output = adopt(pod, 1)
    assert f"refused: {path.name} says another" in output
    assert state(archive.parent) == before


def test_archive_that_changes_after_it_was_read_is_refused(pod: Pod, foreign: Foreign) -> None:
    archive = foreign()
    read(pod)
    with archive.open("ab") as file:
        file.write(b"more")
    assert "refused: pg_restore has read" in settle(pod, 1)
    assert set(state(archive.parent)) == {archive.name}


def test_archive_that_was_not_read_is_refused(pod: Pod, foreign: Foreign) -> None:
    archive = foreign()
    pod.renew()
    assert "refused: pg_restore has not read it" in settle(pod, 1)
    assert set(state(archive.parent)) == {archive.name}


def test_only_the_archives_that_are_named_are_read(pod: Pod, foreign: Foreign) -> None:
    archive = foreign()
    other = foreign(name=archive.parent.name, stamp="20260103-120000")
    log = read(pod, archive)
    assert archive.name in log
    assert other.name not in log


def test_archive_that_this_user_may_not_read_is_told_with_the_remedy(pod: Pod, foreign: Foreign) -> None:
    """As root's own files are to the pod's user."""
    archive = foreign()
    top = scratch_folder()
    top.chmod(0o711)
    try:
        for name in ("backups", "run", "results"):
            (top / name).mkdir(mode=0o755)
        for name in ("run", "results"):
            os.chown(top / name, server_user().uid, server_user().gid)
        shutil.copytree(REPO / "scripts", top / "programs")
        (top / "backups" / archive.parent.name).mkdir(mode=0o755)
        copy = top / "backups" / archive.parent.name / archive.name
        shutil.copy(archive, copy)
        copy.chmod(0o600)
        environment = {
            "PATH": f"{pod.server.bin}:/usr/bin:/bin",
            "BACKUP_ROOT": str(top / "backups"),
            "BACKUP_RUN": str(top / "run"),
            "BACKUP_RESULTS": str(top / "results"),
        }
        subprocess.run(
            ["sh", str(top / "programs" / "adopt.sh")], env=environment, check=True, cwd="/", timeout=60,
            **server_user().drop,  # type: ignore[call-overload]
        )  # fmt: skip
        result = (top / "results" / f"{archive.stem}.adopt").read_text()
        assert "error=this user may not read it\n" in result
        assert "remedy=let the user of the pod read it" in result
    finally:
        shutil.rmtree(top)
