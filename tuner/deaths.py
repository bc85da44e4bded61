"""Why a trial's process ended before the trial did: it stalled, the memory ran out, or something killed it."""

from __future__ import annotations

import faulthandler
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import UsageError
from tuner.layout import TrialDir

TIMEOUT = "TUNER_ITERATION_TIMEOUT_S"
_DEFAULT_S = 1800.0
_ENDED = re.compile(r"Timeout \(.*\)!")  # faulthandler's first line
_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)')
_LOST_MACHINE = ("node has died", "node was terminated", "NODE_DIED")
_OUT_OF_MEMORY = ("OutOfMemoryError", "NODE_OUT_OF_MEMORY", "running low on memory")


@dataclass(frozen=True)
class Death:
    """Why a trial's process ended, in a few words; whether it would end so again."""

    cause: str
    is_final: bool = False


UNKNOWN = Death("killed, or it crashed")


def iteration_timeout_s() -> float:
    """Seconds that an iteration may take: half an hour, or what the environment variable says.

    Raises:
        UsageError: it is not a number above 0.
    """
    text = os.environ.get(TIMEOUT, str(_DEFAULT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise UsageError(f"{TIMEOUT}={text}: must be a number of seconds above 0; unset it for {_DEFAULT_S:g}")
    return seconds


class StallWatch:
    """Ends this process when something takes too long, and leaves in the trial's folder where it stood.

    The watch is faulthandler's: it needs no turn of the interpreter, which stalled code may never give back.
    """

    def __init__(self, folder: TrialDir, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._path = folder.make().stalled
        self._file = self._path.open("w")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch over the context."""
        faulthandler.dump_traceback_later(self._timeout_s, exit=True, file=self._file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def close(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def death_of(folder: TrialDir, timeout_s: float, said: str) -> Death:
    """Why the process of the trial in `folder` ended, of which Ray said what `said` holds."""
    stalled = _text_of(folder.stalled)
    folder.stalled.unlink(missing_ok=True)
    if _ENDED.match(stalled):
        where = _FRAME.search(stalled.rpartition("most recent call first")[2])  # the main thread is last
        place = f"; it was in {where['name']} ({Path(where['file']).name}, line {where['line']})" if where else ""
        return Death(f"no iteration within {timeout_s:g} s{place}", is_final=True)
    if any(words in said for words in _OUT_OF_MEMORY):
        return Death("out of memory")
    if any(words in said for words in _LOST_MACHINE):
        return Death("its machine was lost")
    return UNKNOWN


def _text_of(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
