"""What must not succeed."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab.access import below, runs
from tests.lab.access.altered import altered_runs
from tests.lab.access.model import CHIEF, DEV, JOBS, OWN, PODS, RESOURCES, STORAGE, Case, Place, Request, marks
from tests.lab.access.objects import (
    WORKLOADS,
    by_hand,
    changed,
    claim_object,
    connect,
    content,
    copying,
    create,
    cronjob_pod,
    delete,
    drop_claim,
    first_container,
    job_pod,
    new,
    owned,
    pod_spec,
    source,
    split,
    update,
    workload,
)
from tests.lab.access.shapes import not_in_rbac, shapes
from tests.lab.access.surroundings import helm, steering, surroundings


def _labelled_pod(place: Place) -> Request:
    return create(place, workload("pods", "stranger", pod_spec(place.claim), {"app": place.release}))


def attempts() -> Iterator[Case]:
    """What must not succeed, and what the layers do about it."""
    label = marks("- X X")
    grant = marks("X X X")
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
        _labelled_pod,
        label,
    )
    yield Case(
        "pod with the label, the release's account and the running Job as its owner",
        DEV,
        lambda p: create(p, job_pod(p, "stranger", p.job)),
        label,
    )
    for who in (PODS, OWN):
        yield Case("pod with the label", who, _labelled_pod, label)
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
            marks("- X -") if resource == "replicasets" else grant,
            later=("label", "kyverno") if resource == "replicasets" else (),
        )
        yield Case(
            f"{kind} whose pods have the claim and the label",
            DEV,
            lambda p, resource=resource: create(  # type: ignore[misc]
                p, workload(resource, "stranger", pod_spec(p.claim), {"app": p.release})
            ),
            marks("- X -") if resource == "replicasets" else label,
            later=("kyverno",) if resource == "replicasets" else (),
        )
    yield Case(
        "StatefulSet whose volumes are copies of the claim",
        DEV,
        lambda p: create(p, copying(p)),
        label,
    )
    for text, change in {
        "that only owns it": lambda m: m["metadata"]["ownerReferences"][0].pop("controller"),
        "under another account": lambda m: m["spec"].update(serviceAccountName="another"),
    }.items():
        yield Case(
            f"pod of an older Job of a stranger's, {text}",
            JOBS,
            lambda p, change=change: create(p, changed(job_pod(p, "old-x", "old"), change)),  # type: ignore[misc]
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
        reason="the claim",  # two policies refuse it, each for its own reason
    )
    for text, change in {
        "image": lambda c: first_container(cronjob_pod(c)).update(image="localhost/busybox:test"),
        "command": lambda c: first_container(cronjob_pod(c)).update(command=["sh", "-c", "cat /backups/*/*"]),
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
        lambda p: update(p, "cronjobs", p.cronjob_name, lambda c: drop_claim(c, p)),
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
        lambda p: update(p, "cronjobs", p.cronjob_name, owned),
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
        lambda p: update(p, "pods", p.pod, lambda o: first_container(o["spec"]).update(image="localhost/busybox:test")),
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
        lambda p: update(p, "persistentvolumeclaims", p.claim, lambda c: owned(c, controller=True)),
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
        lambda p: update(p, "configmaps", p.scripts, owned),
        label,
        reason="controls",
    )
    yield from shapes(label)
    yield from altered_runs(label)
    yield from steering(label)
    yield from helm(label)
    yield from surroundings(label)
    yield from runs.attempts(label)
    yield from below.attempts(label, marks("X X X"))
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
        marks("- X -"),
        reason="hands out",
    )
    yield Case(
        "content of a snapshot of the volume, for another namespace",
        STORAGE,
        lambda p: create(p, content(p, p.elsewhere)),
        marks("- X -"),
        reason="hands out",
    )
    for resource in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
        yield Case(
            f"deletion of the {RESOURCES[resource][1]}",
            CHIEF,
            lambda p, resource=resource: delete(p, resource, "restrict-cnpg-backup-pvc-access"),  # type: ignore[misc]
            rbac=True,
        )
    yield from not_in_rbac()
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
