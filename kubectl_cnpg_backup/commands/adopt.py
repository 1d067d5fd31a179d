"""`adopt`: imports dumps that are on the volume without sidecar files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kubectl_cnpg_backup.cluster import inspector
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    add_databases,
    add_dry_run,
    add_wait,
    add_yes,
    archive_path,
    ask,
    directories,
)
from kubectl_cnpg_backup.model.release import worst
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode

if TYPE_CHECKING:
    from kubectl_cnpg_backup.output.screen import Screen

_SCRIPT = "/opt/cnpg-backup/scripts/adopt.sh"


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "adopt", "Import existing dumps as backups after pg_restore has read each one in full.", run
    )
    add_databases(command)
    add_yes(command)
    add_dry_run(command, "only print which dumps would be imported")
    add_wait(command)


def run(session: Session) -> int:
    """Import existing dumps."""
    paths = directories(session.options.database)
    session.screen.note("adopt: waiting for a pod that mounts the volume")
    with session.inspecting(inspector.newest_template(session.release)) as pod:
        return _adopt(session, pod, paths)


def _adopt(session: Session, pod: inspector.Inspector, paths: Sequence[str]) -> int:
    screen = session.screen
    found, codes, _ = pod.documents(paths, "adopt", "--dry-run", config=True)
    names = [str(one["name"]) for entry in found for one in entry["archives"] if one["result"] == "adoptable"]
    if session.options.dry_run or not names:
        _show(screen, found, "every archive has its sidecar files already")
        return worst(codes)
    if not session.options.yes:
        for entry in found:
            screen.note("\n".join(tables.adopted_lines(entry)))
    ask(session, f"Read {', '.join(names)} in full and import them as backups of release {session.release.name}?")
    # One after the other, so that what has been adopted stays adopted if the rest is interrupted.
    for number, name in enumerate(names, 1):
        screen.note(f"reading {name} ({number} of {len(names)})")
        pod.postgres("sh", _SCRIPT, archive_path(name))
        (entry,), _, _ = pod.documents([archive_path(name)], "adopt", "--results", inspector.RESULTS, config=True)
        _update(found, entry)
    _show(screen, found, "")
    refused = any(one["result"] != "adopted" for entry in found for one in entry["archives"])
    return ExitCode.FAILED if refused else ExitCode.DONE


def _update(found: Sequence[Any], adopted: Any) -> None:
    """Put what became of one archive into the documents of all."""
    documents = {one["name"]: one for one in adopted["archives"]}
    for entry in found:
        entry["archives"] = [documents.get(one["name"], one) for one in entry["archives"]]
        if entry["database"] == adopted["database"]:
            entry["next_prune"] = adopted["next_prune"]


def _show(screen: "Screen", found: Sequence[Any], nothing: str) -> None:
    if not screen.is_table:
        screen.document(found)
        return
    lines = [line for entry in found for line in tables.adopted_lines(entry)]
    for line in lines or [nothing]:
        screen.line(line)
