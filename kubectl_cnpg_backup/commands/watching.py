"""`--watch`: shows a result again whenever something has changed, until Ctrl-C."""

import argparse
import time
from collections.abc import Callable

from kubectl_cnpg_backup.errors import PluginError
from kubectl_cnpg_backup.model.release import INSPECTOR, OPEN
from kubectl_cnpg_backup.session import Session

_INTERVAL = 5.0
"""Seconds between two looks at the API server."""


def add_watch(command: argparse._ActionsContainer) -> None:
    """Add `--watch`."""
    command.add_argument("-w", "--watch", action="store_true", help="show it again whenever it changes, until Ctrl-C")


def watch(session: Session, essence: Callable[[Session], object], show: Callable[[Session], int]) -> int:
    """Show a result, and again whenever its essence has changed.

    The essence is what the API server knows. It costs a few requests and no pod, so that watching keeps no node busy
    and holds no volume; the volume is looked at only to show the result.

    Args:
        session: The call.
        essence: Returns what decides whether the result is shown again.
        show: Shows the result.
    """
    seen = essence(session)
    code = show(session)
    while session.options.watch:
        time.sleep(_INTERVAL)
        try:
            current = session.again()
            if (found := essence(current)) == seen:
                continue
            if session.screen.is_table and not session.screen.rows_alone:
                session.screen.line()
                session.screen.line(f"--- {current.now:%Y-%m-%d %H:%M:%S}Z", style="dim")
            code = show(current)
            seen = found
        except PluginError as error:
            session.screen.note(f"{error}; trying again in {_INTERVAL:.0f} s")
    return code


def runs_of(session: Session) -> object:
    """Return the state of every run: what changes when one begins or ends. Pods that only look do not count."""
    return [(run.job, run.state) for run in session.runs_and_others() if run.component not in (INSPECTOR, OPEN)]
