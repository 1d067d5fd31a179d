"""What the built-in engine's expressions cost for the pods of runs, by the number of their containers.

No cluster: tools/policy-check evaluates the policies that the chart renders with the API server's own code, and takes
the processor time. The pods are those that the Job's controller asks for. All cases take turns, so that what counts is
the median of paired differences between this chart and another: the same one without the check of containers
(`accessPolicy.ownContainers: false`), or the chart of an older commit (`--against`).

    python -m lab.bench.admission [--rounds N] [--against COMMIT]
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import chart

MOST = 0.3
"""Milliseconds that the check of its containers may add for a backup pod."""
COUNTS = (1, 10, 50)
KINDS = ("backup", "drill")
CONTROLLER = "system:serviceaccount:kube-system:job-controller"
POLICY = "ValidatingAdmissionPolicy"


@dataclass(frozen=True, slots=True)
class Row:
    """A pod, and what it costs.

    Attributes:
        pod: Whose pod it is.
        containers: How many containers it has.
        without: Milliseconds of processor time with the other chart.
        added: The median of the pairs' differences, in milliseconds.
    """

    pod: str
    containers: int
    without: float
    added: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="pairs for each row (default: %(default)s)")
    parser.add_argument("--against", metavar="COMMIT", help="compare with the chart of this commit")
    options = parser.parse_args()
    rows = measure(options.rounds, options.against)
    print("\n".join(table(rows)))
    return int(not met(rows))


def met(rows: Sequence[Row]) -> bool:
    """Whether the pods of backups cost at most what they may."""
    return all(row.added <= MOST for row in rows if row.pod.startswith("backup"))


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as Markdown."""
    lines = ["| pod | containers | without | added |", "| --- | --- | --- | --- |"]
    return lines + [f"| {row.pod} | {row.containers} | {row.without:.2f} | {row.added:.2f} |" for row in rows]


def measure(rounds: int, against: str | None = None) -> list[Row]:
    """Measure the pods of backups and drills for each number of databases."""
    names, policies, cases = [], [], []
    with chart_of(against) as other:
        for count in COUNTS:
            databases = [{"name": f"database-{number}", "cluster": f"cluster-{number}"} for number in range(count)]
            values: Mapping[str, Any] = {"databases": databases, "persistence": {"size": "10Ti"}}
            plain = {} if against else {"accessPolicy": {"ownContainers": False}}
            own = chart.render(values)
            rendered = own, chart.render(chart.merge(values, plain), chart=other)
            for kind in KINDS:
                pod = pod_of(own, kind)
                names.append((f"{kind}, {count} {'database' if count == 1 else 'databases'}", containers(pod)))
                for side, manifests in enumerate(rendered):
                    mark = f"{len(names)}-{side}-"
                    made = [marked(one, mark) for one in manifests if one["kind"] == POLICY and concerns_pods(one)]
                    policies += made
                    cases += [asking(pod, f"{POLICY} {one['metadata']['name']}") for one in made]
    took = [verdict["nanoseconds"] for verdict in evaluate(policies, cases, rounds)]
    return [row(found, index, cases, took) for index, found in enumerate(names, 1)]


def row(found: tuple[str, int], index: int, cases: Sequence[Mapping[str, Any]], took: Sequence[Sequence[int]]) -> Row:
    """What both sides took for a pod: the sum of all policies in each round."""
    sides = []
    for side in range(2):
        mark = f"{POLICY} {index}-{side}-"
        parts = [times for case, times in zip(cases, took, strict=True) if case["policy"].startswith(mark)]
        sides.append([sum(times) / 1e6 for times in zip(*parts, strict=True)])
    added = statistics.median(own - other for own, other in zip(*sides, strict=True))
    return Row(*found, without=statistics.median(sides[1]), added=added)


@contextmanager
def chart_of(commit: str | None) -> Iterator[Path]:
    """The chart as it is, or of a commit."""
    if not commit:
        yield chart.CHART
        return
    archive = subprocess.run(
        ["git", "archive", commit, "chart"], cwd=chart.ROOT, stdout=subprocess.PIPE, check=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        yield Path(folder) / "chart"


def pod_of(manifests: Sequence[chart.Manifest], kind: str) -> chart.Manifest:
    """What the Job's controller makes of a CronJob, with the defaults that the API server sets first."""
    component = "app.kubernetes.io/component"
    cronjobs = (one for one in manifests if one["kind"] == "CronJob")
    cronjob = next(one for one in cronjobs if one["metadata"]["labels"].get(component, "backup") == kind)
    template = copy.deepcopy(cronjob["spec"]["jobTemplate"]["spec"]["template"])
    labels = template["metadata"]["labels"] | {"batch.kubernetes.io/controller-uid": "0", "job-name": "run"}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "run", "uid": "0", "controller": True}
    spec = template["spec"]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for variable in container.get("env", []):
            if "fieldRef" in variable.get("valueFrom", {}):
                variable["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
    metadata = template["metadata"] | {"name": "run-x", "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata | {"ownerReferences": [owner]}, "spec": spec}


def containers(pod: chart.Manifest) -> int:
    """How many containers a pod has."""
    return len(pod["spec"].get("initContainers", [])) + len(pod["spec"]["containers"])


def concerns_pods(policy: chart.Manifest) -> bool:
    """Whether a policy is asked about new pods."""
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    return any("pods" in rule["resources"] and "CREATE" in rule["operations"] for rule in rules)


def marked(policy: chart.Manifest, mark: str) -> chart.Manifest:
    """A policy under another name."""
    return {**policy, "metadata": {**policy["metadata"], "name": mark + policy["metadata"]["name"]}}


def asking(pod: chart.Manifest, policy: str) -> dict[str, Any]:
    """A case for tools/policy-check."""
    return {
        "policy": policy,
        "operation": "CREATE",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "default",
        "name": pod["metadata"]["name"],
        "user": CONTROLLER,
        "object": pod,
    }


def evaluate(policies: Sequence[Any], cases: Sequence[Any], rounds: int) -> list[dict[str, Any]]:
    """The verdicts of tools/policy-check; every pod here is one that has to be admitted."""
    asked = json.dumps({"policies": policies, "cases": cases, "rounds": rounds})
    done = subprocess.run(
        [chart.pinned("policy-check")], input=asked, stdout=subprocess.PIPE, text=True, check=True, timeout=900
    )
    verdicts: list[dict[str, Any]] = json.loads(done.stdout)
    refused = [verdict["message"] for verdict in verdicts if not verdict["allowed"]]
    if refused:
        raise SystemExit(f"admission: a pod of a run is refused: {refused[0]}")
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
