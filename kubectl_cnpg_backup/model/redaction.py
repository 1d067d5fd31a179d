"""What of an object or a log may leave the cluster: what is known to be harmless stays, all else is left out.

Nothing here knows a secret's value. Objects keep the fields that the chart itself sets, and of what others can put
there (annotations, environment, volumes, containers that something injected) only the names. Texts lose what looks like
a password, a token or a key.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kubectl_cnpg_backup.model import suspension
from kubectl_cnpg_backup.model.objects import Object

LEFT_OUT = "(left out)"

_WORD = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credentials?|authorization"
)
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,;&"']+)"""
_SCRUB: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", LEFT_OUT),
        # scheme://user:password@host
        (r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)\S*@", rf"\1{LEFT_OUT}@"),
        (r"\b((?:bearer|basic)\s+)[a-z0-9+/=._~-]{6,}", rf"\1{LEFT_OUT}"),
        (r"\beyJ[a-z0-9_-]{6,}\.[a-z0-9_-]+(?:\.[a-z0-9_-]*)?", LEFT_OUT),
        (r"\b(SCRAM-SHA-256\$)\S+", rf"\1{LEFT_OUT}"),
        (r"\bmd5[0-9a-f]{32}\b", LEFT_OUT),
        # password=…, "token": "…", --password …, PGPASSWORD=…, and SQL: PASSWORD '…'
        (rf"""((?:[\w.-]*(?:{_WORD})[\w.-]*)["']?\s*(?:=>|[=:])\s*){_VALUE}""", rf"\1{LEFT_OUT}"),
        (rf"(--[\w-]*(?:{_WORD})\s+)(?!-){_VALUE}", rf"\1{LEFT_OUT}"),
        (rf"\b((?:encrypted\s+)?(?:{_WORD})\s+)'(?:[^']|'')*'", rf"\1{LEFT_OUT}"),
    )
)

_ANNOTATIONS = (
    suspension.ANNOTATION,
    "cronjob.kubernetes.io/instantiate",
    "batch.kubernetes.io/cronjob-scheduled-timestamp",
)
"""Annotations whose values may stay."""
_CONTAINERS = re.compile(
    r"(check|dump|retention|choose|restore|inspect|record|open|hand-over(-\d+)?|drill-\d+|rclone|copy|fetch)"
)
"""The chart's own containers; all others were injected by something."""
_VARIABLE = re.compile(r"(?!RESTORE_WHERE$)(BACKUP|RESTORE|DRILL|OPEN|FETCH|PYTHON|RCLONE)[A-Z_]*|HOME|TZ")
"""Their values may stay; a condition of SQL holds data."""
_KEYS = re.compile(r"^(\S+: gone: ).*", re.MULTILINE)
"""What `undelete --show` prints of rows, if somebody asked for it."""
_CONTAINER_FIELDS = ("name", "image", "imagePullPolicy", "resources", "volumeMounts", "securityContext")
_OWN_FIELDS = ("command", "args")
_POD_FIELDS = (
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "enableServiceLinks", "imagePullSecrets",
    "nodeName", "nodeSelector", "priorityClassName", "restartPolicy", "runtimeClassName", "schedulerName",
    "securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "tolerations",
    "topologySpreadConstraints",
)  # fmt: skip
_VOLUME_KINDS = ("persistentVolumeClaim", "configMap", "emptyDir", "secret")
_METADATA_FIELDS = (
    "name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "generation", "labels", "ownerReferences",
    "finalizers",
)  # fmt: skip
_EVENT_FIELDS = (
    "type", "reason", "message", "count", "firstTimestamp", "lastTimestamp", "eventTime", "involvedObject", "source",
)  # fmt: skip


def text(found: str) -> str:
    """Return a text without what looks like a secret."""
    for pattern, replacement in _SCRUB:
        found = pattern.sub(replacement, found)
    return _KEYS.sub(rf"\1{LEFT_OUT}", found)


def scrubbed(value: Any) -> Any:
    """Return a document whose texts are without what looks like a secret."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {str(key): scrubbed(one) for key, one in value.items()}
    return [scrubbed(one) for one in value] if isinstance(value, (list, tuple)) else value


def _picked(item: Object, fields: Iterable[str]) -> dict[str, Any]:
    return {name: scrubbed(item[name]) for name in fields if item.get(name) is not None}


def metadata(item: Object) -> dict[str, Any]:
    """Return the metadata of an object: of annotations only the names, but for some."""
    found = item.get("metadata") or {}
    kept = _picked(found, _METADATA_FIELDS)
    if found.get("annotations"):
        kept["annotations"] = {
            str(name): text(str(value)) if name in _ANNOTATIONS else LEFT_OUT
            for name, value in found["annotations"].items()
        }
    owners = suspension.managers(item)
    return {**kept, "suspendedBy": owners} if owners else kept


def cronjob(item: Object) -> dict[str, Any]:
    """Return a CronJob."""
    spec = item.get("spec") or {}
    fields = (
        "schedule", "timeZone", "suspend", "startingDeadlineSeconds", "concurrencyPolicy", "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    )  # fmt: skip
    template = spec.get("jobTemplate") or {}
    job_spec = {**_picked(spec, fields), "jobTemplate": {"spec": _job_spec(template.get("spec") or {})}}
    return {"metadata": metadata(item), "spec": job_spec, "status": scrubbed(item.get("status") or {})}


def job(item: Object) -> dict[str, Any]:
    """Return a Job."""
    return {
        "metadata": metadata(item),
        "spec": _job_spec(item.get("spec") or {}),
        "status": scrubbed(item.get("status") or {}),
    }


def _job_spec(spec: Object) -> dict[str, Any]:
    fields = ("activeDeadlineSeconds", "backoffLimit", "podFailurePolicy", "suspend", "ttlSecondsAfterFinished")
    template = spec.get("template") or {}
    return {**_picked(spec, fields), "template": {"spec": _pod_spec(template.get("spec") or {})}}


def pod(item: Object) -> dict[str, Any]:
    """Return a pod."""
    return {
        "metadata": metadata(item),
        "spec": _pod_spec(item.get("spec") or {}),
        "status": scrubbed(item.get("status") or {}),
    }


def _pod_spec(spec: Object) -> dict[str, Any]:
    found = _picked(spec, _POD_FIELDS)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        if spec.get(kind):
            found[kind] = [_container(one) for one in spec[kind]]
    if spec.get("volumes"):
        found["volumes"] = [_volume(one) for one in spec["volumes"]]
    return found


def is_own(container: object) -> bool:
    """Tell whether a container of this name is one of the chart's."""
    return _CONTAINERS.fullmatch(str(container)) is not None


