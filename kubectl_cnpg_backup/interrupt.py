"""Ctrl-C and SIGTERM: both unwind the stack, so that the plugin cleans up, and neither interrupts the clean-up."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class StoppedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived: it ends the program as Ctrl-C does."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's signature
    raise StoppedError


def install() -> None:
    """Make SIGTERM and SIGHUP unwind the stack as Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGHUP, _stop)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore all three signals while something is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
