"""What is installed into the cluster: DNS, a storage class, CloudNativePG, Kyverno's admission controller."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.node import pins
from tests.e2e.node.cluster import Cluster, wait_until
from tests.e2e.node.images import CNPG_OPERATORS, KYVERNO
from tests.e2e.node.paths import MANIFESTS, TOOLS, cache, made_once

_CNPG = "github.com/cloudnative-pg/cloudnative-pg"
_KYVERNO = "github.com/kyverno/kyverno"
CNPG_NAMESPACE, CNPG_DEPLOYMENT = "cnpg-system", "cnpg-controller-manager"
KYVERNO_NAMESPACE, KYVERNO_DEPLOYMENT = "kyverno", "kyverno-admission-controller"


def install(cluster: Cluster, cnpg: str, *, with_kyverno: bool) -> None:
    """Apply everything, without waiting until it is ready; `cnpg` is the operator's module in `tools`."""
    files = [MANIFESTS / "coredns.yaml", MANIFESTS / "storage.yaml", cnpg_manifest(cnpg)]
    if with_kyverno:
        files.append(kyverno_manifest())
    with ThreadPoolExecutor(max_workers=len(files)) as pool:
        list(pool.map(lambda path: _apply(cluster, path), files))


def prepare(cnpg: str, *, with_kyverno: bool) -> None:
    """Make the manifests that `install` applies, where the cache lacks them."""
    cnpg_manifest(cnpg)
    if with_kyverno:
        kyverno_manifest()


def wait(cluster: Cluster, *, with_kyverno: bool, seconds: float = 180) -> None:
    """Wait until everything that `install` applied is ready.

    Raises:
        NodeError: it did not get ready in time; the message names what did not.
    """
    deployments = [("kube-system", "coredns"), (CNPG_NAMESPACE, CNPG_DEPLOYMENT)]
    if with_kyverno:
        deployments.append((KYVERNO_NAMESPACE, KYVERNO_DEPLOYMENT))
    for namespace, name in deployments:
        wait_available(cluster, namespace, name, seconds)


def wait_available(cluster: Cluster, namespace: str, deployment: str, seconds: float = 180) -> None:
    """Wait until a Deployment has all its replicas available."""

    def available() -> bool:
        found = cluster.get("deployment", deployment, "-n", namespace)
        wanted, status = found["spec"]["replicas"], found["status"]
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return bool(current and status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == wanted)

    wait_until(f"deployment {namespace}/{deployment} is available", available, seconds)


def cnpg_manifest(tool: str) -> Path:
    """Return CloudNativePG's own manifest of the pinned version, with our image and without its limits."""
    version = pins.version(tool, _CNPG).removeprefix("v")

    def make() -> str:
        folder = pins.module_folder(tool, _CNPG)
        text = (folder / "releases" / f"cnpg-{version}.yaml").read_text()
        return _edited(text, {CNPG_DEPLOYMENT: lambda deployment: _cnpg_deployment(deployment, tool)})

    return _cached(tool, make)


def kyverno_manifest() -> Path:
    """Return Kyverno's own manifest of the pinned version: everything but its other controllers and its jobs."""

    def make() -> str:
        folder = pins.module_folder("kyverno", _KYVERNO)
        text = (folder / "config" / "install-latest-testing.yaml").read_text()
        return _edited(text, {KYVERNO_DEPLOYMENT: _kyverno_deployment}, drop=("Deployment", "CronJob", "Job", "Pod"))

    return _cached("kyverno", make)


def _apply(cluster: Cluster, path: Path) -> None:
    def applied() -> bool:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
        return True

    wait_until(f"{path.name} is applied", applied, 120)


def _cached(tool: str, make: Callable[[], str]) -> Path:
    key = pins.digest((TOOLS / tool / "go.mod").read_bytes(), Path(__file__).read_bytes())
    return made_once(cache("manifests") / f"{tool}-{key}.yaml", lambda path: path.write_text(make()))


def _edited(text: str, edits: dict[str, Callable[[dict[str, Any]], None]], drop: tuple[str, ...] = ()) -> str:
    """Edit the Deployments named, drop other objects of some kinds, and pass all others through untouched.

    Only what is edited is parsed: these manifests have megabytes of custom resource definitions.
    """
    documents = []
    for document in re.split(r"^---\s*$", text, flags=re.MULTILINE):
        kind = re.search(r"^kind: *(\S+)", document, re.MULTILINE)
        name = re.search(r"^  name: *(\S+)", document, re.MULTILINE)
        if kind is None or name is None:
            continue
        edit = edits.get(name[1]) if kind[1] == "Deployment" else None
        if edit:
            deployment = yaml.safe_load(document)
            edit(deployment)
            documents.append(json.dumps(deployment))
        elif kind[1] not in drop:
            documents.append(document.strip("\n"))
    return "\n---\n".join(documents) + "\n"


def _cnpg_deployment(deployment: dict[str, Any], tool: str) -> None:
    image = CNPG_OPERATORS[tool].name
    pod = deployment["spec"]["template"]["spec"]
    for container in pod["containers"]:
        container["image"] = image
        container["imagePullPolicy"] = "Never"
        _unlimited(container)
        for variable in container["env"]:
            if variable["name"] == "OPERATOR_IMAGE_NAME":
                variable["value"] = image


def _kyverno_deployment(deployment: dict[str, Any]) -> None:
    deployment["spec"]["replicas"] = 1
    pod = deployment["spec"]["template"]["spec"]
    pod.pop("initContainers", None)
    for container in pod["containers"]:
        container["image"] = KYVERNO.name
        container["imagePullPolicy"] = "Never"
        _unlimited(container)


def _unlimited(container: dict[str, Any]) -> None:
    """Two cores for everything: limits would only make the start slow, and faster probes notice readiness sooner."""
    container["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    for probe in ("startupProbe", "readinessProbe"):
        if probe in container:
            container[probe] |= {"periodSeconds": 1, "failureThreshold": 120, "initialDelaySeconds": 0}
