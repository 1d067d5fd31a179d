"""How long the release's restore of a database of one gigabyte takes beside bare `pg_restore`, on a cluster.

Both run as Jobs of the same template: the same image, network and server, the same archive, the same number of jobs. By
turns they restore into nothing: the release makes its database itself, pg_restore is given an empty one. When a
container began and ended, and where the restore is, is read from the times at which the kubelet received their lines.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from lab.bench.sampling import Sample, say
from tests.e2e import large
from tests.e2e.node import Cluster, NodeError, wait_until
from tests.e2e.release import Release, wait_healthy

MOST = 1.1
"""What the release's restore may take at most, as a multiple of pg_restore's time, without the pods' starts."""

CRONJOB = "cnpg-backup-restore"
BARE = "bare"
JOBS = 2
_SECONDS = 600
_BEGIN, _END = "bench: begin", "bench: end"
PHASES = (
    "choose: read the archive, compare its sha256",
    "look at the archive's contents and at the server",
    "restore",
    "compare with the archive",
    "ANALYZE, rename",
)

# As the release's own programs connect: TLS verified in full, the password in a file.
_BARE_SCRIPT = f"""
set -eu
umask 077
own=/etc/cnpg-backup-credentials/{large.DATABASE}
printf '*:*:*:*:%s\\n' "$(cat $own/superuser-password)" >"$HOME/pgpass"
export PGPASSFILE="$HOME/pgpass" PGUSER="$(cat $own/superuser-username)" PGSSLMODE=verify-full PGSSLROOTCERT=$own/ca.crt
echo {_BEGIN}
pg_restore --exit-on-error -j {JOBS} -d {BARE} "$ARCHIVE"
echo {_END}
"""


@dataclass(frozen=True, slots=True)
class Times:
    """What one Job took, in seconds.

    Attributes:
        whole: From the request for the Job to the end of its last container.
        phases: What its containers did, by name.
    """

    whole: float
    phases: Mapping[str, float]

    @property
    def work(self) -> float:
        """Without what it takes to start a pod and its containers."""
        return sum(self.phases.values())


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds.

    Attributes:
        ours: Of the release's restore.
        bare: Of pg_restore.
        server: Version of PostgreSQL.
        database_bytes: Of the database that was dumped.
        archive_bytes: Of its archive.
    """

    ours: list[Times]
    bare: list[Times]
    server: str
    database_bytes: int
    archive_bytes: int

    def ratio(self, *, starts: bool) -> Sample:
        """Ours by theirs, round by round; with the pods' starts, or without."""
        pairs = zip(self.ours, self.bare, strict=True)
        return Sample([a.whole / b.whole if starts else a.work / b.work for a, b in pairs])

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.ratio(starts=False).median <= MOST

    def lines(self) -> list[str]:
        """The page's section."""
        rows = {
            "the release's restore": (Sample([t.work for t in self.ours]), Sample([t.whole for t in self.ours])),
            f"`pg_restore -j {JOBS}`": (Sample([t.work for t in self.bare]), Sample([t.whole for t in self.bare])),
        }
        verdict = "met" if self.met else "**missed**"
        text = [
            f"A database of {self.database_bytes / 1e6:.0f} MB, an archive of {self.archive_bytes / 1e6:.0f} MB, "
            f"PostgreSQL {self.server}; both with {JOBS} jobs, by turns, into a database that does not exist "
            "or is empty.",
            "The release's restore first reads the archive in full for its sha256, and afterwards compares and",
            "analyzes; pg_restore does none of that.",
            "",
            f"Ratio without the pods' starts: **{self.ratio(starts=False).text()}**, at most {MOST:g}: {verdict}.",
            f"With them: {self.ratio(starts=True).text()}.",
            "",
            "| seconds, median [least-most] | without the pod's start | with it |",
            "| --- | --- | --- |",
        ]
        text += [f"| {name} | {work.text(digits=1)} | {whole.text(digits=1)} |" for name, (work, whole) in rows.items()]
        text += ["", "| where the release's time goes | seconds |", "| --- | --- |"]
        for phase in PHASES:
            text.append(f"| {phase} | {Sample([t.phases[phase] for t in self.ours]).text(digits=1)} |")
        starts = Sample([t.whole - t.work for t in self.ours])
        text.append(f"| the pod's start, and from its first container to its second | {starts.text(digits=1)} |")
        return text


def measure(found: Cluster, rounds: int) -> Result:
    """Make the database, back it up, and restore it by turns.

    Raises:
        NodeError: Something of it failed.
    """
    with _site(found) as (release, server):
        say("making a database of one gigabyte, and its backup")
        server.fill()
        size = server.bytes()
        run = release.run(_SECONDS)
        if not run.succeeded:
            raise NodeError(f"the backup failed: {run}")
        (archive,) = re.findall(rf"^{large.DATABASE}: published (\S+\.dump)", run.retention, re.MULTILINE)
        facts = release.metadata(large.DATABASE, archive)
        ours: list[Times] = []
        bare: list[Times] = []
        for number in range(-1, rounds):  # the first one does not count
            for which in ("ours", "bare") if number % 2 else ("bare", "ours"):
                times = _ours(release, server, number) if which == "ours" else _bare(release, server, number, archive)
                if number >= 0:
                    (ours if which == "ours" else bare).append(times)
            if number >= 0:
                say(f"restore, round {number + 1} of {rounds}: {ours[-1].work:.1f} s, pg_restore {bare[-1].work:.1f} s")
        return Result(ours, bare, str(facts["server_version"]), size, int(facts["bytes"]))


