"""`suspend` and `resume`: stop the scheduled runs of a release, in a form that its next upgrade leaves as it is."""

from collections.abc import Callable, Sequence

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_dry_run
from kubectl_cnpg_backup.errors import ConflictError, RefusedError
from kubectl_cnpg_backup.model import suspension
from kubectl_cnpg_backup.model.objects import Object, dig
from kubectl_cnpg_backup.model.release import BACKUP, CronJob
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode

_FIRST_IN_VALUES = "set suspend: true in the values and upgrade"


def add(commands: Commands) -> None:
    """Add both commands."""
    command = add_command(
        commands, "suspend", "Stop the scheduled runs, and so the pruning; runs by hand still work.", run_suspend
    )
    command.add_argument("--reason", default="", help="why, in your own words; `status` shows it")
    command.add_argument(
        "--force", action="store_true", help="also where an upgrade of the release would be refused or undo it"
    )
    add_dry_run(command)
    command = add_command(commands, "resume", "Start the scheduled runs again that `suspend` has stopped.", run_resume)
    add_dry_run(command)


def run_suspend(session: Session) -> int:
    """Stop the scheduled runs."""
    return _each(session, _suspend)


def run_resume(session: Session) -> int:
    """Start the scheduled runs again."""
    return _each(session, _resume)


def _each(session: Session, change: Callable[[Session, CronJob], tuple[str, bool]]) -> int:
    """Change each CronJob that backs up; one that cannot be changed stops no other."""
    screen, code = session.screen, int(ExitCode.DONE)
    documents = []
    for cronjob in session.release.of(BACKUP):
        try:
            text, state = change(session, cronjob)
            problem = None
        except RefusedError as error:
            text, state, problem, code = str(error), cronjob.suspended, str(error), int(error.exit_code)
        would = "would be " if session.options.dry_run and problem is None else ""
        documents.append(
            {"cronjob": cronjob.name, "suspended": state, "problem": problem, "dry_run": session.options.dry_run}
        )
        if screen.is_table:
            screen.line(f"cronjob/{cronjob.name}: {would}{text}", style=tables.WRONG if problem else "")
    if not screen.is_table:
        screen.document(documents)
    return code


def _suspend(session: Session, cronjob: CronJob) -> tuple[str, bool]:
    """Suspend a CronJob; return what to say, and whether it is suspended then.

    Raises:
        RefusedError: When the next upgrade would be refused, or undo it.
    """
    if cronjob.suspended:
        error = suspension.explained(cronjob.source)
        return f"as before: {error.problem.removeprefix('its ')}; to end it: {error.remedy}", True
    options = session.options
    wanted = suspension.suspended(cronjob.source, session.now, options.reason)
    try:
        session.cluster.apply_cronjob(wanted, force=False, dry_run=options.dry_run)
    except ConflictError as error:
        applied_by = suspension.appliers(cronjob.source)
        if applied_by and not options.force:
            raise RefusedError(
                f"its field spec.suspend belongs to {_named(applied_by)}, so that the next upgrade would be "
                f"refused, or would start the runs again ({error.problem})",
                f"{_FIRST_IN_VALUES}; or give --force, and set it in the values before the next upgrade",
            ) from None
        session.cluster.apply_cronjob(wanted, force=True, dry_run=options.dry_run)
        if applied_by:
            return f"suspended, by force; {_FIRST_IN_VALUES} before the release is upgraded for something else", True
    return f"suspended; upgrades leave it so; to end it: {suspension.RESUME}", True


def _resume(session: Session, cronjob: CronJob) -> tuple[str, bool]:
    """Start the runs of a CronJob again; return what to say, and whether it is suspended then.

    Raises:
        RefusedError: When the values of the release suspend it.
    """
    if not cronjob.suspended:
        return "not suspended", False
    cluster, dry_run = session.cluster, session.options.dry_run
    nothing = suspension.applied(cronjob.source)
    if suspension.in_values(cronjob.source):
        if not all(map(suspension.by_hand, suspension.managers(cronjob.source))):
            # It stays suspended; but once the values no longer say so, nothing of the plugin's keeps it so.
            cluster.apply_cronjob(nothing, force=False, dry_run=dry_run)
        raise RefusedError("the values of the release suspend it", suspension.IN_VALUES)
    left = cluster.apply_cronjob(nothing, force=False, dry_run=dry_run)
    if _still(left):
        # Someone has patched it: the field becomes the plugin's, and then nobody's.
        left = cluster.apply_cronjob(suspension.applied(cronjob.source, suspend=False), force=True, dry_run=dry_run)
        left = left if dry_run else cluster.apply_cronjob(nothing, force=False, dry_run=False)
    return "resumed", _still(left)


def _still(cronjob: Object) -> bool:
    return bool(dig(cronjob, "spec").get("suspend"))


def _named(owners: Sequence[str]) -> str:
    return ", ".join(map(repr, owners)) or "nobody known"
