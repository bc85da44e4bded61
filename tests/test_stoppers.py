"""Tune stoppers for any script: an episode budget, a mean reward, a deadline."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from ray.tune import Stopper

from tuner.stoppers import DeadlineStopper, EpisodesTotalStopper, ThresholdRewardStopper, metric_of


def result(**changes: Any) -> dict[str, Any]:
    """What an RLlib run with `EpisodeRecorder` reports."""
    return {
        "episodes_total": 60,
        "mean_reward": 480.0,
        "mean_length": 480.0,
        "env_runners": {"episode_return_mean": 470.0, "num_episodes_lifetime": 61},
        **changes,
    }


def without(*keys: str) -> dict[str, Any]:
    """The same without some of its metrics."""
    return {key: value for key, value in result().items() if key not in keys}


def complaint(stopper: Stopper, reported: dict[str, Any]) -> str:
    """What a stopper says of a result without its metric."""
    with pytest.raises(KeyError) as error:
        stopper("trial", reported)
    return str(error.value.args[0])


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("stopper", [EpisodesTotalStopper(10), ThresholdRewardStopper(475), DeadlineStopper(10)])
def test_every_stopper_is_one_that_tune_takes(stopper: Stopper) -> None:
    assert isinstance(stopper, Stopper)


@pytest.mark.parametrize(("episodes", "is_over"), [(0, False), (99, False), (100, True), (130, True)])
def test_a_trial_is_stopped_at_the_first_result_at_or_past_its_episodes(episodes: int, is_over: bool) -> None:
    assert EpisodesTotalStopper(100)("trial", result(episodes_total=episodes)) is is_over


@pytest.mark.parametrize(
    ("mean", "is_over"), [(-500.0, False), (474.99, False), (475.0, True), (500.0, True), (math.nan, False)]
)
def test_a_trial_is_stopped_at_the_first_result_at_or_past_the_threshold(mean: float, is_over: bool) -> None:
    assert ThresholdRewardStopper(475)("trial", result(mean_reward=mean)) is is_over


@pytest.mark.parametrize(("episodes", "is_over"), [(1, False), (49, False), (50, True)])
def test_a_mean_counts_only_once_its_window_is_full(episodes: int, is_over: bool) -> None:
    assert ThresholdRewardStopper(475, window=50)("trial", result(episodes_total=episodes)) is is_over


def test_a_metric_of_the_users_own_is_looked_up_by_its_path() -> None:
    assert EpisodesTotalStopper(61, metric="env_runners/num_episodes_lifetime")("trial", result())


def test_a_mean_of_the_users_own_needs_no_episode_recorder() -> None:
    stopper = ThresholdRewardStopper(470, metric="env_runners/episode_return_mean")
    assert stopper("trial", without("episodes_total", "mean_reward"))


@pytest.mark.parametrize(
    ("stopper", "missing"),
    [
        (EpisodesTotalStopper(100), "episodes_total"),
        (ThresholdRewardStopper(475), "mean_reward"),
        (ThresholdRewardStopper(475), "episodes_total"),
    ],
)
def test_a_missing_metric_raises_and_never_passes_for_not_yet(stopper: Stopper, missing: str) -> None:
    assert complaint(stopper, without(missing)).startswith(f"the result has no metric '{missing}'")


def test_a_missing_metric_is_told_the_nearest_keys_nested_ones_too() -> None:
    stopper = ThresholdRewardStopper(475, metric="env_runners/episode_reward_mean")
    assert 'did you mean "env_runners/episode_return_mean"' in complaint(stopper, result())


@pytest.mark.parametrize("metric", ["mean_reward/value", "env_runners", "env_runners/none"])
def test_a_path_that_does_not_end_at_a_number_is_a_missing_metric(metric: str) -> None:
    assert complaint(EpisodesTotalStopper(1, metric), result()).startswith(f"the result has no metric '{metric}'")


def test_a_flat_key_with_a_slash_is_found_as_it_stands() -> None:
    assert metric_of({"env_runners/episode_return_mean": 3}, "env_runners/episode_return_mean") == 3.0


@pytest.mark.parametrize("max_episodes", [0, -1])
def test_a_budget_without_an_episode_is_refused(max_episodes: int) -> None:
    with pytest.raises(ValueError, match=f"max_episodes = {max_episodes}: must be at least 1"):
        EpisodesTotalStopper(max_episodes)


def test_a_window_without_an_episode_is_refused() -> None:
    with pytest.raises(ValueError, match="window = 0: must be at least 1"):
        ThresholdRewardStopper(475, window=0)


@pytest.mark.parametrize("stopper", [EpisodesTotalStopper(1), ThresholdRewardStopper(1)])
def test_one_trial_at_its_limit_stops_no_other(stopper: Stopper) -> None:
    stopper("trial", result())
    assert stopper.stop_all() is False


@pytest.mark.parametrize(("later", "is_over"), [(0.0, False), (59.9, False), (60.0, True), (3600.0, True)])
def test_everything_stops_once_the_time_is_up(later: float, is_over: bool, clock: Clock) -> None:
    stopper = DeadlineStopper(60)
    clock.now += later
    assert stopper.stop_all() is is_over


def test_a_deadline_that_has_passed_stops_everything_at_once(clock: Clock) -> None:
    assert DeadlineStopper(-5).stop_all()


def test_without_a_deadline_nothing_is_ever_stopped(clock: Clock) -> None:
    stopper = DeadlineStopper()
    clock.now += 1e12
    assert stopper.stop_all() is False


def test_everything_stops_on_request_before_the_time_is_up(clock: Clock) -> None:
    requests: list[str] = []
    stopper = DeadlineStopper(60, is_requested=lambda: bool(requests))
    before = stopper.stop_all()
    requests.append("SIGTERM")
    assert (before, stopper.stop_all()) == (False, True)


def test_a_deadline_singles_out_no_trial(clock: Clock) -> None:
    stopper = DeadlineStopper(60)
    clock.now += 61
    assert stopper("trial", result()) is False
