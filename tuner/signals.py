"""Requests to stop: the first SIGINT, SIGTERM or SIGUSR1 is remembered, a second SIGINT ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether somebody asked this process to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self.signal is not None

    def listen(self) -> None:
        """Take the signals over, again after `ray.init`, whose own handlers end the process; main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextmanager
def graceful() -> Iterator[StopRequest]:
    """Turn stop signals into a request while the context lasts; outside the main thread none is seen."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _HANDLED}
    request.listen()
    try:
        yield request
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
