"""Brings one archive to this machine: streamed, resumed where it was cut, named only when its sha256 is right."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubectl_cnpg_backup.errors import PluginError, RefusedError
from kubectl_cnpg_backup.inspector import ROOT, Inspector

_BLOCK = 1024 * 1024
_ATTEMPTS = 5
"""How often in a row a stream may break without having brought a byte."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive on the volume: whose it is, its name, size in bytes, and what its content sums to."""

    database: str
    name: str
    bytes: int
    sha256: str


def part_of(target: Path) -> Path:
    """Return the file that holds what has come so far."""
    return target.with_name(f"{target.name}.part")


def prepare(archive: Archive, target: Path) -> bool:
    """Look at what is there already; return True when the archive itself is.

    Raises:
        RefusedError: When another file has its name, or the part is of something longer.
    """
    if target.exists():
        if target.is_file() and _digest(target) == archive.sha256:
            return True
        raise RefusedError(
            f"{target} exists and is not this archive", "move it away, or choose another place with --to"
        )
    part = part_of(target)
    if part.exists() and part.stat().st_size > archive.bytes:
        raise RefusedError(f"{part} is longer than the archive", "remove it, then start again")
    return False


def fetch(inspector: Inspector, archive: Archive, target: Path, progress: Callable[[int], None]) -> None:
    """Bring an archive to `target`, from where an earlier attempt ended; its `.sha256` lies beside it afterwards.

    Args:
        inspector: Sees the volume.
        archive: What to bring.
        target: Where to; `prepare` has looked at it.
        progress: Gets the number of bytes that are here, again and again.

    Raises:
        PluginError: When it cannot be written, the stream keeps breaking, or what came is not the archive.
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
                f"{archive.name} came with sha256 {found[:12]}…, not {archive.sha256[:12]}…; what came is removed",
                f"see whether it is still good there: kubectl cnpg-backup verify {archive.name}",
            )
        sums = target.with_name(f"{target.name}.sha256")
        sums.write_text(f"{archive.sha256}  {target.name}\n")
        part.rename(target)
    except OSError as error:
        raise PluginError(f"{part}: {error.strerror}", "what has come so far stays; start again to go on") from None


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
                    "start again later: it goes on where it was",
                ) from None
            continue
        if done.code or part.stat().st_size == here:
            raise PluginError(
                f"{archive.name} cannot be read: {done.errors.strip() or 'it is shorter than its metadata say'}",
                "see `kubectl cnpg-backup list` for what is there",
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_of(path: Path) -> int | None:
    """Return the free bytes where a path lies, None where that cannot be asked."""
    with suppress(OSError):
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize
    return None
