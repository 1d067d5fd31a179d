"""Downloads one archive: as a stream, resumed where it broke, renamed to its final name once its sha256 matches."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.errors import PluginError, RefusedError

_BLOCK = 1024 * 1024
_ATTEMPTS = 5
"""How often in a row a stream may break without having brought a byte."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive on the volume: its database, name, size in bytes, and sha256."""

    database: str
    name: str
    bytes: int
    sha256: str


def part_of(target: Path) -> Path:
    """Return the file that holds what has arrived so far."""
    return target.with_name(f"{target.name}.part")


def prepare(archive: Archive, target: Path) -> bool:
    """Check which files exist already; return True when the archive itself is among them.

    Raises:
        RefusedError: When another file has its name, or the partial file is longer than the archive.
    """
    if target.exists():
        if target.is_file() and _digest(target) == archive.sha256:
            return True
        raise RefusedError(f"{target} exists and is not this archive", "move it away, or choose another path with --to")
    part = part_of(target)
    if part.exists() and part.stat().st_size > archive.bytes:
        raise RefusedError(f"{part} is longer than the archive", "remove it, then start again")
    return False


def fetch(inspector: Inspector, archive: Archive, target: Path, progress: Callable[[int], None]) -> None:
    """Download an archive to `target`, from where an earlier attempt ended, and write its `.sha256` next to it.

    Args:
        inspector: A pod that mounts the volume.
        archive: The archive.
        target: The file to write; `prepare` has checked it.
        progress: Receives the number of bytes of each part that arrives.

    Raises:
        PluginError: When it cannot be written, the stream keeps breaking, or the content is not the archive's.
    """
    part = part_of(target)
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            _stream(inspector, archive, part, file.write, progress)
            os.fsync(file.fileno())
        if (found := _digest(part)) != archive.sha256:
            part.unlink()
            raise PluginError(
                f"{archive.name} arrived with sha256 {found[:12]}…, not {archive.sha256[:12]}…; the copy was removed",
                f"check the archive on the volume: kubectl cnpg-backup verify {archive.name}",
            )
        sums = target.with_name(f"{target.name}.sha256")
        sums.write_text(f"{archive.sha256}  {target.name}\n")
        part.rename(target)
    except OSError as error:
        raise PluginError(
            f"{part}: {error.strerror}", "start again to continue: what has arrived so far was kept"
        ) from None


def _stream(
    inspector: Inspector,
    archive: Archive,
    part: Path,
    write: Callable[[bytes], int | None],
    progress: Callable[[int], None],
) -> None:
    fruitless, path = 0, f"{ROOT}/{archive.database}/{archive.name}"

    def take(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[write(bytes(view)) or 0 :]
        progress(len(data))

    while (here := part.stat().st_size) < archive.bytes:
        try:
            done = inspector.execute(["tail", "-c", f"+{here + 1}", "--", path], take)
        except ConnectionError as error:
            fruitless = fruitless + 1 if part.stat().st_size == here else 0
            if fruitless >= _ATTEMPTS:
                raise PluginError(
                    f"the stream of {archive.name} keeps breaking: {error}",
                    "start again later: it continues where it stopped",
                ) from None
            continue
        if done.code or part.stat().st_size == here:
            raise PluginError(
                f"{archive.name} cannot be read: {done.errors.strip() or 'it is shorter than its metadata say'}",
                "see `kubectl cnpg-backup list` for the archives that exist",
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_of(path: Path) -> int | None:
    """Return the free bytes of a path's file system, None where that is unknown."""
    with suppress(OSError):
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize
    return None
