"""Measures the watcher as in its pod: the chart's files, a bare Python, 300 databases, 60 Jobs, all targets.

USAGE: python3 -m lab.bench.watch [SECONDS]: prints its memory and how much of a processor it takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from itertools import cycle
from pathlib import Path
from typing import Any

from retention.message import FAILED, OK, Line
from tests.lab import chart
from tests.watch.histories import MINUTE, START, cronjob_object
from tests.watch.sink import Sink
from tests.watch.test_notify import PATHS
from tests.watch.test_serve import Cluster, settings_text
from tests.watch.test_standing import ran
from watch.memory import Memory, to_json
from watch.past import Past, add
from watch.targets import TARGETS

_DATABASES, _JOBS, _SHARDS = 300, 60, 12
_NUMBERS = ("bytes", "total", "oldest", "newest", "dump", "verify", "tables", "kept")
_SCRAPES_EVERY = 60.0


def cluster(folder: Path) -> Cluster:
    """An API server with many databases, whose last runs were minutes ago."""
    names = [f"database-{number:03}-of-many" for number in range(_DATABASES)]
    shards = {f"cnpg-pg-dump-backup-{shard:02}": names[shard::_SHARDS] for shard in range(_SHARDS)}
    made = Cluster(folder)
    made.lists = {"cronjobs": [cronjob_object(name) for name in shards], "jobs": [], "pods": []}
    began = time.time() - (_JOBS / _SHARDS + 1) * 7200
    for round_number in range(_JOBS // _SHARDS):
        started = START.fromtimestamp(began + round_number * 7200, START.tzinfo).replace(microsecond=0)
        for shard, its in shards.items():
            numbers: dict[str, float] = dict.fromkeys(_NUMBERS, 10**9)
            lines = [
                Line(name, FAILED if number == 3 else OK, started + MINUTE, "published", numbers)
                for number, name in enumerate(its)
            ]
            job, pod = ran(f"{shard}-{round_number}", lines, started=started, cronjob=shard)
            made.lists["jobs"].append(job)
            made.lists["pods"].append({**pod, "spec": {**pod["spec"], "filler": "x" * 8000}})
    # Half of them with a run each day for a year, half with one every two hours; one in 50 fails.
    made.memory = {"memory.json": to_json(Memory(past=dict(zip(names, cycle(_pasts(began)), strict=False))))}
    database = {"cluster": "a-cluster-of-some-length", "namespace": "default", "dbname": "d"}
    cronjobs = {
        shard: {"component": "backup", "databases": dict.fromkeys(its, database), "entries": {}, "staleAfter": 18600}
        for shard, its in shards.items()
    }
    (folder / "watch.json").write_text(
        settings_text(cronjobs=cronjobs, targets=list(TARGETS), events=True, pingEvery=60)
    )
    return made


def _pasts(until: float) -> list[Past]:
    found = []
    for each in (86400, 7200):
        past = Past()
        for number in range(365 * 86400 // each, 0, -1):
            at = START.fromtimestamp(until - number * each, START.tzinfo)
            past = add(past, at, FAILED if number % 50 == 7 else OK, again=False)
        found.append(past)
    return found


def main(seconds: float) -> dict[str, Any]:
    """Run it; return what it needed."""
    with tempfile.TemporaryDirectory() as name:
        folder, sink = Path(name), Sink()
        server = cluster(folder)
        files = Path(chart.CHART) / "charts" / "programs" / "files"
        secrets = folder / "secrets"
        secrets.mkdir()
        for target, path in {**PATHS, "healthchecks": "/check"}.items():
            (secrets / target).write_text(sink.url.removesuffix("/secret-uuid") + path)
        programs = folder / "programs"
        (programs / "retention").mkdir(parents=True)
        for source in (files / "watch").glob("*.py"):
            (programs / "watch").mkdir(exist_ok=True)
            (programs / "watch" / source.name).write_text(source.read_text())
        for module in ("errors", "message", "names", "text"):
            (programs / "retention" / f"{module}.py").write_text((files / "retention" / f"{module}.py").read_text())
        main_file = programs / "watch" / "__main__.py"
        main_file.write_text(main_file.read_text().replace("/etc/cnpg-backup-notify", str(secrets)))
        host, _, port = server.api.url.removeprefix("https://").partition(":")
        environment = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "WATCH_ACCOUNT": str(folder),
            "WATCH_PORT": str(sink.server.server_port + 1),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.environ["PATH"],
        }
        command = [sys.executable, "-I", "-S", "-c"]
        start = (
            f"import sys; sys.path.insert(0, {str(programs)!r}); sys.argv = ['watch', {str(folder / 'watch.json')!r}]; "
        )
        command.append(start + "from watch.__main__ import main; sys.exit(main())")
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            stop = threading.Event()
            base = f"http://127.0.0.1:{environment['WATCH_PORT']}"
            threading.Thread(target=scrape, args=(base, stop), daemon=True).start()
            time.sleep(15)
            began, spent = time.monotonic(), processor(process.pid)
            time.sleep(seconds)
            used = processor(process.pid) - spent
            page = len(fetch(f"{base}/"))
            status = Path(f"/proc/{process.pid}/status").read_text()
            found: dict[str, Any] = {
                "seconds": round(time.monotonic() - began),
                "millicores": round(1000 * used / seconds, 1),
                "peak_mib": round(kib(status, "VmHWM") / 1024, 1),
                "now_mib": round(kib(status, "VmRSS") / 1024, 1),
                "page_kb": round(page / 1000),
                "posts": len(sink.paths),
                "events": len(server.events),
                "memory_kb": round(sum(map(len, (server.memory or {}).values())) / 1000),
            }
            stop.set()
            process.terminate()
            errors = process.stderr.read().decode() if process.stderr else ""
            found["errors"] = errors.splitlines()[:3]
        sink.close()
        server.server.shutdown()
    return found


def scrape(base: str, stop: threading.Event) -> None:
    """Do what Prometheus and the kubelet do."""
    while not stop.is_set():
        for path in ("/metrics", *["/healthz"] * 6):
            try:
                fetch(f"{base}{path}")
            except OSError:
                stop.wait(0.5)
        stop.wait(_SCRAPES_EVERY)


def fetch(url: str) -> bytes:
    """Return what the watcher serves."""
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - of this machine
        return bytes(answer.read())


def processor(pid: int) -> float:
    """Return how many seconds of a processor a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kib(status: str, key: str) -> int:
    """Return a number of a process' status."""
    return int(next(line for line in status.splitlines() if line.startswith(key)).split()[1])


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]) if len(sys.argv) > 1 else 180), indent=2))
