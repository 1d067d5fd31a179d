"""The metadata of an archive, `<base>.json`: the one writer, and the reader that knows how it writes.

The keys and their meaning are in docs/architecture.md.
"""

import json
import re
from dataclasses import asdict, dataclass

from retention.volume.checksum import is_sha256

METADATA_SCHEMA = 1
"""The version of the file; a higher one is read too, as long as it has the same fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How an archive was verified before it counted as a backup.

    Attributes:
        method: What was done, in words.
        seconds: How long pg_restore took to read it.
        second_reading_seconds: How long it took to read it again from the volume.
    """

    method: str
    seconds: int | None
    second_reading_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the file says about an archive, in the order in which it is written; None for what is not known."""

    database: str
    cluster: str | None
    namespace: str | None
    dbname: str
    host: str | None = None
    role: str | None = None
    server_version: str
    client_version: str
    chart_version: str | None = None
    started: str | None
    finished: str | None = None
    published: str
    # A scan finds the next six fields by this order: see _AS_WRITTEN.
    bytes: int | None
    sha256: str
    tables: int | None
    database_bytes: int | None = None
    format: str
    compression: str
    rows: int | None
    globals: bool
    dump_seconds: int | None = None
    attempts: int | None = None
    verification: Verification
    staged_as: str | None = None
    recovered: bool
    adopted: bool = False
    warnings: tuple[str, ...] = ()


def format_metadata(metadata: Metadata) -> bytes:
    """Return the file's content."""
    document = {"schema": METADATA_SCHEMA, **asdict(metadata)}
    if not metadata.adopted:
        # The key appears in the metadata of adopted archives alone.
        del document["adopted"]
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


# The fields that a scan needs, as `format_metadata` writes them. The goal is to scan 100,000 backups in at most 1.5
# times what a bare loop takes that opens, reads and closes their sidecars; lab/bench/retention.py measures it. To find
# these lines takes a fifth of the time of json.loads, which reads the files that have another layout.
_AS_WRITTEN = re.compile(
    rb'\n  "bytes": ([0-9]{1,18}),\n  "sha256": "([0-9a-f]{64})",\n  "tables": ([0-9]{1,18}|null),'
    rb'\n  "database_bytes": (?:[0-9]+|null),\n  "format": "[a-z]*",\n  "compression": "([a-z0-9:]*)",\n'
)


class MetadataError(Exception):
    """The file is not an archive's metadata; the text is the reason, and follows the file's name."""


def read_facts(content: bytes) -> tuple[int, str, int | None, str]:
    """Return bytes, sha256, tables and compression from the file's content.

    Raises:
        MetadataError: When it is not JSON, or lacks bytes or sha256.
    """
    found = _AS_WRITTEN.search(content) if content[:4] == b"{\n  " and content[-3:] == b"\n}\n" else None
    if found is not None:
        size, sha256, tables, compression = found.groups()
        return int(size), sha256.decode(), None if tables == b"null" else int(tables), compression.decode()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise MetadataError("is not JSON") from None
    if type(document) is not dict:
        raise MetadataError("is not a JSON object")
    facts = {key: document.get(key) for key in ("bytes", "sha256", "tables", "compression")}
    if type(facts["bytes"]) is not int or type(facts["sha256"]) is not str or not is_sha256(facts["sha256"]):
        raise MetadataError("does not say bytes and sha256")
    return (
        facts["bytes"],
        facts["sha256"],
        facts["tables"] if type(facts["tables"]) is int else None,
        facts["compression"] if type(facts["compression"]) is str else "",
    )
