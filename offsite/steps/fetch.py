"""The way back: a copy is brought to the volume, decrypted, and published there as `finish` publishes a dump.

Until the last rename nothing of it counts: a run of the database, or another fetch, removes what is left of this one.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from offsite.age import Identity
from offsite.remote.rclone import Rclone
from offsite.rule.copies import Copies, Copy
from offsite.rule.names import Part
from offsite.steps.content import Content
from retention.errors import ExitCode, RetentionError, UsageError, VolumeError
from retention.names import Kind, file_name, parse_stamp, stamp_of
from retention.rule.backup import SKEW
from retention.text import later, parse_moment
from retention.volume import pins
from retention.volume.checksum import sha256_line
from retention.volume.directory import Directory

NEWEST = "newest"
_BEFORE = "newest before "
_MOST_SMALL = 256 * 1024 * 1024
_PINNED_FOR: Final = timedelta(days=7)


def select(copies: Copies, wish: str, *, now: datetime) -> Copy:
    """Return the copy that is meant: `newest`, `newest before TIME`, or the name of an archive.

    Raises:
        UsageError: When there is none.
    """
    wish = wish.strip()
    candidates = [copy for copy in copies.complete if copy.time <= now + SKEW]
    if wish.startswith(_BEFORE):
        text = wish.removeprefix(_BEFORE).strip()
        moment = parse_stamp(text) or parse_moment(text)
        if moment is None:
            raise UsageError(f"{text!r} is not a date and time", "write one such as 2026-01-31T04:00:00Z")
        candidates = [copy for copy in candidates if copy.time < moment]
    elif wish != NEWEST:
        base = wish.removesuffix(Kind.ARCHIVE.value)
        candidates = [copy for copy in copies.complete if copy.base == base]
    if candidates:
        return candidates[0]
    some = ", ".join(copy.base for copy in copies.complete[:3])
    raise UsageError(
        f"{copies.database}: there is no copy {wish!r}",
        f"the newest copies are {some}" if some else "no copy of this database is complete",
    )


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a copy: the archive's name on the volume, and whether it was there before."""

    name: str
    was_there: bool


class Fetch:
    """One copy on its way to the volume."""

    def __init__(
        self, remote: Rclone, place: str, copy: Copy, identities: tuple[Identity, ...], check: Callable[[], None]
    ) -> None:
        self._from = f"{remote.destination.path}/{place}"
        self._copy = copy
        self._content = Content(remote, place, copy, identities, check)

    def run(self, directory: Directory, *, now: datetime) -> Fetched:
        """Bring the copy, and publish it under its own name.

        Raises:
            NotWhatWasSentError: When it is not what was copied.
            AgeError: When it cannot be decrypted.
            LockedError: When a run of the database is at work.
            VolumeError: When the volume refuses, for example because it is full.
            RemoteError: When the destination refuses.
        """
        folder, base = directory.folder, self._copy.base
        archive = file_name(base, Kind.ARCHIVE)
        partial = f".{archive}{Kind.PARTIAL.value}"
        with directory.locked():
            if there := self._compare_with_volume(directory):
                return there
            metadata = self._metadata(now)
            roles = self._content.small(Part.GLOBALS, _MOST_SMALL)
            try:
                self._content.write_archive(folder, partial)
                # From here on as in retention/volume/publish.py: the archive's rename is the last step.
                for kind in (Kind.PIN, Kind.DRILL, Kind.GLOBALS):
                    folder.remove(file_name(base, kind))
                if roles is not None:
                    folder.write(file_name(base, Kind.GLOBALS), roles)
                sha256 = self._content.stored(Part.ARCHIVE).sha256
                folder.write(file_name(base, Kind.SHA256), sha256_line(sha256, archive))
                folder.write(file_name(base, Kind.METADATA), metadata)
                folder.sync()
                folder.rename(partial, archive)
                folder.sync()
            except BaseException:
                with contextlib.suppress(VolumeError):
                    folder.remove(partial)
                raise
            # The policy of the volume may not keep it, and someone has to restore it first.
            expires = later(max(now, self._copy.time), _PINNED_FOR)
            pins.protect(directory, base, reason="fetched from the copies outside", expires=expires, now=now)
        return Fetched(archive, was_there=False)

    def _compare_with_volume(self, directory: Directory) -> Fetched | None:
        """Return the archive if the volume has it.

        Raises:
            RetentionError: When the volume has another one of its name.
        """
        base, found = self._copy.base, directory.scan()
        archive, sha256 = file_name(base, Kind.ARCHIVE), self._content.stored(Part.ARCHIVE).sha256
        if any(backup.base == base and backup.sha256 == sha256 for backup in found.backups):
            return Fetched(archive, was_there=True)
        taken = [archive, file_name(base, Kind.BAD), file_name(base, Kind.STAGED)]
        listed = directory.folder.names()
        if name := next((name for name in taken if name in listed), None):
            error = RetentionError(
                f"{directory.folder.path_of(name)} is there, and is not the backup that was copied",
                "move it away, then fetch again",
            )
            error.exit_code = ExitCode.REFUSED
            raise error
        return None

    def _metadata(self, now: datetime) -> bytes:
        """Return the archive's metadata, with a note that it was fetched."""
        document = self._content.metadata()
        document["fetched"] = {
            "at": now.isoformat(timespec="seconds"),
            "from": self._from,
            "uploaded": stamp_of(self._copy.marker.uploaded),
        }
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")
