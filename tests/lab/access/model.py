"""What a case is, who asks, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    "namespaces": ("v1", "Namespace"),
    "resourcequotas": ("v1", "ResourceQuota"),
    "limitranges": ("v1", "LimitRange"),
    "roles": ("rbac.authorization.k8s.io/v1", "Role"),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
    "policyexceptions": ("policies.kyverno.io/v1", "PolicyException"),
    "nodes": ("v1", "Node"),
}
"""Version and kind of each resource that a case names."""

SNAPSHOTS = ("volumesnapshots", "volumesnapshotcontents", "volumegroupsnapshots")
"""Resources of an add-on that a cluster may lack."""

# People. `who` of a case is one of these.
DEV = "dev"  # the built-in role `edit` in the release's namespace and in another, and everything on snapshots there
PODS = "pod-maker"  # may create pods, and nothing else
OWN = "own-account"  # the release's own account, with the role `edit`
CHIEF = "namespace-admin"  # the built-in role `admin` in the release's namespace
WILD = "developer"  # a Role with every verb on everything in the release's namespace
PARTS = "pod-master"  # a Role with every verb on pods, Jobs, CronJobs and all that is below them, and none on claims
VIEW = "viewer"  # the built-in role `view`
EXECUTOR = "executor"  # the account of another tool's Jobs, which values name, with `edit`
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
    WILD: 'a Role with `verbs: ["*"]`',
    PARTS: "every verb on pods and Jobs",
    VIEW: "`view` in the namespace",
    EXECUTOR: "an account of `jobAccounts`, with `edit`",
    STORAGE: "storage administrator",
    OPERATOR: "`edit` and the grant",
    ADMIN: "cluster administrator",
    APPLIER: "Argo CD's or Flux's account",
    MOVER: "a tool named as an exception",
    JOBS: "Kubernetes, for a Job",
}


ACCOUNT = "pod-executor"
"""The account of another tool's Jobs, which values name."""


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
        operation: `CREATE`, `UPDATE`, `DELETE` or `CONNECT`, as admission calls it; `IMPERSONATE` comes before.
        resource: A key of RESOURCES.
        namespace: Empty for what has none.
        name: Of the object; empty for a creation, and for the deletion of all.
        subresource: Such as `exec`.
        body: What is created.
        change: Turns the object as it is into the one that is asked for.
        manager: Of the fields, for a server-side apply; otherwise empty.
        upgrade: Whether a connection is asked for as a WebSocket.
    """

    operation: str
    resource: str
    namespace: str
    name: str = ""
    subresource: str = ""
    body: Manifest | None = None
    change: Callable[[Manifest], object] | None = None
    manager: str = ""
    upgrade: bool = False


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


def title(case: Case) -> str:
    """What messages call a case."""
    return f"{case.text}, by {case.who}"


def username(who: str, place: Place) -> str:
    """The name under which somebody's requests arrive."""
    return {
        OWN: f"system:serviceaccount:{place.namespace}:{place.release}",
        EXECUTOR: f"system:serviceaccount:{place.namespace}:{ACCOUNT}",
        APPLIER: "system:serviceaccount:argocd:argocd-application-controller",
        CRONJOBS: "system:serviceaccount:kube-system:cronjob-controller",
        JOBS: "system:serviceaccount:kube-system:job-controller",
        BINDER: "system:serviceaccount:kube-system:persistent-volume-binder",
        SCHEDULER: "system:kube-scheduler",
        PROVISIONER: "system:serviceaccount:longhorn-system:longhorn-service-account",
        COLLECTOR: "system:serviceaccount:kube-system:generic-garbage-collector",
        NAMESPACES: "system:serviceaccount:kube-system:namespace-controller",
    }.get(who, who)


def marks(text: str) -> dict[str, bool]:
    return {layer: mark == "X" for layer, mark in zip(LAYERS, text.split(), strict=True)}
