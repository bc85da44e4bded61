"""The field: Soccer-Twos in this process, many matches side by side, exact for the same seeds and actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.envs.soccer import kernels
from tuner.envs.soccer.matches import EXTRAS, OBSERVATION, PLAYERS


class Field:
    """Matches of the package's game as its public sources describe it (see `tuner.envs.soccer.matches.Matches`).

    Geometry, dynamics, rewards, episode length and ray sensors are those of the Unity project; contacts are simpler
    (two dimensions, no spin), so a match here is like one of the real player's, not the same.
    """

    def __init__(self, number: int) -> None:
        """`number` matches that wait for their first `reset`."""
        self.number = number
        self.observations = np.zeros((number, PLAYERS, OBSERVATION), np.float32)
        self.rewards = np.zeros((number, PLAYERS), np.float32)
        self.terminateds, self.truncateds = np.zeros(number, np.bool_), np.zeros(number, np.bool_)
        self.extras = np.zeros((number, PLAYERS, EXTRAS), np.float32)
        self._bodies = np.zeros((number, PLAYERS + 1, 5))
        self._touching = np.zeros((number, PLAYERS), np.bool_)
        self._clock = np.zeros(number, np.int64)
        self._generators = np.arange(number, dtype=np.uint64)
        self._arrays: tuple[NDArray[Any], ...] = (
            self._bodies, self._touching, self._clock, self._generators,
            self.observations, self.extras, self.rewards, self.terminateds, self.truncateds,
        )  # fmt: skip

    def reset(self, seeds: Sequence[int] | None = None) -> None:
        """Begin a new episode in every match; with one seed for each, its generator begins anew, too."""
        if seeds is not None:
            self._generators[:] = np.asarray(seeds, dtype=np.uint64)
        kernels.reset(*self._arrays)

    def step(self, actions: NDArray[np.integer[Any]]) -> None:
        """One decision of every player, (number, 4, 3) of 0, 1 or 2; a match that had ended begins a new episode."""
        kernels.step(actions, *self._arrays)

    def close(self) -> None:
        """Nothing was started."""

    def get_state(self) -> list[NDArray[Any]]:
        """Everything that the next step depends on."""
        return [array.copy() for array in self._arrays]

    def set_state(self, state: Sequence[NDArray[Any]]) -> None:
        """Go on where `get_state` was."""
        for ours, theirs in zip(self._arrays, state, strict=True):
            ours[...] = theirs
