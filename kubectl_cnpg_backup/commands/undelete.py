"""`undelete`: copies rows that are gone from a backup back into the live table."""

import secrets

from kubectl_cnpg_backup.commands.common import (
    NOTHING_CHANGED,
    Commands,
    add_backup,
    add_command,
    add_dry_run,
    add_yes,
    ask,
    count,
)
from kubectl_cnpg_backup.commands.following import carry_out
from kubectl_cnpg_backup.commands.restore import check_backup, restore_template
from kubectl_cnpg_backup.errors import RefusedError, UsageError
from kubectl_cnpg_backup.model.jobs import job_from, with_environment
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "undelete", "Copy rows that are gone from a backup back into the live table; others stay.", run
    )
    command.add_argument("database", metavar="DATABASE", help="database of the table, by its `name` in values.yaml")
    command.add_argument("--table", required=True, metavar="TABLE", help="the table, named as in SQL")
    add_backup(command)
    command.add_argument(
        "--where", default="", metavar="CONDITION", help="only rows of the backup that meet this condition of SQL"
    )
    command.add_argument(
        "--key",
        default="",
        metavar="COLUMNS",
        help="a row is the same one by these columns of a unique constraint (default: the primary key)",
    )
    command.add_argument(
        "--show",
        type=count,
        metavar="N",
        help="print the keys of the first N rows that are gone; the Job's log has them",
    )
    add_dry_run(command, "try it in a transaction that is taken back, and print how many rows would be copied")
    add_yes(command)


def run(session: Session) -> int:
    """Copy rows back: first as a trial, which shows how many, then after a question."""
    options = session.options
    check_backup(options)
    for name, text in (("--where", options.where), ("--table", options.table), ("--key", options.key)):
        if not text.isprintable() or (name == "--where" and ";" in text):
            raise UsageError(f"{name} {text!r} holds a semicolon or a line end", "give one condition, on one line")
    if not options.dry_run and not options.yes and not session.screen.can_ask:
        raise RefusedError(f"there is no terminal to ask at; {NOTHING_CHANGED}", "give --yes, or --dry-run first")
    cronjob, conf = restore_template(session)
    where = f"cluster {conf.get('cluster', '')} in namespace {conf.get('namespace', '')}"

    def carry(*, trial: bool) -> int:
        values = {
            "RESTORE_DATABASE": options.database,
            "RESTORE_BACKUP": options.backup,
            "RESTORE_UNDELETE": options.table,
            "RESTORE_WHERE": options.where,
            "RESTORE_KEY": options.key,
            "RESTORE_SHOW": str(options.show or 0),
            "RESTORE_DRY_RUN": "yes" if trial else "no",
        }
        return carry_out(session, [with_environment(job_from(cronjob, secrets.token_hex(3)), values)])

    if options.dry_run or not options.yes:
        session.screen.note(
            f"trying to copy rows of {options.table} from {options.database} ({options.backup}), to {where}"
        )
        code = carry(trial=True)
        if options.dry_run or code != ExitCode.DONE:
            return code
        ask(session, f"Copy these rows back into table {options.table} of {where}?")
    return carry(trial=False)
