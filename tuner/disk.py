"""The disk under a run folder: what a sweep takes of it, the floor under which a sweep ends, and what a full one is."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from tuner.errors import DiskFull
from tuner.layout import RunDir
from tuner.space import SearchSpace

# Measured on CartPole: the files of a trial but for its network; best/ and the report, either with Plotly in it.
_BYTES_PER_TRIAL = 900_000
_BYTES_OF_REPORT = 5_500_000
# RLlib's checkpoint holds a weight, two moments of Adam and the runner's copy, four bytes each.
_BYTES_PER_WEIGHT = 16
_KEPT = 2

CHECK_EVERY_S = 1.0


def free_bytes(path: Path) -> int:
    """What may still be written at `path`, which need not exist yet."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def bytes_of(space: SearchSpace, trials: int) -> int:
    """About what `trials` trials and the answer to a sweep take."""
    return 2 * _BYTES_OF_REPORT + trials * (_BYTES_PER_TRIAL + _KEPT * _BYTES_PER_WEIGHT * _largest_network(space))


def _largest_network(space: SearchSpace) -> int:
    """Weights of the largest network, both its halves, over the layers that the space names."""
    domain = space.params.get("fcnet_hiddens")
    networks: list[Sequence[int]] = [space.baseline["fcnet_hiddens"], *(domain.grid() if domain else [])]
    return max(2 * sum(a * b for a, b in pairwise(layers)) for layers in networks)


class DiskFloor:
    """The free space under which a sweep ends, while what it holds can still be saved.

    That is room for one more checkpoint of each running trial, for `best/` or the report, which are written one after
    the other beside what they replace, and for the study's journal, which may become as large as the study.
    """

    def __init__(self, run_dir: RunDir, space: SearchSpace, parallel: int) -> None:
        self._run_dir = run_dir
        self._of_network = _BYTES_PER_WEIGHT * _largest_network(space)
        self._parallel = parallel
        self._next_check = time.monotonic()

    @property
    def bytes(self) -> int:
        """The floor as it is now."""
        study = self._run_dir.study
        journal = study.stat().st_size if study.exists() else 0
        return _BYTES_OF_REPORT + journal + self._parallel * max(self._of_network, self._of_baseline())

    def check(self) -> None:
        """Look at the disk, at most once in `CHECK_EVERY_S`.

        Raises:
            DiskFull: less is free than the floor.
        """
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_EVERY_S
        free, needed = free_bytes(self._run_dir.path), self.bytes
        if free < needed:
            raise DiskFull(
                f"{self._run_dir.path}: {free / 1e6:.1f} MB are free on its disk, {needed / 1e6:.1f} MB are needed to "
                "go on safely; free some space, then the same command goes on"
            )

    def _of_baseline(self) -> int:
        """Bytes of the baseline's newest checkpoint, which every trial's is like but for its layers."""
        baseline = self._run_dir.trial(0)
        with suppress(OSError):  # it is just being removed
            for iteration in baseline.iterations()[:1]:
                return sum(path.stat().st_size for path in baseline.checkpoint_at(iteration).rglob("*"))
        return 0


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, sqlite3.Error) and "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__ or getattr(error, "cause", None)  # Ray's of a remote error
    return False


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """Have any error that a full disk led to end the command as one.

    Raises:
        DiskFull: the disk at `path` is full.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if is_full(error):
            raise DiskFull(f"{path}: no space is left on its disk; free some, then the same command goes on") from error
        raise
