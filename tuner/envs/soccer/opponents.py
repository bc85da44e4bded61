"""Who the other team is: random, still, or a script that runs at the ball and shoots at the goal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tuner.envs.soccer import kernels
from tuner.envs.soccer.matches import Matches

Actions = NDArray[np.int64]  # (matches, 2, 3): the branches of a team's two players


class Opponent(Protocol):
    """Plays one team of every match."""

    def seed(self, seeds: Sequence[int]) -> None:
        """Begin its generators anew, one for each match."""

    def act(self, matches: Matches, team: int) -> Actions:
        """The actions of team 0 (blue) or 1 (orange); written over by the next call."""

    def get_state(self) -> Any:
        """Everything that its next actions depend on."""

    def set_state(self, state: Any) -> None:
        """Go on where `get_state` was."""


class Still:
    """Two players who never move."""

    def __init__(self, matches: int) -> None:
        self._actions = np.zeros((matches, 2, 3), np.int64)

    def seed(self, seeds: Sequence[int]) -> None:
        """It has no generator."""

    def act(self, matches: Matches, team: int) -> Actions:
        """Nothing."""
        return self._actions

    def get_state(self) -> None:
        """It has no state."""

    def set_state(self, state: None) -> None:
        """It has no state."""


class Chaser(Still):
    """Two players who run at the ball from behind it, towards the goal."""

    def act(self, matches: Matches, team: int) -> Actions:
        """Turn towards the ball, or to a place behind it, and run."""
        kernels.chase(matches.extras, team, self._actions)
        return self._actions


class Random:
    """Two players who draw each branch of each decision at random, as the package's own opponent does."""

    def __init__(self, matches: int) -> None:
        self._actions = np.zeros((matches, 2, 3), np.int64)
        self._generators = np.arange(matches, dtype=np.uint64)

    def seed(self, seeds: Sequence[int]) -> None:
        """Begin its generators anew, away from the field's."""
        self._generators[:] = ~np.asarray(seeds, dtype=np.uint64)

    def act(self, matches: Matches, team: int) -> Actions:
        """One of the 27 actions for each player."""
        kernels.draw_actions(self._generators, matches.terminateds, matches.truncateds, self._actions)
        return self._actions

    def get_state(self) -> NDArray[np.uint64]:
        """The generators."""
        state: NDArray[np.uint64] = self._generators.copy()
        return state

    def set_state(self, state: NDArray[np.uint64]) -> None:
        """Go on where `get_state` was."""
        self._generators[:] = state


SCRIPTS: dict[str, type[Random] | type[Still] | type[Chaser]] = {"random": Random, "still": Still, "chaser": Chaser}


def opponent(name: str, matches: int) -> Opponent:
    """The opponent that `env_config["opponent"]` names: a script, or the folder of an earlier run.

    Raises:
        UsageError, StateError: there is no team in that folder; see `trained.arrays_of`.
    """
    if name in SCRIPTS:
        return SCRIPTS[name](matches)
    from tuner.envs.soccer.trained import Trained

    return Trained(Path(name), matches)
