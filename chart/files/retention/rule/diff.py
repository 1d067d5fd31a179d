"""What another policy would do to the existing backups: two decisions, and how they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from retention.rule.decide import Decision, Delete, Keep

DELETE, KEEP, MOVE = "delete", "keep", "move"


@dataclass(frozen=True, slots=True)
class Change:
    """A backup about which two policies decide differently.

    Attributes:
        what: `delete` (it would stay, and goes), `keep` (it would go, and stays), or `move` (to another tier).
        name: The archive's file name.
        time: When the dump began, UTC.
        bytes: Its size, None when it is not known.
        before: The tier that keeps it as it is, None for none.
        after: The tier that would keep it, None for none.
        reason: Why the new policy decides so.
    """

    what: str
    name: str
    time: datetime
    bytes: int | None
    before: str | None
    after: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Difference:
    """How two decisions about one database differ.

    Attributes:
        database: Whose backups they are.
        changes: Newest first.
        refusal: Why the deletions of the new policy would be refused as a large prune; empty when they would not.
    """

    database: str
    changes: tuple[Change, ...]
    refusal: str

    def of(self, what: str) -> list[Change]:
        """Return the changes of one kind, newest first."""
        return [change for change in self.changes if change.what == what]

    def to_dict(self) -> dict[str, object]:
        """Return the difference as the machine interface shows it."""
        return {
            "database": self.database,
            "changes": [
                {
                    "change": change.what,
                    "name": change.name,
                    "bytes": change.bytes,
                    "before": change.before,
                    "after": change.after,
                    "reason": change.reason,
                }
                for change in self.changes
            ],
            "refused": self.refusal or None,
        }


def compare(before: Decision, after: Decision) -> Difference:
    """Return how two decisions about the same backups differ."""
    kept_before = {kept.name: kept for kept in before.keep}
    kept_after = {kept.name: kept for kept in after.keep}
    changes = [
        *(
            _change(MOVE, kept, kept_before, kept_after, kept.reason)
            for kept in after.keep
            if kept.name in kept_before and kept_before[kept.name].tier != kept.tier
        ),
        *(
            _change(KEEP, kept, kept_before, kept_after, kept.reason)
            for kept in after.keep
            if kept.name not in kept_before
        ),
        *(
            _change(DELETE, gone, kept_before, kept_after, gone.reason)
            for gone in after.delete
            if gone.name in kept_before
        ),
    ]
    changes.sort(key=lambda change: change.time, reverse=True)
    return Difference(after.database, tuple(changes), after.refusal)


def _change(
    what: str, one: Keep | Delete, before: Mapping[str, Keep], after: Mapping[str, Keep], reason: str
) -> Change:
    tiers = [kept[one.name].tier if one.name in kept else None for kept in (before, after)]
    return Change(what, one.name, one.time, one.bytes, tiers[0], tiers[1], reason)
