"""`python -m tests.e2e.node build|up|down|status|shell`: a node to play with."""

import argparse
import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.node import addons, images, machine
from tests.e2e.node.components import TOOLS
from tests.e2e.node.errors import NodeError
from tests.e2e.node.node import Node
from tests.e2e.node.paths import REPOSITORY, cache
from tests.e2e.node.pins import build

_START_SECONDS = 600
_STOP_SECONDS = 180


def _record() -> Path:
    return cache("nodes") / "cluster.json"


def _running() -> dict[str, Any] | None:
    """Return what the process that keeps the node up has written, if it still runs."""
    try:
        found = json.loads(_record().read_text())
        command = Path(f"/proc/{found['keeper']}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return found if b"tests.e2e.node" in command else None


def _describe(found: dict[str, Any]) -> None:
    print(
        f"A node is up.\n"
        f"  use it     export KUBECONFIG={found['kubeconfig']} PATH={found['kubectl']}:$PATH\n"
        f"             or, in a shell of its own: python -m tests.e2e.node shell\n"
        f"  enter it   {found['enter']} /bin/bash\n"
        f"  its logs   {found['logs']}\n"
        f"  stop it    python -m tests.e2e.node down"
    )


def up() -> int:
    """Bring a node up that stays, and say how to use and stop it."""
    found = _running()
    if found is None:
        prepare()
        found = _start_keeper()
    _describe(found)
    return 0


def _start_keeper() -> dict[str, Any]:
    logging.info("starting the node")
    read, write = os.pipe()
    log = cache("nodes") / "cluster.log"
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.node", "keep", str(write)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[write], start_new_session=True,
            cwd=REPOSITORY,
        )  # fmt: skip
    os.close(write)
    try:
        readable = select.select([read], [], [], _START_SECONDS)[0]
        answer = json.loads(os.read(read, 1 << 16) or b"{}") if readable else {"error": "the node took too long"}
    except BaseException:
        keeper.terminate()
        raise
    finally:
        os.close(read)
    if "keeper" not in answer:
        keeper.terminate()
        raise NodeError(answer.get("error") or f"the process that keeps the node up has ended: see {log}")
    return dict(answer)


def keep(descriptor: int) -> int:
    """Own a node until told to stop (SIGTERM); the process behind `up`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    node = Node()
    try:
        node.start()
    except NodeError as error:
        os.write(descriptor, json.dumps({"error": str(error)}).encode())
        return 1
    found = {
        "keeper": os.getpid(),
        "kubeconfig": str(node.kubeconfig),
        "kubectl": str(build("kubernetes")),
        "enter": " ".join(node.enter()),
        "logs": str(node.state / "logs"),
        "timings": node.timings,
    }
    _record().write_text(json.dumps(found))
    os.write(descriptor, json.dumps(found).encode())
    os.close(descriptor)
    try:
        signal.sigwait({signal.SIGTERM})
    finally:
        _record().unlink(missing_ok=True)
        node.stop()
    return 0


def down() -> int:
    """Stop the node that `up` has started, and wait until it is gone."""
    found = _running()
    if found is None:
        print("no node is up")
        return 0
    with contextlib.suppress(ProcessLookupError):
        keeper = os.pidfd_open(found["keeper"])
        signal.pidfd_send_signal(keeper, signal.SIGTERM)
        if not select.select([keeper], [], [], _STOP_SECONDS)[0]:
            raise NodeError(
                f"the node was told to stop and did not within {_STOP_SECONDS} s: process {found['keeper']}"
            )
    print("the node is gone")
    return 0


def status() -> int:
    """Say whether a node is up; exit 1 when none is."""
    found = _running()
    if found is None:
        print("no node is up")
        return 1
    _describe(found)
    return 0


def prepare() -> int:
    """Install what a node needs on this machine, and build what the cache lacks; or say in one line what is missing."""
    machine.require()
    for tool in TOOLS:
        build(tool)
    cnpg = images.wanted_cnpg()
    images.build(images.of_node(cnpg, with_kyverno=True))
    addons.prepare(cnpg, with_kyverno=True)
    return 0


def shell() -> int:
    """Run the user's shell with KUBECONFIG and PATH set."""
    found = _running()
    if found is None:
        raise NodeError("no node is up: python -m tests.e2e.node up")
    path = f"{found['kubectl']}:{os.environ.get('PATH', os.defpath)}"
    if (REPOSITORY / "tools" / "helm").is_dir():
        path = f"{build('helm')}:{path}"
    env = {**os.environ, "KUBECONFIG": found["kubeconfig"], "PATH": path}
    return subprocess.run([os.environ.get("SHELL", "/bin/sh")], env=env, check=False).returncode


def main() -> int:
    """Run one command; errors are one message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.node", description=__doc__)
    commands = {"build": prepare, "up": up, "down": down, "status": status, "shell": shell}
    choices = parser.add_subparsers(dest="command", required=True)
    for name, command in commands.items():
        choices.add_parser(name, help=(command.__doc__ or "").partition("\n")[0])
    choices.add_parser("keep").add_argument("descriptor", type=int)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return keep(options.descriptor) if options.command == "keep" else commands[options.command]()
    except NodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
