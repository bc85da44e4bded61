"""An environment that waits and needs no processor, and a space over it: trials of about 20 seconds each."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from tuner.space import Float, SearchSpace

STEP_S = 0.1
STEPS = 10


class Sleeping(gymnasium.Env[np.ndarray, int]):
    """Ten steps of a tenth of a second, each worth 1."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._step = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Wait."""
        time.sleep(STEP_S)
        self._step += 1
        return np.zeros(1, np.float32), 1.0, self._step == STEPS, False, {}


if "Sleeping-v0" not in gymnasium.registry:  # this file is read as a space, and imported for its environment
    gymnasium.register("Sleeping-v0", entry_point=Sleeping)

space = SearchSpace(
    env="sleeping:Sleeping-v0", max_episodes=20, trials=4, seed=1,
    baseline={"lr": 1e-3, "train_batch_size": 20, "minibatch_size": 20, "num_epochs": 1, "num_envs_per_env_runner": 1,
              "fcnet_hiddens": [8], "gamma": 0.99},
    params={"lr": Float(1e-4, 1e-2, log=True)},
)  # fmt: skip
