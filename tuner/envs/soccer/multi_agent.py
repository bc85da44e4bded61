"""Soccer-Twos with an agent for each team or for each player, as RLlib's MultiAgentEnv."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from tuner.envs.soccer.env import METADATA, infos, play
from tuner.envs.soccer.settings import Settings


class MultiAgentSoccerTwos(MultiAgentEnv):
    """One match whose agents have the package's ids: 0 and 1 for the teams, or 0 to 3 for the players.

    An agent's reward is that of its players, summed; all agents end together.
    """

    metadata = METADATA

    def __init__(self, *, render_mode: str | None = None, **env_config: Any) -> None:
        """Build the match; see `Settings` for `env_config`.

        Raises:
            UsageError: a key or a value of `env_config` cannot be used.
        """
        super().__init__()
        settings = Settings.of(env_config)
        self.render_mode = render_mode
        self._seats = dict(enumerate(settings.seats))
        self.agents = self.possible_agents = list(self._seats)
        self.observation_spaces = {agent: seat.observation_space for agent, seat in self._seats.items()}
        self.action_spaces = {agent: seat.action_space for agent, seat in self._seats.items()}
        self.observation_space = gymnasium.spaces.Dict(self.observation_spaces)  # type: ignore[arg-type]
        self.action_space = gymnasium.spaces.Dict(self.action_spaces)  # type: ignore[arg-type]
        self._matches = play(settings, 1)
        self._actions = np.zeros((1, 4, 3), np.int64)
        self._is_seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[int, NDArray[np.float32]], dict[int, Any]]:
        """Begin an episode."""
        if seed is None and not self._is_seeded:
            seed = int(np.random.default_rng().integers(2**31))
        self._is_seeded = True
        self._matches.reset(None if seed is None else [seed])
        return self._observations(), self._infos()

    def step(
        self, actions: dict[int, Any]
    ) -> tuple[dict[int, Any], dict[int, float], dict[Any, bool], dict[Any, bool], dict[int, Any]]:
        """One decision of every agent."""
        for agent, seat in self._seats.items():
            seat.write(np.asarray(actions[agent])[None], self._actions)
        self._matches.step(self._actions)
        rewards = {
            agent: float(sum(self._matches.rewards[0, player] for player in seat.players))
            for agent, seat in self._seats.items()
        }
        terminateds, truncateds = (  # "__all__" ends the episode in RLlib's eyes
            {agent: bool(flags[0]) for agent in (*self.agents, "__all__")}
            for flags in (self._matches.terminateds, self._matches.truncateds)
        )
        return self._observations(), rewards, terminateds, truncateds, self._infos()

    def render(self) -> NDArray[np.uint8] | None:
        """The match from above."""
        if self.render_mode is None:
            return None
        from tuner.envs.soccer.drawing import draw

        return draw(self._matches.extras[0])

    def close(self) -> None:
        """End what plays."""
        self._matches.close()

    def _observations(self) -> dict[int, NDArray[np.float32]]:
        seen = self._matches.observations
        return {agent: seat.observe(seen)[0].copy() for agent, seat in self._seats.items()}

    def _infos(self) -> dict[int, Any]:
        extras = self._matches.extras[0].copy()
        return {agent: infos(extras[seat.players[0]]) for agent, seat in self._seats.items()}
