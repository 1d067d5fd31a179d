"""What the plugin takes on a cluster: looks into a database of one gigabyte, and how soon a command helps.

Each figure is of one call of the plugin, from the start of its process. What the call must answer is checked as well.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.bench.sampling import Sample, say
from tests.e2e import large
from tests.e2e.node import Cluster, NodeError
from tests.e2e.release import Release, wait_healthy

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 900
GONE, CONFLICTS, ROWS = 1000, 10, 100_000
_QUICK = {
    "status": (("status",), "plausible"),
    "status --no-volume": (("status", "--no-volume"), "plausible"),
    "list": (("list",), "plausible"),
    "describe": (("describe", "plausible"), "plausible-"),
    "doctor": (("doctor",), "Kubernetes"),
}
"""Commands, and what is in the first line that helps."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the plugin.

    Attributes:
        first: Seconds to the first line that has a text, None where no line has it.
        whole: Seconds to its end.
        output: What it printed, both streams.
    """

    first: float | None
    whole: float
    output: str


@dataclass(frozen=True, slots=True)
class Result:
    """All figures.

    Attributes:
        bytes: Of the database.
        server: Version of PostgreSQL.
        seconds: What was done, and what it took.
        quick: Of each quick command: seconds to its first useful line, and to its end.
    """

    bytes: int
    server: str
    seconds: dict[str, float]
    quick: dict[str, tuple[Sample, Sample]]

    def lines(self) -> list[str]:
        """The page's section."""
        return [
            f"A database of {self.bytes / 1e6:.0f} MB, PostgreSQL {self.server}.",
            "From the start of the plugin's process.",
            "",
            "| what | seconds |",
            "| --- | --- |",
            *(f"| {what} | {took:.1f} |" for what, took in self.seconds.items()),
            "",
            "| seconds, median [least-most] | to the first useful line | to the end |",
            "| --- | --- | --- |",
            *(
                f"| `{name}` | {first.text(digits=1)} | {whole.text(digits=1)} |"
                for name, (first, whole) in self.quick.items()
            ),
        ]


def call(site: Release, words: Sequence[str], useful: str, code: int = 0) -> Call:
    """Call the plugin and read what it prints as it comes.

    Raises:
        NodeError: When it ends with another code.
    """
    began, first, printed = time.monotonic(), None, []
    environment = {**site.cluster.environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "kubectl_cnpg_backup", *words, "--namespace", site.namespace],
        env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            printed.append(line)
            if first is None and useful in line:
                first = time.monotonic() - began
        process.wait(_SECONDS)
    whole, output = time.monotonic() - began, "".join(printed)
    if process.returncode != code:
        raise NodeError(f"{' '.join(words)} ended with {process.returncode}:\n{output}")
    return Call(first, whole, output)


def _must(found: bool, what: str, output: str) -> None:
    if not found:
        raise NodeError(f"{what}:\n{output}")


def measure(found: Cluster, rounds: int = 3) -> Result:
    """Make the database and two backups of it, and look into them.

    Raises:
        NodeError: When something failed, or an answer was not right.
    """
    with _site(found) as (release, server):
        say("making a database of one gigabyte")
        server.fill()
        _conflicts(server)
        size = server.bytes()
        say("two backups, between which rows and a definition change")
        call(release, ["run"], "")
        first = _newest(release)
        server.psql(
            "ALTER TABLE returned ADD COLUMN seen boolean; DELETE FROM returned WHERE id > 99000", large.DATABASE
        )
        call(release, ["run"], "")
        second = _newest(release)
        version = server.value("SHOW server_version").split()[0]
        seconds = _look(release, server, first, second)
        say("quick commands")
        quick = {}
        for name, (words, useful) in _QUICK.items():
            calls = [_quick(release, words, useful) for _ in range(rounds)]
            quick[name] = (Sample([one.first or one.whole for one in calls]), Sample([one.whole for one in calls]))
        return Result(size, version, seconds, quick)


