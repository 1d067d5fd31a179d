"""Kubernetes Events about CronJobs: what `kubectl describe cronjob` shows when backups begin to fail, or work again.

An Event is made once for each change, and none of what goes on. Its name follows from what it says, so that making it
again makes no second one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from retention.text import shown
from watch.notices import TEST, Notice, Place
from watch.problems import DRILLS_OF, INFO, SEVERITY

EVENTS = "events"
"""What those who are notified call it."""
REASONS = {
    "CnpgBackupStatusDown": "StatusDown",
    "CnpgBackupBadArchive": "BackupDamaged",
    "CnpgBackupNone": "BackupMissing",
    "CnpgBackupStale": "BackupStale",
    "CnpgBackupFailing": "BackupFailed",
    "CnpgBackupPruneRefused": "PruneRefused",
    "CnpgBackupVolumeFull": "VolumeFull",
    "CnpgBackupDrillFailed": "DrillFailed",
    "CnpgBackupDrillStale": "DrillStale",
    "CnpgBackupOffsiteStale": "CopyStale",
    "CnpgBackupSuspended": "BackupSuspended",
}
"""The reason of the Event about each problem, by the problem's alert."""
_DRILLS = frozenset({"CnpgBackupDrillFailed", "CnpgBackupDrillStale"})
RECOVERED, DRILL_RECOVERED, TESTED = "BackupRecovered", "DrillRecovered", "Test"
_MOST_CHARACTERS = 1024
"""The API server refuses longer messages."""


@dataclass(frozen=True, slots=True)
class Involved:
    """A CronJob that an Event is about.

    Attributes:
        name: Its name.
        uid: Its uid; empty if it does not exist.
    """

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class _Said:
    kind: str
    reason: str
    subject: str
    text: str
    when: datetime
    remedy: str = ""


def events_of(
    notice: Notice, place: Place, now: datetime, involved: Callable[[str, bool], Involved]
) -> list[dict[str, Any]]:
    """Return the Events about what somebody is notified of, one for each CronJob and reason.

    Args:
        notice: What it says.
        place: Which release it is.
        now: The moment, UTC.
        involved: Returns the CronJob of a subject; the second argument tells whether it is about its drills.
    """
    groups: dict[tuple[Involved, str, str], list[_Said]] = {}
    for one, is_drill in _said(notice, place, now):
        groups.setdefault((involved(one.subject, is_drill), one.kind, one.reason), []).append(one)
    return [_event(place, now, *key, said) for key, said in groups.items()]


def _said(notice: Notice, place: Place, now: datetime) -> list[tuple[_Said, bool]]:
    if notice.event == TEST:
        return [(_Said("Normal", TESTED, "", "Somebody asked for this test. Nothing is wrong.", now), False)]
    found = []
    for problem, since in notice.begun:
        kind = "Normal" if SEVERITY[problem.alert] == INFO else "Warning"
        name = problem.subject.removeprefix(DRILLS_OF)
        text, remedy = f"{name} {problem.what}.", f" What to do: {place.runbook(problem.alert)}"
        one = _Said(kind, REASONS[problem.alert], name, text, since, remedy)
        found.append((one, problem.alert in _DRILLS))
    for subject, told in notice.recovered:
        name, of_drills = subject.removeprefix(DRILLS_OF), told.alert in _DRILLS
        well = f"has no problem with its {'drills' if of_drills else 'backups'} any more"
        text = f"{name} {well if subject in notice.subjects else 'is not backed up by this release any more'}."
        reason = DRILL_RECOVERED if of_drills else RECOVERED
        found.append((_Said("Normal", reason, name, text, told.since), of_drills))
    return found


def _event(
    place: Place, now: datetime, involved: Involved, kind: str, reason: str, said: Sequence[_Said]
) -> dict[str, Any]:
    at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Not what they say: an age in it changes from one attempt to the next.
    content = [involved.name, involved.uid, reason, sorted([one.subject, one.when.isoformat()] for one in said)]
    about: Mapping[str, str] = {"apiVersion": "batch/v1", "kind": "CronJob", "name": involved.name}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{involved.name}.{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}",
            "namespace": place.namespace,
        },
        "involvedObject": {
            **about,
            "namespace": place.namespace,
            **({"uid": involved.uid} if involved.uid else {}),
        },
        "type": kind,
        "reason": reason,
        "message": _message([one.text for one in said], said[0].remedy),
        "source": {"component": "cnpg-backup"},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def _message(texts: Sequence[str], remedy: str) -> str:
    head, foot = f"{len(texts)} of them: " if len(texts) > 1 else "", shown(remedy)[:300]
    room = _MOST_CHARACTERS - len(head) - len(foot) - len("… and 999999 more.")
    share = max(room // len(texts), 150)
    kept: list[str] = []
    for text in map(shown, texts):
        line = text if len(text) < share else f"{text[: share - 2]}…"
        if sum(len(one) + 1 for one in kept) + len(line) > room:
            kept.append(f"… and {len(texts) - len(kept)} more.")
            break
        kept.append(line)
    return f"{head}{' '.join(kept)}{foot}"
