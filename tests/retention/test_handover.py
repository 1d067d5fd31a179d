"""`hand-over`: a container gets one database's archives and no more, and what it leaves is checked before it counts."""

import errno
import json
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from retention.pod import handover
from tests.retention.world import DAY, HOUR, T0, Ran, World, retention_here

NOW = T0 + 10 * DAY
APP, SHOP = "app-20260110-220000", "shop-20260110-220000"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two databases with one backup each, of which `choose` has written requests."""
    world = World(tmp_path)
    for name in ("app", "shop"):
        world.configure(name)
        world.publish(name, NOW - 2 * HOUR)
        (world.config / f"{name}.assertions").write_text(f"SELECT '{name}' <> ''\n")
    for name in ("run", "scratch"):
        (tmp_path / name).mkdir()
    choose(world)
    return world


def choose(world: World) -> None:
    ran = retention_here("choose", "--drill", world.config, "--requests", world.results, "--now", NOW, world.root)
    assert ran.code == 0


def hand_over(world: World, database: str, *, now: datetime = NOW, size: str = "10Gi") -> Ran:
    folders = [word for name in ("config", "results", "run", "scratch") for word in (f"--{name}", world.top / name)]
    more = ("--scratch-size", size, "--seconds", "3600", "--now", now)
    return retention_here("hand-over", "--database", database, *folders, *more, world.root)


def record(world: World) -> Ran:
    return retention_here("drill", "--config", world.config, "--results", world.results, "--now", NOW, world.root)


def own(world: World, volume: str, database: str) -> Path:
    """The folder that the container of a database sees."""
    return world.top / volume / "databases" / database


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def report(world: World, database: str, base: str, **facts: object) -> Path:
    """Leave what a container reports about an archive."""
    values = {"database": database, "base": base, "state": "proved", "tables": 3, "rows": 12, **facts}
    path = own(world, "results", database) / f"{base}.drill"
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def recorded(world: World, base: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((world.root / base[:-16] / f"{base}.drill.json").read_text())
    return found


def test_container_gets_the_archive_that_is_due_its_roles_and_its_own_configuration(world: World) -> None:
    roles = "CREATE ROLE app;\nALTER ROLE app WITH LOGIN PASSWORD 'x';\nCREATE DATABASE shop;\n"
    (world.folder("app") / f"{APP}.globals.sql").write_text(roles)
    (world.config / "drill.parameters").write_text("jit = 'off'\n")
    ran = hand_over(world, "app")
    assert ran.code == 0, ran.err
    scratch = own(world, "scratch", "app")
    assert files(scratch) == {
        f"archives/{APP}.dump", f"archives/{APP}.globals.sql", "config/app.assertions", "config/drill.parameters",
    }  # fmt: skip
    assert (scratch / "archives" / f"{APP}.globals.sql").read_text() == "CREATE ROLE app;\n"
    assert (scratch / "archives" / f"{APP}.dump").read_bytes() == (world.folder("app") / f"{APP}.dump").read_bytes()
    assert files(own(world, "results", "app")) == {f"{APP}.request"}
    request = (own(world, "results", "app") / f"{APP}.request").read_text()
    assert "seconds=3600\n" in request
    for volume in ("results", "run", "scratch"):
        assert stat.S_IMODE(own(world, volume, "app").stat().st_mode) == 0o700


def test_next_container_finds_nothing_of_the_one_before(world: World) -> None:
    assert hand_over(world, "app").code == 0
    report(world, "app", APP)
    closed = own(world, "scratch", "app") / "closed" / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0)
    closed.parent.chmod(0)
    (own(world, "run", "app") / "link").symlink_to(world.root)
    ran = hand_over(world, "shop")
    assert ran.code == 0, ran.err
    for volume in ("results", "run", "scratch"):
        assert [path.name for path in (world.top / volume / "databases").iterdir()] == ["shop"], volume
    assert world.archives("app") == {f"{APP}.dump"}, "it followed a link out of the folder"
    assert record(world).code == 1
    assert recorded(world, APP)["result"] == "proved"


def test_time_of_a_drill_is_that_of_all_its_databases_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to the clock in the middle of it."""
    uptime = handover._uptime()
    assert hand_over(world, "app").code == 0
    monkeypatch.setattr(handover, "_uptime", lambda: uptime + 3000)
    assert hand_over(world, "shop", now=NOW + 20 * DAY).code == 0
    request = (own(world, "results", "shop") / f"{SHOP}.request").read_text()
    assert int(request.rsplit("seconds=", 1)[1]) in range(590, 601)
    monkeypatch.setattr(handover, "_uptime", lambda: uptime + 7200)
    ran = hand_over(world, "shop", now=NOW - 2 * HOUR)
    assert files(own(world, "scratch", "shop")) == {"config/shop.assertions"}
    assert "not reached within the 3600 s of the drill; raise drill.timeoutSeconds" in ran.out
    assert record(world).code == 1
    assert recorded(world, SHOP)["result"] == "not-reached"


