"""Run folders of Soccer-Twos with policies by chance, as a finished training leaves them, without the training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from tuner.envs.soccer.settings import Settings
from tuner.files import write_manifest

# What a policy may have been trained as.
VARIATIONS: dict[str, dict[str, Any]] = {
    f"{name}{'-flat' if is_flat else ''}": env_config | {"flatten_branched": is_flat}
    for is_flat in (False, True)
    for name, env_config in {
        "single": {"variation": "team_vs_policy", "single_player": True},
        "both": {"variation": "team_vs_policy"},
        "team": {"variation": "multiagent_team"},
        "player": {"variation": "multiagent_player"},
    }.items()
}


def run_of(
    folder: Path,
    env_config: dict[str, Any],
    *,
    env: str = "tuner/SoccerTwos-v0",
    observations: gymnasium.Space[Any] | None = None,
    actions: gymnasium.Space[Any] | None = None,
    kind: type[DefaultPPOTorchRLModule] = DefaultPPOTorchRLModule,
    seed: int = 0,
    **network: Any,
) -> DefaultPPOTorchRLModule:
    """Make `folder` a trial's, with a policy for the variation's spaces unless others are given; returns the policy."""
    seat = Settings.of(env_config).seats[0]
    torch.manual_seed(seed)
    module = kind(
        observation_space=observations or seat.observation_space,
        action_space=actions or seat.action_space,
        model_config=dataclasses.asdict(DefaultModelConfig(**{"fcnet_hiddens": [24, 16], **network})),
    )
    checkpoint = folder.absolute() / "checkpoint"  # RLlib takes a relative path for a URI
    module.save_to_path(checkpoint / "learner_group/learner/rl_module/default_policy")
    write_manifest(checkpoint, {})
    (folder / "config.json").write_text(json.dumps({"env": env, "env_config": env_config}))
    return module


def seen(number: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What the two players of a team in `number` matches may see, (number, 2, 336)."""
    return np.random.default_rng(seed).random((number, 2, 336), np.float32)
