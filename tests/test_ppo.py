"""From parameters to RLlib's PPO: the configuration, and the engine that runs it unchanged."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tuner.parameters import default_params
from tuner.ppo import engine
from tuner.ppo.config import ppo_config

SMALL = default_params() | {
    "lr": 1e-3, "train_batch_size": 128, "minibatch_size": 32, "num_epochs": 2, "num_envs_per_env_runner": 4,
    "rollout_fragment_length": 32, "fcnet_hiddens": [16], "lambda_": 0.9, "grad_clip": 0.5,
}  # fmt: skip


def small_engine(**changed: object) -> Any:
    return engine.build("rllib", "CartPole-v1", SMALL | changed, seed=3, env_config={}, gpus=0)


def test_every_parameter_reaches_ppo_config_under_its_name() -> None:
    config = ppo_config("CartPole-v1", SMALL, seed=3)
    same = ("lr", "minibatch_size", "num_epochs", "gamma", "lambda_", "clip_param", "vf_clip_param", "vf_loss_coeff",
            "entropy_coeff", "use_kl_loss", "kl_coeff", "kl_target", "grad_clip", "grad_clip_by", "use_gae",
            "use_critic", "num_envs_per_env_runner", "rollout_fragment_length", "num_env_runners",
            "shuffle_batch_per_epoch")  # fmt: skip
    assert {name: getattr(config, name) for name in same} == {name: SMALL[name] for name in same}
    assert config.train_batch_size_per_learner == 128
    assert config.model_config["fcnet_hiddens"] == [16]
    assert config.seed == 3


def test_lr_anneal_steps_is_a_straight_line_to_0() -> None:
    config = ppo_config("CartPole-v1", SMALL | {"lr_anneal_steps": 60_000}, seed=3)
    assert config.lr == [[0, 1e-3], [60_000, 0.0]]


def test_the_configuration_names_no_callback_of_ours() -> None:
    assert not ppo_config("CartPole-v1", SMALL, seed=3).callbacks_class.__module__.startswith("tuner")


def test_auto_stands_for_fused() -> None:
    assert engine.chosen("auto") == engine.chosen("fused") == "fused"
    assert engine.chosen("rllib") == "rllib"


@pytest.mark.ray
class TestRLlibEngine:
    @pytest.fixture(autouse=True)
    def ray(self, local_ray: None) -> None:
        """Every test here builds an algorithm, and that needs Ray."""

    def test_an_iteration_makes_one_batch_of_steps_and_reports_whole_episodes(self) -> None:
        run = small_engine()
        episodes = []
        for iteration in range(1, 9):
            before = run.env_steps
            ended, statistics = run.iterate()
            episodes += ended
            assert run.iteration == iteration
            # RLlib looks at the batch's size after each step of all four environments.
            assert 128 <= run.env_steps - before < 128 + 4
            assert {"policy_loss", "vf_loss", "entropy", "kl"} <= set(statistics)
        run.close()
        assert len(episodes) > 10
        assert all(episode.reward == episode.length for episode in episodes)  # CartPole pays 1 a step
        steps = [episode.env_steps for episode in episodes]
        assert steps == sorted(steps) and steps[-1] <= run.env_steps
        in_flight = run.env_steps - sum(episode.length for episode in episodes)
        assert 0 <= in_flight <= 4 * 500

    def test_the_same_seed_gives_the_same_episodes_and_another_seed_others(self) -> None:
        def episodes(seed: int) -> list[tuple[float, int]]:
            run = engine.build("rllib", "CartPole-v1", SMALL, seed=seed, env_config={}, gpus=0)
            made = [(episode.reward, episode.env_steps) for _ in range(4) for episode in run.iterate()[0]]
            run.close()
            return made

        assert episodes(3) == episodes(3)
        assert episodes(3) != episodes(4)

    def test_a_learning_rate_that_anneals_falls_in_a_straight_line(self) -> None:
        run = small_engine(lr_anneal_steps=1280)
        rates = [run.iterate()[1]["lr"] for _ in range(5)]
        run.close()
        differences = [round(after - before, 8) for before, after in pairwise(rates)]
        # 128 to 131 steps of the 1,280 that 1e-3 takes to reach 0.
        assert all(-131 / 1280 * 1e-3 <= difference <= -128 / 1280 * 1e-3 for difference in differences)

    def test_a_restored_run_goes_on_with_the_same_weights_and_counts(self, tmp_path: Path) -> None:
        run = small_engine()
        for _ in range(3):
            run.iterate()
        run.save(tmp_path / "checkpoint")
        weights = run._algorithm.get_module().get_state()
        run.close()
        again = small_engine()
        again.restore(tmp_path / "checkpoint", iteration=3, env_steps=384)
        restored = again._algorithm.get_module().get_state()
        assert all((restored[name] == value).all() for name, value in weights.items())
        episodes, _ = again.iterate()
        assert again.iteration == 4 and 384 + 128 <= again.env_steps < 384 + 132
        assert all(384 < episode.env_steps <= again.env_steps for episode in episodes)
        again.close()

    def test_two_remote_runners_count_every_step(self) -> None:
        run = small_engine(num_env_runners=1, num_envs_per_env_runner=2)
        episodes = [episode for _ in range(6) for episode in run.iterate()[0]]
        assert 6 * 128 <= run.env_steps < 6 * 132
        assert episodes and all(episode.reward == episode.length for episode in episodes)
        run.close()
