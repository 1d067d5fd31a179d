"""The watcher itself: reads the API server every half minute, remembers, and serves what it knows."""

import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from watch import metrics, page, problems, status
from watch.api import ApiError
from watch.couriers import Couriers, Now
from watch.events import EVENTS, Involved, events_of
from watch.memory import Memory, from_json, learn, to_json
from watch.notices import Notice
from watch.objects import CronJob, Run, read_cronjobs, read_runs
from watch.ping import ping_for
from watch.sender import SendError
from watch.server import Document
from watch.settings import Settings
from watch.standing import Standing, judge

_PERIOD = timedelta(seconds=30)
_KEY = "memory.json"
_NOTIFIED = "notified.json"
TEST, TESTED = "notify-test", "notify-tested.json"
"""Keys of the ConfigMap: what `kubectl cnpg-backup notify --test` asks for, and what became of it."""
_TEST_ID = re.compile(r"[0-9a-f]{8,64}")
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_LIVE = f"/{page.LIVE}"
_HTML = "text/html; charset=utf-8"


class Cluster(Protocol):
    """What is needed of the API server: see `watch.api.Api`."""

    def list(self, group: str, kind: str, selector: str) -> list[object]: ...  # noqa: D102
    def read_config_map(self, name: str) -> dict[str, str]: ...  # noqa: D102
    def write_config_map(self, name: str, data: dict[str, str]) -> None: ...  # noqa: D102
    def create_event(self, event: dict[str, object]) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the API server said when it was last read; `at` is None while it has not been."""

    cronjobs: list[CronJob]
    runs: list[Run]
    memory: Memory
    at: datetime | None


@dataclass
class Watcher:
    """Reads, remembers and answers.

    Attributes:
        settings: What is watched.
        api: The API server.
        clock: What tells the time, UTC.
        secrets: The folder with the URLs of those who are notified.
    """

    settings: Settings
    api: Cluster
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    secrets: Path = Path("/nonexistent")
    _memory: Memory | None = None
    _saved: dict[str, str] = field(default_factory=dict)
    _now: Now | None = None
    _tested: str = ""
    # One value, since another thread reads it.
    _seen: "_Seen" = field(default_factory=lambda: _Seen([], [], Memory(), None))

    def __post_init__(self) -> None:
        its = self.settings
        names = (*its.targets, *((EVENTS,) if its.events else ()))
        self.couriers = Couriers(its.place, self.secrets, names, its.remind_after, its.ping_every, self._record)

    def step(self, now: datetime) -> None:
        """Look at the API server once; what cannot be read leaves everything as it was, and older.

        Raises:
            ApiError: When it could not be read, or when what was learned could not be saved.
        """
        its = self.settings
        selector = f"app.kubernetes.io/name=cnpg-backup,app={its.release}"
        self._read(self.api.read_config_map(its.memory), now)
        cronjobs = read_cronjobs(self._list("apis/batch/v1", "cronjobs", selector))
        # Pods after their Jobs: a Job that has ended has its pod's message, if the pod is still there.
        jobs = self._list("apis/batch/v1", "jobs", selector)
        runs = read_runs(jobs, self._list("api/v1", "pods", selector), cronjobs)
        self._memory = learn(self._memory or Memory(), runs, its.configured, its.drilled, now=now)
        self._seen = _Seen(cronjobs, runs, self._memory, now)
        self._save()

    def _read(self, found: Mapping[str, str], now: datetime) -> None:
        """Take up what the ConfigMap has: at the start the memory, later only whether somebody asks for a test."""
        if self._memory is None:
            # Without it, what is remembered would be overwritten with less.
            self._saved = {key: found.get(key, "") for key in (_KEY, _NOTIFIED)}
            self._memory = from_json(self._saved[_KEY])
            self.couriers.remember(_parsed(self._saved[_NOTIFIED]))
            done = _parsed(found.get(TESTED, ""))
            self._tested = str(done.get("id", "")) if isinstance(done, dict) else ""
        wanted = found.get(TEST, "")
        if wanted != self._tested and _TEST_ID.fullmatch(wanted):
            self._tested = wanted
            threading.Thread(target=self._test, args=(wanted, self.look(now)), daemon=True).start()

    def _test(self, wanted: str, now: Now) -> None:
        outcome = json.dumps({"id": wanted, "targets": self.couriers.test(now)})
        try:
            self.api.write_config_map(self.settings.memory, {TESTED: outcome})
        except ApiError as error:
            print(f"the outcome of a test could not be saved: {error}", file=sys.stderr, flush=True)

    def _save(self) -> None:
        if self._memory is None:
            return
        texts = {_KEY: to_json(self._memory)}
        if self.couriers.names:
            texts[_NOTIFIED] = json.dumps(self.couriers.memory(), ensure_ascii=False)
        changed = {key: text for key, text in texts.items() if text != self._saved.get(key)}
        if changed:
            self.api.write_config_map(self.settings.memory, changed)
            self._saved |= changed

    def look(self, now: datetime) -> Now:
        """Return how things are, for those who notify; at most half a period old."""
        before, seen = self._now, self._seen
        if before is not None and now - before.at < _PERIOD / 2 and before.read == seen.at:
            return before
        its, standing = self.settings, self.standing(now)
        late = status.out_of_date(seen.at, now, _PERIOD)
        found = problems.problems_of(standing, out_of_date=late, read=seen.at, now=now)
        databases = [one.name for one in standing.databases]
        drills = (f"{problems.DRILLS_OF}{name}" for name in databases)
        names = frozenset({*databases, *drills, problems.VOLUME, problems.WATCHER})
        title = f"cnpg-backup {its.namespace}/{its.release}"
        self._now = Now(
            now,
            seen.at,
            found,
            problems.apart(standing, found, now) if its.events else [],
            None if seen.at is None else names,
            problems.summary(standing, found),
            ping_for(standing.databases, out_of_date=late, title=title),
        )
        return self._now

    def _list(self, group: str, kind: str, selector: str) -> list[Mapping[str, object]]:
        return [item for item in self.api.list(group, kind, selector) if isinstance(item, Mapping)]

    def standing(self, now: datetime) -> Standing:
        """Return how the backups are at a moment, by what was last seen: what is seen no more still grows old."""
        its, seen = self.settings, self._seen
        return judge(
            seen.cronjobs,
            seen.runs,
            seen.memory,
            its.configured,
            now=now,
            stale_after=its.stale_after,
            zones=_zones(its.zone),
            drill_stale_after=its.drill_stale_after,
            outside_stale_after=its.outside_stale_after,
        )

    def _record(self, notice: Notice, at: datetime) -> None:
        """Make the Events of a notice.

        Raises:
            SendError: When the API server did not accept one; those before it are made, and are not made again.
        """
        its, uids = self.settings, {cronjob.name: cronjob.uid for cronjob in self._seen.cronjobs}
        backs_up = {one.name: one.cronjob for one in self.standing(at).databases}
        first = min(its.configured, default="")

        def involved(subject: str, is_drill: bool) -> Involved:
            cronjob = backs_up.get(subject, first)
            entry = its.configured[cronjob].entry_of(subject) if cronjob in its.configured else ""
            drills = (name for name, names in its.drilled.items() if names & {subject, entry})
            name = next(drills, cronjob) if is_drill else cronjob
            return Involved(name, uids.get(name, ""))

        try:
            for event in events_of(notice, its.place, at, involved):
                self.api.create_event(event)
        except ApiError as error:
            raise SendError(str(error)) from None

    def document(self, path: str) -> Document | None:
        """Return what is served under a path; None for nothing."""
        if path == "/healthz":
            # The port answers: how the backups are is not how the watcher is.
            return Document(b"ok\n", _TEXT)
        if path not in ("/", _LIVE, "/metrics", "/status.json"):
            return None
        its, now = self.settings, self.clock()
        # First when it was seen: a look between the two makes what follows newer, and not older than it says.
        at = self._seen.at
        standing = self.standing(now)
        kind, release = _TEXT, {"namespace": its.namespace, "release": its.release}
        if path == "/metrics":
            kind = metrics.CONTENT_TYPE
            text = metrics.render(standing, **release, version=its.version, read=at)
            text += metrics.notifications(self.couriers.sent(), **release)
        elif path == "/status.json":
            kind, text = _JSON, status.document(standing, **release, read=at, now=now, period=_PERIOD)
        else:
            late = status.out_of_date(at, now, _PERIOD)
            found = problems.problems_of(standing, out_of_date=late, read=at, now=now)
            kind, text = (
                _HTML,
                page.render(
                    page.Page(
                        its.place,
                        now,
                        at,
                        standing.databases,
                        problems.certain(found),
                        standing.volume,
                        standing.claim,
                        late,
                        live=path == _LIVE,
                        version=its.version,
                    )
                ),
            )
        return Document(text.encode(errors="replace"), kind)

    def run(self, stop: threading.Event) -> None:
        """Look at the API server until it is stopped."""
        self.couriers.start(lambda: self.look(self.clock()), stop, _PERIOD)
        while not stop.is_set():
            try:
                self.step(self.clock())
            except ApiError as error:
                print(f"the API server could not be read: {error}", file=sys.stderr, flush=True)
            stop.wait(_PERIOD.total_seconds())
        try:
            # What was sent since the last look would be sent again after the restart.
            self._save()
        except ApiError as error:
            print(f"what was sent could not be saved: {error}", file=sys.stderr, flush=True)


def _zones(name: str) -> dict[str, tzinfo]:
    try:
        return {name: ZoneInfo(name)}
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # An image without time zones: nothing but the next run is missing.
        return {}


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
