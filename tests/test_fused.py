"""FusedPPO against RLlib's PPO: the same batch, advantages, losses, gradients and parameters."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing

import tests.toy  # noqa: F401 registers tests/Toy-v0
from tuner.envs.cartpole import CompiledCartPole
from tuner.ppo import kernels, sampling_kernels
from tuner.ppo.actor_critic import MODULE, Batch
from tuner.ppo.fused import FusedPPO

pytestmark = pytest.mark.ray
Build = Callable[..., FusedPPO]


@pytest.fixture
def build(local_ray: None) -> Any:
    """Builds algorithms and stops them when the test is over."""
    built = []

    def make(algorithm: type[PPO] = FusedPPO, *, env: str = "tests/Toy-v0", actions: str = "discrete",
             env_config: dict[str, Any] | None = None, envs: int = 4, fragment: int = 16, batch: int = 64,
             model: dict[str, Any] | None = None, module: type | None = None, **training: Any) -> Any:  # fmt: skip
        settings = {"lr": 3e-3, "minibatch_size": 16, "num_epochs": 1, "lambda_": 0.9, "vf_clip_param": 1e5}
        config = (
            PPOConfig()
            .environment(env, env_config=(env_config or {}) | ({"actions": actions} if "Toy" in env else {}))
            .env_runners(num_env_runners=0, num_envs_per_env_runner=envs, rollout_fragment_length=fragment)
            .training(train_batch_size_per_learner=batch, **(settings | training))
            .rl_module(
                model_config=DefaultModelConfig(**({"fcnet_hiddens": [24, 9]} | (model or {}))),
                **({"rl_module_spec": RLModuleSpec(module_class=module)} if module else {}),
            )
            .debugging(seed=5, log_level="ERROR")
            .experimental(_validate_config=False)  # odd sizes are what some tests are about
        )
        built.append(algorithm(config=config))
        return built[-1]

    yield make
    for algorithm in built:
        algorithm.stop()


class OwnModule(TorchRLModule, ValueFunctionAPI):
    """The smallest module that PPO can train."""

    def setup(self) -> None:
        inputs = self.observation_space.shape[0]
        self.policy = torch.nn.Linear(inputs, int(self.action_space.n))
        self.value = torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.ELU(), torch.nn.Linear(8, 1))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Any:
        return self.value(batch[Columns.OBS]).squeeze(-1)


def learner_of(algorithm: PPO) -> Any:
    return algorithm.learner_group._learner


def episodes_of(fused: FusedPPO) -> list[SingleAgentEpisode]:
    """The sampler's last batch as RLlib's own episode objects, in order."""
    sampler = fused._sampler
    space = sampler.env.single_action_space
    episodes = []
    for environment, start, end, terminated, truncated in sampler._chunks[: sampler._counters[sampling_kernels.CHUNKS]]:
        steps = slice(start, end)
        actions = sampler._actions[steps, environment]
        if sampler._space.choices:
            actions = actions.astype(np.int64)
        episodes.append(SingleAgentEpisode(
            observation_space=sampler.env.single_observation_space, action_space=space,
            observations=list(sampler._observations[start : end + 1, environment].copy()),
            actions=[a.reshape(space.shape) if space.shape else int(a[0]) for a in actions.copy()],
            rewards=[float(r) for r in sampler._rewards[steps, environment]],
            terminated=bool(terminated), truncated=bool(truncated), len_lookback_buffer=0,
            extra_model_outputs={
                Columns.ACTION_LOGP: list(sampler._logps[steps, environment].copy()),
                Columns.ACTION_DIST_INPUTS: list(sampler._inputs[steps, environment].copy()),
            },
        ).to_numpy())  # fmt: skip
    return episodes


def sample(fused: FusedPPO) -> Batch:
    batch, _ = fused._sampler.sample(fused._actor_critic)
    return batch


def copied(theirs: PPO, ours: FusedPPO) -> None:
    """Give RLlib's learner the parameters and moments of ours."""
    ours._actor_critic.get_state()
    learner_of(theirs).module.set_state(learner_of(ours).module.get_state())
    learner_of(theirs)._set_optimizer_state(learner_of(ours)._get_optimizer_state())


