"""A small environment for tests: any action space, short episodes that end both ways, rewards of any size."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np

ACTIONS: dict[str, gymnasium.Space[Any]] = {
    "discrete": gymnasium.spaces.Discrete(3),
    "multi": gymnasium.spaces.MultiDiscrete([2, 4]),
    "box": gymnasium.spaces.Box(np.float32([-2, 0]), np.float32([2, 1])),
}


class Toy(gymnasium.Env[Any, Any]):
    """Noise for observations; ends by chance, or is truncated after 12 steps."""

    def __init__(
        self,
        actions: str = "discrete",
        features: int = 5,
        scale: float = 1.0,
        shape: tuple[int, ...] = (),
        delay_s: float = 0.0,
    ) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape or (features,), np.float32)
        self.action_space = ACTIONS[actions]
        self._scale = scale
        self._delay_s = delay_s

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype).reshape(self.action_space.shape))
        time.sleep(self._delay_s)
        self._steps += 1
        reward = self._scale * float(self.np_random.normal() + np.sum(action))
        is_terminated = bool(self.np_random.random() < 0.1)
        return self._observed(), reward, is_terminated, self._steps == 12 and not is_terminated, {}

    def _observed(self) -> Any:
        return self.np_random.normal(size=self.observation_space.shape).astype(np.float32)


class SameStep(gymnasium.vector.SyncVectorEnv):
    """A vector form that resets in the step that ends an episode, and so hides the last observation."""

    def __init__(self, num_envs: int, **options: Any) -> None:
        options.pop("max_episode_steps", None)
        super().__init__([lambda: Toy(**options)] * num_envs, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)


gymnasium.register("tests/Toy-v0", entry_point=Toy)
gymnasium.register("tests/ToySameStep-v0", entry_point=Toy, vector_entry_point=SameStep)
