"""`open`: a backup as a database to look at, in a throwaway server that ends with the command."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from kubectl_cnpg_backup.cluster.follow import wait_ready
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_backup,
    add_command,
    add_dry_run,
    count,
    seconds,
)
from kubectl_cnpg_backup.commands.following import dry_run
from kubectl_cnpg_backup.commands.kubectl import kubectl, terminal
from kubectl_cnpg_backup.commands.restore import check_backup
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.interrupt import StoppedError, uninterrupted
from kubectl_cnpg_backup.model.jobs import databases_per_cronjob, describe, job_from, with_environment
from kubectl_cnpg_backup.model.objects import name_of
from kubectl_cnpg_backup.model.release import OPEN
from kubectl_cnpg_backup.session import Session
from retention import keyvalue
from retention.errors import ExitCode
from retention.text import format_duration, shown

_SCRIPT = "/opt/cnpg-backup/scripts/open.sh"
_CONTAINER = "open"
_PORT = 5432
_READY, _FAILED = "ready", "failed"


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy that can be looked at: its pod, and what open.sh says about it."""

    pod: str
    state: keyvalue.KeyValues

    @property
    def text(self) -> str:
        """What it is, as one line."""
        kind = "a writable copy" if self.state.text("write") == "yes" else "a read-only copy"
        return shown(
            f"{self.state.text('base')}.dump is open as database {self.state.text('dbname')}: {kind}, "
            f"PostgreSQL {self.state.text('server_version')}, restored in {self.state.text('seconds')} s"
        )


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "open", "Open a backup as a throwaway database, and look into it with psql or any client.", run
    )
    command.add_argument("database", metavar="DATABASE", help="database to look into, by its `name` in values.yaml")
    add_backup(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("-c", "--command", dest="sql", default="", metavar="SQL", help="run this SQL instead of a prompt")
    how.add_argument(
        "--port",
        type=count,
        metavar="PORT",
        help="let a client of this machine connect to 127.0.0.1:PORT until Ctrl-C, instead of a prompt",
    )
    command.add_argument(
        "--write", action="store_true", help="let the copy be changed, as the superuser; it is thrown away all the same"
    )
    command.add_argument(
        "--timeout",
        dest="wait",
        type=seconds,
        default=3600.0,
        metavar="1h",
        help="how long to wait until the copy can be looked into (default: 1h)",
    )
    add_dry_run(command)


def run(session: Session) -> int:
    """Open a backup."""
    options, screen = session.options, session.screen
    check_backup(options)
    release = session.release
    release.template(OPEN)
    cronjobs = {cronjob.name: cronjob for cronjob in release.of(OPEN)}
    (name,) = databases_per_cronjob([options.database], cronjobs.values(), session.configs(OPEN))
    job = with_environment(
        job_from(cronjobs[name], secrets.token_hex(3)),
        {
            "RESTORE_DATABASE": options.database,
            "RESTORE_BACKUP": options.backup,
            "OPEN_WRITE": "yes" if options.write else "no",
        },
    )
    if options.dry_run:
        return dry_run(session, [job])
    kubectl(session, "exec")
    with _opened(session, job) as copy:
        screen.note(copy.text)
        return _forward(session, copy) if options.port else _psql(session, copy)


@contextmanager
def _opened(session: Session, job: dict[str, object]) -> Iterator[_Copy]:
    """Yield the copy, and delete its Job at the end, whatever happens."""
    screen, cluster, name = session.screen, session.cluster, name_of(job)
    deadline = time.monotonic() + session.options.wait
    try:
        most = format_duration(timedelta(seconds=session.options.wait))
        with screen.waiting("open: waiting for the pod"):
            cluster.create_job(job)
            screen.note(f"started {describe(job)}; the copy is waited for at most {most} (--timeout)")
            pod = wait_ready(cluster, name, session.options.wait, screen.note)
            copy = _wait(session, name_of(pod), deadline)
        yield copy
    finally:
        with uninterrupted():
            if cluster.delete_job(name):
                screen.note(f"deleted {describe(job)}, and the copy with it; the backup and the database are untouched")


def _wait(session: Session, pod: str, deadline: float) -> _Copy:
    """Wait until the copy can be looked into.

    Raises:
        PluginError: When it cannot be restored, or not in time.
    """
    noted, silent = "", 0
    while True:
        try:
            done = session.cluster.execute(pod, _CONTAINER, ["sh", _SCRIPT, "--state"])
            state = keyvalue.parse(done.output.decode(errors="replace"), "open.state")
            silent = 0
        except ConnectionError as error:
            silent += 1
            if silent > 5:
                raise PluginError(f"the connection to pod {pod} was lost: {error}", "try again") from None
            state = keyvalue.parse("", "open.state")
        if state.text("state") == _READY:
            for warning in state.warnings:
                session.screen.note(f"warning: {shown(warning)}")
            return _Copy(pod, state)
        if state.text("state") == _FAILED:
            raise PluginError(f"{state.text('base')}.dump: {state.text('error')}", state.text("remedy"))
        step = shown(state.text("step"))
        if step and step != noted:
            noted = step
            session.screen.note(f"open: {step}")
        if time.monotonic() > deadline:
            raise PluginError(
                f"the copy is not ready after {session.options.wait:g} s (now: {step or 'nothing known'})",
                "--timeout allows more time",
            )
        time.sleep(0.5)


def _psql(session: Session, copy: _Copy) -> int:
    """Run psql in the copy's pod: a prompt in a terminal, or the SQL of `--command` or of standard input."""
    sql = ["-c", session.options.sql] if session.options.sql else []
    interactive = not sql and session.screen.can_ask and session.screen.output.is_terminal
    words = [copy.pod, "--container", _CONTAINER, "--", "sh", _SCRIPT, "--psql", *sql]
    code = subprocess.run(kubectl(session, "exec", *terminal(interactive=interactive), *words), check=False).returncode
    # The codes of psql are not those of the plugin: 3 would be a refusal.
    return int(ExitCode.FAILED if code and not interactive else ExitCode.DONE)


def _forward(session: Session, copy: _Copy) -> int:
    """Forward a port of this machine to the copy until Ctrl-C."""
    done = session.cluster.execute(copy.pod, _CONTAINER, ["sh", _SCRIPT, "--login"])
    login = keyvalue.parse(done.output.decode(errors="replace"), "login")
    user, password, port = login.text("user"), login.text("password"), session.options.port
    name, secret = (quote(one, safe="") for one in (copy.state.text("dbname"), password))
    url = f"postgresql://{user}:{secret}@127.0.0.1:{port}/{name}"
    document = {
        "host": "127.0.0.1", "port": port, "user": user, "password": password,
        "dbname": copy.state.text("dbname"), "url": url, "archive": f"{copy.state.text('base')}.dump",
    }  # fmt: skip
    command = kubectl(session, "port-forward", f"pod/{copy.pod}", f"{port}:{_PORT}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            if session.screen.is_table:
                session.screen.line(url)
            else:
                session.screen.document(document)
            session.screen.note("connect any client to it; Ctrl-C ends it")
            process.wait()
        except StoppedError:
            raise
        except KeyboardInterrupt:
            return int(ExitCode.DONE)
        finally:
            process.terminate()
    raise PluginError("the port forward has ended", "see kubectl's own message above; is the port free?")
