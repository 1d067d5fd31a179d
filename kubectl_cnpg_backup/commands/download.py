"""`download`: fetches an archive to this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubectl_cnpg_backup.cluster import download
from kubectl_cnpg_backup.cluster.inspector import Inspector
from kubectl_cnpg_backup.commands.common import Commands, add_command, add_dry_run, add_wait, directories, show
from kubectl_cnpg_backup.errors import NotFoundError, PluginError, UsageError
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode
from retention.names import database_of_archive
from retention.text import format_size


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "download", "Download an archive and check its sha256; resumes a partial download.", run
    )
    command.add_argument(
        "what", metavar="ARCHIVE|DATABASE", help="name of an archive, or of a database for its newest archive"
    )
    command.add_argument(
        "--to", type=Path, default=Path(), metavar="PATH", help="folder or file to write (default: this folder)"
    )
    add_dry_run(command)
    add_wait(command)


def run(session: Session) -> int:
    """Download an archive."""
    options, screen = session.options, session.screen
    database = database_of_archive(options.what) or options.what
    (path,) = directories([database])
    with session.inspecting() as pod:
        listing, _ = pod.retention_json("list", path)
        archive, future = pick(database, listing["backups"], options.what)
        if future:
            screen.note(f"{future}; check the clocks of the nodes")
        target = options.to / archive.name if options.to.is_dir() else options.to
        if not target.parent.is_dir():
            raise UsageError(f"{target.parent} is not a folder", "create it first")
        document = {
            "archive": archive.name,
            "path": str(target),
            "bytes": archive.bytes,
            "sha256": archive.sha256,
            "dry_run": options.dry_run,
        }
        if options.dry_run:
            show(screen, document, f"would download {archive.name} ({format_size(archive.bytes)}) to {target}")
            return ExitCode.DONE
        if download.prepare(archive, target):
            show(screen, document, f"{target} exists already, and its sha256 is right")
            return ExitCode.DONE
        _fetch(session, pod, archive, target)
    show(screen, document, f"{target}: {format_size(archive.bytes)}, sha256 is right")
    return ExitCode.DONE


def _fetch(session: Session, pod: Inspector, archive: download.Archive, target: Path) -> None:
    part = download.part_of(target)
    here = part.stat().st_size if part.exists() else 0
    free = download.free_of(target.parent)
    if free is not None and free < archive.bytes - here:
        raise PluginError(
            f"{target.parent} has {format_size(free)} free, but the rest of {archive.name} needs "
            f"{format_size(archive.bytes - here)}",
            "choose another path with --to",
        )
    if here:
        session.screen.note(f"resuming after {format_size(here)}")
    with session.screen.transfer(archive.name, archive.bytes, here) as progress:
        download.fetch(pod, archive, target, progress)


def pick(database: str, backups: Sequence[Mapping[str, Any]], wanted: str) -> tuple[download.Archive, str]:
    """Return the backup of this name, or the newest one of the database of this name; and what a clock hid from it.

    Raises:
        NotFoundError: When there is no such backup.
    """
    future = ""
    if wanted == database:
        found = next((backup for backup in backups if int(backup["age_seconds"]) >= 0), None)
        future = _dated_after_now(backups)
    else:
        found = next((backup for backup in backups if backup["name"] == wanted), None)
    if found is None and future:
        raise NotFoundError(f"{database}: {future}", "check the clocks of the nodes; to download one, give its name")
    if found is None:
        names = ", ".join(str(backup["name"]) for backup in backups[:3])
        raise NotFoundError(
            f"there is no backup {wanted} on the volume",
            f"the newest are {names}" if names else f"database {database} has no backups",
        )
    return download.Archive(database, str(found["name"]), int(found["bytes"]), str(found["sha256"])), future


def _dated_after_now(backups: Sequence[Mapping[str, Any]]) -> str:
    """Return that some of the backups are dated after now, or nothing."""
    future = [str(backup["name"]) for backup in backups if int(backup["age_seconds"]) < 0]
    if not future:
        return ""
    count = "1 backup is" if len(future) == 1 else f"{len(future)} backups are"
    return f"{count} dated after now, the latest {future[0]}: not taken for the newest"
