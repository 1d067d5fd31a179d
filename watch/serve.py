"""The watcher itself: reads the API server every half minute, remembers, and serves what it knows."""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from watch import metrics, status
from watch.api import ApiError
from watch.memory import Memory, from_json, learn, to_json
from watch.objects import read_cronjobs, read_runs
from watch.server import Document
from watch.settings import Settings, read
from watch.standing import Standing, judge

PERIOD_SECONDS = 30
_KEY = "memory.json"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


class Cluster(Protocol):
    """What is needed of the API server: see `watch.api.Api`."""

    def list(self, group: str, kind: str, selector: str) -> list[object]: ...  # noqa: D102
    def read_config_map(self, name: str) -> dict[str, str]: ...  # noqa: D102
    def write_config_map(self, name: str, data: dict[str, str]) -> None: ...  # noqa: D102


@dataclass
class Watcher:
    """Reads, remembers and answers.

    Attributes:
        settings: What is watched.
        api: The API server.
    """

    settings: Settings
    api: Cluster
    _memory: Memory | None = None
    _saved: str = ""
    # One value, since another thread reads it.
    _seen: tuple[Standing, datetime | None] = field(default_factory=lambda: (Standing((), ()), None))

    def step(self, now: datetime) -> None:
        """Look at the API server once; what cannot be read leaves everything as it was, and older.

        Raises:
            ApiError: When it could not be read, or when what was learned could not be saved.
        """
        its = self.settings
        selector = f"app.kubernetes.io/name=cnpg-backup,app={its.release}"
        if self._memory is None:
            # Without it, what is remembered would be overwritten with less.
            self._saved = self.api.read_config_map(its.memory).get(_KEY, "")
            self._memory = from_json(self._saved)
        cronjobs = read_cronjobs(self._list("apis/batch/v1", "cronjobs", selector))
        # Pods after their Jobs: a Job that has ended has its pod's message, if the pod is still there.
        jobs = self._list("apis/batch/v1", "jobs", selector)
        runs = read_runs(jobs, self._list("api/v1", "pods", selector), cronjobs)
        self._memory = learn(self._memory, runs, its.configured, its.drilled)
        standing = judge(
            cronjobs,
            runs,
            self._memory,
            its.configured,
            now=now,
            stale_after=its.stale_after,
            zones=_zones(its.zones),
        )
        self._seen = standing, now
        text = to_json(self._memory)
        if text != self._saved:
            self.api.write_config_map(its.memory, {_KEY: text})
            self._saved = text

    def _list(self, group: str, kind: str, selector: str) -> list[Mapping[str, object]]:
        return [item for item in self.api.list(group, kind, selector) if isinstance(item, Mapping)]

    def documents(self) -> Mapping[str, Document]:
        """Return what is served, by path."""
        its, (standing, at) = self.settings, self._seen
        text = metrics.render(standing, namespace=its.namespace, release=its.release, version=its.version, read=at)
        found = status.document(standing, namespace=its.namespace, release=its.release, read=at)
        return {
            "/metrics": Document(text.encode(errors="replace"), metrics.CONTENT_TYPE),
            "/status.json": Document(found.encode(errors="replace"), _JSON),
            # The port answers: how the backups are is not how the watcher is.
            "/healthz": Document(b"ok\n", _TEXT),
        }

    def run(self, stop: threading.Event) -> None:
        """Look at the API server until it is stopped."""
        while not stop.is_set():
            try:
                self.step(datetime.now(UTC))
            except ApiError as error:
                print(f"the API server could not be read: {error}", file=sys.stderr, flush=True)
            stop.wait(PERIOD_SECONDS)


def _zones(names: frozenset[str]) -> dict[str, tzinfo]:
    found: dict[str, tzinfo] = {}
    for name in names:
        try:
            found[name] = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            # An image without time zones: nothing but the next run is missing.
            continue
    return found


def read_settings(folder: Path) -> Settings:
    """Return the settings in a folder: `watch.json`, and a folder for each CronJob.

    Raises:
        ConfigError: When they are not valid.
        OSError: When they cannot be read.
    """
    files = {
        path.name: {one.name: one.read_text() for one in sorted(path.iterdir()) if one.is_file()}
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
    return read((folder / "watch.json").read_text(), files)
