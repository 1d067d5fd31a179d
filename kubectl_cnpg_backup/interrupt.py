"""Ctrl-C and SIGTERM: both unwind the stack, so that the plugin cleans up.

Neither interrupts the clean-up, nor a request that makes something: what was made has to be known to be taken back.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn


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


@contextmanager
def held() -> Iterator[None]:
    """Let the first of these signals wait until the block has ended; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    arrived: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if arrived and callable(before[number]):
            before[number](number, frame)
        arrived.append(number)

    for ending in (signal.SIGINT, *_endings()):
        before[ending] = signal.getsignal(ending)
        signal.signal(ending, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
