"""What the plugin's tests share: the chart's own objects, as the API server would return them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kubectl_cnpg_backup.model.release import Release, releases
from tests.chart.common import OFFSITE
from tests.lab import chart

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
THREE = ("authelia", "kutt", "plausible")
TWO_IMAGES = {
    "databases": [
        {"name": "authelia", "cluster": "authelia-postgresql-cnpg"},
        {"name": "shop", "cluster": "shop-postgresql", "image": {"tag": "17-alpine"}},
    ]
}
ENTRIES = {
    "databases": [
        {"name": "authelia", "cluster": "authelia-postgresql-cnpg"},
        {
            "name": "shared",
            "cluster": "postgres",
            "databases": "*",
            "retention": {"tiers": [{"name": "Own", "every": "24h", "keep": 7}]},
        },
        {"name": "other", "cluster": "other", "databases": "*", "exclude": ["postgres", "tmp_*"]},
    ],
    "drill": {"perEntry": 3},
}
"""One listed database, and two entries that mean all databases of a cluster."""


def ago(**length: float) -> str:
    """A timestamp of the API that long before NOW."""
    return (NOW - timedelta(**length)).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.cache
def _manifests(values: str, name: str) -> list[dict[str, Any]]:
    settings: dict[str, dict[str, Any]] = {
        "default": {},
        "two-images": TWO_IMAGES,
        "entries": ENTRIES,
        "suspended": {"suspend": True},
        "offsite": OFFSITE,
        "uris": {"defaults": {name: {"uriKey": "URL"} for name in ("secret", "ownerSecret", "superuserSecret")}},
    }
    return chart.render(settings[values], release=name)


def objects(kind: str, values: str = "default", name: str = "cnpg-backup") -> list[dict[str, Any]]:
    """The chart's objects of a kind, with what the API server adds."""
    found = []
    for manifest in _manifests(values, name):
        if manifest["kind"] == kind:
            metadata = {**manifest["metadata"], "uid": f"uid-{manifest['metadata']['name']}"}
            metadata["creationTimestamp"] = ago(days=30)
            found.append({**manifest, "metadata": metadata, "status": {}})
    return found


def release(values: str = "default", name: str = "cnpg-backup", **status: Any) -> Release:
    """The release of a values file, which has missed no run; `status` is that of each CronJob."""
    status = {"lastScheduleTime": ago(minutes=30), **status}
    cronjobs = [{**cronjob, "status": status} for cronjob in objects("CronJob", values, name)]
    (found,) = releases(cronjobs, "default")
    return found


def config_of(cronjob_name: str, values: str = "default", name: str = "cnpg-backup") -> dict[str, Any]:
    """The ConfigMap that a CronJob's pods mount."""
    (cronjob,) = [one for one in release(values, name).cronjobs if one.name == cronjob_name]
    (found,) = [one for one in objects("ConfigMap", values, name) if one["metadata"]["name"] == cronjob.config_map]
    return found


def job(
    name: str, cronjob: str, *, state: str = "Complete", started: str, finished: str = "", reason: str = ""
) -> dict[str, Any]:
    """A Job of a CronJob, as the API server returns it."""
    labels = {"app": "cnpg-backup", "app.kubernetes.io/component": "backup"}
    status: dict[str, Any] = {"startTime": started}
    if state:
        condition = {"type": state, "status": "True", "lastTransitionTime": finished, "reason": reason}
        status["conditions"] = [condition]
    if state == "Complete":
        status["completionTime"] = finished
    owner = [{"kind": "CronJob", "name": cronjob, "uid": f"uid-{cronjob}", "controller": True}]
    metadata = {"name": name, "labels": labels, "ownerReferences": owner}
    return {"metadata": metadata, "spec": {"template": {"spec": MOUNTING}}, "status": status}


MOUNTING = {"volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": "cnpg-backups-pvc"}}]}
"""What only the release's own Jobs and pods have, since the access policy guards it."""


def pod(job_name: str, code: int, message: str) -> dict[str, Any]:
    """The pod of a Job that has ended."""
    ended = {"exitCode": code, "message": message}
    return {
        "metadata": {
            "name": f"{job_name}-abcde",
            "labels": {"batch.kubernetes.io/job-name": job_name},
            "creationTimestamp": ago(hours=1),
        },
        "spec": MOUNTING,
        "status": {
            "phase": "Failed" if code else "Succeeded",
            "initContainerStatuses": [{"name": "dump", "state": {"terminated": {"exitCode": 0, "message": ""}}}],
            "containerStatuses": [{"name": "retention", "state": {"terminated": ended}}],
        },
    }


def evicted(job_name: str) -> dict[str, Any]:
    """The pod of a drill that the kubelet evicted: no container has said anything."""
    found = pod(job_name, 137, "")
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 64Mi. "
    return {**found, "status": {**found["status"], "phase": "Failed", "reason": "Evicted", "message": message}}


def backup(name: str, age: timedelta, size: int, **more: Any) -> Mapping[str, Any]:
    """A backup as `retention list --format json` prints it."""
    common = {"tier": "Hourly", "reason": "newest of its slot", "pin": None, "drill": None, "verified": None}
    return {"name": name, "age_seconds": int(age.total_seconds()), "bytes": size, **common, **more}
