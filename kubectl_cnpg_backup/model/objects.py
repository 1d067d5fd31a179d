"""Objects of Kubernetes, as the API's JSON has them."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any

from kubectl_cnpg_backup.errors import PluginError
from watch.objects import dig as dig

Object = Mapping[str, Any]

_SIGNALLED, _SIGTERM = 128, 15
"""A container that a signal ended has 128 and its number as exit code. After SIGTERM the programs end by themselves."""


def name_of(item: Object) -> str:
    """Return an object's name."""
    return str(dig(item, "metadata").get("name") or "")


def labels(item: Object) -> Object:
    """Return an object's labels."""
    return dig(item, "metadata", "labels")


def owner_of(item: Object, kind: str) -> str:
    """Return the name of the owner of a kind; empty where there is none."""
    for reference in dig(item, "metadata").get("ownerReferences") or ():
        if reference.get("kind") == kind:
            return str(reference.get("name") or "")
    return ""


def mounts(spec: Object, claim: str) -> bool:
    """Tell whether a pod's spec mounts a claim."""
    volumes = spec.get("volumes") or ()
    return any(dig(volume, "persistentVolumeClaim").get("claimName") == claim for volume in volumes)


def parse_time(text: object) -> datetime | None:
    """Return the moment of one of the API's timestamps, UTC."""
    if isinstance(text, datetime):
        return text.astimezone(UTC)
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def condition(item: Object, *types: str) -> Object | None:
    """Return the first true condition of one of these types."""
    for entry in dig(item, "status").get("conditions") or ():
        if entry.get("type") in types and entry.get("status") == "True":
            found: Object = entry
            return found
    return None


def job_state(job: Object) -> str:
    """Return the state of a Job: running, succeeded or failed."""
    ended = condition(job, "Complete", "Failed")
    if ended is None:
        return "running"
    return "succeeded" if ended["type"] == "Complete" else "failed"


def pods_of(job: str, pods: Iterable[Object]) -> list[Object]:
    """Return a Job's pods, oldest first."""
    own = [pod for pod in pods if labels(pod).get("batch.kubernetes.io/job-name") == job]
    return sorted(own, key=lambda pod: str(dig(pod, "metadata").get("creationTimestamp") or ""))


def containers_of(job: Object) -> frozenset[str]:
    """Return the names of the containers that a Job's own template has; empty where it is not known."""
    spec = dig(job, "spec", "template", "spec")
    every = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return frozenset(str(container.get("name")) for container in every)


def container_statuses(pod: Object, own: Set[str] = frozenset()) -> list[Object]:
    """Return the states of a pod's containers in the order in which they run.

    Args:
        pod: The pod.
        own: The names of its Job's containers: all others are sidecars that something injected. Without it, only the
            sidecars that Kubernetes knows as such are left out.
    """
    status = dig(pod, "status")
    beside = {
        container.get("name")
        for container in dig(pod, "spec").get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    every = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return [one for one in every if one.get("name") not in beside and (not own or one.get("name") in own)]


def termination_of(pod: Object, own: Set[str] = frozenset()) -> tuple[int | None, str]:
    """Return exit code and termination message of a pod: of the first container that failed, or of the last one."""
    code: int | None = None
    message = ""
    for status in container_statuses(pod, own):
        ended = dig(status, "state", "terminated")
        if not ended:
            continue
        code, message = int(ended.get("exitCode", 0)), str(ended.get("message") or "")
        if code:
            break
    return code, message


def killed_by(pod: Object, own: Set[str] = frozenset()) -> str:
    """Return why a pod did not end by itself, in the words of Kubernetes; empty when it did.

    Such a pod leaves no result and no termination message of its own.
    """
    status = dig(pod, "status")
    if status.get("reason"):
        return ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
    for state in container_statuses(pod, own):
        ended = dig(state, "state", "terminated")
        code, reason = int(ended.get("exitCode") or 0), str(ended.get("reason") or "")
        if not code:
            continue
        subject = f"container {state.get('name')}"
        if reason not in ("", "Error", "Completed"):
            # The container did not start, or Kubernetes ended it: the message is that of Kubernetes.
            message = str(ended.get("message") or "") if "Error" in reason or "Cannot" in reason else ""
            return ": ".join(filter(None, (f"{subject} ended with {reason}", message)))
        if code > _SIGNALLED and code != _SIGNALLED + _SIGTERM:
            return f"{subject} was killed by signal {code - _SIGNALLED}"
        return ""
    return ""


def running_first(pod: Object) -> str:
    """Return the name of the init container that runs now; empty where none does."""
    for state in dig(pod, "status").get("initContainerStatuses") or ():
        if dig(state, "state", "running"):
            return str(state.get("name") or "")
    return ""


def waits_for(pod: Object) -> str:
    """Return in a few words what a pod that has not started waits for; empty when it waits for nothing."""
    for entry in dig(pod, "status").get("conditions") or ():
        if entry.get("type") == "PodScheduled" and entry.get("status") == "False":
            return f"no node yet: {entry.get('message') or entry.get('reason') or 'unknown reason'}"
    for state in container_statuses(pod):
        waiting = dig(state, "state", "waiting")
        reason = str(waiting.get("reason") or "")
        if reason and reason not in ("PodInitializing", "ContainerCreating"):
            return f"container {state['name']}: {reason}: {waiting.get('message', '')}".rstrip(": ")
    return ""


def claim_problem(item: Object) -> PluginError | None:
    """Return what is wrong with a claim, or None when it is bound."""
    if dig(item, "metadata").get("deletionTimestamp"):
        return PluginError(
            f"claim {name_of(item)} is being deleted",
            "copy the backups elsewhere before the last pod that mounts it ends",
        )
    phase = str(dig(item, "status").get("phase") or "unknown")
    if phase == "Bound":
        return None
    return PluginError(
        f"claim {name_of(item)} is {phase}", f"run `kubectl describe pvc {name_of(item)}` to see what it waits for"
    )


def selects(policy: Object, pod_labels: Object) -> bool:
    """Tell whether a NetworkPolicy selects pods with these labels."""
    selector = dig(policy, "spec", "podSelector")
    for key, value in (selector.get("matchLabels") or {}).items():
        if pod_labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        value, values = pod_labels.get(key), expression.get("values") or ()
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(operator, False):
            return False
    return True


def major_of(image: str) -> int | None:
    """Return PostgreSQL's major version by an image's tag, None where the tag does not begin with a number."""
    match = re.search(r":(\d+)[^/]*$", image.split("@")[0])
    return int(match[1]) if match else None


def refusal(events: Sequence[Object], since: datetime | None) -> str:
    """Return why a controller could not make an object, by its newest event since a moment; empty if it could."""
    for event in reversed(events):
        at = parse_time(event.get("lastTimestamp") or event.get("eventTime"))
        if event.get("reason") == "FailedCreate" and (since is None or at is None or at > since):
            return str(event.get("message") or "no reason given")
    return ""
