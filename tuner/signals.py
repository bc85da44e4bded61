"""Requests to stop: the first SIGINT, SIGTERM or SIGUSR1 is remembered, a second SIGINT ends the process at once.

Who ends a sweep often signals all its processes: Ctrl-C and `timeout` a group, a batch system a whole job. The driver
alone decides what follows, so that trials can save: Ray's own processes and the trials' leave the signal be.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether this process is to stop: somebody asked by a signal, or what it runs on is gone."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.loss: str | None = None  # what ended under it

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.signal is not None or self.loss is not None

    def reason(self) -> str:
        """Why, and what that means for what was running."""
        asked = [f"stopped by {self.signal.name}"] if self.signal else []
        kept = f"{self.loss}; what ran goes on from its last checkpoint" if self.loss else "everything is saved"
        return ", ".join([*asked, kept])

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
def kept_from_children() -> Iterator[None]:
    """Block the signals in this thread while the context lasts: processes that are started meanwhile never see them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_driver() -> None:
    """Ignore the signals in this process of Ray's, and have whatever it starts heed them again; main thread only."""
    ours = os.getpid()

    def ignore(number: int, frame: FrameType | None) -> None:
        if os.getpid() != ours:  # a fork, whose parent may end it so
            sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in _HANDLED:
            signal.signal(number, ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)


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
