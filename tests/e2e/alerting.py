"""A real Prometheus and a real Alertmanager on the node, with the rules that the chart renders."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.e2e.inside import fetch
from tests.e2e.node import Node, wait_until
from tests.e2e.node.components import API_PORT
from tests.e2e.release import Release
from tests.e2e.sinks import Key, KubeState, Receiver, key_of
from tests.lab import chart
from tests.lab.tools import program

LASTING = 3
UNREAD = 60
EVERY = "2s"
"""How often Prometheus reads, and judges."""
_PROMETHEUS, _ALERTMANAGER = 19090, 19093
_SERVED = "monitoring.coreos.com/v1"


def quick(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule that does not take hours: the same, but for two kinds of times.

    `for` becomes LASTING, so that what has to last an hour does not. A watcher that has not read the API server is down
    after UNREAD seconds in place of 15 minutes; it looks every 30 seconds. How long both really are, promtool shows in
    tests/chart/test_alerts.py. All else is as rendered.
    """
    expr = rule["expr"]
    if rule["alert"] == "CnpgBackupStatusDown":
        expr, count = re.subn(r"> 900$", f"> {UNREAD}", expr)
        assert count == 1, expr
    return {**rule, "expr": expr, "for": f"{LASTING}s"}


def rendered(release: Release) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rules of a release, and its PodMonitor: as the chart renders them where Prometheus' operator is."""
    objects = chart.render(
        chart.merge(release.values, {"monitoring": {"rules": {"enabled": True}, "monitor": {"enabled": True}}}),
        release=release.name,
        namespace=release.namespace,
        api_versions=(_SERVED,),
    )
    (rules,) = (one for one in objects if one["kind"] == "PrometheusRule")
    (monitor,) = (one for one in objects if one["kind"] == "PodMonitor")
    return [quick(rule) for group in rules["spec"]["groups"] for rule in group["rules"]], monitor


