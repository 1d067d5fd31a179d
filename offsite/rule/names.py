"""The names at the destination: `<path>/<cluster id>/<database>/<base>.<attempt>.<part>`.

Each upload of a backup is an *attempt* with a random name of its own, so that no object is ever written twice, two runs
at a time cannot mix their files, and what a killed run has left never stands in the way. An attempt counts once its
marker is there, which goes up last.
"""

import enum
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from retention.names import Grammar, Kind, is_database, parse_stamp, stamp_of

OWNER: Final = "owner.json"
"""Who copies to the folder of a cluster."""

ENCRYPTED: Final = ".age"

_PROBE = re.compile(r"probe-[0-9a-f]{8}")
_CLUSTER_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?")
_ATTEMPT = r"[0-9a-f]{8}"
_REST = re.compile(rf"\.({_ATTEMPT})\.(.+)")
_EVIDENCE = re.compile(r"(check|damaged|restored)-([0-9]{8}-[0-9]{6})\.json")


class Part(enum.Enum):
    """What an object of an attempt is. The value follows the attempt, before `.age` where it is encrypted."""

    ARCHIVE = "dump"
    GLOBALS = "globals.sql"
    METADATA = "json"
    MARKER = "offsite.json"
    CHECK = "check"
    DAMAGED = "damaged"
    RESTORED = "restored"

    __hash__ = object.__hash__


CONTENT: Final = (Part.ARCHIVE, Part.GLOBALS, Part.METADATA)
"""The parts that are encrypted, in the order in which they go up."""


@dataclass(frozen=True, slots=True)
class RemoteName:
    """The name of an object of an attempt.

    Attributes:
        base: The backup's base.
        time: The moment that the base names, UTC.
        attempt: The attempt.
        part: What the object is.
        seen: For what a reading or a drill leaves, when that was, UTC.
    """

    base: str
    time: datetime
    attempt: str
    part: Part
    seen: datetime | None = None


def is_cluster_id(text: str) -> bool:
    """Return whether a text may be the folder of a cluster."""
    return _CLUSTER_ID.fullmatch(text) is not None and ".." not in text


def parse(database: str, name: str) -> RemoteName | None:
    """Return what an object in the folder of a database is; None for what is not ours."""
    grammar = Grammar(database)
    base = name[: grammar.base_length]
    owner = grammar.parse(f"{base}{Kind.ARCHIVE.value}")
    rest = _REST.fullmatch(name[grammar.base_length :])
    if owner is None or owner.base != base or rest is None:
        return None
    attempt, suffix = rest.groups()
    if evidence := _EVIDENCE.fullmatch(suffix):
        moment = parse_stamp(evidence.group(2))
        return None if moment is None else RemoteName(base, owner.time, attempt, Part(evidence.group(1)), moment)
    for part in CONTENT:
        if suffix in (part.value, part.value + ENCRYPTED):
            return RemoteName(base, owner.time, attempt, part)
    return RemoteName(base, owner.time, attempt, Part.MARKER) if suffix == Part.MARKER.value else None


def object_name(base: str, attempt: str, part: Part, *, encrypted: bool = False) -> str:
    """Return the name of an object of an attempt, without its folder."""
    return f"{base}.{attempt}.{part.value}{ENCRYPTED if encrypted else ''}"


def check_name(base: str, attempt: str, checked: datetime) -> str:
    """Return the name of what says that an attempt was found sound at some moment."""
    return _evidence_name(base, attempt, Part.CHECK, checked)


def damaged_name(base: str, attempt: str, found: datetime) -> str:
    """Return the name of what says that an attempt was found damaged at some moment."""
    return _evidence_name(base, attempt, Part.DAMAGED, found)


def restored_name(base: str, attempt: str, restored: datetime) -> str:
    """Return the name of what says that a drill has restored an attempt at some moment."""
    return _evidence_name(base, attempt, Part.RESTORED, restored)


def _evidence_name(base: str, attempt: str, part: Part, seen: datetime) -> str:
    return f"{base}.{attempt}.{part.value}-{stamp_of(seen)}.json"


def probe_name(word: str) -> str:
    """Return the name of an object by which rights are tried, in the folder of a cluster; eight hexadecimal digits."""
    return f"probe-{word}"


def is_probe(path: str) -> bool:
    """Return whether an object in the folder of a cluster is one of those."""
    return _PROBE.fullmatch(path) is not None


def database_of(path: str) -> tuple[str, str] | None:
    """Return database and name of an object, by its path in the folder of a cluster; None for what is not ours."""
    database, slash, name = path.partition("/")
    return (database, name) if slash and "/" not in name and is_database(database) else None
