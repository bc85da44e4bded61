"""An RLModule's policy and value function on arrays: compiled for multi-layer perceptrons, plain torch for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.torch.heads import TorchMLPHead
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import nn

from tuner.ppo import kernels

Array = npt.NDArray[Any]
Layer = tuple[int, int, int, int, int, int, int]  # a row of the kernels' layer tables
MODULE = "default_policy"
# RLlib's names of what both paths say of the last minibatch.
_STATISTICS = ("policy_loss", "vf_loss", "vf_loss_unclipped", "entropy", "mean_kl_loss", "vf_explained_var")
# Beyond this width of a layer torch's own products are worth their overhead.
WIDEST_COMPILED = 512
_ACTIVATIONS = {nn.ReLU: kernels.RELU, nn.Tanh: kernels.TANH, nn.SiLU: kernels.SILU}
_CLIP_BY = {"global_norm": kernels.BY_GLOBAL_NORM, "norm": kernels.BY_NORM, "value": kernels.BY_VALUE}


class NotOnArrays(Exception):
    """An environment or a module that needs a slower path; the message says why."""


@dataclass
class Batch:
    """One training batch: `rows[i]` is the slot of the sampler's arrays that the batch's i-th row is in.

    The rows are episode chunks one after another, in RLlib's order, each ended by a row that is not real: it holds the
    chunk's last observation and nothing else.
    """

    observations: Array  # (slots, features…) float32
    actions: Array  # (slots, dimensions) float32
    logps: Array  # (slots,) float32
    inputs: Array  # (slots, outputs) float32, the parameters of the action distributions
    rows: Array  # (rows,) int64
    is_real: Array  # (rows,) bool
    advantages: Array  # (rows,) float32
    targets: Array  # (rows,) float32


class ActorCritic(Protocol):
    """What sampling and updating need of a policy and its value function."""

    @property
    def is_bound(self) -> bool:
        """Whether it still works on the tensors that RLlib's module and optimiser have."""

    def bind(self) -> None:
        """Take over the tensors that loading a state put in the place of earlier ones."""

    def act(self, observations: Array, actions: Array, logps: Array, inputs: Array) -> None:
        """Sample actions for (environments, features…) observations into the other arrays."""

    def values(self, observations: Array, rows: Array) -> Array:
        """The (rows,) float32 values of `observations[rows]`."""

    def update(self, batch: Batch) -> Mapping[str, float]:
        """Train on a batch and return the last minibatch's statistics.

        Raises:
            FloatingPointError: a loss or a parameter is not finite.
        """

    def get_state(self) -> dict[str, Any]:
        """The generator's state and what else RLlib's own checkpoint does not hold; the optimiser is up to date."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over `get_state`'s state."""


@dataclass(frozen=True)
class ActionSpace:
    """How a Gymnasium action space lies in arrays."""

    dimensions: int
    choices: tuple[int, ...]  # the actions in each dimension; empty for a Box

    @classmethod
    def of(cls, space: gymnasium.Space[Any]) -> ActionSpace:
        """The layout of a Discrete, MultiDiscrete or Box space.

        Raises:
            NotOnArrays: another space.
        """
        if isinstance(space, gymnasium.spaces.Discrete):
            return cls(1, (int(space.n),))
        if isinstance(space, gymnasium.spaces.MultiDiscrete) and space.nvec.ndim == 1:
            return cls(len(space.nvec), tuple(map(int, space.nvec)))
        if isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.floating):
            return cls(int(np.prod(space.shape)), ())
        raise NotOnArrays(f"actions are {space}")

    @property
    def outputs(self) -> int:
        """How many numbers parameterise the action distribution."""
        return sum(self.choices) or 2 * self.dimensions


