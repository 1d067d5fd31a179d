"""`verify`: damage that was found is never forgotten, whatever happens next to the archive while it is read."""

import errno

import pytest

from tests.faults.injector import ALWAYS, Call, Fault, Injector, once
from tests.retention.world import HOUR, T0, Ran, World, retention_here

NOW = T0 + 30 * 24 * HOUR


def _flip(world: World, base: str) -> None:
    path = world.folder("app") / f"{base}.dump"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


def _counts(world: World, base: str) -> bool:
    return f"{base}.dump" in retention_here("list", "--format", "names", world.root / "app").out


def verify(world: World) -> Ran:
    return retention_here("verify", "--lock-timeout", "1s", world.root)


@pytest.mark.parametrize("change", ["set", "replaced", "removed"])
def test_damage_is_no_longer_counted_though_the_pin_changes_while_it_is_read(world: World, change: str) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    world.publish("app", NOW - 4 * HOUR)
    pin = world.folder("app") / f"{base}.dump.pin"
    if change != "set":
        world.pin(base)
    _flip(world, base)

    def change_the_pin(call: Call) -> Fault:
        if call.operation == "read" and call.name == f"{base}.dump":
            if change == "removed":
                pin.unlink(missing_ok=True)
            else:
                pin.write_text('{"reason": "another"}')
        return None

    with Injector(change_the_pin, world.root):
        ran = verify(world)
    assert ran.code == 1, ran
    assert f"{base}.dump: bad" in ran.out
    assert not _counts(world, base)
    assert f"{base}.dump.bad" in world.names("app")


@pytest.mark.parametrize("name", ["{base}.dump", "{base}.json", "{base}.dump.sha256"])
@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO, errno.EACCES])
def test_damage_is_never_told_as_gone_though_the_second_look_fails(world: World, name: str, error: int) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    _flip(world, base)
    was_read = [False]

    def fail_after_reading(call: Call) -> Fault:
        was_read[0] |= call.operation == "read" and call.name == f"{base}.dump"
        looked = call.operation in ("stat", "open") and call.name == name.format(base=base)
        return error if looked and was_read[0] else None

    with Injector(fail_after_reading, world.root):
        ran = verify(world)
    assert ran.code == 1, ran
    assert f"{base}.dump: bad" in ran.out


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO, errno.EACCES, errno.ESTALE])
def test_archive_that_cannot_be_opened_is_unread_and_not_gone(world: World, error: int) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    with Injector(once("open", f"{base}.dump", error, ALWAYS), world.root):
        ran = verify(world)
    assert ran.code == 1, ran
    assert f"{base}.dump: unread" in ran.out


def test_archive_that_is_pruned_while_it_is_read_is_gone_and_no_failure(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    _flip(world, base)

    def prune(call: Call) -> Fault:
        if call.operation == "read" and call.name == f"{base}.dump":
            for path in world.folder("app").glob(f"{base}*"):
                path.unlink()
        return None

    with Injector(prune, world.root):
        ran = verify(world)
    assert ran.code == 0, ran
    assert f"{base}.dump: gone" in ran.out
