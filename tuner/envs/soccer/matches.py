"""What plays Soccer-Twos: several matches side by side, four players each. The field and the bridge are such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

PLAYERS = 4  # 0 and 1 are the blue team, 2 and 3 the orange one
OBSERVATION = 336  # 3 frames of 11 rays forward, oldest first, then 3 frames of 3 rays backward; 8 numbers a ray
BRANCHES = (3, 3, 3)  # still, forward, back; still, right, left; still, left turn, right turn
EXTRAS = 9  # position x z, rotation y (degrees), velocity x z, ball's position x z, ball's velocity x z
MAX_DECISIONS = 1000


class Matches(Protocol):
    """`number` matches; the arrays are written over by the next `reset` or `step`."""

    number: int
    observations: NDArray[np.float32]  # (number, 4, 336), in [0, 1]
    rewards: NDArray[np.float32]  # (number, 4): 1 - t / 5000 to the scorers of a goal, -1 to those who conceded it
    terminateds: NDArray[np.bool_]  # (number,): a goal
    truncateds: NDArray[np.bool_]  # (number,): the time limit
    extras: NDArray[np.float32]  # (number, 4, 9): what the player sends beside its observation, as `EXTRAS` says

    def reset(self, seeds: Sequence[int] | None = None) -> None:
        """Begin a new episode in every match; with one seed for each, its generator begins anew, too."""

    def step(self, actions: NDArray[np.integer[Any]]) -> None:
        """One decision of every player, (number, 4, 3) of 0, 1 or 2.

        A match that ended in the step before begins a new episode instead: its actions are ignored, its rewards 0.
        """

    def get_state(self) -> Any:
        """Everything that the next step depends on; None where it cannot be read, as behind the bridge."""

    def set_state(self, state: Any) -> None:
        """Go on where `get_state` was."""

    def close(self) -> None:
        """End whatever was started."""
