"""Environments of this project's own. Importing this package registers them with Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from tuner.errors import UsageError

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


def check_no_policy(env: str, *env_configs: Mapping[str, Any]) -> None:
    """Refuse an environment that plays against the policy of an earlier run: reading one can run code.

    Raises:
        UsageError: it does, in one of its `env_configs`.
    """
    if not env.startswith(NAMESPACE):
        return
    from tuner.envs.soccer.opponents import SCRIPTS

    for opponent in (env_config.get("opponent", "random") for env_config in env_configs):
        if opponent not in SCRIPTS:
            raise UsageError(
                f"env_config opponent = {opponent!r}: is an earlier run, and reading its policy runs whatever code its "
                "maker put into it; add --trust if you trust whoever made it"
            )


def is_multi_agent(env: str, env_config: Mapping[str, Any]) -> bool:
    """Whether several agents play in it; only environments of ours may."""
    if not env.startswith(NAMESPACE):
        return False
    from tuner.envs.soccer.settings import Settings

    return Settings.of(env_config).is_multi_agent
