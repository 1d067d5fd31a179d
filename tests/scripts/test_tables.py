"""tables.sh: the rows of each table of an archive, counted without a server."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.scripts.conftest import REPO, Pod

SQL = r"""
CREATE SCHEMA "My Schema";
CREATE TABLE big AS SELECT i, E'line\nCOPY x FROM stdin;\n\\.' AS t FROM generate_series(1, 1234) AS i;
CREATE TABLE "My Schema"."odd
name" AS SELECT 1 AS a;
CREATE TABLE empty (a int);
CREATE TABLE parted (a int) PARTITION BY RANGE (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
INSERT INTO parted VALUES (1), (2);
"""


@pytest.fixture
def archive(pod: Pod, server: Server, request: pytest.FixtureRequest) -> Iterator[Path]:
    name = f"t{uuid.uuid4().hex[:7]}"
    server.create_database(name)
    server.psql(SQL, name)
    folder = pod.directory(name)
    folder.mkdir()
    path = folder / f"{name}-20260101-120000.dump"
    more = getattr(request, "param", [])
    subprocess.run(
        [str(server.bin / "pg_dump"), "-Fc", *more, "-d", name, "-f", str(path)], env=server.superuser_env, check=True
    )
    path.chmod(0o644)
    yield path
    server.drop_database(name)


def counted(pod: Pod, path: Path) -> subprocess.CompletedProcess[str]:
    pod.renew()
    return subprocess.run(
        ["sh", str(REPO / "scripts" / "tables.sh"), str(path)], executable=f"{pod.shell_path}/sh",
        env=pod.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_rows_of_each_table_are_counted_by_its_entry(pod: Pod, archive: Path) -> None:
    done = counted(pod, archive)
    assert done.returncode == 0, done.stderr
    rows = {int(line.split("\t")[0]): int(line.split("\t")[1]) for line in done.stdout.splitlines()}
    listed = subprocess.run(
        [sys.executable, "-m", "retention", "tables", "--format", "json", str(archive)],
        cwd=REPO, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = {one["name"]: rows.pop(one["entry"], None) for one in json.loads(listed)["tables"]}
    assert found == {"big": 1234, "odd\nname": 1, "empty": 0, "parted": None, "parted_1": 2}
    assert rows == {}
    assert [path.name for path in (pod.folder / "run").iterdir() if path.name.startswith("tables")] == []


@pytest.mark.parametrize("archive", [["--inserts"]], indirect=True)
def test_rows_that_cannot_be_counted_are_not_guessed(pod: Pod, archive: Path) -> None:
    done = counted(pod, archive)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_an_archive_that_ends_too_early_is_one_line_and_no_number(pod: Pod, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-300])
    done = counted(pod, archive)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("tables.sh: ")
