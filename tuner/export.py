"""The ways on from a run: a script that trains the same in plain RLlib, and the policy alone as TorchScript."""

from __future__ import annotations

import io
import math
import sys
import warnings
from collections.abc import Mapping
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from tuner import envs
from tuner.catalog import first_line
from tuner.errors import ExportFailed
from tuner.files import write_atomic
from tuner.policy import load_policy
from tuner.training import RunConfig

_WIDTH = 120
_RUNNERS = ("num_env_runners", "num_envs_per_env_runner", "rollout_fragment_length")
_NETWORK = ("fcnet_hiddens", "fcnet_activation", "vf_share_layers")
_TRAINING = (  # a line of the script each
    ("train_batch_size_per_learner", "minibatch_size", "num_epochs", "shuffle_batch_per_epoch"),
    ("lr", "gamma", "lambda_", "use_critic", "use_gae"),
    ("clip_param", "vf_clip_param", "vf_loss_coeff", "entropy_coeff"),
    ("use_kl_loss", "kl_coeff", "kl_target", "grad_clip", "grad_clip_by"),
)
_BATCHES = (1, 2, 7, 64)
_TOLERANCE = 1e-6


def rllib_script(config: Mapping[str, Any]) -> str:
    """A script that trains a run's configuration, as `config.json` holds it, in plain RLlib.

    Where the run's engine was `rllib` it gives the very episodes of the run, as long as the run was never resumed:
    RLlib seeds all generators itself, and one thread of torch adds up as a trial's does.

    Raises:
        ExportFailed: several agents play.
    """
    run = RunConfig.from_json(config)
    if envs.is_multi_agent(run.env, run.env_config):
        raise ExportFailed(f"{run.env}: the script counts the episodes of one agent, and here several play")
    goal = run.goal
    script = _chosen(_SCRIPT, {"same": run.engine == "rllib", "steps": goal.max_steps is not None})
    return Template(script).substitute(
        ray=version("ray"),
        torch=version("torch").partition("+")[0],
        threshold=_code(math.inf if goal.threshold is None else goal.threshold),
        window=_code(goal.window),
        max_episodes=_code(goal.max_episodes),
        max_steps=_code(goal.max_steps),
        runners=max(1, run.params["num_env_runners"]),
        seed=_code(run.seed),
        calls="\n".join(f"    {_code(call, 4, _WIDTH - 4)}" for call in _calls(run)),
    )