def _container(item: Object) -> dict[str, Any]:
    own = is_own(item.get("name"))
    found = _picked(item, (*_CONTAINER_FIELDS, *(_OWN_FIELDS if own else ())))
    if item.get("env"):
        found["env"] = [_variable(one, own=own) for one in item["env"]]
    return found


def _variable(item: Object, *, own: bool) -> dict[str, Any]:
    name = str(item.get("name"))
    if item.get("valueFrom"):
        return {"name": name, "valueFrom": sorted(item["valueFrom"])}
    known = own and _VARIABLE.fullmatch(name) is not None
    # The name takes part, so that a value under a name such as BACKUP_TOKEN goes as well.
    value = text(f"{name}={item.get('value', '')}").partition("=")[2] if known else LEFT_OUT
    return {"name": name, "value": value}


def _volume(item: Object) -> dict[str, Any]:
    found: dict[str, Any] = {"name": item.get("name"), "kinds": sorted(key for key in item if key != "name")}
    for kind in _VOLUME_KINDS:
        source = item.get(kind)
        if source:
            found[kind] = _picked(
                source, ("claimName", "name", "secretName", "items", "sizeLimit", "medium", "optional")
            )
    sources = (item.get("projected") or {}).get("sources") or ()
    if sources:
        found["projected"] = [
            {
                kind: _picked(source[kind] or {}, ("name", "items", "optional"))
                for kind in source
                if kind in ("secret", "configMap")
            }
            for source in sources
        ]
    return found


def event(item: Object) -> dict[str, Any]:
    """Return an event."""
    return _picked(item, _EVENT_FIELDS)


_SETTINGS = frozenset(
    {
        "database", "cluster", "namespace", "dbname", "host", "standby_host", "port", "sslmode", "username",
        "dumps_as_owner", "compression", "timeout", "wait_timeout", "lock_timeout", "lock_wait_timeout", "retries",
        "roles", "allow_empty", "count_rows", "on_shrink", "allow_large_prune", "large_prune_percent", "max_bytes",
        "min_backups", "most_backups", "extra_arg",
        "type", "provider", "server_side_encryption", "path", "cluster_id", "owner", "encryption", "recipients",
        "verify", "max_parts", "readback_every", "copy", "prune", "allow_shrunk", "accept_loss_until",
        "object_lock_mode", "object_lock_days", "chart_version",
    }
)  # fmt: skip
"""The settings of a database, and of copies outside, that may stay, as docs/architecture.md lists them."""


def config_map(item: Object) -> dict[str, Any]:
    """Return a ConfigMap of databases' settings: these and the policies; of everything else the name and the size."""
    data: dict[str, Any] = {}
    for name, content in sorted((item.get("data") or {}).items()):
        if name.endswith(".conf"):
            data[name] = "\n".join(_setting(line) for line in str(content).splitlines())
        elif name.endswith("policy.json"):
            data[name] = text(str(content))
        else:
            data[name] = f"{LEFT_OUT}: {len(str(content))} characters"
    return {"metadata": metadata(item), "data": data}


def _setting(line: str) -> str:
    key, _, value = line.partition("=")
    return f"{key}={text(value)}" if key in _SETTINGS else f"{text(key)}={LEFT_OUT}" if value else LEFT_OUT


def claim(item: Object) -> dict[str, Any]:
    """Return a claim."""
    spec = _picked(item.get("spec") or {}, ("accessModes", "resources", "storageClassName", "volumeMode", "volumeName"))
    return {"metadata": metadata(item), "spec": spec, "status": scrubbed(item.get("status") or {})}


def network_policy(item: Object) -> dict[str, Any]:
    """Return a NetworkPolicy."""
    return {"metadata": metadata(item), "spec": scrubbed(item.get("spec") or {})}


def log(lines: Iterable[str], most: int, note: Callable[[int], str]) -> str:
    """Return the last lines of a log; a line that is very long is cut.

    Args:
        lines: The lines.
        most: How many stay.
        note: Returns what to say about those that do not.
    """
    every = list(lines)
    kept = every[-most:]
    head = [note(len(every) - len(kept))] if len(kept) < len(every) else []
    # All lines together: a key has several.
    return text("\n".join([*head, *(line[:4000] for line in kept)])) + "\n"
