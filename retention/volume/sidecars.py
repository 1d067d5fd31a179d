"""What speaks for an archive beyond its sidecars' agreement: when it was read whole, and how its last drill ended."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from retention.errors import VolumeError
from retention.names import Kind, file_name
from retention.rule.backup import Backup, Pin
from retention.text import parse_moment, shown
from retention.volume.folder import Folder

METADATA_SCHEMA = 1
"""The version of `<base>.json`; a higher one is read too, as long as it has the same fields."""


_SHA256 = re.compile(r"[0-9a-f]{64}")


# The lines of a metadata file that a scan needs, as `publish` writes them. To find them takes a fifth of the time that
# it takes to read the whole document; one of another layout is read as JSON.
_AS_PUBLISHED = re.compile(
    rb'\n  "bytes": ([0-9]{1,18}),\n  "sha256": "([0-9a-f]{64})",\n  "tables": ([0-9]{1,18}|null),'
    rb'\n  "database_bytes": (?:[0-9]+|null),\n  "format": "[a-z]*",\n  "compression": "([a-z0-9:]*)",\n'
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a backup.

    Attributes:
        verified: When it was read whole and compared with its sha256, ISO 8601; None where nobody has said.
        drill: The result of its last drill, as it was written; None when there was none.
    """

    verified: str | None
    drill: dict[str, Any] | None


def read_evidence(folder: Folder, backup: Backup) -> Evidence:
    """Return what speaks for a backup; what cannot be read speaks for nothing."""
    metadata = read_document(folder, file_name(backup.base, Kind.METADATA)) or {}
    published = metadata.get("published")
    drill = read_document(folder, file_name(backup.base, Kind.DRILL))
    return Evidence(published if isinstance(published, str) else None, drill)


def read_document(folder: Folder, name: str) -> dict[str, Any] | None:
    """Return the JSON object in a sidecar; None when there is none, or none that can be read."""
    try:
        document = json.loads(folder.read(name) or b"null")
    except (VolumeError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


class DamagedError(Exception):
    """The sidecars of an archive contradict each other or its size; the text says how."""


def read_backup(folder: Folder, base: str, time: datetime, size: int, pin: Pin | None) -> Backup:
    """Return the backup that an archive and its sidecars are.

    Raises:
        DamagedError: When they do not agree.
        VolumeError: When a sidecar cannot be read.
    """
    metadata_name, sha256_name = f"{base}.json", f"{base}.dump.sha256"
    expected, sha256, tables, compression = _facts(folder.read(metadata_name, regular=True) or b"", metadata_name)
    if size != expected:
        raise DamagedError(f"it has {size} bytes, {metadata_name} says {expected}")
    sums = folder.read(sha256_name, regular=True) or b""
    if sums[:65].split() != [sha256.encode()] and parse_sha256(sums) != sha256:
        raise DamagedError(f"{sha256_name} and {metadata_name} do not agree")
    return Backup(base, time, size, sha256, tables, compression, pin)


def _facts(content: bytes, name: str) -> tuple[int, str, int | None, str]:
    """Return bytes, sha256, tables and compression from an archive's metadata."""
    found = _AS_PUBLISHED.search(content) if content[:4] == b"{\n  " and content[-3:] == b"\n}\n" else None
    if found is not None:
        size, sha256, tables, compression = found.groups()
        return int(size), sha256.decode(), None if tables == b"null" else int(tables), compression.decode()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise DamagedError(f"{name} is not JSON") from None
    if type(document) is not dict:
        raise DamagedError(f"{name} is not a JSON object")
    facts = {key: document.get(key) for key in ("bytes", "sha256", "tables", "compression")}
    if type(facts["bytes"]) is not int or type(facts["sha256"]) is not str or not is_sha256(facts["sha256"]):
        raise DamagedError(f"{name} does not say bytes and sha256")
    return (
        facts["bytes"],
        facts["sha256"],
        facts["tables"] if type(facts["tables"]) is int else None,
        facts["compression"] if type(facts["compression"]) is str else "",
    )


def read_pin(folder: Folder, name: str) -> Pin:
    """Return a pin; one that cannot be understood holds for ever, since losing a backup is worse than keeping one."""
    try:
        content = folder.read(name)
    except VolumeError as error:
        return Pin(f"{error.problem}; it holds until it is removed", None)
    return parse_pin(content or b"")


def parse_pin(content: bytes) -> Pin:
    """Return the pin that a file's content says."""
    text = content.decode(errors="replace").strip()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # A plain line of text is a reason, as a shell writes it.
        return Pin(shown(text), None)
    if type(document) is not dict:
        return Pin(shown(text), None)
    reason, expires = document.get("reason"), document.get("expires")
    told = shown(reason) if type(reason) is str else ""
    by, replaced = document.get("by"), document.get("replaced")
    by, replaced = by if type(by) is str else "", replaced if type(replaced) is str else ""
    if expires is None:
        return Pin(told, None, by, replaced)
    moment = parse_moment(expires) if type(expires) is str else None
    if moment is None:
        return Pin(f"{told} (its expiry cannot be read; it holds until it is removed)".strip(), None)
    return Pin(told, moment, by, replaced)


def is_sha256(text: str) -> bool:
    """Tell whether a text is a sha256 in lower-case hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def parse_sha256(content: bytes) -> str | None:
    """Return the sum in a file that `sha256sum -c` reads, or None when there is none in it."""
    words = content.split(maxsplit=1)
    text = words[0].decode(errors="replace") if words else ""
    return text if is_sha256(text) else None