def write_policy(checkpoint: Path, target: Path) -> None:
    """Write the policy of a verified RLlib checkpoint to `target`, for `torch.jit.load` where torch alone is installed.

    It takes observations as float32 of shape [batch, *observation shape] and returns the inputs of the action
    distribution, of shape [batch, n]. From these follows the action:

    - Discrete(n): n logits; the likeliest action is the argmax.
    - MultiDiscrete([a, b, ...]): a logits, then b, ...; the likeliest action is the argmax of each group.
    - Box of d numbers: d means, then d logarithms of standard deviations; the likeliest action is the mean x. Where
      the Box has bounds, RLlib's policies act in [-1, 1]: the environment gets low + (x + 1) / 2 * (high - low),
      clipped to [low, high]; where it has none, it gets x.

    Torch calls TorchScript deprecated and supports it up to Python 3.13, as this project does. Still it is the better
    file: written in a tenth of a second without torch's compiler. `torch.export` takes seconds and warns that later
    versions may not read what it saved; ONNX needs further packages at both ends.

    Raises:
        ExportFailed: the policy cannot be traced, or what was traced differs from RLlib's; nothing was written.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module = load_policy(checkpoint)
            data = _traced(module)
            difference = _difference(module, torch.jit.load(io.BytesIO(data)))
        except Exception as error:  # a policy may be anybody's code
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ExportFailed(f"{checkpoint}: its policy cannot be written as TorchScript: {reason}") from error
    if not difference <= _TOLERANCE:
        raise ExportFailed(f"{checkpoint}: its policy as TorchScript differs from RLlib's by {difference:g}")
    write_atomic(target, data)


class _Call(NamedTuple):
    """A call to be written as code."""

    name: str
    arguments: Mapping[str, Any]


def _calls(run: RunConfig) -> list[_Call]:
    """What sets every parameter of PPOConfig that `tuner.ppo.config` sets."""
    training = dict(run.params)
    runners = {name: training.pop(name) for name in _RUNNERS}
    network = {name: training.pop(name) for name in _NETWORK}
    training["train_batch_size_per_learner"] = training.pop("train_batch_size")
    anneal_steps = training.pop("lr_anneal_steps")
    if anneal_steps is not None:
        training["lr"] = [[0, training["lr"]], [anneal_steps, 0.0]]
    env_config = {"env_config": run.env_config} if run.env_config else {}
    lines = [{name: training.pop(name) for name in names if name in training} for names in _TRAINING] + [training]
    return [
        _Call(".environment", {"env": envs.anywhere(run.env)} | env_config),
        _Call(".env_runners", runners),
        *(_Call(".training", line) for line in lines if line),
        _Call(".rl_module", {"model_config": _Call("DefaultModelConfig", network)}),
    ]


def _code(value: Any, indent: int = 0, room: int = _WIDTH) -> str:
    """A plain value as code: on one line where it fits into `room`, else an item a line."""
    if isinstance(value, _Call):
        opening, items, closing = f"{value.name}(", [(f"{name}=", item) for name, item in value.arguments.items()], ")"
    elif isinstance(value, Mapping):
        opening, items, closing = "{", [(f"{_code(key)}: ", item) for key, item in value.items()], "}"
    elif isinstance(value, (list, tuple)):  # a tuple is a list in config.json
        opening, items, closing = "[", [("", item) for item in value], "]"
    else:
        return _literal(value)
    line = opening + ", ".join(name + _code(item, room=sys.maxsize) for name, item in items) + closing
    if len(line) <= room or not items:
        return line
    pad = " " * (indent + 4)
    lines = [f"{pad}{name}{_code(item, len(pad), _WIDTH - len(pad) - len(name) - 1)},\n" for name, item in items]
    return f"{opening}\n{''.join(lines)}{' ' * indent}{closing}"


def _literal(value: Any) -> str:
    """A number, text, truth or None as a person would write it, and as Python reads it back equal."""
    if isinstance(value, str):
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if isinstance(value, float):
        if not math.isfinite(value):
            return f'float("{value}")'
        if value and not 1e-3 <= abs(value) < 1e5:
            return f"{Decimal(repr(value)).normalize():e}".replace("e+", "e")
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:_}"
    return repr(value)


def _chosen(text: str, parts: Mapping[str, bool]) -> str:
    """`text` with the lines from `#? name` to `#? else` or `#? end` where `parts` holds the name, else the others."""
    kept, is_kept = [], True
    for line in text.splitlines(keepends=True):
        mark, _, name = line.strip().partition(" ")
        if mark == "#?":
            is_kept = name == "end" or (not is_kept if name == "else" else parts[name])
        elif is_kept:
            kept.append(line)
    return "".join(kept)


def _traced(module: Any) -> bytes:
    """A policy as TorchScript, without its value network.

    Raises:
        ValueError: it keeps a state, or branches on what it sees, of which a trace knows one branch only.
    """
    import torch
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    class Policy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            spec = RLModuleSpec.from_module(module)
            spec.inference_only = True
            self.module = spec.build()
            self.module.set_state(module.get_state())

        def forward(self, observations: Any) -> Any:
            return self.module.forward_inference({"obs": observations})["action_dist_inputs"]

    if module.is_stateful():
        raise ValueError("it keeps a state from step to step")
    policy = Policy().eval().requires_grad_(False)
    with warnings.catch_warnings(record=True) as caught:
        # Its own check, of one batch, would import torch.distributed; `_difference` checks more.
        traced = torch.jit.trace(policy, torch.zeros(2, *module.observation_space.shape), check_trace=False)
    for warning in caught:
        if issubclass(warning.category, torch.jit.TracerWarning):
            raise ValueError(str(warning.message))
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    return buffer.getvalue()


def _difference(module: Any, policy: Any) -> float:
    """How far the outputs of the two lie apart at most, for random observations."""
    import torch

    generator = torch.Generator().manual_seed(0)
    differences = []
    for size in _BATCHES:
        batch = torch.randn(size, *module.observation_space.shape, generator=generator)
        ours, theirs = policy(batch), module.forward_inference({"obs": batch})["action_dist_inputs"]
        differences.append((ours - theirs).abs().max() if ours.shape == theirs.shape else torch.tensor(math.inf))
    return float(torch.stack(differences).max())  # NaN where one is


_SCRIPT = '''\
"""Trains the configuration of config.yaml, beside this file, in plain RLlib: `python rllib.py`.

#? same
The run it comes from was trained by RLlib too: the same versions and kind of machine give the same episodes.
#? else
The run it comes from was trained by a faster engine with other random numbers: expect what another seed would give.
#? end
Needs ray[rllib], torch and the environment, nothing else; written for ray $ray and torch $torch.
"""

from itertools import chain
from math import nan
from statistics import fmean

import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

THRESHOLD = $threshold
WINDOW = $window
MAX_EPISODES = $max_episodes
#? steps
MAX_STEPS = $max_steps
#? end


#? steps
def count_step(env_runner, **kwargs):
    env_runner.steps = getattr(env_runner, "steps", 0) + $runners


#? end
def note_episode(episode, prev_episode_chunks, env_runner, **kwargs):
    # RLlib cuts an episode into chunks where an iteration ends; these are all of them.
    rewards = [float(reward) for chunk in [*prev_episode_chunks, episode] for reward in chunk.get_rewards()]
    #? steps
    ended = (sum(rewards), episode.t, env_runner.steps)
    #? else
    ended = (sum(rewards), episode.t)
    #? end
    env_runner.__dict__.setdefault("ended", []).append(ended)


def take_ended(env_runner):
    return env_runner.__dict__.pop("ended", [])


config = (
    PPOConfig()
$calls
    #? steps
    .callbacks(on_episode_step=count_step, on_episode_end=note_episode)
    #? else
    .callbacks(on_episode_end=note_episode)
    #? end
    .debugging(seed=$seed)
)


def mean_reward(episodes):
    return fmean(episode[0] for episode in episodes[-WINDOW:]) if episodes else nan


def is_over(episodes):
    is_reached = len(episodes) >= WINDOW and mean_reward(episodes) >= THRESHOLD
    return is_reached or len(episodes) >= MAX_EPISODES


def train():
    """Train to the end, and return the reward and the length of every episode in the order of ending."""
    torch.set_num_threads(1)  # small networks are fastest so
    ray.init("local", include_dashboard=False)
    algorithm = config.build_algo()
    #? steps
    episodes, steps = [], 0
    while not is_over(episodes) and steps < MAX_STEPS:
        result = algorithm.train()
        steps = result["env_runners"]["num_env_steps_sampled_lifetime"]
        for episode in chain(*algorithm.env_runner_group.foreach_env_runner(take_ended)):
            if not is_over(episodes) and episode[2] <= MAX_STEPS:
                episodes.append(episode)
    #? else
    episodes = []
    while not is_over(episodes):
        result = algorithm.train()
        for episode in chain(*algorithm.env_runner_group.foreach_env_runner(take_ended)):
            if not is_over(episodes):
                episodes.append(episode)
    #? end
        if result["training_iteration"] % 10 == 0:
            print(f"{len(episodes)} episodes, mean reward {mean_reward(episodes):.1f}")
    algorithm.stop()
    return episodes


if __name__ == "__main__":
    episodes = train()
    print(f"mean reward {mean_reward(episodes):.1f} after {len(episodes)} episodes; the threshold is {THRESHOLD}")
'''
