"""Ctrl-C and SIGTERM: both unwind the stack, so that what was started is cleaned up, and cleaning up is not cut off."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class StoppedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP: ends like Ctrl-C."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's signature
    raise StoppedError


def install() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGHUP, _stop)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold off all three while something is cleaned up."""
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