@contextmanager
def _site(found: Cluster) -> Iterator[tuple[Release, large.Instance]]:
    with found.namespace("bench-restore") as namespace:
        found.apply(large.cluster(), namespace=namespace)
        release, server = Release(found, namespace), large.Instance(found, namespace)
        release.install({**large.values(), "suspend": True})
        try:
            wait_healthy(found, namespace, large.CLUSTER)
            server.wait_for_superuser()
            yield release, server
        finally:
            release.uninstall()


def _ours(release: Release, server: large.Instance, number: int) -> Times:
    """The release's restore, of a database that is gone."""
    job = _job(release, f"ours-{number + 1}")
    pod = job["spec"]["template"]["spec"]
    (choose,), (restore,) = pod["initContainers"], pod["containers"]
    _set(choose, RESTORE_DATABASE=large.DATABASE)
    _set(restore, RESTORE_JOBS=str(JOBS))
    for container in (choose, restore):
        command = [*container["command"], *container.pop("args", [])]
        # Kubernetes puts the variables in before the shell sees the words.
        words = " ".join(f"'{word}'" for word in command)
        container["command"] = ["sh", "-euc", f"echo {_BEGIN}; {words}; echo {_END}"]
    _clear(server)
    lines, began = _carry_out(release, job)
    chosen = _between(lines["choose"], _BEGIN, _END)
    marks = [_BEGIN, ": method: ", ": comparing with", ": gathering statistics", _END]
    phases = [_between(lines["restore"], a, b) for a, b in pairwise(marks)]
    whole = _moment(lines["restore"], _END) - began
    return Times(whole, dict(zip(PHASES, [chosen, *phases], strict=True)))


def _bare(release: Release, server: large.Instance, number: int, archive: str) -> Times:
    """pg_restore alone in such a pod, into an empty database."""
    job = _job(release, f"bare-{number + 1}")
    pod = job["spec"]["template"]["spec"]
    del pod["initContainers"]
    (container,) = pod["containers"]
    container["command"] = ["sh", "-c", _BARE_SCRIPT]
    _set(
        container,
        ARCHIVE=f"/backups/{large.DATABASE}/{archive}",
        PGHOST=f"{large.CLUSTER}-rw.{release.namespace}.svc",
    )
    _clear(server)
    server.psql(f"CREATE DATABASE {BARE}")
    lines, began = _carry_out(release, job)
    took = _between(lines["restore"], _BEGIN, _END)
    return Times(_moment(lines["restore"], _END) - began, {"pg_restore": took})


def _clear(server: large.Instance) -> None:
    """Bring the server to the same rest before each restore."""
    for name in server.names():
        server.psql(f'DROP DATABASE "{name}" WITH (FORCE)')
    server.psql("CHECKPOINT")


def _job(release: Release, name: str) -> dict[str, Any]:
    """A Job of the restore's template."""
    made = release.cluster.kubectl(
        "create", "job", name, f"--from=cronjob/{CRONJOB}", "-n", release.namespace, "--dry-run=client", "-o", "json"
    )
    job: dict[str, Any] = copy.deepcopy(json.loads(made))
    return job


def _set(container: dict[str, Any], **variables: str) -> None:
    others = [one for one in container.get("env", []) if one["name"] not in variables]
    container["env"] = [*({"name": name, "value": value} for name, value in variables.items()), *others]


def _carry_out(release: Release, job: Mapping[str, Any]) -> tuple[dict[str, list[str]], float]:
    """Run a Job; the lines of its containers with their times, and when it was asked for (seconds since the epoch)."""
    cluster, namespace, name = release.cluster, release.namespace, job["metadata"]["name"]
    began = time.time()
    cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(job))

    def ended() -> bool:
        conditions = cluster.get("job", name, "-n", namespace)["status"].get("conditions", [])
        return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)

    # Asked seldom, so as not to disturb.
    wait_until(f"job {name} has ended", ended, _SECONDS, every=1)
    pod = release.pod_of(name)
    if pod is None:
        raise NodeError(f"the pod of job {name} is gone")
    spec = pod["spec"]
    lines = {
        container["name"]: cluster.kubectl(
            "logs", "-n", namespace, pod["metadata"]["name"], "-c", container["name"], "--timestamps"
        ).splitlines()
        for container in [*spec.get("initContainers", []), *spec["containers"]]
    }
    if pod["status"]["phase"] != "Succeeded":
        raise NodeError(f"job {name} failed:\n" + "\n".join(line for own in lines.values() for line in own))
    cluster.kubectl("delete", "job", name, "-n", namespace)
    return lines, began


def _moment(lines: list[str], mark: str) -> float:
    """When the line that holds a mark was printed, in seconds since the epoch."""
    for line in lines:
        moment, _, text = line.partition(" ")
        if mark in text:
            # Nanoseconds are more than Python reads.
            return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", moment)).timestamp()
    raise NodeError(f"no line has {mark!r}:\n" + "\n".join(lines))


def _between(lines: list[str], begin: str, end: str) -> float:
    return _moment(lines, end) - _moment(lines, begin)
