"""Who has suspended a CronJob: the plugin, someone by hand, or the values of the release.

The API server remembers who set a field. The plugin sets `spec.suspend` by a server-side apply under a name of its own,
which it can take back without a trace; and that name does not begin with `kubectl`, since Flux takes over what kubectl
has set. The chart sets the field only where the values say so, so that no upgrade is in conflict with the plugin.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.objects import Object, dig, name_of, parse_time
from retention.text import shown

MANAGER = "cnpg-backup"
"""The name under which the plugin sets the field."""
ANNOTATION = "cnpg-backup/suspended"
"""When the plugin has suspended a CronJob, and after a blank why."""

BY_VALUES = "cnpg-backup/suspended-by"
"""The chart's annotation of a CronJob that its values suspend."""

IN_VALUES = "set suspend: false (of the release, or suspended: false of its databases) and upgrade"
RESUME = "kubectl cnpg-backup resume"


def applied(cronjob: Object, **spec: bool) -> dict[str, Any]:
    """Return what the plugin applies: an intent without the field takes back what it has set."""
    metadata = {"name": name_of(cronjob), "namespace": dig(cronjob, "metadata").get("namespace")}
    # The empty spec stays the plugin's own, and with it the time at which it was last changed.
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}


def suspended(cronjob: Object, now: datetime, reason: str) -> dict[str, Any]:
    """Return what the plugin applies to suspend a CronJob."""
    found = applied(cronjob, suspend=True)
    found["metadata"]["annotations"] = {ANNOTATION: f"{now:%Y-%m-%dT%H:%M:%SZ} {reason}".rstrip()}
    return found


def managers(cronjob: Object, *operations: str) -> list[str]:
    """Return who has set the field, by these operations alone if some are named."""
    entries: Sequence[Object] = dig(cronjob, "metadata").get("managedFields") or ()
    return [
        str(entry.get("manager") or "?")
        for entry in entries
        if not entry.get("subresource") and "f:suspend" in dig(entry, "fieldsV1", "f:spec")
        if not operations or entry.get("operation") in operations
    ]


def appliers(cronjob: Object) -> list[str]:
    """Return who would set the field again, or be in conflict: those who have applied it on the server.

    All others have made or changed the object in full, by which they own every field, even one that only has its
    default. Helm 3 and Argo CD do so, and leave the field alone in what follows, since the manifest does not have it.
    """
    return managers(cronjob, "Apply")


def in_values(cronjob: Object) -> bool:
    """Tell whether the values of the release suspend a CronJob: the chart says so, or it was not done by hand."""
    return BY_VALUES in dig(cronjob, "metadata", "annotations") or not all(map(by_hand, managers(cronjob)))


def by_hand(manager: str) -> bool:
    """Tell whether someone has set the field: with kubectl, or with the plugin."""
    return manager == MANAGER or manager.startswith("kubectl")


def explained(cronjob: Object) -> PluginError:
    """Return that a CronJob is suspended: since when and why, where the plugin knows, and what ends it."""
    note = str(dig(cronjob, "metadata", "annotations").get(ANNOTATION) or "")
    since, _, reason = note.partition(" ")
    at = parse_time(since)
    known = f" since {at:%Y-%m-%d %H:%M}Z" if at else ""
    why = f" ({shown(reason)})" if at and reason else ""
    hands = any(map(by_hand, managers(cronjob)))
    if not hands:
        return PluginError(f"its schedule is suspended{known}{why}", IN_VALUES)
    remedy = f"{IN_VALUES}, then: {RESUME}" if in_values(cronjob) else RESUME
    return PluginError(f"its schedule is suspended{known}{why}", remedy)
