"""An environment for tests of failures: sound, or wrong in the way that its configuration names."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

FAILS_AT = 40  # steps after which it is no longer sound


class Broken(gymnasium.Env[Any, Any]):
    """Episodes of ten steps."""

    observation_space = gymnasium.spaces.Box(-10, 10, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, how: str = "sound") -> None:
        self._how = how
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self._fails("reset raises"):
            raise RuntimeError("the simulator\nis gone")
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._fails("step raises"):
            raise RuntimeError("the simulator\nis gone")
        rewards = {"reward NaN": float("nan"), "reward infinite": float("inf"), "reward missing": None,
                   "reward too large": 1e300}  # fmt: skip
        reward = rewards[self._how] if self._how in rewards and self._fails(self._how) else 1.0
        return self._observed(), reward, self._steps % 10 == 0, False, {}

    def _observed(self) -> Any:
        observed = self.np_random.normal(size=3).astype(np.float32)
        if self._fails("observation NaN"):
            observed[1] = np.nan
        return np.append(observed, 0) if self._fails("wrong shape") else observed

    def _fails(self, how: str) -> bool:
        return self._how == how and self._steps > FAILS_AT


gymnasium.register("tests/Broken-v0", entry_point=Broken)
