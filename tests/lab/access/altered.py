"""Pods of the release's own Jobs, as a webhook that others can steer leaves them, asked for by the Job's controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.lab.access.model import ACCOUNT, JOBS, Case, Manifest, Place, marks
from tests.lab.access.objects import changed, claim_object, create, first_container, job_pod, put, source

SIDECAR: Manifest = {"name": "mesh-proxy", "image": "registry.example.org/mesh/proxy"}
"""A container of a mesh, which values name."""

Change = Callable[[Manifest, Place], object]
BUSYBOX = "localhost/busybox:test"
MOUNT: Manifest = {"name": "backups", "mountPath": "/backups"}


def extra(name: str = "extra", image: str = BUSYBOX, **more: Any) -> Manifest:
    """A container that the chart knows nothing of."""
    return {"name": name, "image": image, "command": ["sh", "-c", "cat /backups/*/*"], **more}


def _second(spec: Manifest) -> Manifest:
    found: Manifest = spec["containers"][0]
    return found


def _volume(spec: Manifest, name: str) -> Manifest:
    found: Manifest = next(volume for volume in spec["volumes"] if volume["name"] == name)
    return found


def _add(spec: Manifest, container: Manifest, volume: Manifest | None = None, where: str = "containers") -> None:
    spec[where].append(container)
    spec["volumes"] += [volume] if volume else []


def _bring(spec: Manifest, container: Manifest, path: str, source: Manifest | None = None) -> None:
    """Mount a volume of one's own into a container."""
    spec["volumes"].append({"name": "mine", **(source or {"configMap": {"name": "mine"}})})
    container["volumeMounts"].append({"name": "mine", "mountPath": path})


def _repository(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[0]


def _replace(volume: Manifest, source: Manifest) -> None:
    name = volume["name"]
    volume.clear()
    volume |= {"name": name, **source}


def _variable(container: Manifest, name: str, **value: Any) -> None:
    container["env"] = [one for one in container["env"] if one["name"] != name] + [{"name": name, **value}]


def _drilling(spec: Manifest, place: Place) -> None:
    """The program in which code of a database's owner runs, next to all backups."""
    assert place.claim
    first_container(spec)["command"] = ["sh", "/opt/cnpg-backup/scripts/drill.sh"]


EXEC = {"exec": {"command": ["sh", "-c", "cat /backups/*/*"]}}

ALTERED: Mapping[str, Change] = {
    "another container that mounts the claim": lambda s, _: _add(s, extra(volumeMounts=[MOUNT])),
    "another init container that mounts the claim": lambda s, _: _add(
        s, extra(volumeMounts=[MOUNT]), where="initContainers"
    ),
    "another container, with the name of one in drills": lambda s, _: _add(s, extra("drill-1", volumeMounts=[MOUNT])),
    "another container, without a mount": lambda s, _: _add(s, extra()),
    "another container, with image and name of the release": lambda s, _: _add(
        s, extra("record", _second(s)["image"], volumeMounts=[MOUNT])
    ),
    "another container, with the claim as a second volume": lambda s, p: _add(
        s,
        extra(volumeMounts=[{"name": "again", "mountPath": "/backups"}]),
        {"name": "again", "persistentVolumeClaim": {"claimName": p.claim}},
    ),
    "container of the mesh that mounts the claim": lambda s, _: _add(s, extra(**SIDECAR, volumeMounts=[MOUNT])),
    "container of the mesh that mounts the claim by a second volume": lambda s, p: _add(
        s,
        extra(**SIDECAR, volumeMounts=[{"name": "again", "mountPath": "/backups"}]),
        {"name": "again", "persistentVolumeClaim": {"claimName": p.claim}},
    ),
    "container of the mesh that mounts the credentials": lambda s, _: _add(
        s, extra(**SIDECAR, volumeMounts=[{"name": "credentials", "mountPath": "/c"}])
    ),
    "container of the mesh that mounts a copy of the claim": lambda s, p: _add(
        s,
        extra(**SIDECAR, volumeMounts=[{"name": "copy", "mountPath": "/backups"}]),
        {
            "name": "copy",
            "ephemeral": {"volumeClaimTemplate": {"spec": claim_object("x", dataSource=source(p))["spec"]}},
        },
    ),
    "container with the mesh's name and another image": lambda s, _: _add(s, extra(SIDECAR["name"])),
    "container with the mesh's image and another name": lambda s, _: _add(s, extra("proxy", SIDECAR["image"])),
    "another image": lambda s, _: _second(s).update(image=BUSYBOX),
    "an image whose name begins alike": lambda s, _: _second(s).update(
        image=_repository(_second(s)["image"]) + "-mine:1"
    ),
    "an image of the same name from another registry": lambda s, _: _second(s).update(
        image="registry.example.org/" + _second(s)["image"]
    ),
    "another command": lambda s, _: _second(s).update(command=["sh", "-c", "cat /backups/*/*"]),
    "another command, after the chart's": lambda s, _: first_container(s).update(
        command=["sh", "-c", "sh /opt/cnpg-backup/scripts/dump.sh; cat /backups/*/*"]
    ),
    "other arguments": lambda s, _: _second(s).update(args=["clean", "/backups"]),
    "arguments where the chart has none": lambda s, _: first_container(s).update(args=["-c", "cat /backups/*/*"]),
    "another folder of the configuration, which decides what is pruned": lambda s, _: _second(s).update(
        args=[arg.replace("/etc/cnpg-backup", "/run/secrets/mine") for arg in _second(s)["args"]]
    ),
    "LD_PRELOAD": lambda s, _: _variable(first_container(s), "LD_PRELOAD", value="/run/secrets/mine.so"),
    "another PYTHONPATH": lambda s, _: _variable(_second(s), "PYTHONPATH", value="/run/secrets/mine"),
    "PYTHONPATH from a ConfigMap": lambda s, _: _variable(
        _second(s), "PYTHONPATH", valueFrom={"configMapKeyRef": {"name": "mine", "key": "path"}}
    ),
    "another home, from which Python loads modules": lambda s, _: _variable(_second(s), "HOME", value="/run/secrets"),
    "another PATH": lambda s, _: _variable(first_container(s), "PATH", value="/run/secrets"),
    "variables from a ConfigMap": lambda s, _: _second(s).update(envFrom=[{"configMapRef": {"name": "mine"}}]),
    "a command after its start (postStart)": lambda s, _: _second(s).update(lifecycle={"postStart": EXEC}),
    "a command before its end (preStop)": lambda s, _: _second(s).update(lifecycle={"preStop": EXEC}),
    "a probe that runs a command": lambda s, _: _second(s).update(livenessProbe=EXEC),
    "other programs (another ConfigMap)": lambda s, _: _volume(s, "scripts")["configMap"].update(name="mine"),
    "other programs (a Secret)": lambda s, _: _replace(_volume(s, "scripts"), {"secret": {"secretName": "mine"}}),
    "another configuration, which decides what is pruned": lambda s, _: _volume(s, "config")["configMap"].update(
        name="mine-config-0123456789"
    ),
    "another configuration, next to the chart's": lambda s, p: _replace(
        _volume(s, "config"), {"projected": {"sources": [{"configMap": {"name": n}} for n in (p.config, "mine")]}}
    ),
    "results on a claim of one's own": lambda s, _: _replace(
        _volume(s, "results"), {"persistentVolumeClaim": {"claimName": "mine"}}
    ),
    "a volume of one's own over the programs of the image": lambda s, _: _bring(s, _second(s), "/usr/local/bin"),
    "a volume of one's own below the programs of the chart": lambda s, _: _bring(
        s, _second(s), "/opt/cnpg-backup/retention"
    ),
    "the programs of drills, which run code of a database's owner": _drilling,
    "a view of the processes of all containers": lambda s, _: s.update(shareProcessNamespace=True),
    "a view of the processes of the node (hostPID)": lambda s, _: s.update(hostPID=True),
    "the network of the node": lambda s, _: s.update(hostNetwork=True),
}
"""What a webhook gives the pod of a run."""


def altered(place: Place, change: Change, name: str = "altered-x") -> Manifest:
    """The pod of a run after a change."""
    return changed(job_pod(place, name, place.job), lambda pod: change(pod["spec"], place))


def other_tool(place: Place, account: str) -> Manifest:
    """What the Job's controller makes of another tool's Job."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "backup-1", "uid": "0", "controller": True}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": place.claim}}
    mounted = extra("backup", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    spec = {"restartPolicy": "Never", "containers": [mounted], "volumes": [volume], "serviceAccountName": account}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "backup-1-x", "labels": {"app": place.release}, "ownerReferences": [owner]},
        "spec": spec,
    }


def altered_runs(refused: Mapping[str, bool]) -> Iterator[Case]:
    """Pods of runs that hold more than the chart put there, and pods of Jobs whose account values do not name."""
    for text, change in ALTERED.items():
        yield Case(
            f"pod of a run, given {text}",
            JOBS,
            lambda p, change=change: create(p, altered(p, change)),  # type: ignore[misc]
            refused,
        )
    yield Case(
        "pod of a run, without the label by which its NetworkPolicy finds it",
        JOBS,
        lambda p: create(p, changed(altered(p, lambda s, _: s), lambda o: put(o["metadata"]["labels"], "app", None))),
        marks("X X X"),
    )
    for account in ("default", "another"):
        yield Case(
            f"pod of a Job with the account `{account}`, which no value names",
            JOBS,
            lambda p, account=account: create(p, other_tool(p, account)),  # type: ignore[misc]
            refused,
        )


def kept_runs(free: Mapping[str, bool]) -> Iterator[Case]:
    """What webhooks may do to the pods of runs, and older Jobs after an upgrade."""
    unmounted = [{"name": "mine", "mountPath": "/run/secrets/mesh"}]
    changes: Mapping[str, Change] = {
        "as the chart made it": lambda s, _: s,
        "with an older image, after an upgrade": lambda s, _: [
            one.update(image=_repository(one["image"]) + ":older") for one in (first_container(s), _second(s))
        ],
        "with the image's digest": lambda s, _: _second(s).update(image=_second(s)["image"] + "@sha256:" + "0" * 64),
        "with a pull secret": lambda s, _: s.update(imagePullSecrets=[{"name": "mine"}]),
        "with a container of the mesh": lambda s, _: _add(
            s,
            extra(**SIDECAR | {"image": f"{SIDECAR['image']}:1.2"}, volumeMounts=unmounted),
            {"name": "mine", "emptyDir": {}},
        ),
        "with an init container of the mesh": lambda s, _: _add(s, extra(**SIDECAR), where="initContainers"),
        "with other resources": lambda s, _: _second(s).update(resources={"limits": {"memory": "1Gi"}}),
        "with a time zone": lambda s, _: _variable(_second(s), "TZ", value="UTC"),
        "with a proxy": lambda s, _: _variable(first_container(s), "HTTPS_PROXY", value="http://proxy:8080"),
        "with certificates of the house": lambda s, _: _bring(s, first_container(s), "/etc/ssl/certs/house"),
        "with a cloud's token": lambda s, _: _bring(s, _second(s), "/var/run/secrets/eks.amazonaws.com", TOKEN),
    }
    for text, change in changes.items():
        yield Case(
            f"the run's pod {text}",
            JOBS,
            lambda p, change=change: create(p, altered(p, change)),  # type: ignore[misc]
            free,
        )
    yield Case(
        "pod of another tool's Job, whose account values name",
        JOBS,
        lambda p: create(p, other_tool(p, ACCOUNT)),
        free,
    )


TOKEN: Manifest = {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "x"}}]}}
