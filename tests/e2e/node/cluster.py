"""A Kubernetes cluster that a test speaks to: this package's own node, or any other."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from kubernetes import client, config

from tests.e2e.node.errors import NodeError


def wait_until(what: str, probe: Callable[[], bool], seconds: float, every: float = 0.2) -> None:
    """Wait until a probe is true.

    Args:
        what: the condition, for the message, as in "node is ready".
        probe: asked again and again; a NodeError that it raises counts as "not yet".
        seconds: the most it may take.
        every: seconds between two questions.

    Raises:
        NodeError: it never was; the message holds the condition and the probe's last error.
    """
    deadline = time.monotonic() + seconds
    last = ""
    while True:
        try:
            if probe():
                return
            last = ""
        except NodeError as error:
            last = f": {error}"
        if time.monotonic() > deadline:
            raise NodeError(f"waited {seconds:g} s in vain: {what}{last}")
        time.sleep(every)


class Cluster:
    """A running cluster.

    Attributes:
        kubeconfig: file with administrator's rights on it; for kubectl, helm and clients alike.
        owned: whether it is this package's own node, whose parts may be broken on purpose.
    """

    owned = False

    def __init__(self, kubeconfig: Path, kubectl: str = "kubectl") -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl

    @property
    def environment(self) -> dict[str, str]:
        """Environment for programs that speak to the cluster: `KUBECONFIG`, and kubectl on `PATH`."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        if "/" in self._kubectl:
            env["PATH"] = f"{Path(self._kubectl).parent}:{env.get('PATH', os.defpath)}"
        return env

    @cached_property
    def client(self) -> client.ApiClient:
        """The kubernetes client, connected."""
        connected: client.ApiClient = config.new_client_from_config(str(self.kubeconfig))
        return connected

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """Run kubectl and return its standard output.

        Raises:
            NodeError: it failed or took longer than `seconds`; the message holds its standard error.
        """
        done = self.try_kubectl(*arguments, stdin=stdin, seconds=seconds)
        if done.returncode:
            raise NodeError(f"kubectl {' '.join(arguments)} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
        return done.stdout

    def try_kubectl(
        self, *arguments: str, stdin: str | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return what it did, failed or not."""
        try:
            return subprocess.run(
                [self._kubectl, *arguments], env=self.environment, input=stdin if stdin is not None else "",
                capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NodeError(f"kubectl {' '.join(arguments)} took longer than {seconds:g} s") from None

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object, or a list of them, as `kubectl get <arguments>` has it."""
        answer = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        if not isinstance(answer, dict):
            raise NodeError(f"kubectl get {' '.join(arguments)} answered no object")
        return answer

    def apply(self, *objects: dict[str, Any], namespace: str | None = None, seconds: float = 60) -> None:
        """Apply objects, again and again while a webhook or a kind that was just installed is not ready for them."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        where = ["--namespace", namespace] if namespace else []

        def applied() -> bool:
            self.kubectl("apply", "--server-side", "--force-conflicts", *where, "-f", "-", stdin=text)
            return True

        wait_until("objects are applied", applied, seconds)

    @contextmanager
    def namespace(self, prefix: str = "test", labels: dict[str, str] | None = None) -> Iterator[str]:
        """Make a namespace of a new name, and delete it afterwards without waiting for its end."""
        name = f"{prefix}-{uuid4().hex[:8]}"
        metadata = {"name": name, "labels": labels or {}}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            wait_until(
                f"namespace {name} has its service account",
                lambda: bool(self.get("serviceaccount", "default", "-n", name)),
                60,
            )
            yield name
        finally:
            self.try_kubectl("delete", "namespace", name, "--wait=false")

    def collect(self, folder: Path) -> Path:
        """Write into a folder what explains a failure: events, all objects, all logs, also previous ones.

        Returns:
            The folder, made where it was missing. What cannot be had is left out; nothing is raised for it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        pods = folder / "pods"
        pods.mkdir(exist_ok=True)
        jobs: list[tuple[Path, tuple[str, ...]]] = [
            (folder / "events.txt", ("get", "events", "-A", "--sort-by=.lastTimestamp")),
            (folder / "pods.txt", ("describe", "pods", "-A")),
            (folder / "nodes.txt", ("describe", "nodes")),
            (folder / "overview.txt", ("get", "all,pvc,pv,networkpolicies,configmaps", "-A", "-o", "wide")),
            (folder / "workloads.yaml", ("get", "cronjobs,jobs,pods,pvc,networkpolicies", "-A", "-o", "yaml")),
            (folder / "clusters.yaml", ("get", "clusters.postgresql.cnpg.io", "-A", "-o", "yaml")),
        ]
        listed = self.try_kubectl("get", "pods", "-A", "-o", "json")
        for pod in json.loads(listed.stdout)["items"] if listed.returncode == 0 else ():
            where, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            states = [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
            for state in states:
                log = ("logs", "-n", where, name, "-c", state["name"], "--timestamps")
                jobs.append((pods / f"{where}_{name}_{state['name']}.log", log))
                if state["restartCount"]:
                    jobs.append((pods / f"{where}_{name}_{state['name']}.previous.log", (*log, "--previous")))
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda job: self._save(*job), jobs))
        return folder

    def _save(self, path: Path, arguments: tuple[str, ...]) -> None:
        try:
            done = self.try_kubectl(*arguments, seconds=30)
            text = done.stdout + done.stderr
        except NodeError as error:
            text = str(error)
        if text:
            path.write_text(text)


def existing(kubeconfig: Path) -> Cluster:
    """Return a cluster that is there already.

    Raises:
        NodeError: the file is not there, kubectl is not on PATH, or the cluster does not answer.
    """
    if not kubeconfig.is_file():
        raise NodeError(f"kubeconfig {kubeconfig} is not there")
    if shutil.which("kubectl") is None:
        raise NodeError("kubectl is not on PATH: install it to use an existing cluster")
    cluster = Cluster(kubeconfig.resolve())
    cluster.kubectl("get", "--raw", "/readyz", seconds=20)
    return cluster
