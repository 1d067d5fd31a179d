"""An archive of the volume as a stream: read once, and compared with its sum before its last bytes go out."""

import hashlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from offsite.age import Recipient, encrypted, encrypted_size
from retention.errors import RetentionError
from retention.volume.folder import Folder, close_quietly, volume_error

_PIECE = 1024 * 1024


class DamagedError(RetentionError):
    """An archive on the volume is not what was published."""


class Source:
    """Content that goes out, with the sums of what goes in and what goes out.

    Attributes:
        size: How many bytes go out.
        content: The sum of what goes in.
        stored: The sum of what goes out.
        stored_md5: Its MD5, for stores that compute that.
    """

    def __init__(self, size: int, recipients: tuple[Recipient, ...]) -> None:
        self.size = encrypted_size(size, len(recipients)) if recipients else size
        self.content = hashlib.sha256()
        self.stored = hashlib.sha256()
        self.stored_md5 = hashlib.md5(usedforsecurity=False)
        self._recipients = recipients

    def _fill(self, view: memoryview) -> int:
        raise NotImplementedError

    def _readinto(self, view: memoryview) -> int:
        count = self._fill(view)
        self.content.update(view[:count])
        return count

    def pieces(self) -> Iterator[memoryview]:
        """Yield what goes out. What is wrong with what goes in is raised before the last piece."""
        pieces = encrypted(self._readinto, self._recipients) if self._recipients else self._plain()
        for piece in pieces:
            self.stored.update(piece)
            self.stored_md5.update(piece)
            yield piece

    def _plain(self) -> Iterator[memoryview]:
        memory = memoryview(bytearray(_PIECE))
        while count := self._readinto(memory):
            yield memory[:count]


class Small(Source):
    """The content of a small file."""

    def __init__(self, content: bytes, recipients: tuple[Recipient, ...]) -> None:
        super().__init__(len(content), recipients)
        self._left = content

    def _fill(self, view: memoryview) -> int:
        taken, self._left = self._left[: len(view)], self._left[len(view) :]
        view[: len(taken)] = taken
        return len(taken)


class Archive(Source):
    """An archive on the volume."""

    def __init__(self, folder: Folder, name: str, size: int, sha256: str, recipients: tuple[Recipient, ...]) -> None:
        super().__init__(size, recipients)
        self._path = folder.path_of(name)
        self._expected = size, sha256
        self._place = 0
        self._fd = folder.open_file(name)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        close_quietly(self._fd)

    def _fill(self, view: memoryview) -> int:
        try:
            count = os.readv(self._fd, [view])
            # Otherwise the archive would crowd the databases out of the node's memory.
            os.posix_fadvise(self._fd, self._place, count, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise volume_error(error, self._path) from None
        self._place += count
        if not count:
            self._compare()
        return count

    def _compare(self) -> None:
        """Make sure at the end of the file that it was the one that was published: nothing of its end is out yet."""
        size, sha256 = self._expected
        if self._place != size or self.content.hexdigest() != sha256:
            raise DamagedError(
                f"{self._path} is not what was published: {self._place} bytes with sha256 "
                f"{self.content.hexdigest()[:12]}…, published as {size} bytes with {sha256[:12]}…",
                "check the storage; `kubectl cnpg-backup verify` marks it bad; it was not copied",
            )
