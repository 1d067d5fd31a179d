"""`run` and `drill`: start the Jobs of the release's CronJobs now."""

import argparse
import secrets
from collections.abc import Sequence
from typing import Any

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_dry_run
from kubectl_cnpg_backup.commands.following import carry_out, dry_run
from kubectl_cnpg_backup.interrupt import held
from kubectl_cnpg_backup.model.jobs import databases_per_cronjob, describe, job_from, only_databases
from kubectl_cnpg_backup.model.objects import name_of
from kubectl_cnpg_backup.model.release import BACKUP, DRILL
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode


def add(commands: Commands) -> None:
    """Add `run`."""
    command = add_command(commands, "run", "Back up now, and follow the run until it ends.", run_run)
    _add_database(command, "back up")
    command.add_argument("--detach", action="store_true", help="start the run without following it")
    add_dry_run(command)


def add_drill(commands: Commands) -> None:
    """Add `drill`."""
    command = add_command(
        commands, "drill", "Restore backups into a throwaway server to check that they can be restored.", run_drill
    )
    _add_database(command, "drill")
    add_dry_run(command)


def _add_database(command: argparse.ArgumentParser, verb: str) -> None:
    command.add_argument("database", nargs="*", metavar="DATABASE", help=f"{verb} only these databases (default: all)")
    command.add_argument(
        "--database",
        dest="named",
        action="append",
        default=[],
        metavar="NAME",
        help="the same as an option; may be given several times",
    )


def run_run(session: Session) -> int:
    """Back up now."""
    options, screen, cluster = session.options, session.screen, session.cluster
    made = jobs_of(session, BACKUP, _wanted(session))
    if options.dry_run:
        return dry_run(session, made)
    if options.detach:
        for job in made:
            with held():
                cluster.create_job(job)
                screen.note(f"started {describe(job)}; follow it with: kubectl cnpg-backup logs -f {name_of(job)}")
        if not screen.is_table:
            screen.document([{"job": name_of(job)} for job in made])
        return ExitCode.DONE
    return carry_out(session, made)


def run_drill(session: Session) -> int:
    """Check that backups can be restored."""
    session.release.template(DRILL)
    made = jobs_of(session, DRILL, _wanted(session))
    return dry_run(session, made) if session.options.dry_run else carry_out(session, made)


def _wanted(session: Session) -> list[str]:
    return [*session.options.database, *session.options.named]


def jobs_of(session: Session, component: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Return the Jobs that do the work of a component for some databases, or for all if none is named."""
    cronjobs = {cronjob.name: cronjob for cronjob in session.release.of(component)}
    configs = session.configs(component) if wanted else {}
    selected = databases_per_cronjob(wanted, cronjobs.values(), configs, with_suspended=component != BACKUP)
    suffix = f"manual-{secrets.token_hex(3)}"
    made = []
    for name, databases in selected.items():
        job = job_from(cronjobs[name], suffix)
        made.append(only_databases(job, databases, configs[name]) if databases else job)
    return made
