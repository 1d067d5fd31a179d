"""What a row and a column of the matrix are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Column = Literal[
    "beside, superuser", "beside, owner", "in place, superuser", "in place, owner", "into another name", "drill"
]
COLUMNS: tuple[Column, ...] = (
    "beside, superuser",
    "beside, owner",
    "in place, superuser",
    "in place, owner",
    "into another name",
    "drill",
)
ROLES = ("reader", "writer", "other", "stranger")
"""Roles of every server, without login and without rights."""


@dataclass(frozen=True)
class Kind:
    """A database as people have it, and what has become of it since its backup.

    All of it is called `shop`, the database and its owner alike.

    Attributes:
        name: of the row.
        about: what is special, a sentence.
        owner: SQL of the owner, before the backup.
        superuser: SQL of the superuser, before the owner's.
        then: SQL of the superuser, after the owner's.
        since: SQL of the owner, between the backup and the restore.
        since_superuser: SQL of the superuser, after that.
        dumped_by: who makes the backup; an owner cannot read what belongs to others.
        major: of the server.
        wrong: columns that are known to be wrong, and how.
    """

    name: str
    about: str
    owner: str = ""
    superuser: str = ""
    then: str = ""
    since: str = ""
    since_superuser: str = ""
    dumped_by: Literal["owner", "superuser"] = "owner"
    major: Literal[17, 18] = 17
    wrong: Mapping[Column, str] = field(default_factory=dict)
