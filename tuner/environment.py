"""Whether PPO can train on an environment, checked before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium import spaces

from tuner import envs
from tuner.catalog import first_line
from tuner.errors import SweepError, UsageError, nearest


def make(env: str, env_config: Mapping[str, Any], **options: Any) -> gymnasium.Env[Any, Any]:
    """The environment.

    Raises:
        UsageError: it does not exist or cannot be made.
    """
    try:
        return gymnasium.make(envs.anywhere(env), **env_config, **options)
    except SweepError:
        raise
    except (gymnasium.error.NameNotFound, gymnasium.error.VersionNotFound, gymnasium.error.NamespaceNotFound) as error:
        hint = nearest(env, gymnasium.registry)
        raise UsageError(f"env {env!r}: Gymnasium has no such environment: {first_line(error)}{hint}") from error
    except Exception as error:  # an environment's constructor is anybody's code
        raise UsageError(
            f"env {env!r}: cannot be made with {dict(env_config)}: {type(error).__name__}: {first_line(error)}"
        ) from error


def check(env: str, env_config: Mapping[str, Any]) -> None:
    """Make the environment once and look at its spaces.

    Raises:
        UsageError: it cannot be made, or RLlib's PPO cannot use its observations or actions.
    """
    made = make(env, env_config)
    observation, action = made.observation_space, made.action_space
    if envs.is_multi_agent(env, env_config):  # all agents have one policy, and so the same spaces
        observation, action = (next(iter(space.values())) for space in (observation, action))  # type: ignore[attr-defined]
    made.close()
    if not (isinstance(observation, spaces.Box) and len(observation.shape) in (1, 3)):
        raise UsageError(
            f"env {env!r}: its observations are {observation}, PPO needs a Box of 1 dimension, or of 3 for images; "
            "register the environment with gymnasium.wrappers.FlattenObservation around it"
        )
    if not isinstance(action, (spaces.Discrete, spaces.MultiDiscrete, spaces.Box)):
        raise UsageError(
            f"env {env!r}: its actions are {action}, PPO needs Discrete, MultiDiscrete or Box actions; wrap them"
        )
