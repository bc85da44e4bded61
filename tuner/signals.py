"""Requests to stop: the first SIGINT, SIGTERM or SIGUSR1 is remembered, a second SIGINT ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether somebody asked this process to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self.signal is not None


@contextmanager
def graceful() -> Iterator[StopRequest]:
    """Turn stop signals into a request while the context lasts; outside the main thread none is seen."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def remember(number: int, frame: FrameType | None) -> None:
        if request.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, remember) for number in handled}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
