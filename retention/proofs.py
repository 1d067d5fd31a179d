"""What speaks for an archive beyond its sidecars' agreement: when it was read whole, and how its last drill ended."""

import json
from dataclasses import dataclass
from typing import Any

from retention.disk import Folder
from retention.errors import VolumeError
from retention.names import Kind, file_name
from retention.volume import Backup


@dataclass(frozen=True, slots=True)
class Proofs:
    """What speaks for a backup.

    Attributes:
        verified: When it was read whole and compared with its sha256, ISO 8601; None where nobody has said.
        drill: The result of its last drill, as it was written; None when there was none.
    """

    verified: str | None
    drill: dict[str, Any] | None


def read_proofs(folder: Folder, backup: Backup) -> Proofs:
    """Return what speaks for a backup; what cannot be read speaks for nothing."""
    metadata = read_document(folder, file_name(backup.base, Kind.METADATA)) or {}
    published = metadata.get("published")
    drill = read_document(folder, file_name(backup.base, Kind.DRILL))
    return Proofs(published if isinstance(published, str) else None, drill)


def read_document(folder: Folder, name: str) -> dict[str, Any] | None:
    """Return the JSON object in a sidecar; None when there is none, or none that can be read."""
    try:
        document = json.loads(folder.read(name) or b"null")
    except (VolumeError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
