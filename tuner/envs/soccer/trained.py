"""A team as an earlier run trained it: from a run folder to arrays, and to an opponent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.catalog import first_line
from tuner.envs.soccer.matches import Matches
from tuner.envs.soccer.opponents import Actions, Still
from tuner.envs.soccer.policy import Team
from tuner.errors import UsageError
from tuner.policy import load_policy, policy_folder

ENV = "tuner/SoccerTwos-v0"


class Trained(Still):
    """An opponent that plays by the best policy of an earlier run."""

    def __init__(self, run: Path, matches: int) -> None:
        """Load the team of a run folder's best trial, or of one trial.

        Raises:
            UsageError, StateError: see `arrays_of`.
        """
        super().__init__(matches)
        self._team = Team(arrays_of(run))

    def act(self, matches: Matches, team: int) -> Actions:
        """The likeliest actions for what the team's two players see."""
        self._actions[:] = self._team.act(matches.observations[:, 2 * team : 2 * team + 2])
        return self._actions


def arrays_of(run: Path) -> dict[str, NDArray[Any]]:
    """What a `Team` is made from, for a run folder's best trial, or for one trial.

    Raises:
        UsageError: it is no run, or its policy is not one that a `Team` can play by.
        StateError: its checkpoint does not verify; nothing of it was read.
    """
    checkpoint, config = policy_folder(run)
    if config["env"] != ENV:
        raise UsageError(f"{run}: trained on {config['env']!r}, not on {ENV!r}; name a run of Soccer-Twos")
    try:
        arrays = _arrays(load_policy(checkpoint))
        arrays["single_player"] = np.array(_is_single(config["env_config"]))
        Team(arrays)
    except Exception as error:  # a policy may be anybody's code
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(
            f"{run}: its policy cannot play in a team: {reason}; name a run of RLlib's default multi-layer perceptron"
        ) from error
    return arrays


def _is_single(env_config: Mapping[str, Any]) -> bool:
    """Whether the policy moved one player while the other stood still, which no multi-agent variation has."""
    return bool(env_config.get("single_player")) and "multiagent" not in str(env_config.get("variation"))


def _arrays(module: Any) -> dict[str, NDArray[Any]]:
    """The policy of RLlib's default module as an `ArrayPolicy` takes it, without its value network.

    Raises:
        ValueError: it is not a multi-layer perceptron, or its actions are not Discrete or MultiDiscrete.
    """
    from gymnasium import spaces
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
    from torch import nn

    names = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.SiLU: "silu", nn.ELU: "elu"}
    space = module.action_space
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        choices = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    else:
        raise ValueError(f"its actions are {space}")
    if type(module) is not DefaultPPOTorchRLModule:
        raise ValueError(f"it is a {type(module).__name__}")
    if module.is_stateful():
        raise ValueError("it keeps a state from step to step")
    # A value network of its own has an encoder of its own.
    trunk = getattr(module.encoder, "encoder", None) or module.encoder.actor_encoder
    arrays, layers = {"choices": choices.astype(np.int64)}, -1
    for part in (trunk, module.pi):
        for layer in getattr(part.net, "mlp", [part]):
            if type(layer) is nn.Linear:
                layers += 1
                arrays[f"weight_{layers}"] = layer.weight.detach().numpy().copy()
                arrays[f"bias_{layers}"] = layer.bias.detach().numpy().copy()
                arrays[f"activation_{layers}"] = np.array("linear")
            elif type(layer) in names and layers >= 0 and arrays[f"activation_{layers}"] == "linear":
                arrays[f"activation_{layers}"] = np.array(names[type(layer)])
            else:
                raise ValueError(f"it has a {type(layer).__name__}")
    return arrays
