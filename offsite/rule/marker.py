"""The marker of an attempt, `<base>.<attempt>.offsite.json`: the last object of an upload, and what makes it count.

It is not encrypted: it holds names, sizes and sums, and who can decrypt the archive; nothing of what is in the archive.
"""

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from offsite.rule.names import CONTENT, Part
from retention.errors import RetentionError
from retention.text import parse_moment

SCHEMA: Final = 1
ETAG, READBACK = "etag", "readback"
RESTORED: Final = "restored"
"""What is said of a copy that a drill has restored. Its marker is never written again: an object next to it says so."""
AGE, NONE = "age", "none"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class MarkerError(RetentionError):
    """A marker cannot be understood."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object of an attempt, and what is in it.

    Attributes:
        name: The object's name, without its folder.
        bytes: How many bytes the content has.
        sha256: The content's sha256.
        stored_bytes: How many bytes the object has.
        stored_sha256: The object's sha256.
    """

    name: str
    bytes: int
    sha256: str
    stored_bytes: int
    stored_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What an upload says about itself.

    Attributes:
        database: Whose backup it is.
        base: The backup's base.
        attempt: The upload's own name.
        uploaded: When it was done, UTC.
        chart_version: Of the chart that did it; empty if not known.
        encryption: `age` or `none`.
        recipients: The public keys that it is encrypted for.
        part_bytes: The size of the archive's parts.
        tables: How many tables the archive has; None if not known.
        verified: How the store was asked whether all arrived: `etag` or `readback`.
        objects: The objects, by the value of their part.
    """

    database: str
    base: str
    attempt: str
    uploaded: datetime
    chart_version: str
    encryption: str
    recipients: tuple[str, ...]
    part_bytes: int
    tables: int | None
    verified: str
    objects: dict[str, Stored]

    @property
    def archive(self) -> Stored:
        """The archive's object."""
        return self.objects[Part.ARCHIVE.value]


def format_marker(marker: Marker) -> bytes:
    """Return the content of a marker."""
    document: dict[str, Any] = {"schema": SCHEMA, **asdict(marker)}
    document["uploaded"] = marker.uploaded.isoformat(timespec="seconds")
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def parse_marker(content: bytes, name: str) -> Marker:
    """Return what a marker says.

    Raises:
        MarkerError: When it cannot be understood.
    """
    try:
        document = json.loads(content)
        marker = _marker(document)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise MarkerError(
            f"{name} cannot be understood", "the copy does not count; delete the object if nobody knows what it is"
        ) from None
    return marker


def _marker(document: Any) -> Marker:
    objects = {
        part.value: _stored(document["objects"][part.value]) for part in CONTENT if part.value in document["objects"]
    }
    uploaded = parse_moment(_text(document["uploaded"]))
    tables = document["tables"]
    if uploaded is None or Part.ARCHIVE.value not in objects or Part.METADATA.value not in objects:
        raise ValueError
    return Marker(
        database=_text(document["database"]),
        base=_text(document["base"]),
        attempt=_text(document["attempt"]),
        uploaded=uploaded.astimezone(UTC),
        chart_version=_text(document["chart_version"]),
        encryption=_one_of(document["encryption"], AGE, NONE),
        recipients=tuple(map(_text, document["recipients"])),
        part_bytes=_number(document["part_bytes"]),
        tables=None if tables is None else _number(tables),
        verified=_one_of(document["verified"], ETAG, READBACK),
        objects=objects,
    )


def _stored(document: Any) -> Stored:
    name = _text(document["name"])
    if "/" in name:
        raise ValueError
    return Stored(
        name,
        _number(document["bytes"]),
        _sum(document["sha256"]),
        _number(document["stored_bytes"]),
        _sum(document["stored_sha256"]),
    )


def _text(value: Any) -> str:
    if type(value) is not str or not value.isprintable():
        raise ValueError
    return value


def _one_of(value: Any, *known: str) -> str:
    if value not in known:
        raise ValueError
    return _text(value)


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _sum(value: Any) -> str:
    if _SHA256.fullmatch(_text(value)) is None:
        raise ValueError
    return _text(value)