class CompiledActorCritic:
    """A multi-layer perceptron in compiled kernels, on RLlib's own parameters and Adam's own moments, in place.

    Both become views of flat arrays, so that RLlib's module, optimiser and checkpoints are always up to date.
    """

    def __init__(self, learner: Any, config: Any, space: ActionSpace, seed: int) -> None:
        """Take over a PPOTorchLearner's module and optimiser.

        Raises:
            NotOnArrays: the module is not a multi-layer perceptron that the kernels know.
        """
        self._learner = learner
        self._config = config
        self._module = learner.module[MODULE].unwrapped()
        policy, value, self._log_std_limit = _layers(self._module)
        self._policy, self._value = np.array(policy, np.int64), np.array(value, np.int64)
        self._layers = np.array(list(dict.fromkeys([*policy, *value])), np.int64)  # a shared trunk once
        self._heads = np.array([policy[-1][kernels.TARGET], value[-1][kernels.TARGET]])
        self._choices = np.array(space.choices, np.int64)
        self._random = np.random.SeedSequence(seed).generate_state(4, np.uint64)
        units = int(self._layers[-1, kernels.TARGET] + self._layers[-1, kernels.OUTPUTS])
        widest = max(config.num_envs_per_env_runner, kernels.PANEL)
        self._scratch = _zeros(3, units * kernels.columns_for(widest))
        self._statistics = np.zeros(kernels.STATISTICS)
        self.bind()

    def bind(self) -> None:
        """Move parameters and moments into flat arrays and make RLlib's tensors views of them; see ActorCritic."""
        (self._optimizer,) = (optimizer for _, optimizer in self._learner.get_optimizers_for_module(MODULE))
        (self._group,) = self._optimizer.param_groups
        self._tensors_of = list(self._module.parameters())
        sizes = [tensor.numel() for tensor in self._tensors_of]
        ends = np.cumsum(sizes)
        self._tensors = np.stack([ends - sizes, ends], axis=1)
        flat = [torch.from_numpy(_zeros(int(ends[-1]))) for _ in range(3)]
        step = 0.0
        for tensor, (start, end) in zip(self._tensors_of, self._tensors, strict=True):
            state = self._optimizer.state[tensor]
            olds = (tensor.data, state.get("exp_avg"), state.get("exp_avg_sq"))
            views = [whole[start:end].view(tensor.shape) for whole in flat]
            for view, old in zip(views, olds, strict=True):
                if old is not None:
                    view.copy_(old)
            tensor.data = views[0]
            step = float(state.get("step", 0.0))
            state.update(step=torch.tensor(step), exp_avg=views[1], exp_avg_sq=views[2])
        self._parameters, self._first, self._second = (whole.numpy() for whole in flat)
        self._gradients = _zeros(len(self._parameters))
        self._step = int(step)

    @property
    def is_bound(self) -> bool:
        """See ActorCritic."""
        address = self._parameters.ctypes.data
        return all(
            tensor.data_ptr() == address + 4 * start
            for tensor, (start, _) in zip(self._tensors_of, self._tensors, strict=True)
        )

    def act(self, observations: Array, actions: Array, logps: Array, inputs: Array) -> None:
        """See ActorCritic."""
        kernels.act(
            self._policy, self._parameters, self._scratch, self._choices, self._log_std_limit,
            observations, self._random, actions, logps, inputs,
        )  # fmt: skip

    def values(self, observations: Array, rows: Array) -> Array:
        """See ActorCritic."""
        values = np.empty(len(rows), np.float32)
        kernels.values_of(self._value, self._parameters, self._scratch, observations, rows, values)
        return values

    def update(self, batch: Batch) -> dict[str, float]:
        """See ActorCritic."""
        config, group = self._config, self._group
        entropy_coeff = float(self._learner.entropy_coeff_schedulers_per_module[MODULE].get_current_value())
        kl_coeff = float(self._learner.curr_kl_coeffs_per_module[MODULE]) if config.use_kl_loss else -1.0
        self._step = kernels.update(
            self._layers, self._tensors, self._heads, self._parameters, self._first, self._second, self._step,
            self._gradients, self._scratch, self._choices, self._log_std_limit,
            batch.observations, batch.rows, batch.actions, batch.logps, batch.inputs,
            batch.is_real, batch.advantages, batch.targets,
            config.num_epochs, config.minibatch_size or len(batch.rows),
            bool(config.shuffle_batch_per_epoch and config.num_epochs > 1), self._random,
            float(group["lr"]), *group["betas"], group["eps"],
            _CLIP_BY[config.grad_clip_by] if config.grad_clip else kernels.BY_NOTHING, float(config.grad_clip or 0.0),
            float(config.clip_param), float(config.vf_clip_param), float(config.vf_loss_coeff),
            entropy_coeff, kl_coeff, self._statistics,
        )  # fmt: skip
        statistics = dict(zip((*_STATISTICS, "total_loss"), self._statistics.tolist(), strict=True))
        if not config.use_kl_loss:
            statistics["mean_kl_loss"] = 0.0  # as RLlib, which then does not compute it
        if not np.isfinite(statistics["total_loss"]):
            raise FloatingPointError(f"non-finite total_loss ({statistics['total_loss']})")
        if not kernels.is_finite(self._parameters.view(np.uint32)):
            raise FloatingPointError("non-finite parameter of the network")
        return statistics

    def get_state(self) -> dict[str, Any]:
        """See ActorCritic."""
        for tensor in self._tensors_of:
            self._optimizer.state[tensor]["step"].fill_(float(self._step))
        return {"random": [int(word) for word in self._random]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See ActorCritic."""
        self._random[:] = np.array(state["random"], np.uint64)


def _zeros(*shape: int) -> Array:
    """float32 zeros that begin a cache line, as torch allocates them: a load that crosses two lines takes twice."""
    zeros: Array = torch.zeros(shape).numpy()
    return zeros


def _layers(module: Any) -> tuple[list[Layer], list[Layer], float]:
    """The rows of the policy's and of the value function's layer tables, and the limit of log standard deviations.

    Raises:
        NotOnArrays: the module is another one than RLlib's default, or not made of layers that the kernels know.
    """
    if type(module) is not DefaultPPOTorchRLModule:
        raise NotOnArrays(f"the module is a {type(module).__name__}")
    offsets, at = {}, 0
    for tensor in module.parameters():
        offsets[tensor] = at
        at += tensor.numel()
    encoder = module.encoder
    trunks = [encoder.encoder] * 2 if hasattr(encoder, "encoder") else [encoder.actor_encoder, encoder.critic_encoder]
    for head in (module.pi, module.vf):
        if type(head) is not TorchMLPHead:
            raise NotOnArrays(f"its head is a {type(head).__name__}")
    chains = [(*_chain(trunk), *_chain(head)) for trunk, head in zip(trunks, (module.pi, module.vf), strict=True)]
    row = chains[0][0][0].in_features
    targets: dict[nn.Linear, int] = {}
    tables = []
    for chain in chains:
        source, table = 0, []
        for linear, activation in chain:
            if linear not in targets:
                targets[linear] = row
                row += linear.out_features
            table.append((linear.in_features, linear.out_features, offsets[linear.weight], offsets[linear.bias],
                          source, targets[linear], activation))  # fmt: skip
            source = targets[linear]
        tables.append(table)
    limit = float(module.pi.log_std_clip_param) if module.pi.clip_log_std else np.inf
    return tables[0], tables[1], limit


def _chain(model: Any) -> list[tuple[nn.Linear, int]]:
    """A multi-layer perceptron as pairs of a linear layer and the activation after it.

    Raises:
        NotOnArrays: it is something else.
    """
    layers = getattr(getattr(model, "net", None), "mlp", None)
    if layers is None:
        raise NotOnArrays(f"it has a {type(model).__name__}")
    chain: list[tuple[nn.Linear, int]] = []
    for layer in layers:
        if type(layer) is nn.Linear and layer.bias is not None:
            if layer.out_features > WIDEST_COMPILED:
                raise NotOnArrays(f"a layer has {layer.out_features} units, over {WIDEST_COMPILED}")
            chain.append((layer, kernels.LINEAR))
        elif type(layer) in _ACTIVATIONS and chain and chain[-1][1] == kernels.LINEAR:
            chain[-1] = (chain[-1][0], _ACTIVATIONS[type(layer)])
        else:
            raise NotOnArrays(f"it has a layer {layer}")
    return chain


class TorchActorCritic:
    """Any single-module RLModule in torch, with RLlib's own loss and optimiser, on arrays instead of episodes."""

    def __init__(self, learner: Any, config: Any, space: ActionSpace, seed: int) -> None:
        self._learner = learner
        self._config = config
        self._module = learner.module[MODULE].unwrapped()
        self._distribution = self._module.get_exploration_action_dist_cls()
        self._space = space
        self._generator = np.random.default_rng(seed)

    @property
    def is_bound(self) -> bool:
        """Always: torch looks its tensors up."""
        return True

    def bind(self) -> None:
        """Nothing to do."""

    def act(self, observations: Array, actions: Array, logps: Array, inputs: Array) -> None:
        """See ActorCritic."""
        with torch.no_grad():
            made = self._module.forward_exploration({Columns.OBS: torch.from_numpy(observations)})
            parameters = made[Columns.ACTION_DIST_INPUTS]
            distribution = self._distribution.from_logits(parameters)
            sampled = distribution.sample()
            logps[:] = distribution.logp(sampled).numpy()
        actions[:] = sampled.numpy().reshape(actions.shape)
        inputs[:] = parameters.numpy()

    def values(self, observations: Array, rows: Array) -> Array:
        """See ActorCritic."""
        with torch.no_grad():
            values: Array = self._module.compute_values({Columns.OBS: torch.from_numpy(observations[rows])}).numpy()
        return values

    def update(self, batch: Batch) -> dict[str, float]:
        """See ActorCritic."""
        tensors = {
            Columns.OBS: batch.observations[batch.rows],
            Columns.ACTIONS: self._taken(batch.actions[batch.rows]),
            Columns.ACTION_LOGP: batch.logps[batch.rows],
            Columns.ACTION_DIST_INPUTS: batch.inputs[batch.rows],
            Columns.LOSS_MASK: batch.is_real,
            Postprocessing.ADVANTAGES: batch.advantages,
            Postprocessing.VALUE_TARGETS: batch.targets,
        }
        columns = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in tensors.items()}
        loss = torch.tensor(0.0)
        for picked in self._minibatches(len(batch.rows)):
            index = torch.from_numpy(picked)
            minibatch = {MODULE: {name: column[index] for name, column in columns.items()}}
            _, losses, _ = self._learner._uncompiled_update(minibatch)
            loss = losses[MODULE].detach()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"non-finite total_loss ({float(loss)})")
        if not all(torch.isfinite(tensor).all() for tensor in self._module.parameters()):
            raise FloatingPointError("non-finite parameter of the network")
        found = self._learner.metrics.peek(MODULE)
        return {name: float(torch.as_tensor(found[name]).detach()) for name in _STATISTICS} | {
            "total_loss": float(loss)
        }

    def _taken(self, actions: Array) -> Array:
        """Actions in the form that RLlib's distributions take."""
        if not self._space.choices:
            return actions
        whole = actions.astype(np.int64)
        return whole if len(self._space.choices) > 1 else whole[:, 0]

    def _minibatches(self, size: int) -> Iterator[Array]:
        """The rows of each minibatch, as RLlib's MiniBatchCyclicIterator picks them."""
        config = self._config
        minibatch_size = config.minibatch_size or size
        order, position, epochs = np.arange(size), 0, 0
        while epochs < config.num_epochs:
            picked: list[Array] = []
            missing = minibatch_size
            while missing:
                part = order[position : position + missing]
                picked.append(part)
                missing -= len(part)
                position += len(part)
                if position == size:
                    position, epochs = 0, epochs + 1
                    if config.shuffle_batch_per_epoch and config.num_epochs > 1:
                        order = self._generator.permutation(order)
            yield np.concatenate(picked)

    def get_state(self) -> dict[str, Any]:
        """See ActorCritic."""
        return {"generator": self._generator.bit_generator.state, "torch": torch.get_rng_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See ActorCritic."""
        self._generator.bit_generator.state = state["generator"]
        torch.set_rng_state(state["torch"])
