"""The content of a copy: read from the destination, decrypted, and compared with what its marker says."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from offsite.age import Identity, decrypted
from offsite.remote.rclone import Rclone
from offsite.rule.copies import Copy
from offsite.rule.marker import AGE, Stored
from offsite.rule.names import Part
from retention.errors import RetentionError, UsageError
from retention.volume.folder import Folder, close_quietly, volume_error

_MOST_METADATA = 64 * 1024
_AGAIN = "the copy is damaged: fetch another backup (`kubectl cnpg-backup offsite list`)"


class NotWhatWasSentError(RetentionError):
    """What came back is not what was copied."""


class Content:
    """What is in one copy.

    Raises:
        UsageError: When it is encrypted, and there is no identity.
    """

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

    def stored(self, part: Part) -> Stored:
        """Return what the marker says about a part that every copy has."""
        return self._copy.marker.objects[part.value]

    def small(self, part: Part, most: int) -> bytes | None:
        """Return a small part; None if the copy has none.

        Raises:
            NotWhatWasSentError: When it is larger than it may be, or is not what was copied.
            AgeError: When it cannot be decrypted.
            RemoteError: When the destination refuses.
        """
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

    def metadata(self) -> dict[str, Any]:
        """Return the archive's metadata.

        Raises:
            NotWhatWasSentError: When they are those of another archive.
            AgeError: When they cannot be decrypted.
            RemoteError: When the destination refuses.
        """
        content, stored = self.small(Part.METADATA, _MOST_METADATA) or b"", self.stored(Part.ARCHIVE)
        try:
            document: dict[str, Any] = json.loads(content)
            agrees = (document["bytes"], document["sha256"]) == (stored.bytes, stored.sha256)
        except (ValueError, RecursionError, KeyError, TypeError):
            agrees = False
        if not agrees:
            raise NotWhatWasSentError(f"the metadata of {self._copy.base} are not those of the archive", _AGAIN)
        return document

    def write_archive(self, folder: Folder, name: str) -> None:
        """Write the archive into a folder, complete and on disk.

        Raises:
            NotWhatWasSentError: When it is not what was copied; what was written is not removed.
            AgeError: When it cannot be decrypted.
            VolumeError: When the folder refuses, for example because it is full.
            RemoteError: When the destination refuses.
        """
        path, fd = folder.path_of(name), folder.create(name)
        try:

            def write(piece: memoryview) -> None:
                view = piece
                try:
                    while view:
                        view = view[os.write(fd, view) :]
                except OSError as error:
                    raise volume_error(error, path) from None

            self._stream(self.stored(Part.ARCHIVE), write)
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
