"""The one process outside the namespaces that outlives the test run, to leave nothing behind.

Started by `sandbox.Sandbox` as a script of its own, so that it holds nothing of the test run. It makes the node's
control groups, starts the namespaces (`init.py`), writes one line of JSON to standard output, and waits. When its
owner ends in whatever way, or closes standard input, it kills the namespaces' first process, which ends all others,
removes the control groups and the state folder, writes what it could not remove as a second line, and ends.
"""

import argparse
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLEANUP_SECONDS = 60.0
START_SECONDS = 60.0
# Each dies with its parent: unshare with this guard, and what is inside with unshare.
_DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"]
_NEW_NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--propagation", "private"]
_IN_NAMESPACES = [*_DIE_WITH_PARENT, *_NEW_NAMESPACES, "--fork", "--kill-child=SIGKILL"]


def cgroup_roots() -> list[Path]:
    """Return the mount points of all control group hierarchies, of version 1 and 2."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def make_cgroups(name: str) -> None:
    """Make the node's own group in every hierarchy; the kubelet puts those of all pods below it."""
    for root in cgroup_roots():
        delegating = root / "cgroup.subtree_control"
        if delegating.exists() and "memory" in (root / "cgroup.controllers").read_text():
            # Version 2 gives a group only those controllers that its parent hands down.
            delegating.write_text("+cpu +cpuset +io +memory +pids")
        group = root / name
        group.mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 starts with an empty set, in which nothing can run.
            if (root / setting).exists():
                (group / setting).write_text((root / setting).read_text())


def remove_cgroups(name: str, deadline: float) -> list[str]:
    """Remove the node's groups from the leaves up, as soon as they are empty; return those that are still there."""
    while True:
        left = []
        for root in cgroup_roots():
            for folder, _, _ in os.walk(root / name, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:
                    left.append(folder)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def await_disk(state: Path, deadline: float) -> list[str]:
    """Wait until the kernel has given the node's disk back, which it does a moment after the last process ended.

    The volumes on it are loop devices too, whose files keep it in use: with it they are gone.
    """
    while True:
        left = []
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                if backing.read_text().startswith(f"{state}/"):
                    left.append(f"/dev/{backing.parts[3]}")
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def sweep(nodes: Path) -> None:
    """Remove what a guard that was itself killed has left: its lock is free, and its namespaces ended with it."""
    for state in nodes.iterdir():
        lock = state / "lock"
        with contextlib.suppress(OSError), lock.open("r") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_cgroups(state.name, time.monotonic() + CLEANUP_SECONDS)
            shutil.rmtree(state, ignore_errors=True)


def _start_namespaces(state: Path) -> tuple[subprocess.Popen[bytes], int]:
    read, write = os.pipe()
    script = Path(__file__).with_name("init.py")
    with (state / "logs" / "init.log").open("ab") as log:
        unshare = subprocess.Popen(
            [*_IN_NAMESPACES, sys.executable, "-I", str(script), str(state), str(write)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[write],
        )
    os.close(write)
    readable, _, _ = select.select([read], [], [], START_SECONDS)
    answer = os.read(read, 4096).decode() if readable else ""
    os.close(read)
    if not answer.isdigit():
        unshare.kill()
        unshare.wait()
        raise RuntimeError("the namespaces did not come up: " + (state / "logs" / "init.log").read_text()[-1500:])
    return unshare, int(answer)


def _wait_for_end(owner: int, unshare: int, stopping: int) -> None:
    poll = select.poll()
    for descriptor in (owner, unshare, stopping, sys.stdin.fileno()):
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    poll.poll()


def _clean_up(state: Path, unshare: subprocess.Popen[bytes] | None, init: int | None) -> list[str]:
    deadline = time.monotonic() + CLEANUP_SECONDS
    left = []
    if unshare is not None:
        unshare.kill()
        unshare.wait()
    if init is not None and not select.select([init], [], [], CLEANUP_SECONDS)[0]:
        left.append("the first process of the namespaces")
    left += remove_cgroups(state.name, deadline)
    left += await_disk(state, deadline)
    shutil.rmtree(state, ignore_errors=True)
    return left + ([str(state)] if state.exists() else [])


def _say(message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


def main() -> int:
    """Guard one node from start to end; exit 1 when it did not come up or left something behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path, help="folder of the node; its name is that of the control groups")
    parser.add_argument("owner", type=int, help="descriptor of the owner's process (pidfd)")
    options = parser.parse_args()
    state: Path = options.state
    stopping, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    unshare = None
    init = None
    try:
        make_cgroups(state.name)
        unshare, pid = _start_namespaces(state)
        init = os.pidfd_open(pid)
        _say({"pid": pid})
        _wait_for_end(options.owner, os.pidfd_open(unshare.pid), stopping)
    except (OSError, RuntimeError) as error:
        _say({"error": str(error)})
    left = _clean_up(state, unshare, init)
    _say({"left": left})
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
