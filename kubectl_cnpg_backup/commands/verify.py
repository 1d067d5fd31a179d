"""`verify`: reads archives again, in full."""

from kubectl_cnpg_backup.cluster.inspector import ROOT
from kubectl_cnpg_backup.commands.common import Commands, add_command, add_wait, archive_path, directories
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.names import database_of_archive


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "verify",
        "Re-read archives in full and compare checksums; damaged ones are renamed to .bad and ignored.",
        run,
    )
    command.add_argument(
        "what", nargs="*", metavar="DATABASE|ARCHIVE", help="only these databases or archives (default: all)"
    )
    add_wait(command)


def run(session: Session) -> int:
    """Read archives again."""
    what = session.options.what
    paths = [archive_path(name) if database_of_archive(name) else directories([name])[0] for name in what] or [ROOT]
    documents, code = session.retention("verify", paths)
    screen = session.screen
    if not screen.is_table:
        screen.document(documents)
        return code
    screen.table(tables.checked(documents))
    results = [one["result"] for entry in documents for one in entry["archives"]]
    screen.line(f"{len(results)} archives read, {sum(result in ('bad', 'unread') for result in results)} not good")
    return code
