"""The sha256 of an archive: taken from the volume, and in the sidecar that `sha256sum -c` reads."""

import hashlib
import os
import re
from collections.abc import Callable

from retention.volume.folder import Folder, close_quietly, volume_error

_CHUNK = 4 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


def digest(
    folder: Folder, name: str, check: Callable[[], None], each: Callable[[memoryview], None] | None = None
) -> tuple[str, int]:
    """Return the sha256 and the size of a file as the volume has them, not as memory remembers them.

    Args:
        folder: The directory.
        name: The file.
        check: Called between chunks; may raise to end the reading.
        each: Called with each chunk, for example to copy it.

    Raises:
        VolumeError: When it cannot be read.
    """
    fd = folder.open_file(name)
    try:
        # Data that is not on disk yet would be read from memory, and so would data that is still cached there.
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        total, sha256, buffer = 0, hashlib.sha256(), memoryview(bytearray(_CHUNK))
        while count := os.readv(fd, [buffer]):
            sha256.update(buffer[:count])
            if each is not None:
                each(buffer[:count])
            # Otherwise the archive would crowd the databases out of the node's memory.
            os.posix_fadvise(fd, total, count, os.POSIX_FADV_DONTNEED)
            total += count
            check()
        return sha256.hexdigest(), total
    except OSError as error:
        raise volume_error(error, folder.path_of(name)) from None
    finally:
        close_quietly(fd)


def is_sha256(text: str) -> bool:
    """Return whether a text is a sha256 in lower-case hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def parse_sha256(content: bytes) -> str | None:
    """Return the sum in a file that `sha256sum -c` reads, or None when it does not contain one."""
    words = content.split(maxsplit=1)
    text = words[0].decode(errors="replace") if words else ""
    return text if is_sha256(text) else None


def sha256_line(sha256: str, archive: str) -> bytes:
    """Return the content of the file that `sha256sum -c` reads.

    Args:
        sha256: The sum.
        archive: The archive's file name.
    """
    return f"{sha256}  {archive}\n".encode()
