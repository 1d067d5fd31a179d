"""`<base>.json`: what is written stays byte for byte, and the quick reader finds what the one writer writes."""

import dataclasses
import json

import pytest

from retention.volume.metadata import Metadata, MetadataError, Verification, format_metadata, read_facts

PUBLISHED = Metadata(
    database="app", cluster="c", namespace="default", dbname="äpp", host="h", role="primary", server_version="16.10",
    client_version="17.2", chart_version="0.1.0", started="2026-01-09T23:06:40+00:00",
    finished="2026-01-09T23:06:49+00:00", published="2026-01-10T05:00:12+00:00", bytes=2000, sha256="ab" * 32,
    tables=34, database_bytes=9000000, format="custom", compression="zstd:1", rows=77, globals=True, dump_seconds=2,
    attempts=1, verification=Verification(method="read", seconds=3, second_reading_seconds=1.2),
    staged_as="app-20260109-230639", recovered=True, warnings=("tables fell",),
)  # fmt: skip
ADOPTED = Metadata(
    database="app", cluster=None, namespace=None, dbname="app", server_version="16.10", client_version="17.2",
    started=None, published="2026-01-10T05:00:12+00:00", bytes=1, sha256="cd" * 32, tables=None, format="custom",
    compression="", rows=None, globals=False, verification=Verification(method="read", seconds=None),
    recovered=False, adopted=True,
)  # fmt: skip
TEXT = """\
{
  "schema": 1,
  "database": "app",
  "cluster": "c",
  "namespace": "default",
  "dbname": "äpp",
  "host": "h",
  "role": "primary",
  "server_version": "16.10",
  "client_version": "17.2",
  "chart_version": "0.1.0",
  "started": "2026-01-09T23:06:40+00:00",
  "finished": "2026-01-09T23:06:49+00:00",
  "published": "2026-01-10T05:00:12+00:00",
  "bytes": 2000,
  "sha256": "abababababababababababababababababababababababababababababababab",
  "tables": 34,
  "database_bytes": 9000000,
  "format": "custom",
  "compression": "zstd:1",
  "rows": 77,
  "globals": true,
  "dump_seconds": 2,
  "attempts": 1,
  "verification": {
    "method": "read",
    "seconds": 3,
    "second_reading_seconds": 1.2
  },
  "staged_as": "app-20260109-230639",
  "recovered": true,
  "warnings": [
    "tables fell"
  ]
}
"""


def test_metadata_of_a_published_archive_are_these_bytes() -> None:
    assert format_metadata(PUBLISHED).decode() == TEXT


def test_metadata_of_an_adopted_archive_have_the_same_keys_and_say_that_it_is_adopted() -> None:
    published, adopted = (json.loads(format_metadata(one)) for one in (PUBLISHED, ADOPTED))
    assert adopted["adopted"] is True
    assert [key for key in adopted if key != "adopted"] == list(published)
    assert list(adopted)[-2:] == ["adopted", "warnings"]


@pytest.mark.parametrize(
    "written", [PUBLISHED, ADOPTED, dataclasses.replace(PUBLISHED, tables=None, database_bytes=None, compression="")]
)
def test_quick_reader_and_json_read_the_same(written: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    content = format_metadata(written)
    expected = (written.bytes, written.sha256, written.tables, written.compression)
    assert read_facts(json.dumps(json.loads(content)).encode()) == expected

    def refuse(_: object) -> None:
        raise AssertionError("the quick reader did not find what the writer wrote")

    monkeypatch.setattr("retention.volume.metadata.json.loads", refuse)
    assert read_facts(content) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "is not JSON"), (b"[]", "is not a JSON object"), (b'{"bytes": 1}', "does not say bytes and sha256")],
)
def test_what_is_not_metadata_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(MetadataError, match=reason):
        read_facts(content)
