"""Files that are pipes or devices, and texts that a terminal would obey: nothing blocks, nothing is obeyed."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retention.names import Kind, file_name
from tests.faults.injector import ALWAYS, Injector, once
from tests.retention.world import HOUR, REPOSITORY, T0, World, retention_here

NOW = T0 + 30 * 24 * HOUR
MINUTE = HOUR / 60
ESCAPES = "\x1b[31mred\x1b[0m \x07 \x9b2J \u202egnp\u2028 next"


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _link_to_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own: one that waits for a pipe can be ended."""
    line = [sys.executable, "-m", "retention", *map(str, arguments)]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("make", [_pipe, _link_to_device])
@pytest.mark.parametrize("name", ["aaa.result", "aaa.conf", "aaa.policy.json"])
def test_pipe_or_device_in_the_place_of_a_file_blocks_no_run(
    world: World, name: str, make: Callable[[Path], None]
) -> None:
    world.configure("aaa")
    world.stage("aaa", NOW - 5 * MINUTE)
    base = world.stage("app", NOW - 5 * MINUTE)
    make((world.results if name.endswith(".result") else world.config) / name)
    ran = _run(*world.finish_arguments(NOW))
    assert ran.returncode == 1, ran
    assert f"{name}: not a regular file" in ran.stdout
    assert f"{base}.dump" in world.archives("app")


@pytest.mark.parametrize("make", [_pipe, _link_to_device])
@pytest.mark.parametrize(
    "name",
    [
        "status.json",
        ".reserve",
        "app/{old}.json",
        "app/{old}.dump.sha256",
        "app/{old}.drill.json",
        "app/.{new}.dump.staged",
    ],
)
def test_pipe_or_device_on_the_volume_blocks_no_command(world: World, name: str, make: Callable[[Path], None]) -> None:
    old, newer = world.publish("app", NOW - 4 * HOUR), world.publish("app", NOW - 2 * HOUR)
    new = world.stage("app", NOW - 5 * MINUTE)
    make(world.root / name.format(old=old, new=new))
    _run(*world.finish_arguments(NOW))
    for command in ("list", "status", "verify", "prune", "plan"):
        assert _run(command, world.root).returncode in (0, 1), command
    options = ("--now", NOW.isoformat(), "--database", "app", "--requests", world.results)
    assert _run("choose", *options, "--backup", newer, world.root).returncode == 0
    assert {f"{newer}.dump", f"{old}.dump"} <= world.names("app")


@pytest.mark.parametrize("name", ["app-20260130-220000.drill", "app-20260130-220000.request", "app.unchosen"])
def test_pipe_in_the_place_of_a_result_blocks_no_drill(world: World, name: str) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    (world.results / f"{base}.request").write_text("a=b\n")
    _pipe(world.results / name)
    options = ("--config", world.config, "--results", world.results, "--now", NOW.isoformat())
    ran = _run("drill", *options, world.root)
    assert ran.returncode == 1, ran
    ran = _run("choose", "--drill", world.config, "--requests", world.results, "--now", NOW.isoformat(), world.root)
    assert ran.returncode == 0, ran


def test_pipe_in_the_place_of_the_policy_or_the_termination_message_blocks_nothing(world: World) -> None:
    world.publish("app", NOW - 2 * HOUR)
    _pipe(world.config / "policy.json")
    ran = _run("plan", "--policy", world.config / "policy.json", world.root / "app")
    assert (ran.returncode, "not a regular file" in ran.stderr) == (2, True)
    world.fail("app")
    _pipe(world.termination_log)
    assert _run(*world.finish_arguments(NOW)).returncode == 1


def _harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_text_from_the_volume_is_never_obeyed_by_a_terminal(world: World) -> None:
    warning = ESCAPES.replace("\u2028", " ")
    base = world.stage("app", NOW - 5 * MINUTE, report=False)
    result = world.folder("app") / file_name(base, Kind.STAGED_RESULT)
    result.write_text(f"{result.read_text()}warning={warning}\n")
    world.fail("app", {"error": warning, "remedy": warning})
    ran = world.finish(NOW)
    assert _harmless(ran.out + ran.err)
    assert "red" in ran.out
    message = world.termination_log.read_text()
    assert "red" in message
    assert _harmless(message)
    world.pin(base, json.dumps({"reason": ESCAPES}))
    (world.folder("app") / f"{base}.drill.json").write_text(json.dumps({"result": ESCAPES, ESCAPES: ESCAPES}))
    (world.folder("app") / f"{base}{ESCAPES.split('/')[0]}").write_text("")
    for command in ("list", "status", "plan", "verify"):
        for form in ("text", "json"):
            ran = retention_here(command, "--format", form, world.root)
            assert _harmless(ran.out + ran.err), f"{command} {form}: {ran}"
            if form == "json":
                json.loads(ran.out)


def test_text_of_a_drill_is_never_obeyed_by_a_terminal(world: World) -> None:
    base = world.publish("app", NOW - 2 * HOUR)
    (world.results / f"{base}.request").write_text("a=b\n")
    text = f"database=app\nbase={base}\nstate=failed\nerror={ESCAPES}\nremedy={ESCAPES}\nwarning={ESCAPES}\n"
    (world.results / f"{base}.drill").write_text(text)
    options = ("--config", world.config, "--results", world.results, "--now", NOW.isoformat())
    ran = retention_here("drill", *options, "--termination-log", world.termination_log, world.root)
    assert ran.code == 1
    assert _harmless(ran.out + ran.err + world.termination_log.read_text())


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("command", ["finish", "pin", "unpin", "prune", "adopt", "verify"])
def test_sync_that_fails_is_a_failure(world: World, command: str, error: int) -> None:
    """Whatever is said to be done is on the disk."""
    for index in range(18):
        base = world.publish("app", NOW - 2 * index * HOUR - MINUTE)
    world.pin(base)
    archive = world.folder("app") / f"{base}.dump"
    if command == "finish":
        world.stage("app", NOW - MINUTE / 2)
    at = ("--now", NOW.isoformat())
    commands: dict[str, list[object]] = {
        "finish": [*world.finish_arguments(NOW)],
        "pin": ["pin", *at, archive],
        "unpin": ["unpin", *at, archive],
        "prune": ["prune", *at, world.root / "app"],
        "verify": ["verify", *at, archive],
        "adopt": ["adopt", *at, "--results", world.results, world.root / "app"],
    }
    if command == "adopt":
        content = archive.read_bytes()
        sums = (world.folder("app") / f"{base}.dump.sha256").read_text().split()[0]
        for suffix in (".json", ".dump.sha256"):
            (world.folder("app") / f"{base}{suffix}").unlink()
        text = f"database=app\nbase={base}\nstate=whole\nbytes={len(content)}\nsha256={sums}\ntables=3\n"
        (world.results / f"{base}.adopt").write_text(text)
    with Injector(lambda call: error if call.operation == "fsync" else None, world.root / "app"):
        ran = retention_here(*commands[command])
    assert ran.code == 1, ran
    assert os.strerror(error) in ran.out + ran.err


def test_sync_of_a_restores_pin_that_fails_is_said(world: World) -> None:
    world.publish("app", NOW - 2 * HOUR)
    options = ("--now", NOW, "--database", "app", "--requests", world.results)
    with Injector(once("fsync", "app", errno.EIO, ALWAYS), world.root):
        ran = retention_here("choose", *options, world.root)
    assert "could not be pinned" in ran.out
