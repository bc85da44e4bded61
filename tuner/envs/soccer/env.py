"""`tuner/SoccerTwos-v0` for Gymnasium: one team against an opponent, on the field or through the real package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tuner.envs.soccer.matches import Matches
from tuner.envs.soccer.opponents import opponent
from tuner.envs.soccer.pitch import LINE, UPDATE_S, UPDATES
from tuner.envs.soccer.settings import FIELD, Seat, Settings

METADATA = {"render_modes": ["rgb_array"], "render_fps": 25}  # 2.5 times as fast as the game: a decision is 0.1 s


def make(*, render_mode: str | None = None, **env_config: Any) -> gymnasium.Env[Any, Any]:
    """One match; several agents in one of the multi-agent variations, a MultiAgentEnv of RLlib's.

    Raises:
        UsageError: a key or a value of `env_config` cannot be used.
    """
    settings = Settings.of(env_config)
    if not settings.is_multi_agent:
        return SoccerTwos(render_mode=render_mode, **env_config)
    from tuner.envs.soccer.multi_agent import MultiAgentSoccerTwos

    return MultiAgentSoccerTwos(render_mode=render_mode, **env_config)


def play(settings: Settings, number: int) -> Matches:
    """The matches that the settings ask for."""
    if settings.player == FIELD:
        from tuner.envs.soccer.field import Field

        return Field(number)
    from tuner.envs.soccer.bridge import Bridge

    return Bridge(number, player=settings.player, env_path=settings.env_path, time_scale=settings.time_scale,
                  render=settings.render, timeout_s=settings.timeout_s)  # fmt: skip


class SoccerTwosVector(VectorEnv[Any, Any, Any]):
    """Matches side by side: ours the blue team, or its first player, against an opponent.

    Observations are (matches, 336 a player of ours) float32 in [0, 1]; a reward is the sum of both blue players', so a
    goal is worth 2 (1 - t / 5000) and one conceded -2; with `ball_progress` or `ball_distance` the shaping is added.
    The returned arrays are written over by the next step. Infos hold, as the package's do, `player_info` and
    `ball_info`.
    """

    metadata = METADATA | {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None, **env_config: Any) -> None:
        """Build the matches; see `Settings` for `env_config`.

        Raises:
            UsageError: a key or a value of `env_config` cannot be used.
        """
        self.closed = True  # until there is something to close
        settings = Settings.of(env_config)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._seat: Seat = settings.seats[0]
        self.single_observation_space, self.single_action_space = (
            self._seat.observation_space,
            self._seat.action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.matches = play(settings, num_envs)
        self.closed = False
        self._opponent = opponent(settings.opponent, num_envs)
        self._ball_progress, self._ball_distance = settings.ball_progress, settings.ball_distance
        self._begun, self._last = np.zeros((2, num_envs), np.float32)
        self._actions = np.zeros((num_envs, 4, 3), np.int64)
        self._is_seeded = False
        self._infos = infos(self.matches.extras[:, 0])

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin new episodes; match i has the seed + i, or its own of a sequence."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is None and not self._is_seeded:
            seed = int(self.np_random.integers(2**31 - self.num_envs))
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        if seed is not None:
            self._opponent.seed(seed)  # type: ignore[arg-type]
            self._is_seeded = True
        self.matches.reset(seed)  # type: ignore[arg-type]
        self._begun[:] = self._last[:] = self._potential()
        return self._seat.observe(self.matches.observations), self._infos

    def step(
        self, actions: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One decision in every match."""
        matches = self.matches
        was_over = matches.terminateds | matches.truncateds
        self._seat.write(actions, self._actions)
        self._actions[:, 2:] = self._opponent.act(matches, team=1)
        matches.step(self._actions)
        rewards = matches.rewards[:, 0] + matches.rewards[:, 1]
        if self._ball_progress or self._ball_distance:
            rewards += self._shaping(was_over)
        observations = self._seat.observe(matches.observations)
        return observations, rewards, matches.terminateds, matches.truncateds, self._infos

    def _shaping(self, was_over: NDArray[np.bool_]) -> NDArray[np.float32]:
        """What the ball's way to the opponent's goal, and ours to the ball, are worth, in field lengths.

        The step that ends an episode takes back what its course has given: an episode's shaping sums to 0, whatever was
        played, and moves no score (potential-based shaping; Ng, Harada & Russell 1999).
        """
        potential = self._potential()
        begun = np.where(was_over, potential, self._begun)
        kept = np.where(self.matches.terminateds | self.matches.truncateds, begun, potential)
        gained = np.where(was_over, 0.0, kept - self._last).astype(np.float32)
        self._begun[:], self._last[:] = begun, kept
        return gained

    def _potential(self) -> NDArray[np.float32]:
        extras = self.matches.extras
        ball = extras[:, :1, 5:7]
        distances = np.linalg.norm(extras[:, self._seat.players, 0:2] - ball, axis=2)
        potential: NDArray[np.float32] = (
            self._ball_progress * ball[:, 0, 0] - self._ball_distance * distances.min(axis=1)
        ) / np.float32(2 * LINE)
        return potential

    def render(self) -> tuple[Any, ...] | None:
        """Each match from above."""
        if self.render_mode is None:
            return None
        from tuner.envs.soccer.drawing import draw

        return tuple(draw(extras) for extras in self.matches.extras)

    def close_extras(self, **kwargs: Any) -> None:
        """End what plays."""
        self.matches.close()

    def get_state(self) -> dict[str, Any] | None:
        """Everything that the next step depends on; None where the matches have no state that can be read."""
        matches = self.matches.get_state()
        if matches is None:
            return None
        return {
            "matches": matches, "opponent": self._opponent.get_state(),
            "potentials": (self._begun.copy(), self._last.copy()), "generator": self.np_random.bit_generator.state,
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was."""
        self.matches.set_state(state["matches"])
        self._opponent.set_state(state["opponent"])
        self._begun[:], self._last[:] = state["potentials"]
        self.np_random.bit_generator.state = state["generator"]
        self._is_seeded = True


class SoccerTwos(gymnasium.Env[NDArray[np.float32], Any]):
    """One match of `SoccerTwosVector`."""

    metadata = METADATA

    def __init__(self, *, render_mode: str | None = None, **env_config: Any) -> None:
        """Build the match; see `Settings` for `env_config`.

        Raises:
            UsageError: a key or a value of `env_config` cannot be used.
        """
        self.render_mode = render_mode
        self._vector = SoccerTwosVector(1, **env_config)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._decisions = 0
        self._score = (0, 0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        observations, _ = self._vector.reset(seed=seed)
        self._decisions, self._score = 0, (0, 0)
        return observations[0].copy(), self._info()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One decision."""
        observations, rewards, terminateds, truncateds, _ = self._vector.step(np.asarray(action)[None])
        self._decisions += 1
        blue, orange = self._vector.matches.rewards[0, ::2]
        self._score = int(blue > 0), int(orange > 0)
        return (
            observations[0].copy(),
            float(rewards[0]),
            bool(terminateds[0]),
            bool(truncateds[0]),
            self._info(),
        )

    def render(self) -> Any:
        """The match from above, (330, 620, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        from tuner.envs.soccer.drawing import draw

        return draw(self._vector.matches.extras[0], self._decisions * UPDATES * UPDATE_S, self._score)

    def close(self) -> None:
        """End what plays."""
        self._vector.close()

    def _info(self) -> dict[str, Any]:
        return infos(self._vector.matches.extras[0, 0].copy())


def infos(extras: NDArray[np.float32]) -> dict[str, Any]:
    """The nine numbers of a player, (..., 9), under the package's names; views, no copies."""
    return {
        "player_info": {
            "position": extras[..., 0:2], "rotation_y": extras[..., 2], "velocity": extras[..., 3:5],
        },
        "ball_info": {"position": extras[..., 5:7], "velocity": extras[..., 7:9]},
    }  # fmt: skip
