"""The node's namespaces, as their owner sees them."""

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.node import guard
from tests.e2e.node.errors import NodeError
from tests.e2e.node.paths import cache


class Sandbox:
    """Private network, mount, process, IPC and host name namespaces, and control groups, that end with their owner.

    Attributes:
        state: folder of the node, seen from inside and outside: `logs`, certificates, configuration. `disk` below it is
            mounted inside only. The folder is gone after `stop`.
    """

    def __init__(self) -> None:
        self.state = Path()
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def name(self) -> str:
        """Name of the control groups."""
        return self.state.name

    @property
    def pid(self) -> int:
        """Process id, outside, of the first process inside."""
        return self._pid

    @property
    def guard_pid(self) -> int | None:
        """Process id of the guard while it is there."""
        return None if self._guard is None else self._guard.pid

    def start(self) -> None:
        """Make the namespaces.

        Raises:
            NodeError: they did not come up; the message says why.
        """
        nodes = cache("nodes")
        with (nodes / ".lock").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            guard.sweep(nodes)
            self.state = Path(tempfile.mkdtemp(prefix="node-", dir=nodes))
            # The guard inherits the lock, and holds it to its end.
            lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
        (self.state / "logs").mkdir()
        owner = os.pidfd_open(os.getpid())
        log = os.open(self.state / "logs" / "guard.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, str(self.state), str(owner)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, pass_fds=[owner, lock],
                start_new_session=True, cwd="/",
            )  # fmt: skip
        finally:
            os.close(log)
            os.close(owner)
            os.close(lock)
        answer = self._hear(guard.START_SECONDS + 10)
        if "pid" not in answer:
            error = answer.get("error", "the guard of the namespaces died")
            self.stop()
            raise NodeError(str(error))
        self._pid = int(str(answer["pid"]))

    def stop(self) -> None:
        """End everything inside and remove every trace; does nothing when that was done before.

        Raises:
            NodeError: something is left; the message names it.
        """
        process, self._guard = self._guard, None
        if process is None:
            return
        try:
            # Closes the guard's standard input.
            output = process.communicate(timeout=guard.CLEANUP_SECONDS * 2 + 10)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise NodeError(
                f"the guard of node {self.name} (process {process.pid}) did not end and was killed"
            ) from None
        left: list[str] = []
        for line in output.splitlines():
            with contextlib.suppress(ValueError):
                left += json.loads(line).get("left", [])
        if process.returncode or left:
            raise NodeError(f"node {self.name} left behind: {', '.join(left) or 'unknown'}")

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command inside; absolute paths, the working directory is not kept."""
        return ["nsenter", "-t", str(self._pid), "-n", "-m", "-p", "-i", "-u", "--", *command]

    def _hear(self, seconds: float) -> dict[str, object]:
        if self._guard is None or self._guard.stdout is None:
            return {}
        if not select.select([self._guard.stdout], [], [], seconds)[0]:
            return {"error": f"the namespaces did not come up within {seconds:g} s"}
        try:
            # Unbuffered: `communicate` must find what follows.
            line = b""
            while not line.endswith(b"\n") and (byte := os.read(self._guard.stdout.fileno(), 1)):
                line += byte
            answer = json.loads(line)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}
