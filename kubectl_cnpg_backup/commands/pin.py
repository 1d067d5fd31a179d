"""`pin` and `unpin`: protect backups from pruning."""

from collections.abc import Sequence

from kubectl_cnpg_backup.cluster.inspector import error_lines
from kubectl_cnpg_backup.commands.common import (
    Commands,
    add_archives,
    add_command,
    add_dry_run,
    add_wait,
    add_yes,
    archive_path,
    ask,
    duration,
    show,
)
from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode


def add(commands: Commands) -> None:
    """Add both commands."""
    command = add_command(commands, "pin", "Protect backups from pruning.", run_pin)
    add_archives(command)
    until = command.add_mutually_exclusive_group()
    until.add_argument(
        "--for", dest="length", metavar="30d", type=duration, help="how long the pin holds (default: forever)"
    )
    until.add_argument("--until", metavar="TIME", help="when the pin expires, such as 2026-01-01T00:00:00Z")
    command.add_argument("--reason", default="", help="why the backups are pinned, in your own words")
    add_dry_run(command)
    add_wait(command)
    command = add_command(commands, "unpin", "Remove the pin; the next run may prune these backups.", run_unpin)
    add_archives(command)
    add_yes(command)
    add_dry_run(command)
    add_wait(command)


def run_pin(session: Session) -> int:
    """Protect backups from pruning."""
    options = session.options
    limit = ["--for", options.length] if options.length else ["--until", options.until] if options.until else []
    paths = [archive_path(name) for name in options.archive]
    return _pins(session, ["pin", "--reason", options.reason, *limit, *paths])


def run_unpin(session: Session) -> int:
    """Remove the pins of backups."""
    options = session.options
    paths = [archive_path(name) for name in options.archive]
    if not options.dry_run:
        names = ", ".join(options.archive)
        ask(session, f"Remove the pin of {names} in release {session.release.name}? The next run may prune it.")
    return _pins(session, ["unpin", *paths])


def _pins(session: Session, arguments: Sequence[str]) -> int:
    screen, verb = session.screen, arguments[0]
    if session.options.dry_run:
        names = session.options.archive
        document = {"dry_run": True, verb: names}
        show(screen, document, f"would {verb} {', '.join(names)} of release {session.release.name}")
        return ExitCode.DONE
    with screen.waiting(f"{verb}: waiting for a pod that mounts the volume"), session.inspecting() as pod:
        done = pod.retention(*arguments)
    lines, errors = done.output.decode(errors="replace").splitlines(), error_lines(done.errors)
    if not screen.is_table:
        screen.document({"done": lines, "errors": errors})
    for line in lines if screen.is_table else ():
        screen.line(line)
    if done.code and errors:
        raise PluginError(errors[-1])
    return done.code
