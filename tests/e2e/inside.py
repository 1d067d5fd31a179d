"""The node's network, from the process of the tests: a socket stays in the network in which it was made."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def enter(pid: int) -> None:
    """Move the calling thread, and no other, into the network of a process, for good.

    Raises:
        OSError: the process has ended, or the caller is not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open("rb") as network:
        if libc.setns(network.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"network of process {pid}")


def inside(pid: int, work: Callable[[], _T]) -> _T:
    """Do something in the network of a process, in a thread of its own, and give what it returns or raises."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def thread() -> None:
        try:
            enter(pid)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=thread, daemon=True)
    worker.start()
    worker.join()
    if errors:
        raise errors[0]
    return results[0]


def fetch(pid: int, url: str, seconds: float = 10, body: bytes | None = None) -> bytes:
    """What a URL of that network has, or answers to a body that is posted.

    Raises:
        OSError: it did not answer, or with an error.
    """

    def work() -> bytes:
        with _DIRECT.open(url, body, timeout=seconds) as answer:
            found: bytes = answer.read()
            return found

    return inside(pid, work)


class _Patient(ThreadingHTTPServer):
    """A server that lets its answers end before it does, and does not mind who hangs up."""

    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Server:
    """A server in the network of a process, run by threads of this one.

    Attributes:
        port: Its port, on all addresses of that network.
    """

    def __init__(self, pid: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = inside(pid, lambda: _Patient(("", 0), handler))
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