def moments(algorithm: PPO, name: str) -> list[torch.Tensor]:
    ((_, optimizer),) = learner_of(algorithm).get_optimizers_for_module(MODULE)
    return [optimizer.state[tensor][name].clone() for tensor in learner_of(algorithm).module[MODULE].parameters()]


def parameters(algorithm: PPO) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in learner_of(algorithm).module[MODULE].parameters()]


def assert_close(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    """Equal to 1e-4, norm-wise for each tensor."""
    for mine, other in zip(ours, theirs, strict=True):
        assert float((mine - other).norm()) <= 1e-4 * float(other.norm()) + 1e-7


def assert_same_update(build: Build, **changed: Any) -> tuple[FusedPPO, PPO]:
    """One iteration's update of ours and of RLlib's, from the same module, moments and episodes."""
    ours, theirs = build(**changed), build(PPO, **changed)
    for _ in range(2):  # the second time from moments that are not zero
        copied(theirs, ours)
        batch = sample(ours)
        episodes = episodes_of(ours)
        config = ours.config
        learner_of(theirs).update(
            episodes=episodes, timesteps={"num_env_steps_sampled_lifetime": ours._sampler.env_steps},
            num_epochs=config.num_epochs, minibatch_size=config.minibatch_size,
            shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
        )  # fmt: skip
        before = parameters(ours)
        statistics = ours._actor_critic.update(batch)
        ours._update_schedules(statistics)
        assert any((one != other).any() for one, other in zip(before, parameters(ours), strict=True))
        assert_close(moments(ours, "exp_avg"), moments(theirs, "exp_avg"))
        assert_close(moments(ours, "exp_avg_sq"), moments(theirs, "exp_avg_sq"))
        assert_close(parameters(ours), parameters(theirs))
    return ours, theirs


MODELS = [
    {"fcnet_activation": activation, "vf_share_layers": shared}
    for activation in ("relu", "tanh", "silu", "linear")
    for shared in (False, True)
]


@pytest.mark.parametrize("actions", ["discrete", "multi", "box"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: "-".join(map(str, model.values())))
def test_an_update_is_rllibs_own(build: Build, actions: str, model: dict[str, Any]) -> None:
    ours, _ = assert_same_update(build, actions=actions, model=model, entropy_coeff=0.01, vf_loss_coeff=0.5)
    assert ours.path == "compiled"


@pytest.mark.parametrize("hiddens", [[], [7], [64, 64], [33, 16, 5, 8], [300, 40]])
def test_an_update_is_rllibs_own_at_any_depth_and_width(build: Build, hiddens: list[int]) -> None:
    ours, _ = assert_same_update(build, model={"fcnet_hiddens": hiddens} if hiddens else {"fcnet_hiddens": [1]})
    assert ours.path == "compiled"


@pytest.mark.parametrize("actions", ["discrete", "multi", "box"])
def test_an_update_on_the_torch_path_is_rllibs_own(build: Build, actions: str) -> None:
    ours, _ = assert_same_update(build, actions=actions, model={"fcnet_hiddens": [520]}, num_epochs=2,
                                 shuffle_batch_per_epoch=False)  # fmt: skip
    assert ours.path == "torch" and "520 units" in str(ours.reason)


@pytest.mark.parametrize("how", ["global_norm", "norm", "value"])
@pytest.mark.parametrize("limit", [1e-3, 0.5, 100.0])
def test_gradients_are_clipped_as_rllib_clips_them(build: Build, how: str, limit: float) -> None:
    assert_same_update(build, grad_clip=limit, grad_clip_by=how, env_config={"scale": 10.0})


@pytest.mark.parametrize("actions", ["discrete", "multi", "box"])
def test_the_kl_loss_and_its_coefficient_are_rllibs_own(build: Build, actions: str) -> None:
    ours, theirs = assert_same_update(
        build, actions=actions, use_kl_loss=True, kl_coeff=0.7, kl_target=1e-4, num_epochs=4, lr=0.02,
        shuffle_batch_per_epoch=False,
    )  # fmt: skip
    coefficients = [float(learner_of(each).curr_kl_coeffs_per_module[MODULE]) for each in (ours, theirs)]
    assert coefficients[0] == pytest.approx(coefficients[1]) and coefficients[0] != pytest.approx(0.7)


def test_the_value_loss_is_clipped_as_rllib_clips_it(build: Build) -> None:
    assert_same_update(build, vf_clip_param=0.5, clip_param=0.05, num_epochs=3, shuffle_batch_per_epoch=False)


def test_learning_rate_and_entropy_follow_their_schedules(build: Build) -> None:
    ours, theirs = assert_same_update(
        build, lr=[[0, 1e-2], [200, 0.0]], entropy_coeff=[[0, 0.1], [200, 0.0]], num_epochs=2,
        shuffle_batch_per_epoch=False,
    )  # fmt: skip
    rates = [
        each.get_optimizers_for_module(MODULE)[0][1].param_groups[0]["lr"] for each in map(learner_of, (ours, theirs))
    ]
    assert float(rates[0]) == pytest.approx(float(rates[1])) and 0 < float(rates[0]) < 1e-2
    coefficients = [
        float(each.entropy_coeff_schedulers_per_module[MODULE].get_current_value())
        for each in map(learner_of, (ours, theirs))
    ]
    assert coefficients[0] == pytest.approx(coefficients[1]) and 0 < coefficients[0] < 0.1


@pytest.mark.parametrize(
    ("envs", "fragment", "batch", "minibatch"),
    [
        (1, 64, 64, 16),
        (4, 16, 64, 24),
        (3, 5, 50, 50),
        (5, 4, 77, 30),
        (8, 2, 16, 40),
        (2, 40, 60, 7),
        (20, 3, 60, 200),
    ],
)
def test_odd_batches_are_laid_out_and_cut_into_minibatches_as_rllib_does(
    build: Build, envs: int, fragment: int, batch: int, minibatch: int
) -> None:
    assert_same_update(build, envs=envs, fragment=fragment, batch=batch, minibatch_size=minibatch, num_epochs=2,
                       shuffle_batch_per_epoch=False)  # fmt: skip


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("lambda_", [0.0, 0.8, 1.0])
def test_advantages_and_value_targets_are_those_of_rllibs_gae_connector(
    build: Build, gamma: float, lambda_: float
) -> None:
    ours = build(gamma=gamma, lambda_=lambda_, fragment=8, batch=120)
    for _ in range(2):
        batch = sample(ours)
        episodes = episodes_of(ours)
        ends = {(episode.is_terminated, episode.is_truncated) for episode in episodes}
        assert ends >= {(True, False), (False, True)}
        learner = learner_of(ours)
        made = learner._learner_connector(
            rl_module=learner.module, batch={}, episodes=episodes, shared_data={}, metrics=learner.metrics
        )[MODULE]
        assert (made[Columns.LOSS_MASK].numpy() == batch.is_real).all()
        assert (made[Columns.OBS].numpy() == batch.observations[batch.rows]).all()
        for name, array in (
            (Postprocessing.VALUE_TARGETS, batch.targets),
            (Postprocessing.ADVANTAGES, batch.advantages),
        ):
            assert_close([torch.from_numpy(array)], [made[name]])


def test_a_batch_has_as_many_steps_as_rllibs_and_the_resets_are_none(build: Build) -> None:
    ours = build(envs=4, fragment=16, batch=64)
    for _ in range(5):
        before = ours.env_steps
        batch = sample(ours)
        made = ours.env_steps - before
        assert made == batch.is_real.sum() and 64 <= made < 64 + 4


def test_actions_are_drawn_from_the_modules_own_distribution(build: Build) -> None:
    for actions in ("discrete", "multi", "box"):
        ours = build(actions=actions, envs=8, fragment=32, batch=256)
        batch = sample(ours)
        rows = batch.rows[batch.is_real]
        module = learner_of(ours).module[MODULE].unwrapped()
        with torch.no_grad():
            inputs = module.forward_train({Columns.OBS: torch.from_numpy(batch.observations[rows])})[
                "action_dist_inputs"
            ]
            distribution = module.get_exploration_action_dist_cls().from_logits(inputs)
            taken = torch.from_numpy(batch.actions[rows])
            logps = distribution.logp(taken[:, 0] if actions == "discrete" else taken)
        np.testing.assert_allclose(batch.inputs[rows], inputs.numpy(), atol=1e-5)
        np.testing.assert_allclose(batch.logps[rows], logps.numpy(), atol=1e-4)
        # The mean surprise is the distribution's entropy, up to chance.
        assert -float(logps.mean()) == pytest.approx(float(distribution.entropy().mean()), abs=0.2)


def iterate(algorithm: FusedPPO, times: int) -> list[tuple[float, int, int]]:
    """The episodes of that many iterations: reward, length, environment steps."""
    return [(e.reward, e.length, e.env_steps) for _ in range(times) for e in algorithm.iterate()[0]]


CARTPOLE = {"env": "CartPole-v1", "envs": 8, "fragment": 16, "batch": 128, "minibatch_size": 32, "num_epochs": 3}


class TestCheckpoints:
    def test_a_restored_run_makes_the_episodes_that_an_undisturbed_one_makes(
        self, build: Build, tmp_path: Path
    ) -> None:
        settings = CARTPOLE | {"use_kl_loss": True, "kl_target": 1e-3, "lr": [[0, 1e-3], [9000, 0.0]],
                               "entropy_coeff": [[0, 0.01], [9000, 0.0]]}  # fmt: skip
        undisturbed = build(**settings)
        iterate(undisturbed, 20)
        undisturbed.save_to_path(tmp_path / "checkpoint")
        expected = iterate(undisturbed, 40)
        killed = build(**settings)
        killed.restore_from_path(tmp_path / "checkpoint")
        assert iterate(killed, 40) == expected and len(expected) > 10
        assert_close(parameters(killed), parameters(undisturbed))
        assert killed._actor_critic.is_bound

    def test_an_environment_that_cannot_be_saved_begins_new_episodes_and_never_the_first_ones_again(
        self, build: Build, tmp_path: Path
    ) -> None:
        first = build()
        begun = first._sampler._observations[0].copy()
        iterate(first, 3)
        steps = first.env_steps
        first.save_to_path(tmp_path / "checkpoint")
        again = build()
        again.restore_from_path(tmp_path / "checkpoint")
        assert again.env_steps == steps
        assert not (again._sampler._observations[0] == begun).any()
        assert all(steps < at <= again.env_steps for _, _, at in iterate(again, 3))

    @pytest.mark.parametrize(("first", "second"), [(FusedPPO, PPO), (PPO, FusedPPO)])
    def test_either_engine_goes_on_from_the_others_checkpoint(
        self, build: Build, tmp_path: Path, first: type[PPO], second: type[PPO]
    ) -> None:
        writer, reader = build(first, **CARTPOLE, lr=[[0, 1e-3], [10_000, 0.0]]), None
        for _ in range(3):
            writer.train()
        writer.save_to_path(tmp_path / "checkpoint")
        reader = build(second, **CARTPOLE, lr=[[0, 1e-3], [10_000, 0.0]])
        reader.restore_from_path(tmp_path / "checkpoint")
        assert_close(parameters(reader), parameters(writer))
        for name in ("exp_avg", "exp_avg_sq", "step"):
            assert_close(moments(reader, name), moments(writer, name))
        before = parameters(reader)
        steps = reader.train()["env_runners"]["num_env_steps_sampled_lifetime"]
        assert 4 * 128 <= steps < 4 * 136
        assert all((one != other).any() for one, other in zip(before, parameters(reader), strict=True))
        rate = float(learner_of(reader).get_optimizers_for_module(MODULE)[0][1].param_groups[0]["lr"])
        assert rate == pytest.approx(1e-3 * (1 - steps / 10_000), rel=1e-3)

    def test_a_checkpoint_loads_where_this_project_is_not_installed(self, build: Build, tmp_path: Path) -> None:
        fused = build(**CARTPOLE)
        fused.train()
        fused.save_to_path(tmp_path / "checkpoint")
        assert fused.config.seed == 5
        assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"tuner" in file.read_bytes()]
        program = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tuner": raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from ray.rllib.algorithms.algorithm import Algorithm
algorithm = Algorithm.from_checkpoint({str(tmp_path / "checkpoint")!r})
print(type(algorithm).__name__, algorithm.config.env, algorithm.iteration)
algorithm.train()
print(algorithm.iteration, "tuner" in sys.modules)
"""
        command = [sys.executable, "-W", "ignore", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.splitlines()[-2:] == ["PPO CartPole-v1 1", "2 False"]

    def test_the_runners_module_and_the_learners_are_one(self, build: Build) -> None:
        fused = build(**CARTPOLE)
        fused.train()
        ours = dict(learner_of(fused).module[MODULE].unwrapped().named_parameters())
        for name, parameter in fused.get_module().named_parameters():
            assert (parameter == ours[name]).all()


class TestPaths:
    @pytest.mark.parametrize(
        ("settings", "path", "reason"),
        [
            ({}, "compiled", None),
            ({"model": {"fcnet_activation": "elu"}}, "torch", "ELU"),
            ({"model": {"head_fcnet_hiddens": [8]}}, "compiled", None),
            ({"model": {"use_lstm": True, "max_seq_len": 4}}, "rllib", "state"),
            ({"actions": "box", "model": {"free_log_std": True}}, "torch", "TorchFreeLogStdMLPHead"),
            ({"env_config": {"shape": (84, 84, 4)}, "batch": 16, "fragment": 4}, "torch", "3 dimensions"),
            ({"use_critic": False}, "rllib", "use_critic is False"),
        ],
        ids=lambda value: str(value)[:40],
    )  # fmt: skip
    def test_each_configuration_takes_the_fastest_path_that_can_do_it(
        self, build: Build, settings: dict[str, Any], path: str, reason: str | None
    ) -> None:
        fused = build(**settings)
        assert fused.path == path
        assert (fused.reason is None) if reason is None else (reason in str(fused.reason))

    def test_a_module_of_ones_own_trains_on_the_torch_path_as_in_rllib(self, build: Build) -> None:
        ours, _ = assert_same_update(build, module=OwnModule, num_epochs=2, shuffle_batch_per_epoch=False)
        assert ours.path == "torch" and ours.reason == "the module is a OwnModule"

    def test_a_vector_environment_that_hides_the_last_observation_is_left_to_rllib(
        self, build: Build, tmp_path: Path
    ) -> None:
        fused = build(env="tests/ToySameStep-v0")
        assert fused.path == "rllib" and "does not reset in the step after" in str(fused.reason)
        fused.train()
        fused.save_to_path(tmp_path / "checkpoint")
        again = build(env="tests/ToySameStep-v0")
        again.restore_from_path(tmp_path / "checkpoint")
        assert_close(parameters(again), parameters(fused))

    def test_another_size_of_network_or_batch_compiles_nothing(self, build: Build) -> None:
        iterate(build(), 1)
        kernel = (kernels.update, kernels.act, kernels.values_of, kernels.forward, kernels.backward)
        before = [len(each.signatures) for each in kernel]
        iterate(build(model={"fcnet_hiddens": [40, 3, 17]}, envs=7, fragment=9, batch=60, minibatch_size=31), 1)
        iterate(build(actions="box", env_config={"features": 11}, grad_clip=0.5, use_kl_loss=False), 1)
        assert [len(each.signatures) for each in kernel] == before

    def test_what_the_arrays_cannot_do_is_trained_in_rllibs_own_way(self, build: Build) -> None:
        fused = build(**CARTPOLE, model={"use_lstm": True, "max_seq_len": 8})
        result = fused.train()
        assert fused.path == "rllib" and result["env_runners"]["num_env_steps_sampled_lifetime"] >= 128

    def test_slow_environments_are_stepped_in_processes_and_quick_ones_are_not(self, build: Build) -> None:
        slow, quick = build(env_config={"delay_s": 0.01}), build()
        assert isinstance(slow._sampler.env, gymnasium.vector.AsyncVectorEnv)
        assert isinstance(quick._sampler.env, gymnasium.vector.SyncVectorEnv)
        assert iterate(slow, 2) == iterate(quick, 2)

    def test_a_cartpole_that_somebody_registered_in_gymnasiums_place_is_left_alone(
        self, build: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert isinstance(build(**CARTPOLE)._sampler.env, CompiledCartPole)
        spec = dataclasses.replace(gymnasium.spec("CartPole-v1"), vector_entry_point=None)
        monkeypatch.setitem(gymnasium.registry, "CartPole-v1", spec)
        assert isinstance(build(**CARTPOLE)._sampler.env, gymnasium.vector.SyncVectorEnv)

    def test_images_train_on_the_torch_path(self, build: Build) -> None:
        fused = build(env_config={"shape": (84, 84, 4)}, batch=16, fragment=4)
        before = parameters(fused)
        iterate(fused, 1)
        assert all((one != other).any() for one, other in zip(before, parameters(fused), strict=True))

    def test_its_results_have_rllibs_names(self, build: Build) -> None:
        fused = build(**CARTPOLE)
        for _ in range(5):
            result = fused.train()
        assert result["training_iteration"] == 5
        assert result["env_runners"]["episode_return_mean"] == pytest.approx(result["env_runners"]["episode_len_mean"])
        assert 640 <= result["env_runners"]["num_env_steps_sampled_lifetime"] <= 680
        assert {"policy_loss", "vf_loss", "entropy", "mean_kl_loss", "default_optimizer_learning_rate"} <= set(
            result["learners"][MODULE]
        )

    def test_parameters_that_were_replaced_are_noticed(self, build: Build) -> None:
        fused = build(**CARTPOLE)
        next(learner_of(fused).module[MODULE].unwrapped().parameters()).data = torch.zeros(64, 4)
        with pytest.raises(RuntimeError, match="replaced"):
            fused.train()


class TestDeterminism:
    @pytest.mark.parametrize(
        "settings", [CARTPOLE, {}, {"model": {"fcnet_hiddens": [520]}}], ids=["own", "sync", "torch"]
    )
    def test_the_same_seed_gives_the_same_episodes_whatever_ran_before(
        self, build: Build, settings: dict[str, Any]
    ) -> None:
        from tuner.ppo.rllib import seed_everything

        made = []
        for before in (0, 7):
            torch.rand(before), np.random.rand(before)
            seed_everything(5)
            made.append(iterate(build(**settings), 6))
        assert made[0] == made[1] and made[0]

    def test_it_learns(self, build: Build) -> None:
        fused = build(env="CartPole-v1", envs=8, fragment=32, batch=256, minibatch_size=64, num_epochs=10, lr=2e-3,
                      lambda_=0.95, clip_param=0.5, vf_loss_coeff=0.5, use_kl_loss=False,
                      model={"fcnet_hiddens": [64, 32], "fcnet_activation": "relu",
                             "vf_share_layers": False})  # fmt: skip
        rewards = [reward for reward, _, _ in iterate(fused, 300)]
        assert sum(rewards[:20]) / 20 < 60
        assert max(sum(rewards[i : i + 50]) / 50 for i in range(len(rewards) - 50)) > 400


class TestNonFinite:
    @pytest.mark.parametrize("hiddens", [[24], [520]], ids=["compiled", "torch"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_parameter_that_is_not_finite_ends_the_run_with_the_iteration(
        self, build: Build, hiddens: list[int], value: float
    ) -> None:
        fused = build(model={"fcnet_hiddens": hiddens})
        iterate(fused, 2)
        with torch.no_grad():
            parameters = learner_of(fused).module[MODULE].unwrapped().parameters()
            list(parameters)[-1][0] = value  # the value's bias
        with pytest.raises(FloatingPointError, match=r"non-finite .* in iteration 3"):
            fused.iterate()

    def test_a_learning_rate_far_too_high_ends_the_run(self, build: Build) -> None:
        fused = build(**(CARTPOLE | {"lr": 1e30}))
        with pytest.raises(FloatingPointError, match="non-finite"):
            iterate(fused, 5)

    def test_rewards_of_a_million_do_not(self, build: Build) -> None:
        fused = build(env_config={"scale": 1e6})
        iterate(fused, 5)
        assert all(torch.isfinite(tensor).all() for tensor in parameters(fused))
