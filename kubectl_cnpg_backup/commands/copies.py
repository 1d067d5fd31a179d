"""`copies`: the copies of databases that are made on a schedule, such as production to staging."""

import secrets

from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_command,
    add_dry_run,
    add_table_options,
    documentation,
    sorted_by,
)
from kubectl_cnpg_backup.commands.following import carry_out, dry_run
from kubectl_cnpg_backup.errors import UsageError
from kubectl_cnpg_backup.model import copies
from kubectl_cnpg_backup.model.jobs import job_from
from kubectl_cnpg_backup.output import copied
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "copies",
        "Show the scheduled copies of databases, or make one now; exit 1 if the last one failed.",
        run,
    )
    command.add_argument("name", nargs="?", default="", metavar="NAME", help="a copy, by its `name` in values.yaml")
    command.add_argument(
        "--run",
        dest="now",
        action="store_true",
        help="make this copy now: it replaces the copy before, and nothing else",
    )
    add_dry_run(command, "with --run: only check the Job and print it")
    add_table_options(command)


def run(session: Session) -> int:
    """Show the copies, or make one."""
    options, screen = session.options, session.screen
    order = sorted_by(session, copied.COLUMNS)
    if (options.now or options.dry_run) and not options.name:
        raise UsageError("no copy is named", "name the one to make: kubectl cnpg-backup copies NAME --run")
    found = copies.copies(session.release, session.runs(), session.now)
    if options.name:
        found = [copies.named(found, options.name)]
    if options.now or options.dry_run:
        job = job_from(found[0].cronjob, f"manual-{secrets.token_hex(3)}")
        return dry_run(session, [job]) if options.dry_run else carry_out(session, [job])
    found = sorted(found, key=lambda one: order(one.document()))
    bad = [one for one in found if one.state in copies.BAD]
    if not screen.is_table:
        screen.document([one.document() for one in found], [one.name for one in found])
    elif found or screen.rows_alone:
        screen.table(copied.table(found, session.now))
        for one in bad if not screen.rows_alone else ():
            screen.line(f"{one.name}: {one.why}", style=copied.WRONG)
            screen.line(f"remedy: {one.remedy}")
    else:
        screen.line(f"the release makes no copies; `copies` in its values names them: {documentation()}/copies.md")
    return ExitCode.FAILED if bad else ExitCode.DONE
