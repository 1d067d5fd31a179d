"""Reads published archives again in full, and renames those that have changed to .bad, so that they no longer count."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from retention.errors import RetentionError, VolumeError
from retention.names import Kind
from retention.rule.backup import Backup
from retention.volume import publish
from retention.volume.checksum import digest
from retention.volume.directory import Directory


@dataclass(frozen=True, slots=True)
class Checked:
    """One archive after its check.

    Attributes:
        name: Its file name.
        result: `good`, `bad`, `gone` (pruned while it was read) or `unread`.
        reason: Why it is not good; empty for a good one.
    """

    name: str
    result: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return the check as the machine interface shows it."""
        return {"name": self.name, "result": self.result, "reason": self.reason}


def verify(directory: Directory, only: frozenset[str] | None, *, done: Callable[[Checked], None]) -> list[Checked]:
    """Read the archives of a database and compare them with their sha256.

    Reading takes no lock, so that it never delays a dump; renaming a bad archive does.

    Args:
        directory: The database's directory.
        only: File names of the archives to read, or None for all.
        done: Called with each archive as soon as it is read.

    Raises:
        RetentionError: When one of `only` does not exist, or the directory cannot be read.
    """
    found = directory.scan()
    names = {backup.name for backup in found.backups} | {finding.name for finding in found.damaged}
    for name in sorted((only or frozenset()) - names):
        reason = next((f.reason for f in found.not_counted() if f.name == name), "there is no such archive")
        raise RetentionError(f"{directory.folder.path_of(name)}: {reason}", "see `list` for the backups")
    checks = []
    for finding in found.damaged:
        if only is None or finding.name in only:
            checks.append(_report(Checked(finding.name, "bad", finding.reason), done))
    for backup in _chosen(found.backups, only):
        checks.append(_report(_check(directory, backup), done))
    return checks


def _chosen(backups: Iterable[Backup], only: frozenset[str] | None) -> list[Backup]:
    return [backup for backup in backups if only is None or backup.name in only]


def _report(checked: Checked, done: Callable[[Checked], None]) -> Checked:
    done(checked)
    return checked


def _check(directory: Directory, backup: Backup) -> Checked:
    folder = directory.folder
    try:
        sha256, size = digest(folder, backup.name, lambda: None)
    except VolumeError as error:
        if not folder.exists(backup.name):
            return Checked(backup.name, "gone", "pruned meanwhile")
        return Checked(backup.name, "unread", str(error))
    if sha256 == backup.sha256:
        return Checked(backup.name, "good", "")
    found = f"{size} bytes with sha256 {sha256[:12]}…, published as {backup.bytes} bytes with {backup.sha256[:12]}…"
    try:
        with directory.locked():
            if backup not in directory.scan().backups:
                return Checked(backup.name, "gone", f"{found}; pruned meanwhile")
            name = publish.mark_bad(folder, backup.base, Kind.ARCHIVE)
    except RetentionError as error:
        return Checked(backup.name, "bad", f"{found}; it could not be renamed: {error}")
    return Checked(backup.name, "bad", f"{found}; it is now {name} and no longer counts")
