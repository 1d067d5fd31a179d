# Without comments: they are in the project's file of this name.
import json
import re
from dataclasses import asdict, dataclass
from retention.volume.checksum import is_sha256
METADATA_SCHEMA = 1
@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
 method: str
 seconds: int | None
 second_reading_seconds: float | None = None
@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
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
def format_metadata(metadata):
 document = {"schema": METADATA_SCHEMA, **asdict(metadata)}
 if not metadata.adopted:
  del document["adopted"]
 return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")
_AS_WRITTEN = re.compile(
 rb'\n  "bytes": ([0-9]{1,18}),\n  "sha256": "([0-9a-f]{64})",\n  "tables": ([0-9]{1,18}|null),'
 rb'\n  "database_bytes": (?:[0-9]+|null),\n  "format": "[a-z]*",\n  "compression": "([a-z0-9:]*)",\n'
)
class MetadataError(Exception):
 pass
def read_facts(content):
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
