"""Objects of Kubernetes, as the API's JSON has them: what is needed of CronJobs, Jobs and pods."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from retention import message
from retention.message import DrillMessage, Message

Object = Mapping[str, Any]

COMPONENT_LABEL = "app.kubernetes.io/component"
BACKUP, DRILL, OFFSITE = "backup", "drill", "offsite"
_CONFIG_VOLUME = "config"
_CONF_SUFFIX = ".conf"
_ONLY = "BACKUP_ONLY"
RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"


@dataclass(frozen=True, slots=True)
class CronJob:
    """A CronJob of the release.

    Attributes:
        name: Its name.
        uid: Its uid.
        component: What its pods are for: `backup`, `drill`, `offsite`, or something else.
        schedule: The cron expression.
        time_zone: An IANA name.
        suspended: Whether the schedule is off.
        last_schedule: When it last started a Job on schedule, UTC.
        claim: The claim that its pods mount; empty for none.
    """

    name: str
    uid: str
    component: str
    schedule: str
    time_zone: str
    suspended: bool
    last_schedule: datetime | None
    claim: str


@dataclass(frozen=True, slots=True)
class Run:
    """A Job of one of those CronJobs.

    Attributes:
        job: Its name.
        uid: Its uid.
        cronjob: The CronJob's name.
        component: The CronJob's component.
        state: running, succeeded or failed.
        started: When it started, UTC; None while it has not.
        finished: When it ended, UTC; None while it runs.
        databases: The databases that it is limited to; None where it is for all of its CronJob.
        config: The ConfigMap with its configuration; empty where it is not known.
        message: The termination message of its pod; None if it is not known, and when the pod left none.
        drills: The same of a drill; None in the same cases.
        reason: Why it failed, in the words of Kubernetes or of the pod; empty where that is not known.
    """

    job: str
    uid: str
    cronjob: str
    component: str
    state: str
    started: datetime | None
    finished: datetime | None
    databases: frozenset[str] | None
    config: str
    message: Message | None
    drills: DrillMessage | None
    reason: str


def read_cronjobs(items: list[Object]) -> list[CronJob]:
    """Return the CronJobs of a release, by name."""
    found = []
    for item in items:
        metadata, spec = dig(item, "metadata"), dig(item, "spec")
        pod = dig(spec, "jobTemplate", "spec", "template", "spec")
        component = dig(metadata, "labels").get(COMPONENT_LABEL)
        found.append(
            CronJob(
                str(metadata.get("name") or ""),
                str(metadata.get("uid") or ""),
                str(component or dig(spec, "jobTemplate", "metadata", "labels").get(COMPONENT_LABEL) or ""),
                str(spec.get("schedule") or ""),
                str(spec.get("timeZone") or "Etc/UTC"),
                bool(spec.get("suspend")),
                parse_time(dig(item, "status").get("lastScheduleTime")),
                _claim(pod),
            )
        )
    return sorted(found, key=lambda cronjob: cronjob.name)


def read_runs(jobs: list[Object], pods: list[Object], cronjobs: list[CronJob]) -> list[Run]:
    """Return the Jobs of CronJobs, those that ended first before the others.

    What does not belong to one of these CronJobs by its uid, or does not mount its claim, is not one of their runs. A
    pod that does not belong to a Job by its uid says nothing about it: everyone can choose labels and names.
    """
    owners = {cronjob.uid: cronjob for cronjob in cronjobs if cronjob.uid}
    by_job: dict[str, list[Object]] = {}
    for pod in pods:
        by_job.setdefault(_controller(pod, "Job"), []).append(pod)
    found = []
    for job in jobs:
        cronjob = owners.get(_controller(job, "CronJob"))
        spec = dig(job, "spec", "template", "spec")
        uid = str(dig(job, "metadata").get("uid") or "")
        if cronjob is None or not uid or _claim(spec) != cronjob.claim:
            continue
        own = [pod for pod in by_job.get(uid, ()) if _claim(dig(pod, "spec")) == cronjob.claim]
        found.append(_run(job, uid, cronjob, sorted(own, key=_created)))
    last = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda run: (run.finished or last, run.uid))


def _run(job: Object, uid: str, cronjob: CronJob, pods: list[Object]) -> Run:
    status, spec = dig(job, "status"), dig(job, "spec", "template", "spec")
    ended = next(
        (
            one
            for one in _list(status.get("conditions"))
            if one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        ),
        None,
    )
    state = RUNNING if ended is None else SUCCEEDED if ended["type"] == "Complete" else FAILED
    finished = None
    if ended is not None:
        finished = parse_time(status.get("completionTime")) or parse_time(ended.get("lastTransitionTime"))
        finished = finished or parse_time(status.get("startTime"))
    code, text, reason = _termination(pods[-1], _containers(spec)) if pods else (None, "", "")
    heard = message.read(text) if text and cronjob.component in (BACKUP, OFFSITE) else None
    drills = message.read_drills(text) if text and cronjob.component == DRILL else None
    if drills is not None and not (drills.drills or drills.counts):
        reason, drills = reason or text.splitlines()[0], None
    if heard is not None and not (heard.lines or heard.counts):
        # An error ended the run before it came to its databases; or an image that is not ours said something.
        reason, heard = reason or text.splitlines()[0], None
    if state == SUCCEEDED and code not in (0, None):
        # Someone's pod ended well, and it was not the last one.
        heard = drills = None
    if state == FAILED and not reason and ended is not None:
        reason = ": ".join(str(ended[key]) for key in ("reason", "message") if ended.get(key))
    name = str(dig(job, "metadata").get("name") or "")
    started = parse_time(status.get("startTime"))
    return Run(
        name, uid, cronjob.name, cronjob.component, state, started, finished,
        _limited_to(spec), _config(spec), heard, drills, reason,
    )  # fmt: skip


def _termination(pod: Object, own: frozenset[str]) -> tuple[int | None, str, str]:
    """Return exit code and termination message of a pod, of the first container that failed or of the last one.

    The third is why it did not end by itself, in the words of Kubernetes: such a pod has left no message of its own.
    """
    status, code, text = dig(pod, "status"), None, ""
    if status.get("reason"):
        return None, "", ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
    for one in (*_list(status.get("initContainerStatuses")), *_list(status.get("containerStatuses"))):
        ended = dig(one, "state", "terminated")
        if not ended or one.get("name") not in own:
            continue
        code, text = int(ended.get("exitCode") or 0), str(ended.get("message") or "")
        reason = str(ended.get("reason") or "")
        if code and reason not in ("", "Error", "Completed"):
            return code, "", f"container {one.get('name')} ended with {reason}"
        if code:
            break
    return code, text, ""


def _containers(spec: Object) -> frozenset[str]:
    every = (*_list(spec.get("initContainers")), *_list(spec.get("containers")))
    return frozenset(str(one.get("name")) for one in every if one.get("restartPolicy") != "Always")


def _limited_to(spec: Object) -> frozenset[str] | None:
    """Return the databases that a Job is limited to, by its configuration or its environment; None for no limit."""
    limits = []
    for volume in _list(spec.get("volumes")):
        items = _list(dig(volume, "configMap").get("items"))
        if volume.get("name") == _CONFIG_VOLUME and items:
            keys = [str(item.get("key")) for item in items]
            limits.append(frozenset(key.removesuffix(_CONF_SUFFIX) for key in keys if key.endswith(_CONF_SUFFIX)))
    for container in (*_list(spec.get("initContainers")), *_list(spec.get("containers"))):
        for variable in _list(container.get("env")):
            if variable.get("name") == _ONLY and variable.get("value"):
                limits.append(frozenset(str(variable["value"]).split()))
    return frozenset().union(*limits) if limits else None


def _config(spec: Object) -> str:
    volumes = (one for one in _list(spec.get("volumes")) if one.get("name") == _CONFIG_VOLUME)
    return next((str(dig(one, "configMap").get("name") or "") for one in volumes), "")


def _claim(spec: Object) -> str:
    claims = (dig(volume, "persistentVolumeClaim").get("claimName") for volume in _list(spec.get("volumes")))
    return next((str(claim) for claim in claims if claim), "")


def _controller(item: Object, kind: str) -> str:
    """Return the uid of what controls an object, if it is of a kind; else nothing."""
    for owner in _list(dig(item, "metadata").get("ownerReferences")):
        if owner.get("kind") == kind and owner.get("controller"):
            return str(owner.get("uid") or "")
    return ""


def _created(item: Object) -> str:
    return str(dig(item, "metadata").get("creationTimestamp") or "")


def _list(found: object) -> list[Object]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def dig(item: Any, *path: str) -> Object:
    """Return the map below a path, empty where there is none."""
    for step in path:
        item = item.get(step) if isinstance(item, Mapping) else None
    return item if isinstance(item, Mapping) else {}


def parse_time(text: object) -> datetime | None:
    """Return the moment of one of the API's timestamps, UTC."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.astimezone(UTC)