@pytest.mark.parametrize(("size", "fits"), [("640Mi", False), ("641Mi", True)])
def test_archive_for_which_the_scratch_volume_has_no_room_is_not_even_copied(
    world: World, size: str, fits: bool
) -> None:
    ran = hand_over(world, "app", size=size)
    assert ran.code == 0
    assert (f"archives/{APP}.dump" in files(own(world, "scratch", "app"))) is fits
    assert ("raise drill.scratch.sizeLimit" in ran.out) is not fits


def test_what_cannot_be_handed_over_has_its_result_and_stops_no_other_database(world: World) -> None:
    archive = world.folder("app") / f"{APP}.dump"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    ran = hand_over(world, "app")
    assert ran.code == 0
    assert "its sha256 differs from the one it was published with" in ran.out
    assert files(own(world, "scratch", "app")) == {"config/app.assertions"}
    report(world, "app", APP)
    assert hand_over(world, "shop").code == 0
    report(world, "shop", SHOP)
    assert record(world).code == 1
    assert recorded(world, APP)["result"] == "damaged", "the container's word counted for more than what was read"
    assert f"{APP}.dump.bad" in world.names("app")
    assert recorded(world, SHOP)["result"] == "proved"


def _forge_for_another(world: World, _: Path) -> None:
    report(world, "app", SHOP)


def _link_to_another(world: World, path: Path) -> None:
    target = world.results / "databases" / "other"
    target.write_text(f"database=app\nbase={APP}\nstate=proved\n")
    path.unlink()
    path.symlink_to(target)


def _pipe(_: World, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _huge(_: World, path: Path) -> None:
    path.write_text("state=proved\nwarning=" + "x" * 70000)


def _gone(world: World, _: Path) -> None:
    report(world, "app", APP, state="gone")


def _damaged(world: World, _: Path) -> None:
    report(world, "app", APP, state="damaged")


def _no_text(_: World, path: Path) -> None:
    path.write_bytes(b"\x00\xff\xfe")


@pytest.mark.parametrize("forge", [_link_to_another, _pipe, _huge, _gone, _damaged, _no_text])
def test_result_that_no_drill_writes_proves_nothing_and_excuses_nothing(
    world: World, forge: Callable[[World, Path], None]
) -> None:
    assert hand_over(world, "app").code == 0
    forge(world, report(world, "app", APP))
    ran = record(world)
    assert ran.code == 1
    assert recorded(world, APP)["result"] == "failed", ran.out
    assert f"{APP}.dump" in world.archives("app")


def test_container_says_nothing_about_an_archive_of_another_database(world: World) -> None:
    assert hand_over(world, "app").code == 0
    report(world, "app", APP)
    _forge_for_another(world, Path())
    assert hand_over(world, "shop").code == 0
    assert record(world).code == 1
    assert recorded(world, APP)["result"] == "proved"
    assert recorded(world, SHOP)["result"] == "failed", "a container reported about another one's archive"


def test_texts_of_a_container_are_short_lines_that_no_terminal_obeys(world: World) -> None:
    assert hand_over(world, "app").code == 0
    path = report(world, "app", APP, state="failed", error="\x1b[2J" + "x" * 5000, remedy="look")
    with path.open("a") as file:
        file.write("warning=\x1b]0;title\x07\n" * 500)
    ran = record(world)
    assert "\x1b" not in ran.out
    found = recorded(world, APP)
    assert len(str(found["problem"])) < 1000
    assert isinstance(found["warnings"], list)
    assert len(found["warnings"]) == 20
    assert max(map(len, ran.out.splitlines())) < 2500


def test_result_that_cannot_be_looked_at_fails_its_drill_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for database, base in (("app", APP), ("shop", SHOP)):
        assert hand_over(world, database).code == 0
        report(world, database, base)
    real = Path.lstat

    def look(path: Path) -> os.stat_result:
        if path == world.results / f"{SHOP}.drill":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)

    monkeypatch.setattr(Path, "lstat", look)
    ran = record(world)
    assert ran.code == 1
    assert "Traceback" not in ran.out
    assert "fault in the program" not in ran.out
    assert f"{APP}.dump proved" in ran.out
    assert f"{SHOP}.dump proved" not in ran.out
