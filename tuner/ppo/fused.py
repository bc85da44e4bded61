"""`FusedPPO`: RLlib's PPO with sampling and updating on arrays. Same algorithm, same parameters, same checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow.fs
import torch
from gymnasium.vector import VectorEnv
from ray import cloudpickle
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_KL_KEY
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

from tuner.compiled import release_compiler
from tuner.envs.cartpole import CompiledCartPole
from tuner.episodes import Episode
from tuner.policy import Policy
from tuner.ppo.actor_critic import MODULE, ActionSpace, ActorCritic, CompiledActorCritic, NotOnArrays, TorchActorCritic
from tuner.ppo.rllib import STATISTICS, greedy_policy, seed_everything, stop
from tuner.ppo.sampler import ArraySampler, seconds_a_step

logger = logging.getLogger(__name__)

GYM_CARTPOLE = "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv"  # as Gymnasium's registry names it
COMPILED, TORCH, RLLIB = "compiled", "torch", "rllib"
# An environment whose step takes longer than this is stepped in processes of its own.
SLOW_STEP_S = 0.01
# Settings that the array path does not have; where one differs from PPOConfig's, RLlib's own path runs.
_NOT_ON_ARRAYS = (
    "num_env_runners", "num_learners", "num_gpus_per_learner", "num_gpus_per_env_runner", "batch_mode", "explore",
    "_learner_class", "env_runner_cls", "callbacks_class", "policies_to_train", "use_critic", "count_steps_by",
    "observation_filter", "remote_worker_envs", "compress_observations", "torch_skip_nan_gradients", "log_gradients",
    "_env_to_module_connector", "_module_to_env_connector", "_learner_connector", "input_",
    "add_default_connectors_to_env_to_module_pipeline", "add_default_connectors_to_module_to_env_pipeline",
    "add_default_connectors_to_learner_pipeline", "torch_compile_learner", "torch_compile_worker",
    "_torch_grad_scaler_class", "_torch_lr_scheduler_classes",
)  # fmt: skip
_ALSO_USUAL = {"env_runner_cls": (SingleAgentEnvRunner,)}  # RLlib puts it there when it builds


class FusedPPO(PPO):
    """RLlib's PPO, many times faster on one core for small networks and cheap environments.

    Use it as RLlib's own: `PPOConfig(algo_class=FusedPPO)`. `path` says what runs: `compiled` (multi-layer
    perceptrons), `torch` (any other single RLModule), or `rllib`, RLlib's own way, for what the arrays cannot do;
    `reason` says why it is not the one before. A checkpoint is one of RLlib's PPO and needs nothing of this project.
    """

    path: str
    reason: str | None
    config: Any  # PPOConfig; RLlib does not say so

    def setup(self, config: Any) -> None:
        """Build RLlib's PPO, then take over its module, optimiser and environment."""
        self._actor_critic: ActorCritic | None = None
        self._unlogged: list[Episode] = []
        self._unlogged_steps = 0
        self._iterations = 0
        # RLlib pickles the configuration into checkpoints, which are its own PPO's.
        self.config = self.config.copy(copy_frozen=False)
        self.config.algo_class = PPO
        self.path, self.reason = RLLIB, _why_not_on_arrays(self.config)
        if self.reason is None:
            seed = self._build_unseeded(config)
            try:
                self._take_over()
            except NotOnArrays as error:
                self.reason = str(error)
                self.env_runner._seed = seed
        else:
            super().setup(config)
        self.config.freeze()
        logger.info("FusedPPO, path %s%s", self.path, f": {self.reason}" if self.reason else "")

    def _build_unseeded(self, config: Any) -> int | None:
        """Build RLlib's PPO with the seed that its configuration names, but without importing torch's compiler.

        RLlib's seeding turns on torch's deterministic algorithms, which imports it; an optimiser imports it to say
        that it need not be traced. It takes two seconds and 65 MB in each process, for nothing that runs here.
        """
        for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
            untraced = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
            if untraced is not None:
                untraced.__dict__.setdefault("__dynamo_disable", untraced)
        seed: int | None = self.config.seed
        if seed is not None:
            seed_everything(seed)
        self.config.seed = None
        super().setup(config)
        self.config.seed = seed
        return seed

    def _take_over(self) -> None:
        """Build the sampler and the actor-critic.

        Raises:
            NotOnArrays: the environment or the module cannot be run on arrays; nothing was taken over.
        """
        runner, learner = self.env_runner, self.learner_group._learner
        space = ActionSpace.of(runner.env.single_action_space)
        observations = runner.env.single_observation_space
        if not isinstance(observations, gymnasium.spaces.Box):
            raise NotOnArrays(f"observations are {observations}")
        if learner.module[MODULE].unwrapped().is_stateful():
            raise NotOnArrays("the module has a state")
        seed = self.config.seed if self.config.seed is not None else int(np.random.default_rng().integers(2**31))
        sampler = ArraySampler(
            _vector_env(runner, self.config),
            space,
            fragment=self.config.get_rollout_fragment_length(),
            batch_size=self.config.total_train_batch_size,
            gamma=self.config.gamma,
            lambda_=self.config.lambda_,
            seed=self.config.seed,
            normalize_actions=self.config.normalize_actions,
            clip_actions=self.config.clip_actions,
        )
        self._actor_critic, self.path, self.reason = _actor_critic(learner, self.config, space, observations, seed)
        self._sampler = sampler
        self._share_parameters()

    def _share_parameters(self) -> None:
        """Let the environment runner's module, which `get_module` gives, have the learner's parameters."""
        ours = dict(self.learner_group._learner.module[MODULE].unwrapped().named_parameters())
        for name, parameter in self.env_runner.module.named_parameters():
            parameter.data = ours[name].data

    @property
    def env_steps(self) -> int:
        """Environment steps sampled since the start, over all restores."""
        return self._sampler.env_steps

    def iterate(self) -> tuple[list[Episode], dict[str, float]]:
        """One PPO iteration without RLlib's metrics: the episodes that ended in it, and the learner's statistics.

        Raises:
            FloatingPointError: a loss or a parameter is not finite.
        """
        if self._actor_critic is None:
            raise RuntimeError(f"only train() works on RLlib's own path, taken because: {self.reason}")
        before = self._sampler.env_steps
        batch, episodes = self._sampler.sample(self._actor_critic)
        self._iterations += 1
        try:
            statistics = dict(self._actor_critic.update(batch))
        except FloatingPointError as error:
            raise FloatingPointError(f"{error} in iteration {self._iterations}") from error
        statistics |= self._update_schedules(statistics)
        self._unlogged += episodes
        self._unlogged_steps += self._sampler.env_steps - before
        return episodes, statistics

    def _update_schedules(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Move learning rate, entropy and KL coefficients on, as PPOLearner.after_gradient_based_update does."""
        learner, steps = self.learner_group._learner, self._sampler.env_steps
        ((_, optimizer),) = learner.get_optimizers_for_module(MODULE)
        schedule = learner._optimizer_lr_schedules[optimizer]
        if schedule.use_schedule:
            learner._set_optimizer_lr(optimizer, lr=float(schedule.update(timestep=steps)))
        entropy = learner.entropy_coeff_schedulers_per_module[MODULE]
        if entropy.use_schedule:
            entropy.update(timestep=steps)
        if self.config.use_kl_loss:
            learner._update_module_kl_coeff(
                module_id=MODULE, config=self.config, kl_loss=statistics[LEARNER_RESULTS_KL_KEY]
            )
        return {"default_optimizer_learning_rate": float(optimizer.param_groups[0]["lr"])}

    def training_step(self) -> None:
        """One PPO iteration, with the metrics that RLlib's users look at."""
        if self.path == RLLIB:
            super().training_step()
            return
        if not self._actor_critic.is_bound:  # type: ignore[union-attr]
            raise RuntimeError("the module's parameters were replaced; change them in place, or by set_state")
        _, statistics = self.iterate()
        self._log()
        metrics = self.learner_group._learner.metrics
        for name, value in statistics.items():
            metrics.log_value((MODULE, name), value, window=1)
        self.metrics.aggregate([metrics.reduce()], key=LEARNER_RESULTS)

    def _log(self) -> None:
        """Hand RLlib's metrics what was sampled since the last time, by its runner's own means."""
        for episode in self._unlogged[-self.config.metrics_num_episodes_for_smoothing :]:
            self.env_runner._log_episode_metrics(episode.length, episode.reward, 0.0)
        self.env_runner._increase_sampled_metrics(self._unlogged_steps, len(self._unlogged))
        self.metrics.aggregate([self.env_runner.get_metrics()], key=ENV_RUNNER_RESULTS)
        self._unlogged, self._unlogged_steps = [], 0

    def get_state(self, components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state, and under `fused` what it has no place for."""
        state: dict[str, Any]
        if self._actor_critic is None or components is not None:
            state = super().get_state(components, **kwargs)
            return state
        fused = {
            "actor_critic": self._actor_critic.get_state(),
            "sampler": self._sampler.get_state(),
            "iterations": self._iterations,
            "kl_coeff": float(self.learner_group._learner.curr_kl_coeffs_per_module[MODULE]),
        }
        self._log()
        state = super().get_state(components, **kwargs)
        return state | {"fused": fused}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from the state of a FusedPPO, or of RLlib's PPO, which begins new episodes."""
        super().set_state(state)
        if self._actor_critic is None:
            return
        self._actor_critic.bind()
        self._share_parameters()
        lifetime = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        theirs = {"sampler": {"env_steps": int(self.metrics.peek(lifetime, default=0))}, "iterations": self.iteration}
        fused = state.get("fused", theirs)
        self._iterations = fused["iterations"]
        seed = np.random.SeedSequence([self.config.seed or 0, self._iterations]).generate_state(1)[0]
        self._sampler.set_state(fused["sampler"], int(seed) % 2**31)
        if "fused" in state:
            self._actor_critic.set_state(fused["actor_critic"])
            self.learner_group._learner.curr_kl_coeffs_per_module[MODULE].data.fill_(fused["kl_coeff"])
        entropy = self.learner_group._learner.entropy_coeff_schedulers_per_module[MODULE]
        if entropy.use_schedule:
            entropy.update(timestep=self._sampler.env_steps)

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint of either PPO."""
        super().restore_from_path(path, *args, **kwargs)
        if self._actor_critic is not None:
            self._actor_critic.bind()
            self._share_parameters()

    def save_to_path(self, path: Any = None, *, filesystem: pyarrow.fs.FileSystem | None = None, **kwargs: Any) -> str:
        """Write a checkpoint of RLlib's PPO: it loads where this project is not installed."""
        if path is not None and filesystem is None:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(Path(path).as_posix() if isinstance(path, Path) else path)
        saved: str = super().save_to_path(path, filesystem=filesystem, **kwargs)
        there = filesystem or pyarrow.fs.LocalFileSystem()
        with there.open_output_stream((Path(saved) / self.CLASS_AND_CTOR_ARGS_FILE_NAME).as_posix()) as file:
            named = {"class": PPO, "ctor_args_and_kwargs": self.get_ctor_args_and_kwargs()}
            file.write(cloudpickle.dumps(named))
        return saved

    def cleanup(self) -> None:
        """Close the environment, then everything of RLlib's."""
        if self._actor_critic is not None:
            self._sampler.env.close()
        super().cleanup()


def _actor_critic(
    learner: Any, config: PPOConfig, space: ActionSpace, observations: gymnasium.spaces.Box, seed: int
) -> tuple[ActorCritic, str, str | None]:
    """The fastest one that can do it, its path, and why it is not the faster one."""
    try:
        if len(observations.shape) != 1:
            raise NotOnArrays(f"observations have {len(observations.shape)} dimensions")
        return CompiledActorCritic(learner, config, space, seed), COMPILED, None
    except NotOnArrays as error:
        return TorchActorCritic(learner, config, space, seed), TORCH, str(error)


def _vector_env(runner: Any, config: PPOConfig) -> VectorEnv[Any, Any, Any]:
    """The fastest form of the environment: compiled, the registry's own vector form, or RLlib's of single ones."""
    env, number = runner.env.unwrapped, config.num_envs_per_env_runner
    # RLlib's own environments are not in the registry; `module:Env-v0` is there under the name after the colon.
    spec = gymnasium.registry.get(config.env.rpartition(":")[2]) if isinstance(config.env, str) else None
    if spec is None:
        return env  # type: ignore[no-any-return]
    if spec.vector_entry_point == GYM_CARTPOLE and spec.id == "CartPole-v1" and not spec.additional_wrappers:
        return CompiledCartPole(number, **({"max_episode_steps": spec.max_episode_steps} | config.env_config))
    if spec.vector_entry_point is not None and not spec.additional_wrappers:
        return gymnasium.make_vec(spec.id, number, vectorization_mode="vector_entry_point", **config.env_config)
    if number > 1 and seconds_a_step(env) > SLOW_STEP_S:
        return gymnasium.make_vec(spec.id, number, vectorization_mode="async", **config.env_config)
    return env  # type: ignore[no-any-return]


def _why_not_on_arrays(config: PPOConfig) -> str | None:
    """The setting that only RLlib's own path has, or None."""
    if config.is_multi_agent:
        return "multi-agent"
    usual = PPOConfig().env_runners(num_env_runners=0)
    for name in _NOT_ON_ARRAYS:
        value = getattr(config, name)
        if value not in (getattr(usual, name), *_ALSO_USUAL.get(name, ())):
            return f"{name} is {value!r}"
    return None


class FusedEngine:
    """The engine that runs FusedPPO's iterations on arrays."""

    def __init__(self, algorithm: FusedPPO) -> None:
        self.iteration = 0
        self._algorithm = algorithm
        self._is_loaded = False

    @property
    def env_steps(self) -> int:
        """Environment steps so far."""
        return self._algorithm.env_steps

    @property
    def path(self) -> str:
        """See Engine."""
        return f"{self._algorithm.path}: {self._algorithm.reason}" if self._algorithm.reason else self._algorithm.path

    def iterate(self) -> tuple[Sequence[Episode], Mapping[str, float]]:
        """See Engine."""
        episodes, statistics = self._algorithm.iterate()
        self.iteration += 1
        if not self._is_loaded:
            release_compiler()
            self._is_loaded = True
        return episodes, {ours: statistics[theirs] for theirs, ours in STATISTICS.items()}

    def greedy_policy(self) -> Policy:
        """See Engine."""
        return greedy_policy(self._algorithm)

    def save(self, folder: Path) -> None:
        """See Engine."""
        self._algorithm.save_to_path(folder.absolute())

    def restore(self, folder: Path, iteration: int, env_steps: int) -> None:
        """See Engine."""
        self._algorithm.restore_from_path(folder.absolute())
        self.iteration = iteration

    def close(self) -> None:
        """See Engine."""
        stop(self._algorithm)
