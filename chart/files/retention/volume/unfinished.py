"""The partial and staged files of dumps that no run has finished.

Each run of a database removes its partial files and publishes what is staged. Where none runs any more, since the
database is configured no longer, they would stay forever.
"""

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from retention.errors import VolumeError
from retention.names import STAGED_SIDECARS, Grammar, Kind, file_name
from retention.rule.backup import Scan
from retention.volume.directory import Directory
from retention.volume.folder import Folder

_AGE = timedelta(days=1)
"""A dump that began more recently may be under way, or its run may be about to publish it."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file of a dump that began over a day ago and was never published; a size of None is not known."""

    name: str
    bytes: int | None


def find(folder: Folder, scan: Scan, now: datetime) -> list[Unfinished]:
    """Return these files of a database, archives before what belongs to them."""
    grammar, listed = Grammar(scan.database), folder.names()
    staged = [file_name(base, kind) for base in scan.staged for kind in (Kind.STAGED, *STAGED_SIDECARS)]
    found = []
    for name in (*scan.partial, *staged):
        parsed = grammar.parse(name)
        if parsed is None or now - parsed.time < _AGE or name not in listed:
            continue
        status = None
        with contextlib.suppress(VolumeError):
            status = folder.stat(name)
        found.append(Unfinished(name, None if status is None else status.st_size))
    return found


def remove(directory: Directory, now: datetime) -> list[Unfinished]:
    """Remove these files under the lock of the database, which a dump holds all the time; return what was removed.

    Raises:
        LockedError: When a dump is under way.
        VolumeError: When the volume refuses.
    """
    folder = directory.folder
    with directory.locked():
        removed = [one for one in find(folder, directory.scan(), now) if folder.remove_listed(one.name)]
        if removed:
            folder.sync()
    return removed
