"""A signal in the middle of a request: what the API server made is known, and taken back."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kubectl_cnpg_backup import interrupt
from kubectl_cnpg_backup.cluster.api import Cluster
from kubectl_cnpg_backup.commands.following import carry_out
from kubectl_cnpg_backup.interrupt import held
from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.model.objects import name_of
from kubectl_cnpg_backup.model.release import BACKUP
from kubectl_cnpg_backup.output.screen import Screen
from kubectl_cnpg_backup.session import Session
from tests.plugin.common import release
from tests.plugin.test_login import kubeconfig


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The plugin's handlers during a test, and those of pytest after it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    interrupt.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Server(ThreadingHTTPServer):
    """An API server that stops its client by a signal while it makes a Job, and notes what it has done."""

    number: signal.Signals
    done: list[str]
    signalled: threading.Event


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        os.kill(os.getpid(), self.server.number)
        # A client that gave up would have asked for the end of the Job by now.
        self.server.signalled.wait(0.3)
        self.server.done.append(f"made {job['metadata']['name']}")
        self._answer(201, job)

    def do_DELETE(self) -> None:
        name = self.path.split("?")[0].split("/")[-1]
        there = f"made {name}" in self.server.done
        self.server.done.append(f"deleted {name}" if there else f"no {name} yet")
        self.server.signalled.set()
        self._answer(200 if there else 404, {"kind": "Status", "apiVersion": "v1"})

    def _answer(self, code: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    found.done, found.signalled = [], threading.Event()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def session(folder: Path, server: Server) -> Session:
    cluster = Cluster.connect(kubeconfig(folder, server, {}), None, None)
    return Session(argparse.Namespace(release=""), cluster, Screen("table"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_job_that_is_made_while_the_plugin_is_stopped_is_taken_back_and_named(
    number: signal.Signals, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.number = number
    job = job_from(release().of(BACKUP)[0], "abc")
    with pytest.raises(KeyboardInterrupt):
        carry_out(session(tmp_path, server), [job])
    assert server.done == [f"made {name_of(job)}", f"deleted {name_of(job)}"]
    assert f"deleted job/{name_of(job)}; what it completed is kept" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_held_ends_the_block_that_surrounds_it(number: signal.Signals) -> None:
    steps: list[str] = []

    def inner() -> None:
        with held():
            signal.raise_signal(number)
            steps.append("inside")
        steps.append("between")

    def outer() -> None:
        with held():
            inner()
        steps.append("after")

    stopped(outer)
    assert steps == ["inside", "between"]


def test_a_second_signal_is_not_held() -> None:
    steps: list[str] = []

    def twice() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            steps.append("once")
            signal.raise_signal(signal.SIGINT)
            steps.append("twice")

    stopped(twice)
    assert steps == ["once"]


def stopped(work: Callable[[], None]) -> None:
    with pytest.raises(KeyboardInterrupt):
        work()
