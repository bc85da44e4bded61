"""What the tests of soccer share: play that ends in goals, and the processes that a process started."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.envs.soccer.matches import Matches
from tuner.envs.soccer.opponents import Chaser, Random


def chase(matches: Matches) -> NDArray[Any]:
    """Both blue players run at the ball, the orange ones stand still: (number, 4, 3)."""
    actions = np.zeros((matches.number, 4, 3), np.int64)
    actions[:, :2] = Chaser(matches.number).act(matches, 0)
    return actions


class Mixed:
    """Actions for episodes of several kinds: chasers of either side against players who act at random."""

    def __init__(self, number: int) -> None:
        self._chaser, self._random = Chaser(number), Random(number)
        self._actions = np.zeros((number, 4, 3), np.int64)

    def act(self, matches: Matches, team: int) -> NDArray[Any]:
        """(number, 4, 3), where this team's players chase."""
        other = 1 - team
        self._actions[:, 2 * team : 2 * team + 2] = self._chaser.act(matches, team)
        self._actions[:, 2 * other : 2 * other + 2] = self._random.act(matches, other)
        return self._actions


def children(pid: int) -> set[int]:
    """Every process that this one started, and those that they started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def not_of_ray(pid: int) -> set[int]:
    """What this process started but for a Ray that the tests share, and what that started."""
    return {child for child in children(pid) if "ray" not in words_of(child)}


def words_of(pid: int) -> str:
    """A process's command; empty where it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def alive(pids: set[int], within_s: float) -> set[int]:
    """Which of these processes still run after this time; returns as soon as none does."""
    deadline = time.monotonic() + within_s
    while (left := {pid for pid in pids if _runs(pid)}) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _runs(pid: int) -> bool:
    with suppress(OSError):
        # A process is gone with its last thread, and the first one may go before.
        is_zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return not is_zombie or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    return False
