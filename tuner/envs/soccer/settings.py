"""What `env_config` may say of Soccer-Twos, and which players an agent has in each variation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tuner.envs.soccer.matches import BRANCHES, OBSERVATION, PLAYERS
from tuner.envs.soccer.opponents import SCRIPTS
from tuner.errors import UsageError, nearest

FIELD, STAND_IN, UNITY = "field", "stand-in", "unity"
VARIATIONS = ("team_vs_policy", "multiagent_team", "multiagent_player")
_CHOICES = int(
    np.prod(BRANCHES)
)  # 27 flattened actions, the last branch the fastest, as ML-Agents' ActionFlattener has it
# (27, 3): the branches of each flattened action
_FLATTENED = np.stack(np.unravel_index(np.arange(_CHOICES), BRANCHES), axis=1).astype(np.int64)


@dataclass(frozen=True)
class Seat:
    """The players whom one agent controls."""

    players: tuple[int, ...]
    is_flat: bool

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """336 numbers in [0, 1] for each player."""
        return gymnasium.spaces.Box(0.0, 1.0, (OBSERVATION * len(self.players),), np.float32)

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """Flattened: 27 for a player, 27 x 27 for two; else the three branches of each player."""
        if self.is_flat:
            return gymnasium.spaces.Discrete(_CHOICES ** len(self.players))
        return gymnasium.spaces.MultiDiscrete(list(BRANCHES) * len(self.players))

    def observe(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of (matches, 4, 336) what the agent sees, (matches, 336 a player)."""
        first, number = self.players[0], len(self.players)
        return observations[:, first : first + number].reshape(len(observations), -1)

    def write(self, actions: NDArray[np.integer[Any]], branches: NDArray[np.int64]) -> None:
        """Write an agent's actions, one a match, into (matches, 4, 3); a mate without an agent stands still."""
        first, number = self.players[0], len(self.players)
        if not self.is_flat:
            branches[:, first : first + number] = actions.reshape(-1, number, len(BRANCHES))
        elif number == 1:
            branches[:, first] = _FLATTENED[actions]
        else:
            branches[:, first] = _FLATTENED[actions // _CHOICES]
            branches[:, first + 1] = _FLATTENED[actions % _CHOICES]


@dataclass(frozen=True)
class Settings:
    """The keys of `env_config`; those of the package's `make()` keep their names.

    Args:
        variation: `team_vs_policy`, `multiagent_team` or `multiagent_player`, or the package's EnvType.
        single_player: `team_vs_policy` with one player; the other one stands still.
        flatten_branched: one Discrete action in place of a MultiDiscrete one.
        opponent: `random`, `still`, `chaser`, or the folder of an earlier run; for `team_vs_policy`.
        ball_progress, ball_distance: weights of the shaping: the ball nearer to their goal, ours nearer to the ball; in
            reward for a field length.
        player: what plays: `field`, `stand-in` or `unity`.
        env_path: the Unity player's file; None is the package's own.
        time_scale, render: handed to the Unity player.
        timeout_s: how long a player may be silent.
        multiagent: understood as the notebook means it: False goes with `team_vs_policy` alone.
        worker_id: understood and not needed: each player gets a free port of its own.
    """

    variation: str = "team_vs_policy"
    single_player: bool = False
    flatten_branched: bool = False
    opponent: str = "random"
    ball_progress: float = 0.0
    ball_distance: float = 0.0
    player: str = FIELD
    env_path: str | None = None
    time_scale: float = 20.0
    render: bool = False
    timeout_s: float = 60.0
    multiagent: bool | None = None
    worker_id: int = 0

    @classmethod
    def of(cls, env_config: Mapping[str, Any]) -> Settings:
        """The settings of an `env_config`.

        Raises:
            UsageError: a key or a value cannot be used.
        """
        known = [item.name for item in fields(cls)]
        for key in env_config:
            if key not in known:
                raise UsageError(f"env_config {key!r}: unknown{nearest(key, known) or '; known: ' + ', '.join(known)}")
        values = dict(env_config)
        variation = values.get("variation", cls.variation)
        values["variation"] = getattr(variation, "value", variation)
        settings = cls(**values)
        settings._check()
        return settings

    @property
    def is_multi_agent(self) -> bool:
        """Whether more than one agent plays."""
        return self.variation != "team_vs_policy"

    @property
    def seats(self) -> tuple[Seat, ...]:
        """The agents' players, in the order of the package's agent ids."""
        if self.variation == "multiagent_player":
            players: list[tuple[int, ...]] = [(player,) for player in range(PLAYERS)]
        elif self.variation == "multiagent_team":
            players = [(0, 1), (2, 3)]
        else:
            players = [(0,)] if self.single_player else [(0, 1)]
        return tuple(Seat(seat, self.flatten_branched) for seat in players)

    def _check(self) -> None:
        for name, choices in (("variation", VARIATIONS), ("player", (FIELD, STAND_IN, UNITY))):
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"env_config {name} = {value!r}: must be one of {', '.join(choices)}")
        for name in ("single_player", "flatten_branched", "render"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"env_config {name} = {getattr(self, name)!r}: must be true or false")
        for name, low in (("ball_progress", 0.0), ("ball_distance", 0.0), ("time_scale", 1e-3), ("timeout_s", 1e-3)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < 1e6:
                raise UsageError(f"env_config {name} = {value!r}: must be a number of at least {low:g}")
        if self.single_player and self.is_multi_agent:
            raise UsageError(f"env_config single_player: goes with team_vs_policy, not with {self.variation}")
        if self.multiagent is not None and self.multiagent != self.is_multi_agent:
            raise UsageError(
                f"env_config multiagent = {self.multiagent!r}: the variation {self.variation} says otherwise; "
                "leave one of the two out"
            )
        if not isinstance(self.opponent, str) or not (self.opponent in SCRIPTS or os.path.isdir(self.opponent)):  # noqa: PTH112 never raises
            raise UsageError(
                f"env_config opponent = {self.opponent!r}: must be one of {', '.join(SCRIPTS)}, or the folder of a run"
            )
        if self.env_path is not None and self.player != UNITY:
            raise UsageError(f'env_config env_path: goes with player "{UNITY}", and player is "{self.player}"')
