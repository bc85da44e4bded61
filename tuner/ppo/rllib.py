"""The engine that runs PPO in RLlib's own way."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.core import DEFAULT_MODULE_ID

from tuner import recorder
from tuner.episodes import Episode
from tuner.policy import Policy, greedy
from tuner.ppo.config import SHARED_POLICY

# RLlib sets its own logger's level when it is imported; its warnings are about its API's history.
logging.getLogger("ray.rllib").setLevel(logging.ERROR)

# RLlib's names of the learner's statistics, and the ones shown to people.
STATISTICS = {
    "policy_loss": "policy_loss",
    "vf_loss": "vf_loss",
    "entropy": "entropy",
    "mean_kl_loss": "kl",
    "vf_explained_var": "vf_explained_var",
    "default_optimizer_learning_rate": "lr",
    "total_loss": "total_loss",
}


def seed_everything(seed: int) -> None:
    """Seed the global generators.

    RLlib seeds its runners and learners itself; what it leaves to these must not depend on the trial that ran in this
    process before.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def stop(algorithm: PPO) -> None:
    """Stop an algorithm, and remove the empty folder that RLlib made for it in the user's home."""
    algorithm.stop()
    with suppress(OSError):
        Path(algorithm.logdir).rmdir()


def greedy_policy(algorithm: PPO) -> Policy:
    """The algorithm's policy as it is now; of several agents the one that they share."""
    modules = (algorithm.get_module(name) for name in (DEFAULT_MODULE_ID, SHARED_POLICY))
    module = next(found for found in modules if found is not None)
    return greedy(module, module.action_space)


class RLlibEngine:
    """RLlib's PPO, stepped by RLlib, with exact episodes."""

    def __init__(self, algorithm: PPO) -> None:
        self.iteration = 0
        self.env_steps = 0
        self._algorithm = algorithm
        recorder.attach(algorithm)

    @property
    def path(self) -> str:
        """See Engine."""
        reason = getattr(self._algorithm, "reason", None)
        return f"rllib: {reason}" if reason else "rllib"

    def iterate(self) -> tuple[list[Episode], dict[str, float]]:
        """Train one iteration.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        before = self.env_steps
        result = self._algorithm.train()
        episodes, self.env_steps = recorder.take_from(self._algorithm, self.env_steps)
        self.iteration += 1
        if self.env_steps == before:  # every runner died or stalled: nothing was learned, of which RLlib says NaN
            return episodes, {}
        statistics = _learner_statistics(result)
        for name, value in statistics.items():
            if not math.isfinite(value) and name != "vf_explained_var":
                raise FloatingPointError(f"non-finite {name} ({value}) in iteration {self.iteration}")
        return episodes, statistics

    def greedy_policy(self) -> Policy:
        """See Engine."""
        return greedy_policy(self._algorithm)

    def save(self, folder: Path) -> None:
        """Write RLlib's checkpoint."""
        self._algorithm.save_to_path(folder.absolute())

    def restore(self, folder: Path, iteration: int, env_steps: int) -> None:
        """Go on from RLlib's checkpoint; episodes that were in flight are dropped."""
        self._algorithm.restore_from_path(folder.absolute())
        self.iteration = iteration
        self.env_steps = env_steps

    def close(self) -> None:
        """Stop the algorithm and its runners."""
        stop(self._algorithm)


def _learner_statistics(result: Mapping[str, Any]) -> dict[str, float]:
    learners = result.get("learners", {})
    learned = learners.get(DEFAULT_MODULE_ID) or learners.get(SHARED_POLICY, {})
    return {ours: float(learned[theirs]) for theirs, ours in STATISTICS.items() if theirs in learned}