def _job(monitor: Mapping[str, Any], kubeconfig: Path) -> dict[str, Any]:
    """What Prometheus' operator makes of a PodMonitor."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    namespace, name = monitor["metadata"]["namespace"], monitor["metadata"]["name"]
    selector = ",".join(f"{key}={value}" for key, value in monitor["spec"]["selector"]["matchLabels"].items())
    return {
        "job_name": f"podMonitor/{namespace}/{name}/0",
        "honor_labels": endpoint["honorLabels"],
        "metrics_path": endpoint["path"],
        "kubernetes_sd_configs": [
            {
                "role": "pod",
                "kubeconfig_file": str(kubeconfig),
                "namespaces": {"names": [namespace]},
                "selectors": [{"role": "pod", "label": selector}],
            }
        ],
        "relabel_configs": [
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            {
                "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                "regex": endpoint["port"],
                "action": "keep",
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
    }


class Alerting:
    """What Prometheus finds, and what Alertmanager delivers.

    Attributes:
        received: What has arrived.
    """

    def __init__(self, pid: int, received: Receiver) -> None:
        self._pid = pid
        self._intervals: dict[Key, list[tuple[float, float | None]]] = {}
        self._ended = threading.Event()
        self.received = received
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            with suppress(OSError, ValueError, KeyError):
                found = json.loads(fetch(self._pid, f"http://127.0.0.1:{_PROMETHEUS}/api/v1/alerts", 5))
                firing = {key_of(one["labels"]) for one in found["data"]["alerts"] if one["state"] == "firing"}
                self._note(firing, time.monotonic())

    def _note(self, firing: set[Key], now: float) -> None:
        for key in firing | set(self._intervals):
            spans = self._intervals.setdefault(key, [])
            goes_on = bool(spans) and spans[-1][1] is None
            if key in firing and not goes_on:
                spans.append((now, None))
            elif key not in firing and goes_on:
                spans[-1] = (spans[-1][0], now)

    def intervals(self, key: Key) -> Sequence[tuple[float, float | None]]:
        """When an alert began and ended to fire, by `time.monotonic`."""
        return list(self._intervals.get(key, ()))

    @property
    def fired(self) -> set[Key]:
        """All alerts that have ever fired."""
        return set(self._intervals)

    def firing(self) -> set[Key]:
        """The alerts that fire now."""
        return {key for key, spans in list(self._intervals.items()) if spans and spans[-1][1] is None}

    def wait_delivered(self, keys: Iterable[Key], seconds: float, since: float = 0) -> None:
        """Wait until these alerts fire and have arrived.

        Raises:
            NodeError: not all of them did; the message names those.
        """
        self._wait("firing and delivered", keys, seconds, lambda key: self._has_come(key, since))

    def wait_over(self, keys: Iterable[Key], seconds: float, since: float = 0) -> None:
        """Wait until these alerts have ended since a moment, and that has arrived.

        Raises:
            NodeError: not all of them did; the message names those.
        """
        self._wait("over and delivered as such", keys, seconds, lambda key: self._is_over(key, since))

    def _has_come(self, key: Key, since: float) -> bool:
        return key in self.firing() and bool(self.received.of(key, resolved=False, since=since))

    def _is_over(self, key: Key, since: float) -> bool:
        ended = any(end is not None and end >= since for _, end in self.intervals(key))
        return ended and bool(self.received.of(key, resolved=True, since=since))

    def _wait(self, what: str, keys: Iterable[Key], seconds: float, done: Any) -> None:
        wanted = list(keys)
        missing: list[Key] = []

        def all_done() -> bool:
            missing[:] = [key for key in wanted if not done(key)]
            return not missing

        try:
            wait_until(f"alerts are {what}", all_done, seconds)
        except Exception as error:
            error.add_note(f"these are not: {missing}; firing: {sorted(self.firing())}")
            raise

    def series(self, query: str) -> list[dict[str, Any]]:
        """What Prometheus answers to a query, now."""
        text = fetch(self._pid, f"http://127.0.0.1:{_PROMETHEUS}/api/v1/query?query={quote(query)}")
        result: list[dict[str, Any]] = json.loads(text)["data"]["result"]
        return result

    def close(self) -> None:
        """Look no more."""
        self._ended.set()


@contextmanager
def alerting(node: Node, *releases: Release, backed_up: int = 1) -> Iterator[Alerting]:
    """Prometheus, with the rules of these releases, and Alertmanager.

    Args:
        node: Where they run.
        releases: Those whose watchers are read.
        backed_up: How many databases have a backup by now; the rules count from when the watchers know them.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alerting-")))
        kube, received = KubeState(node), Receiver(node.pid)
        stack.callback(kube.close)
        stack.callback(received.close)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.touch(0o600)
        own = re.sub(r"https://127\.0\.0\.1:\d+", f"https://127.0.0.1:{API_PORT}", node.kubeconfig.read_text())
        kubeconfig.write_text(own)
        every = [rendered(release) for release in releases]
        groups = [
            {"name": release.name, "interval": EVERY, "rules": rules}
            for release, (rules, _) in zip(releases, every, strict=True)
        ]
        (folder / "rules.json").write_text(json.dumps({"groups": []}))
        jobs = [_job(monitor, kubeconfig) for _, monitor in every]
        jobs.append(
            {
                "job_name": "kube-state-metrics",
                "honor_labels": True,
                "static_configs": [{"targets": [f"127.0.0.1:{kube.port}"]}],
            }
        )
        prometheus = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(folder / "rules.json")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{_ALERTMANAGER}"]}]}]},
            "scrape_configs": jobs,
        }
        (folder / "prometheus.json").write_text(json.dumps(prometheus))
        one_by_one = ["alertname", "release", "database", "cronjob"]
        alertmanager = {
            "route": {"receiver": "sink", "group_by": one_by_one, "group_wait": "1s", "group_interval": "1s"},
            "receivers": [
                {
                    "name": "sink",
                    "webhook_configs": [{"url": f"http://127.0.0.1:{received.port}/", "send_resolved": True}],
                }
            ],
        }
        (folder / "alertmanager.json").write_text(json.dumps(alertmanager))
        commands = (
            (
                program("alertmanager"), f"--config.file={folder}/alertmanager.json", f"--storage.path={folder}/am",
                f"--web.listen-address=127.0.0.1:{_ALERTMANAGER}", "--cluster.listen-address=",
            ),
            (
                program("prometheus"), f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/db",
                f"--web.listen-address=127.0.0.1:{_PROMETHEUS}", "--web.enable-lifecycle",
            ),
        )  # fmt: skip
        for command in commands:
            log = stack.enter_context((node.state / "logs" / f"{Path(command[0]).name}.log").open("wb"))
            process = subprocess.Popen(
                node.enter("/usr/bin/setpriv", "--pdeathsig", "KILL", *command),
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
        for port in (_ALERTMANAGER, _PROMETHEUS):
            wait_until(f"127.0.0.1:{port} is ready", lambda port=port: _ready(node.pid, port), 60)  # type: ignore[misc]
        found = Alerting(node.pid, received)
        stack.callback(found.close)
        # Before the first read there is no watcher, which would be an alert.
        read = "max by (release) (cnpg_backup_status_read_timestamp_seconds)"
        wait_until("Prometheus has read the watchers", lambda: len(found.series(read)) == len(releases), 120)
        newest = "cnpg_backup_newest_timestamp_seconds"
        wait_until("the watchers know the backups", lambda: len(found.series(newest)) >= backed_up, 120)
        (folder / "rules.json").write_text(json.dumps({"groups": groups}))
        fetch(node.pid, f"http://127.0.0.1:{_PROMETHEUS}/-/reload", body=b"")
        yield found


def _ready(pid: int, port: int) -> bool:
    try:
        return bool(fetch(pid, f"http://127.0.0.1:{port}/-/ready", 5))
    except OSError:
        return False
