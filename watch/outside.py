"""What the watcher has learned about copies outside the cluster, from the runs that make them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from retention.message import WORST_FIRST, Line, Message

ETAG, READBACK, RESTORED = "etag", "readback", "restored"
VERIFIED = (ETAG, READBACK, RESTORED)
"""How a copy may be verified: by the store's own sums, by a full reading, or by a drill."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known of the copies of a database.

    Attributes:
        judged: When the run ended that `result` is of, UTC.
        result: ok, warning, refused or failed.
        why: The most important thing to know.
        newest: When the backup began that the newest copy is of, UTC; None for no copy, or not known.
        verified: How that copy is verified; empty for no copy, or not known.
        looked: When the run ended that the last two are of, UTC; None while no run could say.
        restored: When a drill last restored a copy of it, UTC; None for never, or not known.
    """

    judged: datetime
    result: str
    why: str
    newest: datetime | None = None
    verified: str = ""
    looked: datetime | None = None
    restored: datetime | None = None


def learn(before: Mapping[str, Outside], ended: datetime, message: Message) -> dict[str, Outside]:
    """Return what is known after a run that ended at some moment and has left a message."""
    return {**before, **{line.database: _one(before.get(line.database), ended, line) for line in message.lines}}


def _one(before: Outside | None, ended: datetime, line: Line) -> Outside:
    found = Outside(ended, line.result, line.why) if before is None else before
    if found.judged <= ended:
        found = replace(found, judged=ended, result=line.result, why=line.why)
    # Without a count the store could not be read, which says nothing about its copies.
    if "kept" in line.numbers and (found.looked is None or found.looked <= ended):
        verified, restored = proof_of(line)
        found = replace(found, newest=line.newest, verified=verified, looked=ended, restored=restored)
    return found


def proof_of(line: Line) -> tuple[str, datetime | None]:
    """Return what a run's line says of proofs: how the newest copy is verified, and when a drill last restored any.

    The former is empty where there is no copy; the latter is UTC, and None for never.
    """
    how = RESTORED if "restored" in line.numbers else READBACK if "read" in line.numbers else ETAG
    proved = line.numbers.get("proved")
    restored = None if proved is None else datetime.fromtimestamp(max(0, min(proved, 2**36)), UTC)
    return "" if line.newest is None else how, restored


def to_list(one: Outside) -> list[str | None]:
    """Return it for JSON."""
    moments = _text(one.looked), _text(one.restored)
    return [_text(one.judged), one.result, one.why, _text(one.newest), one.verified, *moments]


def from_list(found: Any) -> Outside:
    """Return it from JSON.

    Raises:
        ValueError: When it cannot be understood.
        TypeError: Likewise.
    """
    # An older watcher has written no moment of a drill.
    judged, result, why, newest, verified, looked, restored = [*found, None][:7]
    if result not in WORST_FIRST or verified not in ("", *VERIFIED):
        raise ValueError(found)
    ended = _moment(judged)
    if ended is None:
        raise ValueError(found)
    return Outside(ended, result, str(why), _moment(newest), verified, _moment(looked), _moment(restored))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: Any) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment
