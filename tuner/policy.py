"""A run's policy: found, verified, loaded, and made greedy on arrays. Knows no environment."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import StateError, UsageError
from tuner.files import manifest_problem
from tuner.layout import ran_elsewhere

if TYPE_CHECKING:
    import gymnasium
    from ray.rllib.core.rl_module import RLModule

# From (n, *observation shape), taken as float32, to n actions as the environment takes them: (n,) int64 for Discrete,
# (n, dimensions) int64 for MultiDiscrete, (n, *action shape) floats within its bounds for a Box.
Policy = Callable[[NDArray[Any]], NDArray[Any]]


def policy_folder(run: Path) -> tuple[Path, dict[str, Any]]:
    """The verified checkpoint of a run folder's best trial, or of one trial, and the trial's configuration.

    Raises:
        UsageError: there is none.
        StateError: it does not verify; nothing of it was read.
    """
    import yaml

    if (run / "best" / "config.yaml").is_file():
        folder, config = run / "best" / "checkpoint", yaml.safe_load((run / "best" / "config.yaml").read_text())
    elif (run / "config.json").is_file():
        folder, config = run / "checkpoint", json.loads((run / "config.json").read_bytes())
    else:
        raise UsageError(f"{run}: has neither best/ nor config.json; name a run folder whose sweep completed a trial")
    if not folder.is_dir():
        raise UsageError(f"{folder}: no checkpoint there; {_remedy(run)}")
    if problem := manifest_problem(folder.resolve()):
        raise StateError(f"{folder}: does not verify ({problem}); `python -m tuner.report {run}` writes best/ again")
    return folder.resolve(), config


def _remedy(run: Path) -> str:
    """What to do about a run folder without its best trial's checkpoint."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        best = json.loads((run / "summary.json").read_bytes())["best"]
        return f"{ran_elsewhere(best['number'], best['elsewhere'])}; play it there"
    return f"`python -m tuner.report {run}` writes best/ again"


def load_policy(checkpoint: Path) -> RLModule:
    """The policy of an RLlib checkpoint, without the algorithm around it."""
    import warnings

    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.rllib.core import DEFAULT_MODULE_ID
        from ray.rllib.core.rl_module import RLModule

        from tuner.ppo.config import SHARED_POLICY

        # RLlib warns of its own checkpoints' contents.
        logging.getLogger("ray").setLevel(logging.ERROR)
        # RLlib takes a relative path for a URI.
        modules = checkpoint.absolute() / "learner_group" / "learner" / "rl_module"
        names = (DEFAULT_MODULE_ID, SHARED_POLICY)
        return RLModule.from_checkpoint(next((modules / name for name in names if (modules / name).is_dir()), modules))


def greedy(module: RLModule, space: gymnasium.Space[Any]) -> Policy:
    """The policy that always takes the module's most likely action, in one environment's action space."""
    import torch
    from gymnasium import spaces
    from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

    distribution = module.get_inference_action_dist_cls()
    is_box = isinstance(space, spaces.Box)
    # RLlib's policies act in [-1, 1] where a Box has bounds.
    fit = unsquash_action if is_box and space.is_bounded() else clip_action  # type: ignore[attr-defined]

    def policy(observations: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            batch = {"obs": torch.from_numpy(np.asarray(observations, dtype=np.float32))}
            inputs = module.forward_inference(batch)["action_dist_inputs"]
            actions: NDArray[Any] = distribution.from_logits(inputs).to_deterministic().sample().numpy()
        return np.asarray(fit(actions, space)) if is_box else actions

    return policy
