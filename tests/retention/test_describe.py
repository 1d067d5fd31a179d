"""`describe` and `tables`: what one backup is, when it goes, and what is in it, without a server."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from retention.names import base_of
from retention.rule.backup import Backup, Pin
from retention.rule.decide import decide
from retention.rule.lifetime import lifetime
from retention.rule.policy import Limits, Policy
from tests.lab.postgres import Server
from tests.retention.world import DAY, HOUR, T0, Ran, World, retention_here

NOW = T0 + 30 * DAY


def backup(time: datetime, pin: Pin | None = None, size: int = 100) -> Backup:
    return Backup(base_of("app", time), time, size, "0" * 64, 1, "", pin)


def pruned(backups: list[Backup], now: datetime, limits: Limits) -> list[Backup]:
    kept = {one.base for one in decide("app", backups, (), Policy.default(), now=now, limits=limits).keep}
    return [one for one in backups if one.base in kept]


@pytest.mark.parametrize("limits", [Limits(), Limits(max_bytes=700, min_backups=2)], ids=["tiers", "budget"])
@pytest.mark.parametrize("seed", range(4))
def test_a_backup_goes_when_it_was_said_if_runs_go_on(limits: Limits, seed: int) -> None:
    chance = random.Random(seed)
    backups = pruned(
        [backup(NOW - chance.randrange(1, 60) * 2 * HOUR - chance.randrange(600) * HOUR / 3600) for _ in range(40)],
        NOW,
        limits,
    )
    backups = sorted({one.base: one for one in backups}.values(), key=lambda one: one.time, reverse=True)
    said = {one.base: lifetime("app", backups, one.base, Policy.default(), limits, now=NOW).deleted for one in backups}
    assert all(said.values())
    moment, present, gone = backups[0].time, list(backups), dict[str, datetime]()
    for _ in range(200):
        moment += 2 * HOUR
        if moment < NOW:
            moment = NOW
        present = [backup(moment), *present]
        before = {one.base for one in present}
        present = pruned(present, moment, limits)
        gone |= dict.fromkeys(before - {one.base for one in present}, moment)
    assert said == {base: gone[base] for base in said}


def test_a_pin_decides_how_long_a_backup_stays() -> None:
    backups = [backup(NOW - index * 2 * HOUR) for index in range(5)]
    backups[3] = backup(backups[3].time, Pin("audit", None))
    found = lifetime("app", backups, backups[3].base, Policy.default(), Limits(), now=NOW)
    assert (found.deleted, found.reason) == (None, "its pin has no end")
    backups[3] = backup(backups[3].time, Pin("audit", NOW + 90 * DAY))
    found = lifetime("app", backups, backups[3].base, Policy.default(), Limits(), now=NOW)
    assert found.deleted is not None
    assert NOW + 90 * DAY <= found.deleted <= NOW + 91 * DAY


def described(world: World, base: str, *more: object) -> Ran:
    return retention_here(
        "describe", "--config", world.config, "--now", NOW.isoformat(), *more, world.folder("app") / f"{base}.dump"
    )


def test_all_that_is_known_of_a_backup_is_in_one_document(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    older = world.publish("app", NOW - 4 * HOUR)
    world.pin(base, '{"reason": "audit", "expires": "2099-01-01T00:00:00+00:00"}')
    ran = described(world, base, "--format", "json")
    assert ran.code == 0, ran
    document: Any = ran.json()
    assert document["backup"]["name"] == f"{base}.dump"
    assert document["backup"]["pin"]["reason"] == "audit"
    assert document["metadata"]["sha256"] == document["backup"]["sha256"]
    assert {one["name"] for one in document["files"]} >= {f"{base}.dump", f"{base}.json", f"{base}.dump.pin"}
    assert all(older not in one["name"] for one in document["files"])
    assert document["deletion"]["not_before"] is not None
    text = described(world, older).out
    assert f"app: {older}.dump" in text
    assert "with a run every 2h" in text


def test_a_backup_that_does_not_count_or_is_not_there_is_said_with_the_reason(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    ran = described(world, base_of("app", NOW - 9 * HOUR))
    assert ran.code == 1
    assert f"there is no such backup; the newest are {base}.dump" in ran.err
    (world.folder("app") / f"{base}.json").unlink()
    ran = described(world, base)
    assert ran.code == 1
    assert "does not count as a backup" in ran.err


SQL = """
CREATE SCHEMA "My Schema";
CREATE TABLE big AS SELECT md5(i::text) AS t FROM generate_series(1, 20000) AS i;
CREATE TABLE "My Schema"."odd
name" AS SELECT 1 AS a;
CREATE TABLE empty (a int);
CREATE TABLE parted (a int) PARTITION BY RANGE (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
INSERT INTO parted VALUES (1);
CREATE MATERIALIZED VIEW seen AS SELECT 1 AS a;
SELECT lo_from_bytea(0, convert_to(repeat(md5('x'), 5000), 'UTF8'));
"""


@pytest.fixture(scope="module", params=["17", "18", "debian"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(major=18 if request.param == "18" else 17, debian=request.param == "debian") as running:
        running.create_database("app")
        running.psql(SQL, "app")
        yield running


def dumped(server: Server, folder: Path, *, piped: bool, name: str = "app-20261122-140002.dump") -> Path:
    """An archive of that database, written to a file or into a pipe."""
    (folder / "app").mkdir(parents=True, exist_ok=True)
    path = folder / "app" / name
    command = [str(server.bin / "pg_dump"), "-Fc", "-d", "app"]
    with path.open("wb") as file:
        done = subprocess.run(
            [*command, *([] if piped else ["-f", str(path)])], env=server.superuser_env, check=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        if piped:
            file.write(done.stdout)
    return path


def tables(path: Path) -> Any:
    ran = retention_here("tables", "--format", "json", path)
    assert ran.code == 0, ran
    return ran.json()


@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_tables_and_their_sizes_are_those_of_the_archive(server: Server, tmp_path: Path, piped: bool) -> None:
    path = dumped(server, tmp_path, piped=piped)
    document = tables(path)
    found = {(one["schema"], one["name"]): one for one in document["tables"]}
    assert set(found) == {
        ("public", "big"), ("My Schema", "odd\nname"), ("public", "empty"), ("public", "parted"),
        ("public", "parted_1"),
    }  # fmt: skip
    assert document["tables"][0]["name"] == "big"
    assert found["public", "parted"]["entry"] is None
    assert document["dbname"] == "app"
    assert document["server_version"].startswith(f"{server.major}.")
    listing = subprocess.run([server.bin / "pg_restore", "-l", path], check=True, capture_output=True, text=True).stdout
    entries = {int(one) for one in re.findall(r"^(\d+); \d+ \d+ TABLE DATA ", listing, re.MULTILINE)}
    assert {one["entry"] for one in document["tables"]} - {None} == entries
    taken = sum(one["bytes"] for one in document["tables"]) + document["large_objects_bytes"]
    assert 0.9 * path.stat().st_size - 20_000 < taken < path.stat().st_size
    assert document["large_objects_bytes"] > 100


def test_sizes_are_the_same_whether_the_archive_says_them_or_not(server: Server, tmp_path: Path) -> None:
    sizes = []
    for piped in (False, True):
        document = tables(dumped(server, tmp_path / str(piped), piped=piped))
        sizes.append({(one["schema"], one["name"]): one["bytes"] for one in document["tables"]})
    assert sizes[0] == sizes[1]


def test_an_archive_that_is_cut_or_changed_anywhere_is_an_error_of_one_line(server: Server, tmp_path: Path) -> None:
    path = dumped(server, tmp_path, piped=True)
    content, chance = path.read_bytes(), random.Random(1)
    wrong = [content[:length] for length in (0, 3, 11, 40, 2000, len(content) // 2, len(content) - 1)]
    for _ in range(60):
        changed = bytearray(content)
        for place in chance.sample(range(12_000), 3):
            changed[place] = chance.randrange(256)
        wrong.append(bytes(changed))
    errors = 0
    for one in wrong:
        path.write_bytes(one)
        ran = retention_here("tables", "--format", "json", path)
        assert "fault in the program" not in ran.err, ran
        assert ran.err.count("\n") <= 1, ran
        if ran.code:
            errors += 1
            assert "its table of contents cannot be read: " in ran.err
    assert errors > 7, "what is cut is not noticed"


def test_what_is_no_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    path = tmp_path / "app" / "app-20261122-140002.dump"
    path.write_text("-- PostgreSQL database dump\n")
    ran = retention_here("tables", path)
    assert (ran.code, ran.out) == (1, "")
    assert "it is not an archive of pg_dump" in ran.err
