"""What the access policy costs, and what a restore takes next to bare pg_restore: `make bench-cluster`.

    make bench-cluster               or, in the development environment:
    python -m lab.bench.cluster [--only admission|runs|restore|plugin] [--pairs N] [--rounds N] [--output FILE]

Admission: two releases stand side by side in namespaces of their own, one without a policy, one with an engine's. The
same pod is asked for in both by the same person, one after the other (dry runs: all of admission, nothing stored), by
turns. What counts is the median of the pairs' differences. Runs: see admission.py; this part needs no cluster.
Restore: see restore.py. Plugin: see looks.py.

Ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.bench import admission, looks
from lab.bench import restore as bench_restore
from lab.bench.sampling import processor, say
from tests.e2e.node import Cluster, Node, NodeError, existing, wait_until
from tests.e2e.node.pins import version
from tests.e2e.release import STRANGER, Release, let_in, refusal
from tests.lab import access, chart

ENGINES = ("builtin", "kyverno")
DATABASES = [{"name": "ghost", "cluster": "ghost"}]
MOST = 1.0
"""Milliseconds that the built-in engine may add at most."""

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmark-cluster.md"
PARTS = ("admission", "runs", "restore", "plugin")


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page.

    Attributes:
        title: Its heading.
        met: Whether its goal was met.
        lines: What stands below the heading.
    """

    title: str
    met: bool
    lines: Sequence[str]


def main() -> int:
    """Measure, print and write the page, and fail when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, help="only this part; the page's other section stays as it is")
    parser.add_argument("--pairs", type=int, default=200, help="pairs for each row of admission (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="paired rounds of restores (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=PAGE, help="page to write (default: %(default)s)")
    options = parser.parse_args()
    if min(options.pairs, options.rounds) < 1:
        parser.error("--pairs and --rounds are at least 1")
    try:
        parts = bench(options.only, options.pairs, options.rounds)
    except NodeError as error:
        say(f"bench-cluster: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench-cluster: interrupted; nothing was written")
        return 130
    before = options.output.read_text() if options.output.exists() else ""
    options.output.write_text(page(parts, before))
    for part in parts:
        print("\n".join([f"## {part.title}", "", *part.lines, ""]))
    return int(not all(part.met for part in parts))


def bench(only: str | None, pairs: int, rounds: int) -> list[Part]:
    """All parts, or one of them."""
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}): comparisons within a round suffer least, but they do suffer")
    parts = [runs(pairs, load)] if only in (None, "runs") else []
    if only == "runs":
        return parts
    with cluster() as found:
        told = facts(found, load)
        if only in (None, "admission"):
            part = measure(found, pairs)
            parts.append(Part(part.title, part.met, [told, "", *part.lines]))
        if only in (None, "restore"):
            restored = bench_restore.measure(found, rounds)
            parts.append(Part("Restore", restored.met, [told, "", *restored.lines()]))
        if only in (None, "plugin"):
            parts.append(Part("The plugin", met=True, lines=[told, "", *looks.measure(found).lines()]))
    return parts


def runs(pairs: int, load: float) -> Part:
    """What the built-in engine's expressions cost for the pods of runs."""
    rows = admission.measure(pairs)
    met = admission.met(rows)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({processor()}), load {load:.1f} at the start.",
        "",
        "What the built-in engine's expressions take for a pod that the Job's controller makes, in milliseconds of "
        f"processor time,\nand what the check of its containers adds to it: the median of {pairs} pairs, by turns.",
        f"A backup pod may cost {admission.MOST:g} ms more at most: {'met' if met else '**missed**'}.",
        "A drill has two containers for each database. Its pod is made once a week.",
        "",
        *admission.table(rows),
    ]
    return Part("Admission of runs", met, lines)


def page(parts: Sequence[Part], before: str = "") -> str:
    """The page for people; a section that was not measured now is taken from the page as it was."""
    sections = {}
    for text in before.split("\n## ")[1:]:
        title, _, body = text.partition("\n")
        sections[title] = body.strip()
    sections |= {part.title: "\n".join(part.lines) for part in parts}
    head = "# Benchmark on a cluster\n\n`make bench-cluster` wrote this page, each section when it was measured.\n"
    return head + "".join(f"\n## {title}\n\n{sections[title]}\n" for title in sorted(sections))


