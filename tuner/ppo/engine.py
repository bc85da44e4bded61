"""An engine trains one PPO run an iteration at a time; which one runs a trial is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tuner.episodes import Episode
from tuner.policy import Policy
from tuner.startup import resting_collector

ENGINES = ("auto", "fused", "rllib")


class Engine(Protocol):
    """One PPO run. An iteration is one PPO update with the sampling before it."""

    iteration: int

    @property
    def env_steps(self) -> int:
        """Environment steps so far."""

    @property
    def path(self) -> str:
        """What does the work: `compiled`, `torch` or `rllib`, and where the engine had to give way, why."""

    def iterate(self) -> tuple[Sequence[Episode], Mapping[str, float]]:
        """Train one iteration: the episodes that ended in it, in order, and the learner's statistics.

        Raises:
            FloatingPointError: a loss or a parameter is not finite.
        """

    def greedy_policy(self) -> Policy:
        """The policy as it is now, for as long as the engine is neither trained on nor closed."""

    def save(self, folder: Path) -> None:
        """Write the run, in RLlib's own checkpoint format, into an empty folder."""

    def restore(self, folder: Path, iteration: int, env_steps: int) -> None:
        """Go on from a saved run that had made `iteration` iterations and `env_steps` steps."""

    def close(self) -> None:
        """Free everything the run holds."""


def chosen(engine: str) -> str:
    """The engine that `auto` stands for: `fused`, which itself runs on RLlib's path what it cannot do."""
    return "fused" if engine == "auto" else engine


def build(
    engine: str, env: str, params: Mapping[str, Any], *, seed: int, env_config: Mapping[str, Any], gpus: float
) -> Engine:
    """A fresh run on the named engine."""
    with resting_collector():
        import torch
        from ray.rllib.algorithms.ppo import PPO

        from tuner.ppo.config import ppo_config
        from tuner.ppo.fused import RLLIB, FusedEngine, FusedPPO
        from tuner.ppo.rllib import RLlibEngine, seed_everything

    classes = {"fused": FusedPPO, "rllib": PPO}
    if chosen(engine) not in classes:
        raise ValueError(f"no engine {engine!r}")
    torch.set_num_threads(1)  # trials run side by side, one core each
    seed_everything(seed)
    config = ppo_config(env, params, seed=seed, env_config=env_config, gpus=gpus)
    algorithm = classes[chosen(engine)](config=config)
    if isinstance(algorithm, FusedPPO) and algorithm.path != RLLIB:
        return FusedEngine(algorithm)
    return RLlibEngine(algorithm)