def _quick(release: Release, words: Sequence[str], useful: str) -> Call:
    try:
        return call(release, words, useful)
    except NodeError:
        return call(release, words, useful, 1)


def _conflicts(server: large.Instance) -> None:
    """A table of which rows will be gone, ten of them with a number that others have by then."""
    server.psql(
        'SET ROLE :"owner"; CREATE TABLE returned (id int PRIMARY KEY, number int UNIQUE, note text); '
        "INSERT INTO returned SELECT n, n, md5(n::text) FROM generate_series(1, :rows) n",
        large.DATABASE,
        owner=large.DATABASE,
        rows=str(ROWS),
    )


def _newest(release: Release) -> str:
    listed = call(release, ["list", large.DATABASE, "-o", "name"], "").output.splitlines()
    return next(line for line in listed if line.endswith(".dump"))


def _look(release: Release, server: large.Instance, first: str, second: str) -> dict[str, float]:
    seconds = {}
    say("open")
    rows = server.value("SELECT count(*) FROM returned", large.DATABASE)
    opened = call(release, ["open", large.DATABASE, "-c", "SELECT 'rows: ' || count(*) FROM returned"], "rows: ")
    _must(f"rows: {rows}" in opened.output and opened.first is not None, "open did not answer", opened.output)
    restored = re.search(r"restored in (\d+) s", opened.output)
    seconds["`open` to the first answered query"] = opened.first or 0.0
    seconds["… of it the restore in the pod"] = float(restored[1]) if restored else 0.0
    seconds["… to the end, when the copy is gone"] = opened.whole
    say("diff")
    differs = call(release, ["diff", first, second, "--no-rows"], "")
    _must("returned" in differs.output, "diff found no definition", differs.output)
    seconds["`diff` of the definitions of two backups"] = differs.whole
    differs = call(release, ["diff", first, second], "")
    _must(bool(re.search(r"returned.*100000.*99000", differs.output)), "diff found no rows", differs.output)
    seconds["`diff` of two backups, with the number of rows of each table"] = differs.whole
    differs = call(release, ["diff", second], "")
    seconds["`diff` of a backup and the live database, with rows"] = differs.whole
    say("undelete")
    server.psql(
        # The number of ten rows that are gone belongs to another one by now.
        "DELETE FROM returned WHERE id BETWEEN 50001 AND 50000 + :gone; "
        "UPDATE returned SET number = 50000 + id WHERE id <= :conflicts",
        large.DATABASE,
        gone=str(GONE),
        conflicts=str(CONFLICTS),
    )
    undeleted = call(release, ["undelete", large.DATABASE, "--table", "returned", "--backup", second, "--yes"], "")
    _must(f"{GONE - CONFLICTS} rows copied back" in undeleted.output, "undelete copied other rows", undeleted.output)
    _must(
        f"{CONFLICTS} rows conflict with another unique" in undeleted.output,
        "undelete counted other conflicts",
        undeleted.output,
    )
    _must(
        f"{CONFLICTS} rows have changed since" in undeleted.output, "undelete counted other changes", undeleted.output
    )
    count = "SELECT count(*) FROM returned WHERE id BETWEEN 50001 AND 50000 + :gone"
    there = server.psql(count, large.DATABASE, gone=str(GONE)).strip()
    _must(there == str(GONE - CONFLICTS), f"{there} rows are there", undeleted.output)
    seconds[f"`undelete` of {GONE} rows out of {ROWS}, {CONFLICTS} of which conflict"] = undeleted.whole
    return seconds


@contextmanager
def _site(found: Cluster) -> Iterator[tuple[Release, large.Instance]]:
    with found.namespace("looks") as namespace:
        found.apply(large.cluster(), namespace=namespace)
        release, server = Release(found, namespace), large.Instance(found, namespace)
        release.install(large.values())
        try:
            wait_healthy(found, namespace, large.CLUSTER)
            server.wait_for_superuser()
            yield release, server
        finally:
            release.uninstall()
