"""From a trial's parameters to RLlib's PPOConfig on the current API stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from tuner import envs

_MODEL = ("fcnet_hiddens", "fcnet_activation", "vf_share_layers")
SHARED_POLICY = "shared_policy"  # of several agents; one agent's is RLlib's `default_policy`
_RUNNERS = ("num_env_runners", "num_envs_per_env_runner", "rollout_fragment_length")


def ppo_config(
    env: str, params: Mapping[str, Any], *, seed: int, env_config: Mapping[str, Any] | None = None, gpus: float = 0
) -> PPOConfig:
    """RLlib's configuration of one run; `lr_anneal_steps` becomes RLlib's piecewise-linear `lr`."""
    training = {key: value for key, value in params.items() if key not in (*_MODEL, *_RUNNERS, "lr_anneal_steps")}
    training["train_batch_size_per_learner"] = training.pop("train_batch_size")
    if params["lr_anneal_steps"] is not None:
        training["lr"] = [[0, params["lr"]], [params["lr_anneal_steps"], 0.0]]
    config = (
        PPOConfig()
        .environment(envs.anywhere(env), env_config=dict(env_config or {}))
        .env_runners(**{key: params[key] for key in _RUNNERS})
        .learners(num_gpus_per_learner=gpus)
        .training(**training)
        .rl_module(model_config=DefaultModelConfig(**{key: params[key] for key in _MODEL}))
        # Without its monitor of the machine, for which each algorithm's end would wait 0.7 s.
        .debugging(seed=seed, log_level="ERROR", log_sys_usage=False)
    )
    if envs.is_multi_agent(env, env_config or {}):  # one policy for all: they play the same game
        config.multi_agent(policies={SHARED_POLICY}, policy_mapping_fn=lambda agent, episode, **_: SHARED_POLICY)
    config.freeze()
    return config
