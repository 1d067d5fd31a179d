"""Services that are notified: HTTP servers on loopback that refuse what the real ones refuse."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class PatientServer(ThreadingHTTPServer):
    """A server that does not mind a client which hangs up, or does not trust it."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Sink:
    """A server that keeps what is posted.

    Attributes:
        paths: Where it was posted.
        bodies: What was posted.
        headers: With which headers.
        status: What it answers, unless the protocol has something to complain about.
        location: Where it redirects to; empty for nowhere.
        hang: While it is not set, requests wait.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status, self.location = 200, ""
        self.hang = threading.Event()
        self.hang.set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.hang.wait(30)
                wrong = complaint(self.path, body)
                sink.bodies.append(body)
                sink.paths.append(self.path)
                sink.headers.append(dict(self.headers))
                self.send_response(400 if wrong else sink.status)
                if sink.location:
                    self.send_header("Location", sink.location)
                self.end_headers()
                self.wfile.write(wrong.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = PatientServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-uuid"

    def documents(self, under: str) -> list[Any]:
        """What was posted to a path, as JSON."""
        return [json.loads(body) for path, body in zip(self.paths, self.bodies, strict=True) if path == under]

    def close(self) -> None:
        self.hang.set()
        self.server.shutdown()
        self.server.server_close()


def complaint(path: str, body: bytes) -> str:
    """What the service behind a path would refuse; empty for nothing."""
    if path == "/slack":
        # Discord's limit, the least of all that speak this protocol; Slack itself wants a text.
        found = json.loads(body)
        return "" if set(found) == {"text"} and 0 < len(found["text"]) <= 2000 else "invalid_payload"
    if path == "/ntfy/":
        found = json.loads(body)
        known = {"topic", "title", "message", "priority", "tags", "click"}
        right = bool(found["topic"]) and set(found) <= known and 1 <= found["priority"] <= 5
        return "" if right and len(found["message"].encode()) <= 4096 else "invalid request"
    if path == "/am/api/v2/alerts":
        for alert in json.loads(body):
            if not alert["labels"].get("alertname") or not all(alert["labels"].values()):
                return "no name, or an empty label"
            if not datetime.fromisoformat(alert["startsAt"]) <= datetime.fromisoformat(alert["endsAt"]):
                return "start time must be before end time"
    return ""


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()
