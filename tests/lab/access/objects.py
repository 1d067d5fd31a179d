"""Objects and requests that the cases are made of."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.access.model import RESOURCES, Manifest, Place, Request


def pod_spec(claim: str, **more: Any) -> Manifest:
    """A pod's specification with the claim mounted; `more` replaces parts of it."""
    spec: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": "localhost/busybox:test",
                "command": ["sleep", "600"],
                "volumeMounts": [{"name": "data", "mountPath": "/backups"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return spec | more


def new(resource: str, name: str, **content: Any) -> Manifest:
    """An object of a resource."""
    version, kind = RESOURCES[resource]
    metadata = {"name": name} | content.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def workload(resource: str, name: str, spec: Manifest, labels: Mapping[str, str] | None = None) -> Manifest:
    """An object of any kind that makes pods, or a pod, with this specification of a pod."""
    labels = {"made-by": name, **(labels or {})}
    if resource == "pods":
        return new(resource, name, metadata={"labels": labels}, spec=copy.deepcopy(spec))
    template: Manifest = {"metadata": {"labels": labels}, "spec": copy.deepcopy(spec)}
    if resource == "podtemplates":
        return new(resource, name, template=template)
    if resource == "cronjobs":
        return new(resource, name, spec={"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}})
    if resource == "jobs":
        return new(resource, name, spec={"template": template})
    template["spec"]["restartPolicy"] = "Always"
    if resource == "replicationcontrollers":
        return new(resource, name, spec={"replicas": 1, "selector": {"made-by": name}, "template": template})
    content: Manifest = {"selector": {"matchLabels": {"made-by": name}}, "template": template}
    content |= {"serviceName": name} if resource == "statefulsets" else {}
    return new(resource, name, spec=content)


WORKLOADS = (
    "deployments",
    "replicasets",
    "statefulsets",
    "daemonsets",
    "replicationcontrollers",
    "jobs",
    "cronjobs",
    "podtemplates",
)


def by_hand(place: Place, name: str) -> Manifest:
    """What `kubectl create job --from=cronjob/…` sends."""
    template = copy.deepcopy(place.cronjob["spec"]["jobTemplate"])
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": place.cronjob_name,
        "uid": place.cronjob["metadata"].get("uid", "0"),
    }
    metadata = {
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        "labels": template.get("metadata", {}).get("labels", {}),
        "ownerReferences": [owner],
    }
    return new("jobs", name, metadata=metadata, spec=template["spec"])


def job_pod(place: Place, name: str, job: str) -> Manifest:
    """What the job controller makes of a Job of the CronJob's template."""
    template = copy.deepcopy(place.cronjob["spec"]["jobTemplate"]["spec"]["template"])
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": "0", "controller": True}
    return new("pods", name, metadata={**template["metadata"], "ownerReferences": [owner]}, spec=template["spec"])


def claim_object(name: str, **spec: Any) -> Manifest:
    """A small claim."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, **spec}
    return new("persistentvolumeclaims", name, spec=spec)


def source(place: Place, **more: str) -> dict[str, str]:
    """The claim as a data source."""
    return {"kind": "PersistentVolumeClaim", "name": place.claim, **more}


def split(place: Place) -> tuple[str, str]:
    """A pod's and a volume's name that together are the claim's, as generic ephemeral volumes have it."""
    pod, _, volume = place.claim.rpartition("-")
    return pod, volume


def create(place: Place, manifest: Manifest, namespace: str | None = None) -> Request:
    """The creation of an object."""
    resource = next(r for r, (_, kind) in RESOURCES.items() if kind == manifest["kind"])
    scoped = resource not in (
        "persistentvolumes",
        "volumesnapshotcontents",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    )
    return Request("CREATE", resource, (namespace or place.namespace) if scoped else "", body=manifest)


def update(
    place: Place, resource: str, name: str, change: Callable[[Manifest], object], subresource: str = ""
) -> Request:
    """The change of an object that is there."""
    namespace = "" if resource in ("persistentvolumes", "namespaces") else place.namespace
    return Request("UPDATE", resource, namespace, name, subresource, change=change)


def delete(place: Place, resource: str, name: str = "") -> Request:
    """The deletion of an object, or of all of the namespace."""
    cluster = resource.startswith("validating") or resource == "persistentvolumes"
    return Request("DELETE", resource, "" if cluster else place.namespace, name)


def below(place: Place, pod: str, subresource: str, body: Manifest) -> Request:
    """What is created below a pod."""
    return Request("CREATE", "pods", place.namespace, pod, subresource, body=body)


def applied(request: Request, manager: str) -> Request:
    """The same by a server-side apply, which takes the fields from whoever has them."""
    return dataclasses.replace(request, manager=manager)


def upgraded(request: Request) -> Request:
    """The same connection as a WebSocket."""
    return dataclasses.replace(request, upgrade=True)


def connect(place: Place, pod: str, subresource: str) -> Request:
    """A way into a running pod."""
    return Request("CONNECT", "pods", place.namespace, pod, subresource)


def content(place: Place, namespace: str) -> Manifest:
    """The content of a snapshot of the claim's volume, bound to a snapshot in a namespace."""
    spec = {
        "driver": "driver.longhorn.io",
        "deletionPolicy": "Retain",
        "source": {"volumeHandle": place.volume},
        "volumeSnapshotRef": {"name": "copy", "namespace": namespace},
    }
    return new("volumesnapshotcontents", "copy", spec=spec)


def copying(place: Place) -> Manifest:
    manifest = workload("statefulsets", "stranger", pod_spec(place.claim, volumes=[]), {"app": place.release})
    manifest["spec"]["volumeClaimTemplates"] = [claim_object("data", dataSource=source(place))]
    return manifest


def first_container(spec: Manifest) -> Manifest:
    found: Manifest = spec["initContainers"][0]
    return found


def cronjob_pod(cronjob: Manifest) -> Manifest:
    found: Manifest = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def drop_claim(cronjob: Manifest, place: Place) -> None:
    """Inject a program and drop the claim in one change: the next upgrade brings the claim back, beside the program."""
    spec = cronjob_pod(cronjob)
    spec["initContainers"][0]["image"] = "localhost/busybox:test"
    for container in (*spec["initContainers"], *spec["containers"]):
        container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "backups"]
    spec["volumes"] = [v for v in spec["volumes"] if "persistentVolumeClaim" not in v]
    assert place.claim not in str(spec["volumes"])


def owned(manifest: Manifest, **reference: Any) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "c6f5ad5c-0000-4000-8000-000000000000", **reference}
    manifest["metadata"]["ownerReferences"] = [owner]


def changed(manifest: Manifest, change: Callable[[Manifest], object]) -> Manifest:
    change(manifest)
    return manifest


def annotated(manifest: Manifest) -> None:
    manifest["metadata"].setdefault("annotations", {})["example.org/note"] = "seen"


def annotation(key: str, value: str | None) -> Callable[[Manifest], None]:
    """Give an annotation, or take it away."""
    return lambda manifest: put(manifest["metadata"].setdefault("annotations", {}), key, value)


def labelled(key: str, value: str | None) -> Callable[[Manifest], None]:
    """Give a label, or take it away."""
    return lambda manifest: put(manifest["metadata"].setdefault("labels", {}), key, value)


def put(there: dict[str, str], key: str, value: str | None) -> None:
    if value is None:
        del there[key]
    else:
        there[key] = value


def labelled_as_record(place: Place) -> Callable[[Manifest], None]:
    labels = helm_record(place, "secrets", "x")["metadata"]["labels"]
    return lambda manifest: manifest["metadata"].setdefault("labels", {}).update(labels)


def helm_record(place: Place, resource: str, name: str, version: str = "99") -> Manifest:
    """A version of the release as Helm keeps it: found by its labels, read by its name."""
    labels = {"owner": "helm", "name": place.release, "status": "deployed", "version": version}
    more: Manifest = {"type": "helm.sh/release.v1"} if resource == "secrets" else {}
    return new(resource, name, metadata={"labels": labels}, data={"release": "SDRzSUFBQUFBQUFD"}, **more)


def unlabelled(manifest: Manifest) -> Manifest:
    del manifest["metadata"]["labels"]
    return manifest


def generated(manifest: Manifest) -> Manifest:
    manifest["metadata"] |= {"name": "", "generateName": "mine-"}
    return manifest
