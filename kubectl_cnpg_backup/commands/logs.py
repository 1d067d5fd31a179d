"""`logs`: the log of a run."""

from kubectl_cnpg_backup.cluster.follow import Follower, follow_all
from kubectl_cnpg_backup.commands.common import Commands, add_command
from kubectl_cnpg_backup.errors import NotFoundError, PluginError
from kubectl_cnpg_backup.model.objects import container_statuses, containers_of, name_of, pods_of
from kubectl_cnpg_backup.model.release import BACKUP, Run, exit_code_of
from kubectl_cnpg_backup.model.status import run_document
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "logs", "Show the log of the last run, or of the run with the given name.", run)
    command.add_argument("job", nargs="?", default="", metavar="JOB", help="name of a Job (default: the last run)")
    command.add_argument("-f", "--follow", action="store_true", help="print new lines until the run has ended")


def run(session: Session) -> int:
    """Show the log of a run."""
    screen, cluster = session.screen, session.cluster
    found = _pick(session)
    if not screen.is_table:
        screen.document({**run_document(found), "logs": _log_of(session, found)})
        return _code_of(found)
    screen.note(f"job/{found.job}, {found.state}")
    if session.options.follow and found.state == "running":
        follower = Follower(cluster, found.job, screen.log, screen.note)
        follow_all([follower])
        again = next((run for run in session.runs() if run.job == found.job), None) or follower.vanished()
        if again is None:
            raise NotFoundError(f"job/{found.job} is gone: someone deleted it before it ended")
        if again.killed:
            screen.note(f"job/{again.job} failed: {again.reason}")
        return exit_code_of(again)
    for lines in _log_of(session, found).values():
        for line in lines:
            screen.log(line)
    if found.killed:
        screen.note(f"job/{found.job} failed: {found.reason}")
    return _code_of(found)


def _code_of(found: Run) -> int:
    """Return 0 for a complete log: that of a run that was evicted or killed ends in the middle and gives no verdict."""
    return exit_code_of(found) if found.killed else ExitCode.DONE


def _pick(session: Session) -> Run:
    wanted, runs = session.options.job, session.runs()
    if wanted:
        found = next((run for run in runs if run.job == wanted), None)
        known = ", ".join(run.job for run in runs[:5]) or "none"
        if found is None:
            raise NotFoundError(f"release {session.release.name} has no job {wanted!r}", f"the newest are: {known}")
        return found
    found = next((run for run in runs if run.component == BACKUP), None)
    if found is None:
        raise NotFoundError(
            f"release {session.release.name} has no run left",
            "start one: kubectl cnpg-backup run",
        )
    return found


def _log_of(session: Session, run: Run) -> dict[str, list[str]]:
    own = pods_of(run.job, session.cluster.pods(session.release.selector))
    if not own:
        raise NotFoundError(f"the pod of job/{run.job} is gone, and its log with it", run.reason)
    found = {}
    containers = containers_of(session.cluster.job(run.job))
    for status in container_statuses(own[-1], containers):
        if "waiting" not in (status.get("state") or {}):
            name = str(status["name"])
            try:
                found[name] = list(session.cluster.log_lines(name_of(own[-1]), name, follow=False))
            except ConnectionError as error:
                raise PluginError(f"the log of container {name} broke off: {error}", "try again") from None
    return found
