"""`list` and `plan`: the backups on the volume, and what the next prune would do with them."""

from datetime import timedelta

from kubectl_cnpg_backup.commands import status
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    add_databases,
    add_table_options,
    add_wait,
    directories,
    sorted_by,
)
from kubectl_cnpg_backup.commands.everywhere import add_all_namespaces
from kubectl_cnpg_backup.commands.watching import add_watch, runs_of, watch
from kubectl_cnpg_backup.model.release import worst
from kubectl_cnpg_backup.names import remember
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session


def add(commands: Commands) -> None:
    """Add both commands."""
    for name, text, run in (
        ("list", "List the backups: age, size, tier, verified, drilled, pinned.", run_list),
        ("plan", "Show which backups the next prune would keep and delete, and why.", run_plan),
    ):
        command = add_command(commands, name, text, run)
        add_databases(command)
        add_wait(command)
        if run is run_list:
            add_table_options(command)
            several = command.add_mutually_exclusive_group()
            add_all_namespaces(several)
            add_watch(several)


def run_list(session: Session) -> int:
    """List the backups."""
    return watch(session, runs_of, _list) if session.options.watch else _list(session)


def _list(session: Session) -> int:
    order = sorted_by(session, tables.LIST)
    databases = session.options.database
    documents, code = session.retention(
        "list", directories(databases), config=True, meanwhile=lambda: status.preview(session)
    )
    remember(session.release, [one["name"] for entry in documents for one in entry["backups"]], of=databases)
    for entry in documents:
        entry["backups"].sort(key=order)
    screen = session.screen
    if not screen.is_table:
        screen.document(documents, [str(backup["name"]) for entry in documents for backup in entry["backups"]])
        return code
    for number, entry in enumerate(documents):
        total = tables.size(sum(int(backup["bytes"]) for backup in entry["backups"]))
        if number and not screen.rows_alone:
            screen.line()
        screen.table(
            tables.backups(entry, session.now), f"{entry['database']}: {len(entry['backups'])} backups, {total}"
        )
        for finding in entry["ignored"] if not screen.rows_alone else ():
            screen.line(f"ignored {finding['name']}: {finding['reason']}", style=tables.CAREFUL)
    if not documents and not screen.rows_alone:
        screen.line("the volume has no backups")
    return code


def run_plan(session: Session) -> int:
    """Show what the next prune would do."""
    paths = directories(session.options.database)
    screen = session.screen
    with screen.waiting("plan: waiting for a pod that mounts the volume"), session.inspecting() as pod:
        plans, codes, errors = pod.documents(paths, "plan", config=True)
        listing, more, _ = pod.documents(paths, "list", config=True)
    for line in errors:
        screen.note(line)
    code = worst([*codes, *more])
    if not screen.is_table:
        screen.document(plans)
        return code
    ages = {
        backup["name"]: timedelta(seconds=backup["age_seconds"]) for entry in listing for backup in entry["backups"]
    }
    for number, entry in enumerate(plans):
        if number:
            screen.line()
        title = f"{entry['database']}: {len(entry['keep'])} kept, {len(entry['delete'])} to delete"
        screen.table(tables.plan(entry, ages), title)
    return code
