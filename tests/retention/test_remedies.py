"""Each error of a volume names the file that it is about, and what to do."""

import errno

import pytest

from tests.faults.injector import ALWAYS, Injector, once
from tests.retention.world import HOUR, T0, World, retention_here

NOW = T0 + 30 * 24 * HOUR
MINUTE = HOUR / 60


@pytest.mark.parametrize(
    ("operation", "name", "error"),
    [
        ("flock", ".lock", errno.ENOLCK),
        ("flock", ".lock", errno.ENOSYS),
        ("flock", ".lock", errno.EOPNOTSUPP),
        ("open", "app-20260130-235500.dump", errno.ESTALE),
        ("open", "app-20260130-235500.dump", errno.EMFILE),
        ("open", "app-20260130-235500.dump", errno.ENFILE),
        ("read", "app-20260130-235500.dump", errno.ETIMEDOUT),
        ("create", ".app-20260130-235500.json.tmp", errno.EFBIG),
        ("write", ".app-20260130-235500.json.tmp", errno.EFBIG),
        ("fsync", ".app-20260130-235500.json.tmp", errno.EDQUOT),
        ("rename", ".app-20260130-235500.json.tmp", errno.EPERM),
    ],
)
def test_whatever_the_volume_refuses_with_comes_with_a_remedy(
    world: World, operation: str, name: str, error: int
) -> None:
    world.publish("app", NOW - 2 * HOUR)
    base = world.stage("app", NOW - 5 * MINUTE)
    name = name.replace("app-20260130-235500.dump", f".{base}.dump.staged")
    with Injector(once(operation, name, error, ALWAYS), world.root) as injector:
        ran = world.finish(NOW)
    assert any((call.operation, call.name) == (operation, name) for call in injector.calls), "nothing was refused"
    assert ran.code == 1, ran.out
    assert "app: remedy: " in ran.out, ran.out


def test_directory_in_the_place_of_a_temporary_file_is_named_and_not_the_file(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    (world.folder("app") / f".{base}.dump.pin.tmp").mkdir()
    ran = retention_here("pin", "--reason", "keep", world.folder("app") / f"{base}.dump")
    assert ran.code == 1
    assert f".{base}.dump.pin.tmp: Is a directory" in ran.err
    assert "move it away" in ran.err


def test_drill_of_an_archive_that_was_pruned_meanwhile_says_so(world: World) -> None:
    world.configure("app")
    base = world.publish("app", NOW - 2 * HOUR)
    (world.results / f"{base}.request").write_text(f"base={base}\n")
    (world.results / f"{base}.drill").write_text(f"database=app\nbase={base}\nstate=proved\n")
    for path in world.folder("app").glob(f"{base}*"):
        path.unlink()
    ran = retention_here("drill", "--config", world.config, "--results", world.results, "--now", NOW, world.root)
    assert f"warning: {base}.dump was proved, but is gone by now" in ran.out, ran.out
    assert ran.code == 0
