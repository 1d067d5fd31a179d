"""Kyverno out of service, in the two ways that are not the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.e2e.node import Node, wait_until
from tests.e2e.node.addons import KYVERNO_DEPLOYMENT, KYVERNO_NAMESPACE, wait_available


@contextmanager
def kyverno_out(node: Node) -> Iterator[None]:
    """Kyverno is gone and cannot start again, as after the loss of its node."""
    where = ("deployment", KYVERNO_DEPLOYMENT, "-n", KYVERNO_NAMESPACE)
    strategy = node.get(*where)["spec"]["strategy"]
    spec = {"strategy": {"type": "Recreate", "rollingUpdate": None}}
    node.kubectl("patch", *where, "-p", json.dumps({"spec": spec | {"template": _placed({"no-such": "node"})}}))
    try:
        wait_until("Kyverno is gone", lambda: "Running" not in _phases(node), 90)
        yield
    finally:
        node.kubectl("patch", *where, "-p", json.dumps({"spec": {"template": _placed({"no-such": None})}}))
        node.kubectl("patch", *where, "--type=merge", "-p", json.dumps({"spec": {"strategy": strategy}}))
        wait_available(node, KYVERNO_NAMESPACE, KYVERNO_DEPLOYMENT)


@contextmanager
def kyverno_switched_off(node: Node) -> Iterator[None]:
    """Kyverno is scaled to 0."""
    scale = ("scale", "deployment", KYVERNO_DEPLOYMENT, "-n", KYVERNO_NAMESPACE)
    node.kubectl(*scale, "--replicas=0")
    try:
        yield
    finally:
        node.kubectl(*scale, "--replicas=1")
        wait_available(node, KYVERNO_NAMESPACE, KYVERNO_DEPLOYMENT)


def _placed(labels: Mapping[str, str | None]) -> dict[str, Any]:
    """The part of a pod template that chooses nodes."""
    return {"spec": {"nodeSelector": dict(labels)}}


def _phases(node: Node) -> list[str]:
    """Phases of Kyverno's pods."""
    return [pod["status"]["phase"] for pod in node.get("pods", "-n", KYVERNO_NAMESPACE)["items"]]
