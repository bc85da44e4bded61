"""`EpisodeRecorder` and the stoppers in a Tune script of a user's own, with plain RLlib."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray import tune
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.stopper import CombinedStopper

from tuner import EpisodeRecorder
from tuner.stoppers import EpisodesTotalStopper, ThresholdRewardStopper

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _ray(local_ray: None) -> None:
    """Every test here runs Tune."""


def small_ppo() -> PPOConfig:
    config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0, num_envs_per_env_runner=2)
    config = config.training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=1)
    return config.callbacks(EpisodeRecorder)


def fit(stop: object, folder: Path) -> list[dict[str, float]]:
    """All results of one run under a stopper."""
    seen: list[dict[str, float]] = []

    class Keep(tune.Callback):
        def on_trial_result(self, iteration: int, trials: object, trial: object, result: dict, **info: object) -> None:  # type: ignore[type-arg]
            seen.append({name: result[name] for name in ("episodes_total", "mean_reward", "mean_length")})

    run_config = tune.RunConfig(stop=stop, storage_path=str(folder), verbose=0, callbacks=[Keep()])
    results = tune.Tuner("PPO", param_space=small_ppo(), run_config=run_config).fit()
    assert not results.errors
    return seen


def test_episodes_total_stopper_ends_at_the_first_result_at_or_past_the_budget(tmp_path: Path) -> None:
    seen = fit(EpisodesTotalStopper(30), tmp_path)
    assert seen[-1]["episodes_total"] >= 30
    assert all(result["episodes_total"] < 30 for result in seen[:-1])
    totals = [result["episodes_total"] for result in seen]
    assert totals == sorted(totals)


def test_threshold_reward_stopper_waits_for_its_window(tmp_path: Path) -> None:
    # Any policy has a mean above 5; only the window keeps the run going.
    seen = fit(CombinedStopper(ThresholdRewardStopper(5, window=25), EpisodesTotalStopper(500)), tmp_path)
    assert 25 <= seen[-1]["episodes_total"] < 60
    assert all(result["episodes_total"] < 25 for result in seen[:-1])
    assert seen[-1]["mean_reward"] == seen[-1]["mean_length"] >= 5


def test_a_metric_that_is_missing_ends_the_run_with_an_error_that_names_it(tmp_path: Path) -> None:
    stop = EpisodesTotalStopper(30, metric="episodes_totl")
    run_config = tune.RunConfig(stop=stop, storage_path=str(tmp_path), verbose=0)
    with pytest.raises(Exception, match="episodes_totl"):
        tune.Tuner("PPO", param_space=small_ppo(), run_config=run_config).fit()