def facts(found: Cluster, load: float) -> str:
    """What was measured on, and when."""
    kubernetes = json.loads(found.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    where = "a cluster that was there"
    if found.owned:
        kyverno = version("kyverno", "github.com/kyverno/kyverno")
        where = f"the single node of `make e2e`, Kyverno {kyverno}"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Kubernetes {kubernetes}, {where}, {os.cpu_count()} cores ({processor()}), load "
        f"{load:.1f} at the start.\nEverything runs on that machine, clients and servers.\n"
        "Compare ratios and differences; the times are specific to this machine."
    )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """The cluster that E2E_KUBECONFIG names, or a node of our own."""
    kubeconfig = os.environ.get("E2E_KUBECONFIG")
    if kubeconfig:
        yield existing(Path(kubeconfig))
        return
    with Node() as node:
        yield node


def measure(found: Cluster, pairs: int) -> Part:
    """Measure all engines that the cluster has, for a pod with the claim and one without."""
    served = found.try_kubectl("get", "crd", "validatingpolicies.policies.kyverno.io").returncode == 0
    engines = ENGINES if served else ENGINES[:1]
    rows_of_table = ["| engine | request | without | with | added |", "| --- | --- | --- | --- | --- |"]
    added = {}
    with ExitStack() as stack:
        plain = release(stack, found, "none")
        for engine in engines:
            guarded = release(stack, found, engine)
            for what, claim in {
                "pod with the claim, by an operator": guarded.claim,
                "pod without it": "another",
            }.items():
                pod = access.workload("pods", "asked", access.pod_spec(claim))
                sides = [asking(found, side.namespace, pod) for side in (plain, guarded)]
                rows = list(paired(sides[0], sides[1], pairs))
                without, with_ = (statistics.median(column) for column in zip(*rows, strict=True))
                added[engine, what] = statistics.median(b - a for a, b in rows)
                numbers = f"{without:.2f} | {with_:.2f} | {added[engine, what]:.2f}"
                rows_of_table.append(f"| {engine} | {what} | {numbers} |")
                say(rows_of_table[-1])
    worst = max(value for (engine, _), value in added.items() if engine == "builtin")
    met = worst <= MOST
    verdict = "met" if met else "**missed**"
    told = (
        f"What the access policy adds to the time in which a pod is admitted, in milliseconds: the median of {pairs} "
        f"paired requests.\nThe built-in engine adds {worst:.2f} ms, at most {MOST:g} ms: {verdict}."
    )
    return Part("Admission", met, [told, "", *rows_of_table])


def release(stack: ExitStack, found: Cluster, layer: str) -> Release:
    """A release with the policies of a layer, in a namespace of its own, once they are at work."""
    namespace = stack.enter_context(found.namespace(f"bench-{layer}"))
    let_in(found, namespace)
    made = Release(found, namespace)
    own: Mapping[str, Any] = {"databases": DATABASES, "suspend": True}
    operators = {"accessPolicy": {"operators": [{"kind": "User", "name": access.OPERATOR}]}}
    made.install(chart.merge(access.VALUES[layer], own, operators if layer != "none" else {}))
    stack.callback(made.uninstall)
    found.kubectl("create", "rolebinding", "edit", "--clusterrole=edit", f"--user={access.OPERATOR}", "-n", namespace)
    pod = access.workload("pods", "asked", access.pod_spec(made.claim))
    if layer != "none":
        wait_until(f"a {STRANGER} is refused", lambda: "mount" in refusal(found, namespace, pod), 60)
    wait_until("an operator is admitted", lambda: not refusal(found, namespace, pod, access.OPERATOR), 60)
    return made


def asking(found: Cluster, namespace: str, pod: access.Manifest) -> Callable[[], float]:
    """What asks for a pod once and gives the milliseconds that the answer took."""
    api = found.client
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    headers = {"Accept": "application/json", "Content-Type": "application/json", "Impersonate-User": access.OPERATOR}
    api.update_params_for_auth(headers, [], ["BearerToken"])

    def ask() -> float:
        began = time.perf_counter()
        url = api.configuration.host + path
        response = api.rest_client.pool_manager.request("POST", url, headers=headers, body=json.dumps(pod), timeout=30)
        text = response.data
        took = time.perf_counter() - began
        if response.status != 201:
            raise NodeError(f"the pod was not admitted: {json.loads(text).get('message')}")
        return took * 1000

    return ask


def paired(one: Callable[[], float], other: Callable[[], float], pairs: int) -> Iterator[tuple[float, float]]:
    """Measure both sides by turns, after a few rounds that do not count."""
    for number in range(-10, pairs):
        first, second = (one, other) if number % 2 else (other, one)
        times = first(), second()
        if number >= 0:
            yield times if number % 2 else times[::-1]


if __name__ == "__main__":
    sys.exit(main())
