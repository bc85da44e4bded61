"""A trained policy as arrays, and the team it plays for. Needs numpy alone: an exported agent has a copy of this file.

The copy runs on Python 3.8 and numpy 1.21, so nothing newer is used here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OBSERVATION = 336  # of one player
_BRANCHES = 3  # of one player, three actions each

ACTIVATIONS: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "silu": lambda x: x * (0.5 + 0.5 * np.tanh(0.5 * x)),  # x * sigmoid(x), which this way cannot overflow
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


class ArrayPolicy:
    """A multi-layer perceptron that takes the likeliest action in each dimension of a (Multi)Discrete space."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """From `choices` (dimensions,), the number of actions in each, and for the layers i = 0, 1, …

        `weight_i` (outputs, inputs) float32, `bias_i` (outputs,) float32 and `activation_i`, a name in `ACTIVATIONS`.
        """
        layers = sum(name.startswith("weight_") for name in arrays)
        self._layers = [
            (arrays[f"weight_{i}"].T, arrays[f"bias_{i}"], ACTIVATIONS[str(arrays[f"activation_{i}"])])
            for i in range(layers)
        ]
        self.width = len(self._layers[0][0])  # of an observation
        self.choices = tuple(int(number) for number in arrays["choices"])
        self._ends = np.cumsum(self.choices)

    def logits(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The (n, outputs) float32 logits for (n, width) observations, those of one dimension after another."""
        signals = np.asarray(observations, np.float32)
        for weight, bias, activation in self._layers:
            signals = activation(signals @ weight + bias)
        return signals

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.int64]:
        """The (n, dimensions) int64 likeliest actions for (n, width) observations."""
        groups = np.split(self.logits(observations), self._ends[:-1], axis=1)
        return np.stack([group.argmax(axis=1) for group in groups], axis=1)


class Team:
    """One team's two players, moved by a policy that was trained in any variation of Soccer-Twos.

    A policy that saw both players moves both. One that saw one player moves each by what that player sees, or, with
    `single_player`, the first alone: the second stands still, as in training.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """From the arrays of an `ArrayPolicy`, and `single_player`, a bool.

        Raises:
            ValueError: the policy's observations or actions are not a team's or a player's.
        """
        self._policy = policy = ArrayPolicy(arrays)
        self._players = 2 if policy.width == 2 * _OBSERVATION else 1  # that it sees at once
        branches = self._players * _BRANCHES
        flattened = (3**branches,)
        if policy.width != self._players * _OBSERVATION or policy.choices not in (flattened, (3,) * branches):
            raise ValueError(
                f"it sees {policy.width} numbers and chooses among {policy.choices} actions; a player of Soccer-Twos "
                "sees 336 and chooses among (27,) or (3, 3, 3), a team sees 672 and chooses among (729,) or six times 3"
            )
        # ML-Agents flattens branches to 9 * first + 3 * second + third, and a team's players to 27 * first + second.
        self._places = 3 ** np.arange(branches)[::-1] if policy.choices == flattened else None
        self._is_single = self._players == 1 and bool(arrays["single_player"])

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.int64]:
        """The (n, 2, 3) int64 branches, each 0, 1 or 2, of the teams of n matches that see (n, 2, 336) float32."""
        seen = observations[:, :1] if self._is_single else observations
        actions = self._policy.act(seen.reshape(-1, self._policy.width))
        if self._places is not None:
            actions = actions // self._places % 3
        branches = np.zeros((len(observations), 2, _BRANCHES), np.int64)
        moved = actions.reshape(len(observations), -1, _BRANCHES)
        branches[:, : moved.shape[1]] = moved
        return branches
