"""Environments of this project's own. Importing this package registers them with Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

NAMESPACE = "tuner/"

gymnasium.register(
    "tuner/SoccerTwos-v0",
    entry_point="tuner.envs.soccer.env:make",
    vector_entry_point="tuner.envs.soccer.env:SoccerTwosVector",
    disable_env_checker=True,  # it takes several agents' dictionaries for mistakes
)


def anywhere(env: str) -> str:
    """The id as any process can make it: one of ours names the module that registers it."""
    return f"{__name__}:{env}" if env.startswith(NAMESPACE) else env


def explicit(env: str, env_config: Mapping[str, Any]) -> dict[str, Any]:
    """An `env_config` that says what plays, so that every record of a run says it, too.

    Raises:
        UsageError: the environment is ours and a key or a value cannot be used.
    """
    if not env.startswith(NAMESPACE):
        return dict(env_config)
    from tuner.envs.soccer.settings import Settings

    return {**env_config, "player": Settings.of(env_config).player}


def is_multi_agent(env: str, env_config: Mapping[str, Any]) -> bool:
    """Whether several agents play in it; only environments of ours may."""
    if not env.startswith(NAMESPACE):
        return False
    from tuner.envs.soccer.settings import Settings

    return Settings.of(env_config).is_multi_agent
