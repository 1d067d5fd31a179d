"""Copies are read back in full because someone wants to know now whether they are what was sent."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from offsite.remote.errors import CarrierError, RemoteError
from offsite.remote.rclone import Rclone
from offsite.rule import names
from offsite.rule.copies import Copies, Copy
from offsite.steps.check import ChangedError, disown, read_back
from retention.errors import StoppedError

SOUND, DAMAGED, UNREAD = "sound", "damaged", "unread"


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading one copy has found.

    Attributes:
        database: Whose copy it is.
        name: The backup's base, or the marker of a copy that does not count.
        result: sound, damaged, or unread.
        reason: Why it is not sound; empty where it is.
    """

    database: str
    name: str
    result: str
    reason: str = ""


def verify(
    remote: Rclone,
    place: str,
    copies: Copies,
    copy: Copy | None,
    *,
    clock: Callable[[], datetime],
    check: Callable[[], None],
) -> list[Checked]:
    """Read a copy back; return what was found, of it and of copies that do not count without having been read.

    Args:
        remote: The destination.
        place: The folder of the database there.
        copies: What is in it.
        copy: The copy to read; None for none.
        clock: The moment, UTC.
        check: Called again and again; may raise to end it.

    Raises:
        CarrierError: When rclone does not answer: nothing else can be read either.
        StoppedError: When the run has to end.
    """
    found = []
    if copy is not None:
        found.append(_one(remote, place, copies.database, copy, clock, check))
    there = {one.base for one in copies.complete}
    for finding in copies.damaged:
        parsed = names.parse(copies.database, finding.name)
        # A backup that has another copy has lost nothing.
        if parsed is None or parsed.base not in there:
            found.append(Checked(copies.database, finding.name, DAMAGED, f"it does not count: {finding.reason}"))
    return found


def _one(
    remote: Rclone,
    place: str,
    database: str,
    copy: Copy,
    clock: Callable[[], datetime],
    check: Callable[[], None],
) -> Checked:
    try:
        read_back(remote, place, copy, now=clock(), check=check)
    except (CarrierError, StoppedError):
        raise
    except ChangedError as error:
        return Checked(database, copy.base, DAMAGED, f"{error.problem}; {_disown(remote, place, copy, clock())}")
    except RemoteError as error:
        return Checked(database, copy.base, UNREAD, str(error))
    return Checked(database, copy.base, SOUND)


def _disown(remote: Rclone, place: str, copy: Copy, now: datetime) -> str:
    try:
        disown(remote, place, copy, now=now)
    except RemoteError as error:
        return f"{copy.names[0]} still counts, so delete that object: {error.problem}"
    return "it no longer counts; the next run copies the backup again if the volume has it"
