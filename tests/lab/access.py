"""What is tried against the claim, and what has to go on: one table for tests with and without a cluster, and the docs.

Each case is one request by one person. Two judges run it: the policies' own expressions (tests/chart/test_access.py),
and a real API server (tests/e2e/test_access.py), whose answers are what docs/security.md shows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Manifest = dict[str, Any]

LAYERS = ("label", "builtin", "kyverno")
"""The weak mode in Kyverno, which is the infrastructure document's rule, and each engine in the mode of the grant."""

RESOURCES: Mapping[str, tuple[str, str]] = {
    "pods": ("v1", "Pod"),
    "podtemplates": ("v1", "PodTemplate"),
    "replicationcontrollers": ("v1", "ReplicationController"),
    "configmaps": ("v1", "ConfigMap"),
    "secrets": ("v1", "Secret"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "persistentvolumes": ("v1", "PersistentVolume"),
    "deployments": ("apps/v1", "Deployment"),
    "replicasets": ("apps/v1", "ReplicaSet"),
    "statefulsets": ("apps/v1", "StatefulSet"),
    "daemonsets": ("apps/v1", "DaemonSet"),
    "jobs": ("batch/v1", "Job"),
    "cronjobs": ("batch/v1", "CronJob"),
    "volumesnapshots": ("snapshot.storage.k8s.io/v1", "VolumeSnapshot"),
    "volumesnapshotcontents": ("snapshot.storage.k8s.io/v1", "VolumeSnapshotContent"),
    "volumegroupsnapshots": ("groupsnapshot.storage.k8s.io/v1", "VolumeGroupSnapshot"),
    "validatingadmissionpolicies": ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    "validatingadmissionpolicybindings": ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    "roles": ("rbac.authorization.k8s.io/v1", "Role"),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding"),
}
"""Version and kind of each resource that a case names."""

SNAPSHOTS = ("volumesnapshots", "volumesnapshotcontents", "volumegroupsnapshots")
"""Resources of an add-on that a cluster may lack."""

# People. `who` of a case is one of these.
DEV = "dev"  # the built-in role `edit` in the release's namespace and in another, and everything on snapshots there
PODS = "pod-maker"  # may create pods, and nothing else
OWN = "own-account"  # the release's own account, with the role `edit`
CHIEF = "namespace-admin"  # the built-in role `admin` in the release's namespace
STORAGE = "storage-admin"  # everything on volumes and snapshots of the whole cluster
OPERATOR = "operator"  # `edit`, and the release's Role with the verb `mount`
ADMIN = "cluster-admin"  # a user bound to the role `cluster-admin`
APPLIER = "applier"  # an account of another namespace bound to the role `cluster-admin`, as Argo CD and Flux have one
MOVER = "mover"  # named in `accessPolicy.exceptions`, with `edit` in the namespace, as a tool such as Velero
CRONJOBS = "cronjob-controller"
JOBS = "job-controller"
BINDER = "persistent-volume-binder"
SCHEDULER = "scheduler"
PROVISIONER = "provisioner"  # a storage driver's account in a namespace of its own
COLLECTOR = "garbage-collector"
NAMESPACES = "namespace-controller"

PEOPLE: Mapping[str, str] = {
    DEV: "`edit` in the namespace",
    PODS: "may only create pods",
    OWN: "the release's own account, with `edit`",
    CHIEF: "`admin` in the namespace",
    STORAGE: "storage administrator",
    OPERATOR: "`edit` and the grant",
    ADMIN: "cluster administrator",
    APPLIER: "Argo CD's or Flux's account",
    MOVER: "a tool named as an exception",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A release on a cluster.

    Attributes:
        namespace: Where it is.
        elsewhere: Another namespace, in which the dev may edit, too.
        release: Name of the release, and of its account.
        claim: Name of the claim, which has a dash in it.
        volume: Name of the claim's volume; its CSI handle is of the same name.
        cronjob: The CronJob as the cluster has it.
        job: Name of a Job of the CronJob, which runs.
        pod: Name of the Job's pod.
        inspector: Name of a pod of an operator's, which has the claim and no label.
        scripts: Name of the ConfigMap with the programs.
        config: Name of the ConfigMap with the configuration.
        secret: Name of a Secret of the namespace's people.
    """

    namespace: str
    elsewhere: str
    release: str
    claim: str
    volume: str
    cronjob: Manifest
    job: str
    pod: str
    inspector: str
    scripts: str
    config: str
    secret: str = "ghost-app"

    @property
    def cronjob_name(self) -> str:
        name: str = self.cronjob["metadata"]["name"]
        return name

    @property
    def record(self) -> str:
        """Name of the Secret in which Helm keeps the release's first version."""
        return f"sh.helm.release.v1.{self.release}.v1"


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the API server.

    Attributes:
        operation: `CREATE`, `UPDATE`, `DELETE` or `CONNECT`, as admission calls it.
        resource: A key of RESOURCES.
        namespace: Empty for what has none.
        name: Of the object; empty for a creation, and for the deletion of all.
        subresource: Such as `exec`.
        body: What is created.
        change: Turns the object as it is into the one that is asked for.
    """

    operation: str
    resource: str
    namespace: str
    name: str = ""
    subresource: str = ""
    body: Manifest | None = None
    change: Callable[[Manifest], object] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        text: What is tried, for people; unique.
        who: Who tries it.
        ask: The request in a place.
        refused: For each layer whether its policy refuses.
        rbac: Whether RBAC refuses it already, whatever the policy.
        reason: What the refusal says the request does to the claim; a regular expression.
        made: False where it cannot be asked of a real API server in a test, such as by a controller.
        later: Layers that admit the object and refuse its pods.
    """

    text: str
    who: str
    ask: Callable[[Place], Request]
    refused: Mapping[str, bool] = field(default_factory=dict)
    rbac: bool = False
    reason: str = "mounts"
    made: bool = True
    later: tuple[str, ...] = ()


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
    namespace = "" if resource == "persistentvolumes" else place.namespace
    return Request("UPDATE", resource, namespace, name, subresource, change=change)


def delete(place: Place, resource: str, name: str = "") -> Request:
    """The deletion of an object, or of all of the namespace."""
    cluster = resource.startswith("validating")
    return Request("DELETE", resource, "" if cluster else place.namespace, name)


def connect(place: Place, pod: str, subresource: str) -> Request:
    """A way into a running pod."""
    return Request("CONNECT", "pods", place.namespace, pod, subresource)


def _marks(text: str) -> dict[str, bool]:
    return {layer: mark == "X" for layer, mark in zip(LAYERS, text.split(), strict=True)}


def _container(spec: Manifest) -> Manifest:
    found: Manifest = spec["initContainers"][0]
    return found


def _cronjob_pod(cronjob: Manifest) -> Manifest:
    found: Manifest = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def _drop_claim(cronjob: Manifest, place: Place) -> None:
    """Inject a program and drop the claim in one change: the next upgrade brings the claim back, beside the program."""
    spec = _cronjob_pod(cronjob)
    spec["initContainers"][0]["image"] = "localhost/busybox:test"
    for container in (*spec["initContainers"], *spec["containers"]):
        container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "backups"]
    spec["volumes"] = [v for v in spec["volumes"] if "persistentVolumeClaim" not in v]
    assert place.claim not in str(spec["volumes"])


def _owned(manifest: Manifest, **reference: Any) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "c6f5ad5c-0000-4000-8000-000000000000", **reference}
    manifest["metadata"]["ownerReferences"] = [owner]


def attempts() -> Iterator[Case]:
    """What must not succeed, and what the layers do about it."""
    label = _marks("- X X")
    grant = _marks("X X X")
    yield Case(
        "pod with the claim",
        DEV,
        lambda p: create(p, workload("pods", "stranger", pod_spec(p.claim))),
        grant,
    )
    yield Case(
        "pod with the claim as its third volume, read-only, mounted by an init container alone",
        DEV,
        lambda p: create(
            p,
            workload(
                "pods",
                "stranger",
                pod_spec(
                    p.claim,
                    volumes=[
                        {"name": "one", "emptyDir": {}},
                        {"name": "two", "emptyDir": {}},
                        {"name": "data", "persistentVolumeClaim": {"claimName": p.claim, "readOnly": True}},
                    ],
                    initContainers=pod_spec(p.claim)["containers"],
                    containers=[{"name": "rest", "image": "localhost/busybox:test"}],
                ),
            ),
        ),
        grant,
    )
    yield Case(
        "pod with the label",
        DEV,
        lambda p: create(p, workload("pods", "stranger", pod_spec(p.claim), {"app": p.release})),
        label,
    )
    yield Case(
        "pod with the label, the release's account and the running Job as its owner",
        DEV,
        lambda p: create(p, job_pod(p, "stranger", p.job)),
        label,
    )
    yield Case(
        "pod with the label",
        PODS,
        lambda p: create(p, workload("pods", "stranger", pod_spec(p.claim), {"app": p.release})),
        label,
    )
    yield Case(
        "pod with the label",
        OWN,
        lambda p: create(p, workload("pods", "stranger", pod_spec(p.claim), {"app": p.release})),
        label,
    )
    yield Case(
        "pod whose generic ephemeral volume has the claim's name, to adopt it",
        DEV,
        lambda p: create(
            p,
            workload(
                "pods",
                split(p)[0],
                pod_spec(
                    p.claim,
                    volumes=[
                        {"name": split(p)[1], "ephemeral": {"volumeClaimTemplate": {"spec": claim_object("x")["spec"]}}}
                    ],
                    containers=[{"name": "main", "image": "localhost/busybox:test"}],
                ),
                {"app": p.release},
            ),
        ),
        label,
    )
    for key in ("dataSource", "dataSourceRef"):
        yield Case(
            f"pod with a generic ephemeral volume that is a copy of the claim ({key})",
            DEV,
            lambda p, key=key: create(  # type: ignore[misc]
                p,
                workload(
                    "pods",
                    "stranger",
                    pod_spec(
                        p.claim,
                        volumes=[
                            {
                                "name": "data",
                                "ephemeral": {
                                    "volumeClaimTemplate": {"spec": claim_object("x", **{key: source(p)})["spec"]}
                                },
                            }
                        ],
                    ),
                    {"app": p.release},
                ),
            ),
            label,
        )
    for resource in WORKLOADS:
        kind = RESOURCES[resource][1]
        yield Case(
            f"{kind} whose pods have the claim",
            DEV,
            lambda p, resource=resource: create(p, workload(resource, "stranger", pod_spec(p.claim))),  # type: ignore[misc]
            # Kyverno leaves ReplicaSets out by default; what they make is a pod.
            _marks("- X -") if resource == "replicasets" else grant,
            later=("label", "kyverno") if resource == "replicasets" else (),
        )
        yield Case(
            f"{kind} whose pods have the claim and the label",
            DEV,
            lambda p, resource=resource: create(  # type: ignore[misc]
                p, workload(resource, "stranger", pod_spec(p.claim), {"app": p.release})
            ),
            _marks("- X -") if resource == "replicasets" else label,
            later=("kyverno",) if resource == "replicasets" else (),
        )
    yield Case(
        "StatefulSet whose volumes are copies of the claim",
        DEV,
        lambda p: create(p, _copying(p)),
        label,
    )
    for text, change in {
        "that only owns it": lambda m: m["metadata"]["ownerReferences"][0].pop("controller"),
        "under another account": lambda m: m["spec"].update(serviceAccountName="another"),
    }.items():
        yield Case(
            f"pod of an older Job of a stranger's, {text}",
            JOBS,
            lambda p, change=change: create(p, _changed(job_pod(p, "old-x", "old"), change)),  # type: ignore[misc]
            label,
            made=False,
        )
    yield Case(
        "volume for a claim in another namespace that copies this one across namespaces",
        DEV,
        lambda p: create(p, claim_object("copy", dataSourceRef=source(p, namespace=p.namespace)), p.elsewhere),
        label,
        reason="hands out",
        made=False,  # the API server leaves the field out unless a feature gate is open
    )
    yield Case(
        "Job of the CronJob's template (`kubectl create job --from`)",
        DEV,
        lambda p: create(p, by_hand(p, "by-hand")),
        label,
    )
    for text, change in {
        "image": lambda c: _container(_cronjob_pod(c)).update(image="localhost/busybox:test"),
        "command": lambda c: _container(_cronjob_pod(c)).update(command=["sh", "-c", "cat /backups/*/*"]),
        "schedule": lambda c: c["spec"].update(schedule="0 0 1 1 *"),
        "suspension": lambda c: c["spec"].update(suspend=True),
    }.items():
        yield Case(
            f"change of the CronJob's {text}",
            DEV,
            lambda p, change=change: update(p, "cronjobs", p.cronjob_name, change),  # type: ignore[misc]
            label,
        )
    yield Case(
        "change of the CronJob's image that drops the claim as well",
        DEV,
        lambda p: update(p, "cronjobs", p.cronjob_name, lambda c: _drop_claim(c, p)),
        label,
    )
    yield Case(
        "deletion of the CronJob",
        DEV,
        lambda p: delete(p, "cronjobs", p.cronjob_name),
        label,
        reason="controls",
    )
    yield Case(
        "another owner of the CronJob, so that it is collected as garbage",
        DEV,
        lambda p: update(p, "cronjobs", p.cronjob_name, _owned),
        label,
        reason="controls",
    )
    yield Case(
        "suspension of the running Job, whose template can then be edited",
        DEV,
        lambda p: update(p, "jobs", p.job, lambda j: j["spec"].update(suspend=True)),
        label,
    )
    yield Case(
        "change of the running backup pod's image",
        DEV,
        lambda p: update(p, "pods", p.pod, lambda o: _container(o["spec"]).update(image="localhost/busybox:test")),
        label,
    )
    yield Case(
        "another label for the running backup pod, away from its NetworkPolicy",
        DEV,
        lambda p: update(p, "pods", p.pod, lambda o: o["metadata"]["labels"].update(app="free")),
        grant,
    )
    yield Case(
        "ephemeral container in the running backup pod (`kubectl debug`)",
        DEV,
        lambda p: update(
            p,
            "pods",
            p.pod,
            lambda o: o["spec"].update(
                ephemeralContainers=[
                    {
                        "name": "debug",
                        "image": "localhost/busybox:test",
                        "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
                    }
                ]
            ),
            "ephemeralcontainers",
        ),
        label,
    )
    for way in ("exec", "attach", "portforward", "proxy"):
        yield Case(
            f"`{way}` into the running backup pod",
            DEV,
            lambda p, way=way: connect(p, p.pod, way),  # type: ignore[misc]
            label,
            reason="reaches into",
        )
    for text, name in {"port": "{}:8080", "scheme and port": "https:{}:8443", "scheme": "http:{}:"}.items():
        yield Case(
            f"`proxy` into the running backup pod, called by its {text} as well",
            DEV,
            lambda p, name=name: connect(p, name.format(p.pod), "proxy"),  # type: ignore[misc]
            label,
            reason="reaches into",
        )
    yield Case(
        "`exec` into an operator's inspector pod, whatever its name",
        DEV,
        lambda p: connect(p, p.inspector, "exec"),
        label,
        reason="reaches into",
    )
    for key in ("dataSource", "dataSourceRef"):
        yield Case(
            f"claim that is a copy of the claim ({key})",
            DEV,
            lambda p, key=key: create(p, claim_object("copy", **{key: source(p)})),  # type: ignore[misc]
            label,
            reason="copies",
        )
    yield Case(
        "VolumeSnapshot of the claim",
        DEV,
        lambda p: create(p, new("volumesnapshots", "copy", spec={"source": {"persistentVolumeClaimName": p.claim}})),
        label,
        reason="copies",
    )
    yield Case(
        "VolumeGroupSnapshot in the namespace",
        DEV,
        lambda p: create(
            p, new("volumegroupsnapshots", "copies", spec={"source": {"selector": {"matchLabels": {"app": p.release}}}})
        ),
        label,
        reason="copies",
    )
    yield Case(
        "owner for the claim: a pod that adopts it, or one whose end collects it",
        DEV,
        lambda p: update(p, "persistentvolumeclaims", p.claim, lambda c: _owned(c, controller=True)),
        label,
        reason="controls",
    )
    yield Case(
        "volume of one's own for the claim, while it has none",
        DEV,
        lambda p: update(p, "persistentvolumeclaims", p.claim, lambda c: c["spec"].update(volumeName="mine")),
        label,
        reason="controls",
        made=False,  # this one has a volume already
    )
    yield Case(
        "deletion of the claim",
        DEV,
        lambda p: delete(p, "persistentvolumeclaims", p.claim),
        label,
        reason="is, copies",
    )
    yield Case(
        "deletion of all claims of the namespace",
        DEV,
        lambda p: delete(p, "persistentvolumeclaims"),
        label,
        reason="is, copies",
    )
    yield Case(
        "claim of the same name, created again",
        DEV,
        lambda p: create(p, claim_object(p.claim)),
        label,
        reason="is, copies",
    )
    for where in ("the namespace", "another namespace"):
        yield Case(
            f"claim in {where} that names the claim's volume",
            DEV,
            lambda p, where=where: create(  # type: ignore[misc]
                p,
                claim_object("again", volumeName=p.volume, storageClassName="longhorn"),
                p.namespace if where == "the namespace" else p.elsewhere,
            ),
            label,
            reason="hands out",
        )
    yield Case(
        "deletion of the ConfigMap with the programs",
        DEV,
        lambda p: delete(p, "configmaps", p.scripts),
        label,
        reason="controls",
    )
    yield Case(
        "ConfigMap of the name that the programs will have after an upgrade",
        DEV,
        lambda p: create(p, new("configmaps", p.scripts[:-10] + "0123456789", data={"dump.sh": "cat /backups/*/*"})),
        label,
        reason="controls",
    )
    yield Case(
        "deletion of the ConfigMap with the configuration",
        DEV,
        lambda p: delete(p, "configmaps", p.config),
        label,
        reason="controls",
    )
    for key in ("data", "binaryData"):
        yield Case(
            f"change of the programs ({key}), were their ConfigMap not immutable",
            DEV,
            lambda p, key=key: update(p, "configmaps", p.scripts, lambda m: m.update({key: {"dump.sh": "Y2F0"}})),  # type: ignore[misc]
            label,
            reason="controls",
            made=False,
        )
    yield Case(
        "another owner of the ConfigMap with the programs, so that it is collected as garbage",
        DEV,
        lambda p: update(p, "configmaps", p.scripts, _owned),
        label,
        reason="controls",
    )
    yield from _steering(label)
    yield from _helm(label)
    yield from _surroundings(label)
    yield Case(
        "volume that loses its claim",
        STORAGE,
        lambda p: update(p, "persistentvolumes", p.volume, lambda v: v["spec"].pop("claimRef")),
        label,
        reason="hands out",
    )
    yield Case(
        "another volume with the same CSI handle",
        STORAGE,
        lambda p: create(
            p,
            new(
                "persistentvolumes",
                "twin",
                spec={
                    "accessModes": ["ReadWriteOnce"],
                    "capacity": {"storage": "1Mi"},
                    "csi": {"driver": "driver.longhorn.io", "volumeHandle": p.volume},
                },
            ),
        ),
        _marks("- X -"),
        reason="hands out",
    )
    yield Case(
        "content of a snapshot of the volume, for another namespace",
        STORAGE,
        lambda p: create(p, _content(p, p.elsewhere)),
        _marks("- X -"),
        reason="hands out",
    )
    for resource in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
        yield Case(
            f"deletion of the {RESOURCES[resource][1]}",
            CHIEF,
            lambda p, resource=resource: delete(p, resource, "restrict-cnpg-backup-pvc-access"),  # type: ignore[misc]
            rbac=True,
        )
    yield Case(
        "Role with the verb `mount`",
        CHIEF,
        lambda p: create(
            p,
            new(
                "roles",
                "mine",
                rules=[{"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["mount"]}],
            ),
        ),
        rbac=True,
    )
    yield Case(
        "RoleBinding to the release's Role",
        CHIEF,
        lambda p: create(
            p,
            new(
                "rolebindings",
                "mine",
                roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"{p.release}-operator"},
                subjects=[{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": CHIEF}],
            ),
        ),
        rbac=True,
    )


LONGHORN = "recurring-job.longhorn.io/nightly"
BOUND = "pv.kubernetes.io/bind-completed"
NODE = "volume.kubernetes.io/selected-node"


def _steering(refused: Mapping[str, bool]) -> Iterator[Case]:
    """Labels and annotations of the claim, which decide what other tools do with it."""
    for text, who, change in (
        ("label of the claim that starts Longhorn's jobs", DEV, _labelled(LONGHORN, "enabled")),
        ("label of the claim that starts Longhorn's jobs", OWN, _labelled(LONGHORN, "enabled")),
        ("label of the claim, taken away", DEV, _labelled("app", None)),
        ("annotation of the claim", DEV, _annotated),
        ("annotation of the claim", CHIEF, _annotated),
        ("annotation of the claim, without a value", DEV, _annotation("velero.io/exclude-from-backup", "")),
        (
            "annotation of the claim that keeps it on uninstall, taken away",
            DEV,
            _annotation("helm.sh/resource-policy", None),
        ),
        (
            "annotation of the claim that keeps it on uninstall, changed",
            DEV,
            _annotation("helm.sh/resource-policy", "delete"),
        ),
        ("annotation of the claim by which Kubernetes knows it as bound, taken away", DEV, _annotation(BOUND, None)),
        ("annotation of the claim that names a node for its volume", DEV, _annotation(NODE, "mine")),
        ("annotation of the claim that names a node for its volume", OWN, _annotation(NODE, "mine")),
        ("annotation of the claim like one of Kubernetes", DEV, _annotation("volume.beta.kubernetes.io/mine", "x")),
    ):
        yield Case(
            text,
            who,
            lambda p, change=change: update(p, "persistentvolumeclaims", p.claim, change),  # type: ignore[misc]
            refused,
            reason="controls",
        )
    for text, change in (
        ("label of the claim that starts Longhorn's jobs, by an account of Kubernetes", _labelled(LONGHORN, "enabled")),
        (
            "annotation of others' on the claim, by an account of Kubernetes",
            _annotation("example.pv.kubernetes.io/x", ""),
        ),
    ):
        yield Case(
            text,
            BINDER,
            lambda p, change=change: update(p, "persistentvolumeclaims", p.claim, change),  # type: ignore[misc]
            refused,
            reason="controls",
            made=False,
        )


def helm_record(place: Place, resource: str, name: str, version: str = "99") -> Manifest:
    """A version of the release as Helm keeps it: found by its labels, read by its name."""
    labels = {"owner": "helm", "name": place.release, "status": "deployed", "version": version}
    more: Manifest = {"type": "helm.sh/release.v1"} if resource == "secrets" else {}
    return new(resource, name, metadata={"labels": labels}, data={"release": "SDRzSUFBQUFBQUFD"}, **more)


def _unlabelled(manifest: Manifest) -> Manifest:
    del manifest["metadata"]["labels"]
    return manifest


def _generated(manifest: Manifest) -> Manifest:
    manifest["metadata"] |= {"name": "", "generateName": "mine-"}
    return manifest


def _helm(refused: Mapping[str, bool]) -> Iterator[Case]:
    """Helm's records of the release, which decide what an administrator's next command does."""
    later = "sh.helm.release.v1.{}.v99"
    for who in (DEV, CHIEF, OWN):
        yield Case(
            "change of what Helm keeps of the release, which its next command obeys",
            who,
            lambda p: update(p, "secrets", p.record, lambda s: s["data"].update(release="c3RyYW5nZXI=")),
            refused,
            reason="controls",
        )
    for text, ask in {
        "change of its labels alone": lambda p: update(p, "secrets", p.record, _labelled("status", "superseded")),
        "made immutable, so that no upgrade ends": lambda p: update(
            p, "secrets", p.record, lambda s: s.update(immutable=True)
        ),
        "another owner of it, so that it is collected as garbage": lambda p: update(p, "secrets", p.record, _owned),
        "deletion of it": lambda p: delete(p, "secrets", p.record),
        "deletion of all Secrets of the namespace": lambda p: delete(p, "secrets"),
        "a later version of it": lambda p: create(p, helm_record(p, "secrets", later.format(p.release))),
        "a later version of it, without labels, to be found by its name": lambda p: create(
            p, _unlabelled(helm_record(p, "secrets", later.format(p.release)))
        ),
        "Secret with a generated name and Helm's labels": lambda p: create(
            p, _generated(helm_record(p, "secrets", "x"))
        ),
        "Secret of any name with Helm's labels, which Helm takes for a version": lambda p: create(
            p, helm_record(p, "secrets", "innocent")
        ),
        "the same with a Secret that is there already": lambda p: update(
            p, "secrets", p.secret, _labelled_as_record(p)
        ),
        "ConfigMap that Helm reads with HELM_DRIVER=configmap": lambda p: create(
            p, helm_record(p, "configmaps", later.format(p.release))
        ),
        "the same without labels": lambda p: create(
            p, _unlabelled(helm_record(p, "configmaps", later.format(p.release)))
        ),
        "ConfigMap of any name with Helm's labels": lambda p: create(p, helm_record(p, "configmaps", "innocent")),
        "the same with a ConfigMap that is there already": lambda p: update(
            p, "configmaps", "kube-root-ca.crt", _labelled_as_record(p)
        ),
    }.items():
        yield Case(f"Helm's record of the release: {text}", DEV, ask, refused, reason="controls")


def _surroundings(refused: Mapping[str, bool]) -> Iterator[Case]:
    """The other objects of the release that runs need, or that confine them."""
    free = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
    isolated = "{}-isolated"
    role = "{}-operator"
    for text, who, ask in (
        (
            "change of the NetworkPolicy",
            DEV,
            lambda p: update(p, "networkpolicies", p.release, lambda n: n.update(spec=free)),
        ),
        (
            "label of the CronJob by which the plugin finds it",
            DEV,
            lambda p: update(p, "cronjobs", p.cronjob_name, _labelled("app", "other")),
        ),
        (
            "record of the access policies, made immutable",
            DEV,
            lambda p: update(p, "configmaps", f"{p.release}-access", lambda m: m.update(immutable=True)),
        ),
        ("deletion of the NetworkPolicy", DEV, lambda p: delete(p, "networkpolicies", p.release)),
        ("deletion of the NetworkPolicy", OWN, lambda p: delete(p, "networkpolicies", p.release)),
        ("deletion of all NetworkPolicies of the namespace", DEV, lambda p: delete(p, "networkpolicies")),
        (
            "another owner of the NetworkPolicy, so that it is collected as garbage",
            DEV,
            lambda p: update(p, "networkpolicies", p.release, _owned),
        ),
        (
            "change of the NetworkPolicy of drills and inspectors",
            DEV,
            lambda p: update(p, "networkpolicies", isolated.format(p.release), lambda n: n["spec"].update(egress=[{}])),
        ),
        (
            "deletion of the NetworkPolicy of drills and inspectors",
            DEV,
            lambda p: delete(p, "networkpolicies", isolated.format(p.release)),
        ),
        ("deletion of the ServiceAccount", DEV, lambda p: delete(p, "serviceaccounts", p.release)),
        (
            "another owner of the ServiceAccount, so that it is collected as garbage",
            DEV,
            lambda p: update(p, "serviceaccounts", p.release, _owned),
        ),
        (
            "change of the record of the access policies",
            DEV,
            lambda p: update(p, "configmaps", f"{p.release}-access", lambda m: m["data"].update(builtin="none")),
        ),
        (
            "deletion of the record of the access policies",
            DEV,
            lambda p: delete(p, "configmaps", f"{p.release}-access"),
        ),
        (
            "deletion of the operators' RoleBinding",
            CHIEF,
            lambda p: delete(p, "rolebindings", role.format(p.release)),
        ),
        ("deletion of the operators' Role", CHIEF, lambda p: delete(p, "roles", role.format(p.release))),
        (
            "change of the operators' Role",
            CHIEF,
            lambda p: update(p, "roles", role.format(p.release), lambda r: r.update(rules=[])),
        ),
    ):
        yield Case(text, who, ask, refused, reason="controls")
    yield Case(
        "change of the operators' RoleBinding, if RBAC lets it pass",
        CHIEF,
        lambda p: update(p, "rolebindings", role.format(p.release), lambda b: b.update(subjects=[])),
        refused,
        reason="controls",
        made=False,
    )


def _content(place: Place, namespace: str) -> Manifest:
    """The content of a snapshot of the claim's volume, bound to a snapshot in a namespace."""
    spec = {
        "driver": "driver.longhorn.io",
        "deletionPolicy": "Retain",
        "source": {"volumeHandle": place.volume},
        "volumeSnapshotRef": {"name": "copy", "namespace": namespace},
    }
    return new("volumesnapshotcontents", "copy", spec=spec)


def _copying(place: Place) -> Manifest:
    manifest = workload("statefulsets", "stranger", pod_spec(place.claim, volumes=[]), {"app": place.release})
    manifest["spec"]["volumeClaimTemplates"] = [claim_object("data", dataSource=source(place))]
    return manifest


def open_doors() -> Iterator[Case]:
    """What admission does not close; docs/security.md says what to do about each."""
    free = _marks("- - -")
    yield Case(
        "pod with a directory of the node (hostPath)",
        DEV,
        lambda p: create(
            p,
            workload("pods", "stranger", pod_spec(p.claim, volumes=[{"name": "data", "hostPath": {"path": "/"}}])),
        ),
        free,
    )
    yield Case(
        "pod with the storage's own export (nfs; iscsi likewise)",
        DEV,
        lambda p: create(
            p,
            workload(
                "pods",
                "stranger",
                pod_spec(p.claim, volumes=[{"name": "data", "nfs": {"server": "192.0.2.7", "path": f"/{p.volume}"}}]),
            ),
        ),
        free,
    )
    yield Case("deletion of the running Job", DEV, lambda p: delete(p, "jobs", p.job), free)
    yield Case("deletion of the running backup pod", DEV, lambda p: delete(p, "pods", p.pod), free)
    yield Case(
        "finalizer of the claim",
        DEV,
        lambda p: update(
            p, "persistentvolumeclaims", p.claim, lambda c: c["metadata"].update(finalizers=["example.org/mine"])
        ),
        free,
    )
    yield Case(
        "NetworkPolicy of one's own that lets the backup pods out (`doctor` reports it)",
        DEV,
        lambda p: create(
            p,
            new(
                "networkpolicies",
                "open",
                spec={"podSelector": {"matchLabels": {"app": p.release}}, "egress": [{}], "policyTypes": ["Egress"]},
            ),
        ),
        free,
    )


def _changed(manifest: Manifest, change: Callable[[Manifest], object]) -> Manifest:
    change(manifest)
    return manifest


def _annotated(manifest: Manifest) -> None:
    manifest["metadata"].setdefault("annotations", {})["example.org/note"] = "seen"


def _annotation(key: str, value: str | None) -> Callable[[Manifest], None]:
    """Give an annotation, or take it away."""
    return lambda manifest: _put(manifest["metadata"].setdefault("annotations", {}), key, value)


def _labelled(key: str, value: str | None) -> Callable[[Manifest], None]:
    """Give a label, or take it away."""
    return lambda manifest: _put(manifest["metadata"].setdefault("labels", {}), key, value)


def _put(there: dict[str, str], key: str, value: str | None) -> None:
    if value is None:
        del there[key]
    else:
        there[key] = value


def _labelled_as_record(place: Place) -> Callable[[Manifest], None]:
    labels = helm_record(place, "secrets", "x")["metadata"]["labels"]
    return lambda manifest: manifest["metadata"].setdefault("labels", {}).update(labels)


def legitimate() -> Iterator[Case]:
    """What has to go on. The weak mode refuses people without the label, whatever they hold."""
    free = _marks("- - -")
    unlabelled = _marks("X - -")
    yield Case(
        "the CronJob's Job",
        CRONJOBS,
        lambda p: create(p, _controlled(by_hand(p, "scheduled"))),
        free,
        made=False,
    )
    yield Case(
        "the volume of the claim, bound",
        BINDER,
        lambda p: update(p, "persistentvolumeclaims", p.claim, lambda c: c["spec"].update(volumeName="new")),
        free,
        made=False,
    )
    yield Case("the Job's pod", JOBS, lambda p: create(p, job_pod(p, "scheduled-x", "scheduled")), free, made=False)
    for who in (OPERATOR, ADMIN):
        yield Case(
            "Job of the CronJob's template (`kubectl create job --from`)",
            who,
            lambda p: create(p, by_hand(p, "by-hand")),
            free,
        )
        yield Case(
            "inspector pod with the label",
            who,
            lambda p: create(p, workload("pods", "inspector-2", pod_spec(p.claim), {"app": p.release})),
            free,
        )
        yield Case(
            "inspector pod without the label, under any name",
            who,
            lambda p: create(p, workload("pods", "inspector-2", pod_spec(p.claim))),
            unlabelled,
        )
        yield Case("`exec` into an inspector pod", who, lambda p: connect(p, p.inspector, "exec"), free)
        yield Case("`exec` into the running backup pod", who, lambda p: connect(p, p.pod, "exec"), free)
        yield Case(
            "change of the CronJob's schedule",
            who,
            lambda p: update(p, "cronjobs", p.cronjob_name, lambda c: c["spec"].update(schedule="0 0 1 1 *")),
            free,
        )
        yield Case("deletion of the claim", who, lambda p: delete(p, "persistentvolumeclaims", p.claim), free)
    for who in (ADMIN, APPLIER):
        yield Case(
            "change of the CronJob's image",
            who,
            lambda p: update(
                p,
                "cronjobs",
                p.cronjob_name,
                lambda c: _container(_cronjob_pod(c)).update(image="localhost/busybox:test"),
            ),
            free,
        )
        yield Case(
            "new ConfigMap with the programs",
            who,
            lambda p: create(p, new("configmaps", p.scripts[:-10] + "0123456789", data={"dump.sh": ":"})),
            free,
        )
        yield Case(
            "deletion of the old ConfigMap with the programs", who, lambda p: delete(p, "configmaps", p.scripts), free
        )
        yield Case("deletion of the CronJob", who, lambda p: delete(p, "cronjobs", p.cronjob_name), free)
    yield from _helm_at_work(free)
    yield Case(
        "content of a snapshot of the volume, for the release's own namespace",
        STORAGE,
        lambda p: create(p, _content(p, p.namespace)),
        free,
    )
    yield Case("the claim, restored", MOVER, lambda p: create(p, claim_object(p.claim)), free)
    yield Case("a pod that copies the claim's files", MOVER, lambda p: create(p, _labelled_pod(p)), free)
    yield Case("`exec` into the running backup pod", MOVER, lambda p: connect(p, p.pod, "exec"), free)
    yield Case(
        "pod without the claim",
        DEV,
        lambda p: create(p, workload("pods", "other", pod_spec("another-claim"))),
        free,
    )
    yield Case(
        "Deployment without the claim",
        DEV,
        lambda p: create(p, workload("deployments", "other", pod_spec("another-claim"))),
        free,
    )
    yield Case(
        "claim with a copy of another claim",
        DEV,
        lambda p: create(p, claim_object("other", dataSource={"kind": "PersistentVolumeClaim", "name": "another"})),
        free,
    )
    yield Case(
        "claim that names another volume",
        DEV,
        lambda p: create(p, claim_object("other", volumeName="another", storageClassName="longhorn")),
        free,
    )
    yield Case(
        "ConfigMap of another name",
        DEV,
        lambda p: create(p, new("configmaps", f"{p.scripts}-notes", data={"a": "b"})),
        free,
    )
    yield Case("annotation of the CronJob", DEV, lambda p: update(p, "cronjobs", p.cronjob_name, _annotated), free)
    yield Case("annotation of the running backup pod", DEV, lambda p: update(p, "pods", p.pod, _annotated), free)


def _helm_at_work(free: Mapping[str, bool]) -> Iterator[Case]:
    """What Helm does for those who may, and what controllers do with the same objects."""
    for who in (OPERATOR, ADMIN, APPLIER):
        for text, ask in {
            "next version of Helm's record of the release": lambda p: create(
                p, helm_record(p, "secrets", f"sh.helm.release.v1.{p.release}.v2", "2")
            ),
            "status of Helm's record, changed": lambda p: update(
                p, "secrets", p.record, _labelled("status", "superseded")
            ),
            "old version of Helm's record, deleted": lambda p: delete(p, "secrets", p.record),
            "annotation of the claim": lambda p: update(p, "persistentvolumeclaims", p.claim, _annotated),
            "change of the NetworkPolicy": lambda p: update(
                p, "networkpolicies", p.release, lambda n: n["spec"].update(egress=[])
            ),
            "deletion of the ServiceAccount": lambda p: delete(p, "serviceaccounts", p.release),
        }.items():
            yield Case(text, who, ask, free)
    for text, who, ask in (
        ("Secret of another name", DEV, lambda p: create(p, new("secrets", "mine", stringData={"a": "b"}))),
        (
            "Secret with a generated name",
            DEV,
            lambda p: create(p, new("secrets", "", metadata={"generateName": f"sh.helm.release.v1.{p.release}.v"})),
        ),
        (
            "change of a Secret",
            DEV,
            lambda p: update(p, "secrets", p.secret, lambda s: s.update(stringData={"a": "b"})),
        ),
        ("deletion of a Secret", DEV, lambda p: delete(p, "secrets", p.secret)),
        (
            "Helm's record of another release, whose name begins alike",
            DEV,
            lambda p: create(p, _unlabelled(helm_record(p, "secrets", f"sh.helm.release.v1.{p.release}.v2.v1"))),
        ),
        (
            "Helm's record of another release, with its labels",
            DEV,
            lambda p: create(p, helm_record(replace(p, release="web"), "secrets", "sh.helm.release.v1.web.v1")),
        ),
        (
            "Helm's record of a release of the same name in another namespace",
            DEV,
            lambda p: create(p, helm_record(p, "secrets", p.record), p.elsewhere),
        ),
        (
            "annotation of Helm's record, as a tool that copies Secrets leaves it",
            DEV,
            lambda p: update(p, "secrets", p.record, _annotated),
        ),
        (
            "pull secret of the ServiceAccount, as OpenShift adds it",
            DEV,
            lambda p: update(p, "serviceaccounts", p.release, lambda a: a.update(imagePullSecrets=[{"name": "mine"}])),
        ),
        (
            "NetworkPolicy for other pods",
            DEV,
            lambda p: create(p, new("networkpolicies", "mine", spec={"podSelector": {}})),
        ),
    ):
        yield Case(text, who, ask, free)
    for text, who, ask in (
        ("Helm's record, collected as its owner goes", COLLECTOR, lambda p: delete(p, "secrets", p.record)),
        ("Helm's record, in a namespace that is deleted", NAMESPACES, lambda p: delete(p, "secrets", p.record)),
        (
            "the NetworkPolicy, in a namespace that is deleted",
            NAMESPACES,
            lambda p: delete(p, "networkpolicies", p.release),
        ),
        (
            "the ServiceAccount, in a namespace that is deleted",
            NAMESPACES,
            lambda p: delete(p, "serviceaccounts", p.release),
        ),
        (
            "the claim, marked as bound",
            BINDER,
            lambda p: update(p, "persistentvolumeclaims", p.claim, _annotation(BOUND, "again")),
        ),
        (
            "the node of the claim's volume",
            SCHEDULER,
            lambda p: update(p, "persistentvolumeclaims", p.claim, _annotation(NODE, "node-1")),
        ),
        (
            "the claim's provisioner",
            PROVISIONER,
            lambda p: update(
                p, "persistentvolumeclaims", p.claim, _annotation("volume.beta.kubernetes.io/storage-provisioner", "x")
            ),
        ),
    ):
        yield Case(text, who, ask, free, made=False)


def _labelled_pod(place: Place) -> Manifest:
    return workload("pods", "mover", pod_spec(place.claim), {"app": place.release})


def _controlled(manifest: Manifest) -> Manifest:
    manifest["metadata"]["ownerReferences"][0]["controller"] = True
    return manifest


def cases() -> dict[str, list[Case]]:
    """All cases by their part of the table."""
    return {"attempt": list(attempts()), "open": list(open_doors()), "legitimate": list(legitimate())}


def title(case: Case) -> str:
    """What messages call a case."""
    return f"{case.text}, by {case.who}"


def username(who: str, place: Place) -> str:
    """The name under which somebody's requests arrive."""
    return {
        OWN: f"system:serviceaccount:{place.namespace}:{place.release}",
        APPLIER: "system:serviceaccount:argocd:argocd-application-controller",
        CRONJOBS: "system:serviceaccount:kube-system:cronjob-controller",
        JOBS: "system:serviceaccount:kube-system:job-controller",
        BINDER: "system:serviceaccount:kube-system:persistent-volume-binder",
        SCHEDULER: "system:kube-scheduler",
        PROVISIONER: "system:serviceaccount:longhorn-system:longhorn-service-account",
        COLLECTOR: "system:serviceaccount:kube-system:generic-garbage-collector",
        NAMESPACES: "system:serviceaccount:kube-system:namespace-controller",
    }.get(who, who)


VALUES: Mapping[str, Manifest] = {
    "none": {"accessPolicy": {"enabled": False}},
    "label": {"accessPolicy": {"mode": "weak-label", "builtin": {"enabled": False}, "kyverno": {"enabled": True}}},
    "builtin": {"accessPolicy": {"kyverno": {"enabled": False}, "exceptions": [MOVER]}},
    "kyverno": {"accessPolicy": {"builtin": {"enabled": False}, "kyverno": {"enabled": True}, "exceptions": [MOVER]}},
    "both": {"accessPolicy": {"kyverno": {"enabled": True}, "exceptions": [MOVER]}},
}
"""The chart's values for each layer, for none, and for both engines together."""


def refuses(case: Case, layer: str) -> bool:
    """Whether the policies of a layer, of both engines, or of none, refuse a case."""
    if layer == "both":
        return case.refused.get("builtin", False) or case.refused.get("kyverno", False)
    return case.refused.get(layer, False)
