"""How long a pod takes to be admitted with the access policy against without: `make bench-cluster`.

Two releases stand side by side in namespaces of their own, one without a policy, one with an engine's. The same pod is
asked for in both by the same person, one after the other (dry runs: all of admission, nothing stored), by turns.
What counts is the median of the pairs' differences.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.node import Cluster, Node, NodeError, existing, wait_until
from tests.e2e.release import STRANGER, Release, let_in, refusal
from tests.lab import access, chart

ENGINES = ("builtin", "kyverno")
DATABASES = [{"name": "ghost", "cluster": "ghost"}]
MOST = 1.0
"""Milliseconds that the built-in engine may add at most."""


def main() -> int:
    """Measure, print a table, and fail when the built-in engine adds too much."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=200, help="pairs for each row (default: %(default)s)")
    pairs = parser.parse_args().pairs
    try:
        with cluster() as found:
            return measure(found, pairs)
    except NodeError as error:
        print(f"bench-cluster: {error}", file=sys.stderr)
        return 1


@contextmanager
def cluster() -> Iterator[Cluster]:
    """The cluster that E2E_KUBECONFIG names, or a node of our own."""
    kubeconfig = os.environ.get("E2E_KUBECONFIG")
    if kubeconfig:
        yield existing(Path(kubeconfig))
        return
    with Node() as node:
        yield node


def measure(found: Cluster, pairs: int) -> int:
    """Measure all engines that the cluster has, for a pod with the claim and one without; gives the exit code."""
    served = found.try_kubectl("get", "crd", "validatingpolicies.policies.kyverno.io").returncode == 0
    engines = ENGINES if served else ENGINES[:1]
    print(f"median of {pairs} paired requests, in milliseconds\n")
    print("| engine | request | without | with | added |\n| --- | --- | --- | --- | --- |")
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
                print(f"| {engine} | {what} | {without:.2f} | {with_:.2f} | {added[engine, what]:.2f} |", flush=True)
    worst = max(value for (engine, _), value in added.items() if engine == "builtin")
    print(f"\nthe built-in engine adds {worst:.2f} ms, and may add {MOST:.2f} ms")
    return int(worst > MOST)


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
    api.update_params_for_auth(headers, [], ["BearerToken"], path, "POST", pod)

    def ask() -> float:
        began = time.perf_counter()
        response = api.call_api("POST", api.configuration.host + path, headers, pod, _request_timeout=30)
        text = response.read()
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
