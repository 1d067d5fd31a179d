"""The way back: a copy is brought to the volume, decrypted, and published there as `finish` publishes a dump.

Until the last rename nothing of it counts: a run of the database, or another fetch, removes what is left of this one.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from offsite.age import Identity, decrypted
from offsite.remote.rclone import Rclone
from offsite.rule.copies import Copies, Copy
from offsite.rule.marker import AGE, Stored
from offsite.rule.names import Part
from retention.errors import ExitCode, RetentionError, UsageError, VolumeError
from retention.names import Kind, file_name, parse_stamp, stamp_of
from retention.rule.backup import SKEW
from retention.text import later, parse_moment
from retention.volume import pins
from retention.volume.checksum import sha256_line
from retention.volume.directory import Directory
from retention.volume.folder import Folder, close_quietly, volume_error

NEWEST = "newest"
_BEFORE = "newest before "
_MOST_SMALL = 256 * 1024 * 1024
_MOST_METADATA = 64 * 1024
_PINNED_FOR: Final = timedelta(days=7)
_AGAIN = "the copy is damaged: fetch another backup (`kubectl cnpg-backup offsite list`)"


class NotWhatWasSentError(RetentionError):
    """What came back is not what was copied."""


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
        self._remote = remote
        self._place = place
        self._copy = copy
        self._identities = identities
        self._check = check
        if copy.marker.encryption == AGE and not identities:
            raise UsageError(
                f"{copy.base} is encrypted, and there is no identity",
                "give the Secret that holds it: --identity-secret",
            )

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
            roles = self._small(Part.GLOBALS, _MOST_SMALL)
            try:
                self._write(folder, partial)
                # From here on as in retention/volume/publish.py: the archive's rename is the last step.
                for kind in (Kind.PIN, Kind.DRILL, Kind.GLOBALS):
                    folder.remove(file_name(base, kind))
                if roles is not None:
                    folder.write(file_name(base, Kind.GLOBALS), roles)
                folder.write(file_name(base, Kind.SHA256), sha256_line(self._stored(Part.ARCHIVE).sha256, archive))
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
        archive, sha256 = file_name(base, Kind.ARCHIVE), self._stored(Part.ARCHIVE).sha256
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

    def _stored(self, part: Part) -> Stored:
        return self._copy.marker.objects[part.value]

    def _small(self, part: Part, most: int) -> bytes | None:
        stored = self._copy.marker.objects.get(part.value)
        if stored is None:
            return None
        if stored.bytes > most:
            raise NotWhatWasSentError(
                f"{stored.name} has {stored.bytes} bytes, and at most {most} are expected", _AGAIN
            )
        content = bytearray()
        self._stream(stored, content.extend)
        return bytes(content)

    def _metadata(self, now: datetime) -> bytes:
        """Return the archive's metadata, with a note that it was fetched."""
        content, stored = self._small(Part.METADATA, _MOST_METADATA) or b"", self._stored(Part.ARCHIVE)
        try:
            document = json.loads(content)
            agrees = (document["bytes"], document["sha256"]) == (stored.bytes, stored.sha256)
        except (ValueError, RecursionError, KeyError, TypeError):
            agrees = False
        if not agrees:
            raise NotWhatWasSentError(f"the metadata of {self._copy.base} are not those of the archive", _AGAIN)
        marker = self._copy.marker
        document["fetched"] = {
            "at": now.isoformat(timespec="seconds"),
            "from": f"{self._remote.destination.path}/{self._place}",
            "uploaded": stamp_of(marker.uploaded),
        }
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")

    def _write(self, folder: Folder, name: str) -> None:
        """Write the archive, complete and on disk, under a name that does not count."""
        path, fd = folder.path_of(name), folder.create(name)
        try:

            def write(piece: memoryview) -> None:
                view = piece
                try:
                    while view:
                        view = view[os.write(fd, view) :]
                except OSError as error:
                    raise volume_error(error, path) from None

            self._stream(self._stored(Part.ARCHIVE), write)
            try:
                os.fsync(fd)
            except OSError as error:
                raise volume_error(error, path) from None
        finally:
            close_quietly(fd)

    def _stream(self, stored: Stored, use: Callable[[memoryview], object]) -> None:
        """Hand on an object's content, decrypted; at its end, both sums are those of the marker.

        Raises:
            NotWhatWasSentError: When they are not.
        """
        outside, inside, count = hashlib.sha256(), hashlib.sha256(), 0
        path = f"{self._place}/{stored.name}"
        with self._remote.reading(path) as (readinto, size):
            if size != stored.stored_bytes:
                raise NotWhatWasSentError(f"{path} has {size} bytes instead of {stored.stored_bytes}", _AGAIN)

            def read(view: memoryview) -> int:
                got = readinto(view)
                outside.update(view[:got])
                return got

            pieces = decrypted(read, self._identities) if self._copy.marker.encryption == AGE else _pieces(read)
            for piece in pieces:
                self._check()
                inside.update(piece)
                count += len(piece)
                use(piece)
        if count != stored.bytes or (inside.hexdigest(), outside.hexdigest()) != (stored.sha256, stored.stored_sha256):
            raise NotWhatWasSentError(f"{path} is not what was copied: its sha256 differs from the marker's", _AGAIN)


def _pieces(read: Callable[[memoryview], int]) -> Iterator[memoryview]:
    memory = memoryview(bytearray(1 << 20))
    while count := read(memory):
        yield memory[:count]
