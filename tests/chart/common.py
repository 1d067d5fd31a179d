"""What the tests of the chart share: values files, rendered objects, and ways into them."""

from __future__ import annotations

import base64
import copy
import functools
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.lab import chart, pod
from tests.lab.chart import CHART, Manifest

CI_FILES = sorted((CHART / "ci").glob("*-values.yaml"))
_RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
OFFSITE: dict[str, Any] = {
    "offsite": {
        "enabled": True,
        "remote": {"type": "s3", "provider": "Other", "endpoint": "https://s3.example.org", "region": "eu-1"},
        "path": "bucket/prefix",
        "clusterId": "main",
        "secretName": "store",
        "encryption": {"recipients": [_RECIPIENT]},
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}],
    }
}
"""What copies outside need at least."""

KYVERNO = ("policies.kyverno.io/v1/ValidatingPolicy", "kyverno.io/v1/ClusterPolicy")
"""What `--api-versions` says of a cluster that has Kyverno."""

LONGEST_RELEASE = "a-release-with-a-name-of-fifty-three-characters-in-it"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


@functools.cache
def rendered_text(
    values: Path | None = None,
    release: str = "cnpg-backup",
    namespace: str = "default",
    kyverno: bool = True,
    kube_version: str | None = None,
    helm: chart.Engine = "helm",
) -> str:
    """What Helm prints for a values file, rendered once in a test session."""
    return chart.render_text(values, release, namespace, KYVERNO if kyverno else (), kube_version, helm)


@functools.cache
def _parsed(text: str) -> list[Manifest]:
    return chart.parse(text)


def rendered(
    values: Path | None = None,
    release: str = "cnpg-backup",
    namespace: str = "default",
    kyverno: bool = True,
    kube_version: str | None = None,
    helm: chart.Engine = "helm",
) -> list[Manifest]:
    """The objects of a values file; a copy, so that a test may change it."""
    return copy.deepcopy(_parsed(rendered_text(values, release, namespace, kyverno, kube_version, helm)))


def title(manifest: Manifest) -> str:
    """What messages call an object."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The objects of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def backups(manifests: list[Manifest]) -> list[Manifest]:
    """The CronJobs that back up, less those that restore, drill or inspect."""
    return [
        manifest
        for manifest in of_kind(manifests, "CronJob")
        if manifest["spec"]["jobTemplate"]["metadata"]["labels"]["app.kubernetes.io/component"] == "backup"
    ]


def own(manifests: list[Manifest]) -> list[Manifest]:
    """The chart's own objects, less those that a values file brings itself: in chart/ci a ResourceQuota."""
    return [manifest for manifest in manifests if manifest["kind"] != "ResourceQuota"]


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every pod that the objects describe: its owner's title, its metadata, its specification."""
    for manifest in manifests:
        template = manifest.get("spec", {}).get("template")
        if manifest["kind"] == "CronJob":
            template = manifest["spec"]["jobTemplate"]["spec"]["template"]
        elif manifest["kind"] == "Pod":
            template = manifest
        if template is not None:
            yield title(manifest), template["metadata"], template["spec"]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector selects a pod, by Kubernetes' rules for what the chart uses of them."""
    for rule in selector.get("matchExpressions", []):
        inside = labels.get(rule["key"]) in rule["values"]
        if inside != {"In": True, "NotIn": False}[rule["operator"]]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def run_specs(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The same of all pods but the watcher's, which sees no backups."""
    return (found for found in pod_specs(manifests) if not found[0].startswith("Deployment "))


def maps_of(manifests: list[Manifest]) -> list[Manifest]:
    """The ConfigMaps, less the one that the watcher fills."""
    return [manifest for manifest in of_kind(manifests, "ConfigMap") if "data" in manifest]


def containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod, those that run first in front."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def disk_problem(spec: Mapping[str, Any]) -> str:
    """How the volumes of a pod can make the kubelet evict it: they hold more than its limit; empty when they cannot.

    Args:
        spec: The pod's specification.
    """
    limit = pod.disk_limit(spec)
    volumes = sum(pod.disk_sizes(spec).values())
    return "" if limit is None or volumes <= limit else f"its volumes may take {volumes} bytes, its limit is {limit}"


def leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings of a values tree: the path of each value that is no mapping, or an empty one."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """The values tree that sets one path."""
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def kept_release(manifest: str, values: Mapping[str, Any]) -> bytes:
    """What Helm stores for a release, as it stores it: the chart, the given values and the objects, compressed."""
    files = [{"name": name, "data": base64.b64encode((CHART / name).read_bytes()).decode()} for name in kept_files()]
    # Of the chart's own values it keeps what they say, and not the file.
    its = {"files": files, "values": VALUES}
    release = {"chart": its, "config": values, "manifest": manifest}
    return base64.b64encode(gzip.compress(json.dumps(release).encode()))


def kept_files() -> list[str]:
    """The files of the chart that Helm keeps with a release: not those of charts that this one depends on."""
    others = {"ci", "tests", "charts", "README.md.gotmpl", "values.yaml"}
    files = (path.relative_to(CHART) for path in sorted(CHART.rglob("*")) if path.is_file())
    return [str(path) for path in files if path.parts[0] not in others]
