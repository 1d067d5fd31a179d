"""One backup goes up: its archive, its roles, its metadata, and at last its marker."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from offsite.age import Recipient
from offsite.remote.errors import RemoteError
from offsite.remote.rclone import Object, Rclone
from offsite.rule import names
from offsite.rule.marker import AGE, ETAG, NONE, READBACK, Marker, Stored, format_marker
from offsite.rule.names import Part
from offsite.rule.parts import Parts, parts_for
from offsite.settings import Settings
from offsite.steps.check import compare
from offsite.steps.clock import wall
from offsite.steps.source import Archive, Small, Source
from retention.errors import VolumeError
from retention.names import Kind, file_name
from retention.rule.backup import Backup
from retention.volume.folder import Folder

_MOST_GLOBALS = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A copy that was made.

    Attributes:
        marker: What its marker says.
        skew: By how many seconds this node's clock is ahead of the store's; None if the store tells no moment.
    """

    marker: Marker
    skew: float | None


class Upload:
    """The upload of one backup."""

    def __init__(
        self, settings: Settings, remote: Rclone, folder: Folder, database: str, check: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._remote = remote
        self._folder = folder
        self._place = f"{settings.cluster_id}/{database}"
        self._database = database
        self._check = check
        self._attempt = secrets.token_hex(4)

    def run(self, backup: Backup, clock: Callable[[], datetime]) -> Uploaded:
        """Copy a backup, and return once the destination has all of it.

        Raises:
            DamagedError: When the archive is not what was published; nothing of it counts.
            VolumeError: When the volume cannot be read.
            RemoteError: When the destination refuses.
        """
        recipients = self._settings.recipients
        objects: dict[str, Stored] = {}
        # An archive without its metadata would be of no use: it is read before hours of upload, and sent after them.
        metadata = self._small(backup, Kind.METADATA)
        if metadata is None:
            raise VolumeError(f"{self._folder.path_of(backup.base)}.json: pruned while it was to be copied")
        roles = self._small(backup, Kind.GLOBALS)
        with Archive(self._folder, backup.name, backup.bytes, backup.sha256, recipients) as archive:
            parts = parts_for(archive.size, self._settings.most_parts)
            objects[Part.ARCHIVE.value] = self._send(backup, Part.ARCHIVE, archive, backup.bytes, parts)
        for part, content in ((Part.GLOBALS, roles), (Part.METADATA, metadata)):
            if content is not None:
                source = Small(content, recipients)
                small = parts_for(source.size, self._settings.most_parts)
                objects[part.value] = self._send(backup, part, source, len(content), small)
        marker = self._marker(backup, objects, parts, clock())
        written = self._send_marker(marker)
        return Uploaded(marker, None if written is None else (wall() - written).total_seconds())

    def _small(self, backup: Backup, kind: Kind) -> bytes | None:
        return self._folder.read_listed(file_name(backup.base, kind), _MOST_GLOBALS)

    def _send(self, backup: Backup, part: Part, source: Source, size: int, parts: Parts) -> Stored:
        recipients: tuple[Recipient, ...] = self._settings.recipients
        name = names.object_name(backup.base, self._attempt, part, encrypted=bool(recipients))
        path = f"{self._place}/{name}"
        self._remote.upload(path, source.pieces(), source.size, parts, locked=True, check=self._check)
        found = self._look(path, source.size)
        stored = Stored(name, size, source.content.hexdigest(), source.size, source.stored.hexdigest())
        if self._settings.reads_back:
            # What such a store calls a sum may be one of something else.
            compare(self._remote, path, stored, self._check)
        elif found.md5 and found.md5.lower() != source.stored_md5.hexdigest():
            raise RemoteError(
                f"{path} has the MD5 {found.md5[:12]}…, and {source.stored_md5.hexdigest()[:12]}… was sent",
                "the next run copies it again; if this happens each time, set offsite.verify: readback",
            )
        return stored

    def _look(self, path: str, size: int) -> Object:
        """Return an object that was just written.

        Raises:
            RemoteError: When it is not there, or has another size.
        """
        found = self._remote.look(path)
        if found is None or found.size != size:
            what = "it is not there" if found is None else f"it has {found.size} bytes"
            raise RemoteError(
                f"{path} was written with {size} bytes, and {what}", "the next run copies it again; check the store"
            )
        return found

    def _send_marker(self, marker: Marker) -> datetime | None:
        """Write the marker, and return when that was by the store's clock, if it says so."""
        content = format_marker(marker)
        path = f"{self._place}/{names.object_name(marker.base, marker.attempt, Part.MARKER)}"
        parts = parts_for(len(content))
        self._remote.upload(path, [content], len(content), parts, locked=True, check=self._check)
        if self._remote.read(path, len(content)) != content:
            raise RemoteError(f"{path} is not what was written", "the copy does not count; check the store")
        found = self._remote.look(path)
        return None if found is None else found.written

    def _marker(self, backup: Backup, objects: dict[str, Stored], parts: Parts, now: datetime) -> Marker:
        return Marker(
            database=self._database,
            base=backup.base,
            attempt=self._attempt,
            uploaded=now.replace(microsecond=0),
            chart_version=self._settings.chart_version,
            encryption=AGE if self._settings.recipients else NONE,
            recipients=tuple(map(str, self._settings.recipients)),
            part_bytes=parts.size,
            tables=backup.tables,
            verified=READBACK if self._settings.reads_back else ETAG,
            objects=objects,
        )

    def remove(self, backup: Backup) -> None:
        """Delete what a failed attempt has left, if possible; the marker first, so that none is left alone."""
        encrypted = bool(self._settings.recipients)
        for part in (Part.MARKER, *names.CONTENT):
            name = names.object_name(backup.base, self._attempt, part, encrypted=encrypted and part is not Part.MARKER)
            try:
                self._remote.delete(f"{self._place}/{name}")
            except RemoteError:
                # The next run looks again.
                return
