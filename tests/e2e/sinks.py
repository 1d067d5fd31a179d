"""Services on the node that tests listen with: a dead-man's switch, a receiver of alerts, and what rules ask for."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from kubernetes import client

from tests.e2e.inside import Server
from tests.e2e.node import Node

_CHECK = re.compile(r"/(?P<check>[0-9a-f-]{36})(?P<kind>/start|/fail|/log|/\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Ping:
    """A sign of life.

    Attributes:
        at: When it came, by `time.monotonic`.
        check: The check's uuid.
        failed: Whether it says that something is wrong.
        body: What it says.
    """

    at: float
    check: str
    failed: bool
    body: str


class DeadMan:
    """A dead-man's switch in the protocol of healthchecks.io: `/UUID` and `/UUID/fail`; anything else is not found."""

    def __init__(self, pid: int) -> None:
        self.pings: list[Ping] = []
        switch = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = _CHECK.fullmatch(self.path)
                if found:
                    failed = found["kind"] in ("/fail", *(f"/{code}" for code in range(1, 256)))
                    switch.pings.append(Ping(time.monotonic(), found["check"], failed, body.decode()))
                answer = b"OK" if found else b"(not found)"
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = Server(pid, Handler)
        self.port = self._server.port

    def of(self, check: str, since: float = 0) -> list[Ping]:
        """The signs of life of a check, from a moment on."""
        return [ping for ping in list(self.pings) if ping.check == check and ping.at >= since]

    def close(self) -> None:
        """End it."""
        self._server.close()


Key = tuple[str, str, str]
"""An alert: its name, its release, and the database or CronJob that it is about; of neither, an empty text."""


def key_of(labels: Mapping[str, str]) -> Key:
    """The alert that has these labels."""
    return labels["alertname"], labels["release"], labels.get("database") or labels.get("cronjob") or ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An alert that has arrived.

    Attributes:
        at: When it came, by `time.monotonic`.
        resolved: Whether it says that it is over.
        alert: The alert as Alertmanager's webhook has it.
    """

    at: float
    resolved: bool
    alert: Mapping[str, Any]


class Receiver:
    """A receiver of Alertmanager's webhooks."""

    def __init__(self, pid: int) -> None:
        self.deliveries: list[Delivery] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                now = time.monotonic()
                for alert in message["alerts"]:
                    receiver.deliveries.append(Delivery(now, alert["status"] == "resolved", alert))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = Server(pid, Handler)
        self.port = self._server.port

    def of(self, key: Key, *, resolved: bool, since: float = 0) -> list[Delivery]:
        """What has arrived of an alert, from a moment on."""
        return [
            one
            for one in list(self.deliveries)
            if one.resolved == resolved and one.at >= since and key_of(one.alert["labels"]) == key
        ]

    def close(self) -> None:
        """End it."""
        self._server.close()


class KubeState:
    """Those stable metrics of kube-state-metrics that the chart's rules ask for, of the CronJobs of a real API server.

    It stands in for kube-state-metrics, whose module the Go proxy does not serve. Like that it goes on with what it has
    seen last while the API server is away. It shows that names, labels and values of the rules fit a real cluster; that
    the real one exports the same is its documentation's word.
    """

    def __init__(self, node: Node) -> None:
        self._batch = client.BatchV1Api(node.client)
        self._seen = ""
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.metrics().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = Server(node.pid, Handler)
        self.port = self._server.port

    def metrics(self) -> str:
        """The metrics of all CronJobs."""
        try:
            found: list[Any] = self._batch.list_cron_job_for_all_namespaces(_request_timeout=2).items
        except Exception:  # the client raises what urllib3 does, too
            return self._seen
        lines = []
        for cronjob in found:
            labels = f'namespace="{cronjob.metadata.namespace}",cronjob="{cronjob.metadata.name}"'
            success = cronjob.status.last_successful_time if cronjob.status else None
            info = f'{labels},schedule="{cronjob.spec.schedule}",concurrency_policy="{cronjob.spec.concurrency_policy}"'
            lines += [
                f"kube_cronjob_info{{{info}}} 1",
                f"kube_cronjob_created{{{labels}}} {cronjob.metadata.creation_timestamp.timestamp()}",
                f"kube_cronjob_spec_suspend{{{labels}}} {int(bool(cronjob.spec.suspend))}",
            ]
            if success is not None:
                lines.append(f"kube_cronjob_status_last_successful_time{{{labels}}} {success.timestamp()}")
        self._seen = "".join(f"{line}\n" for line in lines)
        return self._seen

    def close(self) -> None:
        """End it."""
        self._server.close()
