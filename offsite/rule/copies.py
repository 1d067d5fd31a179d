"""What is at the destination, by its list of names and the markers: which copies count, and what is left over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from offsite.rule import names
from offsite.rule.marker import READBACK, RESTORED, Marker
from offsite.rule.names import Part, RemoteName
from retention.rule.backup import Finding

_SAVE = (
    "another copy is made if the volume has the backup; otherwise save what `age --decrypt` still reads of it, "
    "and then delete its objects"
)
"""What to do about a copy that was found damaged. Its objects stay as long as they may be all that is left."""


class Entry(NamedTuple):
    """An object as the destination lists it: its path, its size, and when it was written (None if not known)."""

    path: str
    size: int
    written: datetime | None


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete copy of a backup.

    Attributes:
        base: The backup's base.
        time: The moment that the base names, UTC.
        marker: What its upload says.
        checked: When it was last read back in full, UTC; None for never.
        names: All its objects, the marker first.
        restored: When a drill last restored it, UTC; None for never.
    """

    base: str
    time: datetime
    marker: Marker
    checked: datetime | None
    names: tuple[str, ...]
    restored: datetime | None = None

    @property
    def bytes(self) -> int:
        """The size of the archive, before it was encrypted."""
        return self.marker.archive.bytes

    @property
    def verified(self) -> str:
        """How it is known that all of it arrived: by a drill, by its last full reading, or else as its marker says."""
        if self.restored is not None:
            return RESTORED
        return self.marker.verified if self.checked is None else READBACK


@dataclass(slots=True)
class Copies:
    """What is in the folder of a database.

    Attributes:
        database: Whose folder it is.
        complete: The copies that count, newest first; of several copies of a backup, the one that was made last.
        spare: Further copies of the same backups.
        damaged: What is wrong with copies that do not count although they have a marker.
        leftover: Objects that belong to no marker; and those of copies that were found damaged, once the backup has
            another copy.
        ignored: Names that are not ours.
    """

    database: str
    complete: list[Copy] = field(default_factory=list)
    spare: list[Copy] = field(default_factory=list)
    damaged: list[Finding] = field(default_factory=list)
    leftover: list[Entry] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @property
    def last_restored(self) -> datetime | None:
        """When a drill last restored one of the copies that count, UTC; None for never."""
        return max((copy.restored for copy in self.complete if copy.restored is not None), default=None)

    @property
    def newest_restored(self) -> Copy | None:
        """The newest copy that a drill has restored; None for none."""
        return next((copy for copy in self.complete if copy.restored is not None), None)


def sort_out(database: str, entries: Iterable[Entry], markers: Mapping[str, Marker | str]) -> Copies:
    """Return what a list of objects amounts to.

    Args:
        database: Whose folder it is.
        entries: The objects in it; their paths are their names.
        markers: What the markers among them say, or why one cannot be read, by their names.
    """
    found, attempts = Copies(database), _attempts(database, entries)
    for entry in attempts.pop(("", ""), {}).values():
        found.ignored.append(entry.path)
    best: dict[str, Copy] = {}
    harmed: list[tuple[str, str, datetime, dict[str, Entry]]] = []
    for (base, attempt), objects in sorted(attempts.items()):
        name = names.object_name(base, attempt, Part.MARKER)
        if name not in objects:
            found.leftover += objects.values()
            continue
        marker = markers.get(name, "it was not read")
        reason = marker if isinstance(marker, str) else _contradiction(database, base, attempt, marker, objects)
        if reason or isinstance(marker, str):
            found.damaged.append(Finding(name, reason, "it does not count: another copy is made if the volume has it"))
            continue
        parsed = [names.parse(database, one) for one in objects]
        if seen := max((one.seen for one in parsed if one and one.seen and one.part is Part.DAMAGED), default=None):
            harmed.append((base, name, seen, objects))
            continue
        moment = next(one.time for one in parsed if one is not None)
        restored = max((one.seen for one in parsed if one and one.seen and one.part is Part.RESTORED), default=None)
        # A drill has read all of it as well.
        last = max((one.seen for one in parsed if one and one.seen), default=None)
        if marker.verified == READBACK:
            last = max(last or marker.uploaded, marker.uploaded)
        own = (name, *sorted(objects.keys() - {name}))
        copy = Copy(base, moment, marker, last, own, restored)
        other = best.get(base)
        if other is not None and other.marker.uploaded > marker.uploaded:
            copy, other = other, copy
        if other is not None:
            found.spare.append(other)
        best[base] = copy
    for base, name, seen, objects in harmed:
        if base in best:
            # The marker goes first: without what says that it is damaged, the copy would count again.
            found.leftover += [objects[name], *(entry for one, entry in objects.items() if one != name)]
        else:
            reason = f"it was read on {seen:%Y-%m-%d %H:%M} UTC, twice, and was not what was sent"
            found.damaged.append(Finding(name, reason, _SAVE))
    found.complete = sorted(best.values(), key=lambda copy: copy.time, reverse=True)
    return found


def _attempts(database: str, entries: Iterable[Entry]) -> dict[tuple[str, str], dict[str, Entry]]:
    """Return the objects by base and attempt; those that are not ours by two empty texts."""
    attempts: dict[tuple[str, str], dict[str, Entry]] = {}
    for entry in entries:
        parsed: RemoteName | None = names.parse(database, entry.path)
        key = ("", "") if parsed is None else (parsed.base, parsed.attempt)
        attempts.setdefault(key, {})[entry.path] = entry
    return attempts


def _contradiction(database: str, base: str, attempt: str, marker: Marker, objects: Mapping[str, Entry]) -> str:
    """Return why a marker does not fit its objects, or nothing."""
    if (marker.database, marker.base, marker.attempt) != (database, base, attempt):
        return "its marker is about another backup"
    for part, stored in marker.objects.items():
        parsed = names.parse(database, stored.name)
        if parsed is None or (parsed.base, parsed.attempt, parsed.part.value) != (base, attempt, part):
            return f"its marker names {stored.name}, which belongs to something else"
        entry = objects.get(stored.name)
        if entry is None:
            return f"{stored.name} is missing"
        if entry.size != stored.stored_bytes:
            return f"{stored.name} has {entry.size} bytes instead of {stored.stored_bytes}"
    return ""
