"""Pods of every shape, to test who may mount a claim: some that mount it, in each place that the API has, some not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.lab.access import WORKLOADS, Manifest, claim_object, workload

IMAGE = "localhost/busybox:test"
_NAMES = st.from_regex(r"[a-z]([a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)

# Volumes that have nothing to do with any claim.
_HARMLESS: st.SearchStrategy[Manifest] = st.sampled_from(
    [
        {"emptyDir": {}},
        {"emptyDir": {"medium": "Memory"}},
        {"configMap": {"name": "some", "optional": True}},
        {"secret": {"secretName": "some", "optional": True}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"projected": {"sources": [{"configMap": {"name": "some", "optional": True}}]}},
        {"persistentVolumeClaim": {"claimName": "another-claim"}},
        {"ephemeral": {"volumeClaimTemplate": {"spec": claim_object("x")["spec"]}}},
    ]
)


def _ways(claim: str) -> st.SearchStrategy[Manifest]:
    """Volumes by which a pod reaches a claim whatever its own name is."""
    copied = {"kind": "PersistentVolumeClaim", "name": claim}
    return st.sampled_from(
        [
            {"persistentVolumeClaim": {"claimName": claim}},
            {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
            *(
                {"ephemeral": {"volumeClaimTemplate": {"spec": claim_object("x", **{key: copied})["spec"]}}}
                for key in ("dataSource", "dataSourceRef")
            ),
        ]
    )


@st.composite
def _spec(draw: st.DrawFn, volumes: list[Manifest]) -> Manifest:
    """A pod's specification around given volumes: containers of every sort, which mount them or not."""

    def container(name: str) -> Manifest:
        mounts = [
            {"name": volume["name"], "mountPath": f"/{name}-{index}", "readOnly": draw(st.booleans())}
            for index, volume in enumerate(volumes)
            if draw(st.booleans())
        ]
        return {"name": name, "image": IMAGE, "volumeMounts": mounts}

    spec: Manifest = {"volumes": volumes, "containers": [container(f"c{i}") for i in range(draw(st.integers(1, 2)))]}
    if draw(st.booleans()):
        spec["initContainers"] = [container("i0")]
        if draw(st.booleans()):
            spec["initContainers"][0]["restartPolicy"] = "Always"  # a sidecar
    if draw(st.booleans()):
        spec["serviceAccountName"] = draw(st.sampled_from(["default", "cnpg-backup"]))
    if draw(st.booleans()):
        spec["securityContext"] = {"runAsUser": draw(st.integers(1, 99999)), "fsGroup": 70}
    spec["restartPolicy"] = "Never"
    return spec


@st.composite
def _labels(draw: st.DrawFn) -> dict[str, str]:
    return draw(
        st.dictionaries(
            st.sampled_from(["app", "tier", "app.kubernetes.io/component"]), _NAMES | st.just("cnpg-backup")
        )
    )


@st.composite
def mounting(draw: st.DrawFn, claim: str) -> tuple[str, Manifest]:
    """A resource, and an object of it of which at least one pod reaches the claim."""
    volumes: list[Manifest] = draw(st.lists(_HARMLESS, max_size=3))
    place = draw(st.integers(0, len(volumes)))
    name = draw(_NAMES)
    resource = draw(st.sampled_from(["pods", *WORKLOADS]))
    head, dash, tail = claim.rpartition("-")
    adopts = bool(dash) and resource == "pods" and draw(st.booleans())
    named = [{**volume, "name": f"v{index}"} for index, volume in enumerate(volumes)]
    if adopts:
        name = head
        way: Manifest = {"ephemeral": {"volumeClaimTemplate": {"spec": claim_object("x")["spec"]}}, "name": tail}
    else:
        way = {**draw(_ways(claim)), "name": "way"}
    named.insert(place, way)
    return resource, workload(resource, name, draw(_spec(named)), draw(_labels()))


@st.composite
def without(draw: st.DrawFn) -> tuple[str, Any]:
    """A resource, and an object of it whose pods reach no claim that is guarded."""
    volumes = [{**volume, "name": f"v{index}"} for index, volume in enumerate(draw(st.lists(_HARMLESS, max_size=3)))]
    resource = draw(st.sampled_from(["pods", *WORKLOADS]))
    return resource, workload(resource, draw(_NAMES), draw(_spec(volumes)), draw(_labels()))
