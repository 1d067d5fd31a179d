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


def _endings() -> list[signal.Signals]:
    """Return the signals that end the program from outside; Windows has no SIGHUP."""
    return [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else ())]


def install() -> None:
    """Make SIGTERM and SIGHUP unwind the stack as Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        for number in _endings():
            signal.signal(number, _stop)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore all these signals while something is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *_endings())
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
