"""`describe` and `tables`: one backup, and what is in it."""

import argparse
import functools

from kubectl_cnpg_backup.cluster import inspector
from kubectl_cnpg_backup.cluster.inspector import ROOT, Inspector
from kubectl_cnpg_backup.commands import status
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    add_table_options,
    add_wait,
    archive_path,
    directories,
    sorted_by,
)
from kubectl_cnpg_backup.commands.download import pick
from kubectl_cnpg_backup.output import details, tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode
from retention.names import database_of_archive

_SCRIPT = "/opt/cnpg-backup/scripts/tables.sh"


def add(commands: Commands) -> None:
    """Add both commands."""
    command = add_command(
        commands,
        "describe",
        "Show all that is known about one backup: contents, checks, pin, tier, and when it will be deleted.",
        run_describe,
    )
    _add_backup(command)
    add_wait(command)
    command = add_command(
        commands, "tables", "List the tables of a backup with their sizes in it; needs no server.", run_tables
    )
    _add_backup(command)
    command.add_argument("--rows", action="store_true", help="also count their rows, which reads the archive in full")
    add_table_options(command)
    add_wait(command)


def _add_backup(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "what", metavar="ARCHIVE|DATABASE", help="name of an archive, or of a database for its newest archive"
    )


def run_describe(session: Session) -> int:
    """Show all that is known about one backup."""
    screen = session.screen
    meanwhile = functools.partial(status.preview, session)
    waiting = "describe: waiting for a pod that mounts the volume"
    with screen.waiting(waiting), session.inspecting(meanwhile=meanwhile) as pod:
        screen.note("describe: reading the volume")
        document, _ = pod.retention_json("describe", _path(session, pod), config=True)
    if not screen.is_table:
        screen.document(document)
        return ExitCode.DONE
    screen.table(details.described(document, session.now), str(document["backup"]["name"]))
    return ExitCode.DONE


def run_tables(session: Session) -> int:
    """List the tables of one backup."""
    screen, order = session.screen, sorted_by(session, tables.TABLES)
    template = inspector.newest_template(session.release) if session.options.rows else None
    with screen.waiting("tables: waiting for a pod that mounts the volume"), session.inspecting(template) as pod:
        path = _path(session, pod)
        screen.note("tables: reading the archive's table of contents")
        document, _ = pod.retention_json("tables", path)
        rows = {}
        if session.options.rows:
            screen.note(f"tables: reading {document['name']} in full")
            rows = details.read_rows(pod.postgres("sh", _SCRIPT, path))
    if session.options.rows and not rows and any(one["entry"] for one in document["tables"]):
        screen.note("the rows of this archive cannot be counted: it has no COPY")
    document["tables"] = sorted(details.with_rows(document["tables"], rows), key=order)
    if not screen.is_table:
        screen.document(document, [details.full_name(one) for one in document["tables"]])
        return ExitCode.DONE
    screen.table(details.tables_of(document), details.title(document))
    return ExitCode.DONE


def _path(session: Session, pod: Inspector) -> str:
    """Return the path of the archive that the options name, or of the newest one of a database.

    Raises:
        NotFoundError: When the database has none.
    """
    what = session.options.what
    if database_of_archive(what) is not None:
        return archive_path(what)
    (folder,) = directories([what])
    listing, _ = pod.retention_json("list", folder)
    archive, future = pick(what, listing["backups"], what)
    if future:
        session.screen.note(f"{future}; check the clocks of the nodes")
    return f"{ROOT}/{what}/{archive.name}"
