"""Random histories of a release, as its volume knows them and as the API server shows them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from retention import message
from retention.message import FAILED, OK, REFUSED, WARNING, Line

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
STALE_AFTER = timedelta(seconds=18_600)
CRONJOB, CLAIM = "cnpg-pg-dump-backup", "cnpg-backups-pvc"


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def cronjob_object(
    name: str = CRONJOB, *, suspend: bool = False, last: datetime | None = None, component: str = "backup"
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"app.kubernetes.io/component": component}},
        "spec": {
            "schedule": "0 */2 * * *",
            "timeZone": "Etc/UTC",
            "suspend": suspend,
            "jobTemplate": {"spec": {"template": {"spec": SPEC}}},
        },
        "status": {"lastScheduleTime": None if last is None else text(last)},
    }


SPEC: dict[str, Any] = {
    "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": CLAIM}}],
    "initContainers": [{"name": "dump"}],
    "containers": [{"name": "retention"}],
}


def job_object(
    name: str,
    started: datetime,
    finished: datetime | None,
    *,
    failed: bool = False,
    cronjob: str = CRONJOB,
    reason: str = "",
    config: str = "",
) -> dict[str, Any]:
    status: dict[str, Any] = {"startTime": text(started)}
    if finished is not None:
        kind = "Failed" if failed else "Complete"
        status["conditions"] = [
            {"type": kind, "status": "True", "lastTransitionTime": text(finished), "reason": reason}
        ]
        if not failed:
            status["completionTime"] = text(finished)
    owner = {"kind": "CronJob", "name": cronjob, "uid": f"uid-{cronjob}", "controller": True}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "ownerReferences": [owner]},
        "spec": {"template": {"spec": {**SPEC, "volumes": [*SPEC["volumes"], *_config(config)]}}},
        "status": status,
    }


def _config(name: str) -> list[dict[str, Any]]:
    return [{"name": "config", "configMap": {"name": name}}] if name else []


def pod_object(job: str, message: str | None, *, code: int = 0, reason: str = "") -> dict[str, Any]:
    """A pod of a Job; without a message it is still running."""
    owner = {"kind": "Job", "name": job, "uid": f"uid-{job}", "controller": True}
    ended = {"exitCode": code, "message": message, "reason": reason or ("Error" if code else "Completed")}
    state = {"running": {}} if message is None else {"terminated": ended}
    return {
        "metadata": {"name": f"{job}-abcde", "ownerReferences": [owner]},
        "spec": SPEC,
        "status": {"containerStatuses": [{"name": "retention", "state": state}]},
    }


@dataclass
class Truth:
    """What the volume would say about a database: how its last run ended, and which backups there are.

    Attributes:
        result: ok, warning, refused, failed or unknown.
        backups: When each began by the clock of the node that made it, which is its name, and when it really began.
    """

    result: str = "unknown"
    backups: list[tuple[datetime, datetime]] = field(default_factory=list)

    @property
    def newest(self) -> datetime | None:
        """The newest backup by its name."""
        return max(self.backups)[0] if self.backups else None

    @property
    def latest(self) -> datetime:
        """When a backup last began, by its name or in truth: a clock that is behind makes no backup old."""
        return max(max(both) for both in self.backups)


@dataclass
class History:
    """A release whose runs end in every way, and what the API server shows of them.

    Attributes:
        now: The true time, which is the control plane's.
        node: By how much the clock of the runs' node is ahead; it may be set right at any time.
        upgrades: How many there were: each makes another ConfigMap with the databases.
    """

    dice: random.Random
    databases: list[str]
    now: datetime = START
    node: timedelta = timedelta(0)
    truth: dict[str, Truth] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    pods: list[dict[str, Any]] = field(default_factory=list)
    last_schedule: datetime | None = None
    number: int = 0
    upgrades: int = 0

    @property
    def config(self) -> str:
        """The ConfigMap with the databases as they are now."""
        return f"config-{self.upgrades}"

    def __post_init__(self) -> None:
        self.truth = {name: Truth() for name in self.databases}

    def step(self) -> None:
        """Let something happen."""
        self.now += self.dice.choice([MINUTE, 10 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR])
        happening = self.dice.choice(
            [self.run] * 6 + [self.drain, self.drain, self.tidy, self.tidy, self.idle, self.clock, self.upgrade]
        )
        happening()

    def idle(self) -> None:
        """Nothing happens."""

    def clock(self) -> None:
        """The node's clock goes wrong, or is set right."""
        self.node = self.dice.choice([timedelta(0), 2 * MINUTE, -2 * MINUTE, HOUR, -HOUR, 30 * HOUR, -30 * HOUR])

    def upgrade(self) -> None:
        """Other databases are configured, while a run with those of before goes on to its end, or not."""
        before = list(self.databases)
        self.upgrades += 1
        for _ in range(self.dice.randrange(3)):
            gone = self.dice.choice(self.databases)
            self.databases.remove(gone)
            self.databases.append(f"new-{self.upgrades}-{len(self.truth)}")
            self.truth[self.databases[-1]] = Truth()
        if self.dice.random() < 0.5:
            self.run(before, f"config-{self.upgrades - 1}")

    def drain(self) -> None:
        """Completed pods go; their Jobs stay."""
        self.pods = [pod for pod in self.pods if self.dice.random() < 0.3]

    def tidy(self) -> None:
        """Jobs go, and their pods with them."""
        gone = {job["metadata"]["uid"] for job in self.jobs if self.dice.random() < 0.5}
        self.jobs = [job for job in self.jobs if job["metadata"]["uid"] not in gone]
        self.pods = [pod for pod in self.pods if pod["metadata"]["ownerReferences"][0]["uid"] not in gone]

    def run(self, databases: list[str] | None = None, config: str = "") -> None:
        """A run ends, in any way."""
        databases, config = databases or self.databases, config or self.config
        started, self.number = self.now, self.number + 1
        self.last_schedule = started
        self.now += self.dice.choice([MINUTE, 30 * MINUTE])
        name = f"run-{self.number}"
        ends = self.dice.choice(["well", "well", "mixed", "mixed", "killed", "error"])
        if ends in ("killed", "error"):
            # The dump may have published nothing: for the volume, the last result stands, and the next run says more.
            self.jobs.append(job_object(name, started, self.now, failed=True, reason="DeadlineExceeded", config=config))
            if ends == "error":
                self.pods.append(pod_object(name, "the volume cannot be read; check the storage", code=2))
            for name in databases:
                self.truth[name].result = FAILED
            return
        lines = [self._line(name, started, well=ends == "well") for name in databases]
        failed = any(line.result in (FAILED, REFUSED) for line in lines)
        self.jobs.append(job_object(name, started, self.now, failed=failed, config=config))
        content = self._cut(message.write(lines, volume={"capacity": self.number}).decode())
        self.pods.append(pod_object(name, content, code=int(failed)))

    def _cut(self, content: str) -> str:
        """Return what is left of a message: a container runtime or an older kubelet may keep less, of either end."""
        if self.dice.random() > 0.2:
            return content
        at = self.dice.randrange(len(content) + 1)
        return self.dice.choice([content[:at], content[at:], content[:at].rpartition("\n")[0], ""])

    def _line(self, database: str, started: datetime, *, well: bool) -> Line:
        truth = self.truth[database]
        # A handful fails in a mixed run: the others are concluded where there are many.
        draw = 1.0 if well else self.dice.random() * min(20, len(self.databases))
        truth.result = FAILED if draw < 0.3 else REFUSED if draw < 0.4 else WARNING if draw < 0.6 else OK
        unchanged = truth.result == OK and self.dice.random() < 0.002
        if truth.result != FAILED and not unchanged:
            began = started + MINUTE / 2
            truth.backups.append((began + self.node, began))
        elif self.dice.random() < 0.2 and truth.backups:
            # The newest one has turned out to be bad.
            truth.backups.remove(max(truth.backups))
        numbers: dict[str, float] = {"kept": 15 if truth.newest else 0, "bytes": 10**9, "total": 15 * 10**9}
        return Line(database, truth.result, truth.newest, "x" * self.dice.randrange(60), numbers, unchanged)
