"""An engine trains one PPO run an iteration at a time; which one runs a trial is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tuner.episodes import Episode

ENGINES = ("auto", "rllib")


class Engine(Protocol):
    """One PPO run. An iteration is one PPO update with the sampling before it."""

    iteration: int
    env_steps: int

    def iterate(self) -> tuple[Sequence[Episode], Mapping[str, float]]:
        """Train one iteration: the episodes that ended in it, in order, and the learner's statistics."""

    def save(self, folder: Path) -> None:
        """Write the run, in RLlib's own checkpoint format, into an empty folder."""

    def restore(self, folder: Path, iteration: int, env_steps: int) -> None:
        """Go on from a saved run that had made `iteration` iterations and `env_steps` steps."""

    def close(self) -> None:
        """Free everything the run holds."""


def chosen(engine: str) -> str:
    """The engine that `auto` stands for."""
    return "rllib" if engine == "auto" else engine


def build(
    engine: str, env: str, params: Mapping[str, Any], *, seed: int, env_config: Mapping[str, Any], gpus: float
) -> Engine:
    """A fresh run on the named engine."""
    from tuner.ppo.rllib import RLlibEngine

    if chosen(engine) != "rllib":
        raise ValueError(f"no engine {engine!r}")
    return RLlibEngine(env, params, seed=seed, env_config=env_config, gpus=gpus)
