"""`notify --test`: a test message through everything that the watcher notifies.

The plugin writes a request into the watcher's ConfigMap and reads the outcome there. So the message goes the way of a
real one: from the watcher's pod, through its NetworkPolicy, with the URLs that its Secrets hold.
"""

import json
import secrets
import time

from kubectl_cnpg_backup.commands.common import Commands, add_command, add_dry_run, seconds
from kubectl_cnpg_backup.errors import NotFoundError, PluginError, UsageError
from kubectl_cnpg_backup.model.objects import dig
from kubectl_cnpg_backup.output import tables
from kubectl_cnpg_backup.session import Session
from retention.errors import ExitCode
from retention.text import shown

_REQUEST, _OUTCOME = "notify-test", "notify-tested.json"
"""Keys of the watcher's ConfigMap, as watch/serve.py has them."""
_EVERY = 1.0
_COLUMNS = (tables.Column("TARGET"), tables.Column("RESULT", wraps=True))


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands, "notify", "Send a test message to everyone whom the watcher notifies; exit 1 if one fails.", run
    )
    command.add_argument("--test", action="store_true", help="send a test message; nothing else can be sent")
    command.add_argument(
        "--timeout",
        dest="wait",
        type=seconds,
        default=120.0,
        metavar="2m",
        help="how long to wait for the watcher, which looks every 30 s (default: 2m)",
    )
    add_dry_run(command)


def run(session: Session) -> int:
    """Send the test message, and print what became of it."""
    screen, options, release = session.screen, session.options, session.release
    if not options.test:
        raise UsageError("notify only sends test messages", "give --test")
    name = f"{release.name}-status"
    try:
        session.cluster.config_map(name)
    except NotFoundError:
        raise PluginError(
            f"release {release.name} in namespace {release.namespace} has no watcher, so it sends no messages",
            "set `monitoring.enabled: true`, and whom to notify in `notify`",
        ) from None
    if options.dry_run:
        text = f"would ask the watcher of release {release.name} to send a test message to everyone whom it notifies"
        screen.line(text) if screen.is_table else screen.document({"dry_run": True})
        return ExitCode.DONE
    wanted = secrets.token_hex(8)
    session.cluster.patch_config_map(name, {_REQUEST: wanted})
    with screen.waiting("notify: waiting for the watcher, which looks every 30 s"):
        outcome = _outcome(session, name, wanted)
    if not outcome:
        raise PluginError(f"release {release.name} has no target for messages", "set one in `notify` of its values")
    document = [{"target": target, "delivered": not why, "why": why} for target, why in sorted(outcome.items())]
    code = ExitCode.FAILED if any(outcome.values()) else ExitCode.DONE
    if not screen.is_table:
        screen.document(document)
        return code
    rows = [(target, f"failed: {shown(why)}" if why else "delivered") for target, why in sorted(outcome.items())]
    styles = {(row, 1): tables.WRONG if text != "delivered" else tables.GOOD for row, (_, text) in enumerate(rows)}
    screen.table(tables.Table(_COLUMNS, rows, styles))
    return code


def _outcome(session: Session, name: str, wanted: str) -> dict[str, str]:
    """Return what became of the test, by target; empty for delivered.

    Raises:
        PluginError: When the watcher does not answer in time.
    """
    deadline = time.monotonic() + session.options.wait
    while True:
        text = dig(session.cluster.config_map(name), "data").get(_OUTCOME, "")
        try:
            found = json.loads(text) if text else {}
        except ValueError:
            found = {}
        if isinstance(found, dict) and found.get("id") == wanted:
            targets = found.get("targets")
            return {str(key): str(why) for key, why in targets.items()} if isinstance(targets, dict) else {}
        if time.monotonic() > deadline:
            raise PluginError(
                f"the watcher of release {session.release.name} did not answer within {session.options.wait:.0f} s",
                f"see `kubectl describe deployment {name}` and its log in namespace {session.release.namespace}",
            )
        time.sleep(_EVERY)
