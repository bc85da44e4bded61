"""Tune stoppers for any script: an episode budget, a mean reward, a deadline. They stop at the first result past it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Stopper

from tuner.errors import nearest


class EpisodesTotalStopper(Stopper):
    """Stops a trial at the first result with at least `max_episodes` episodes.

    Args:
        max_episodes: the budget.
        metric: the result's key, `/` for nested ones; `tuner.EpisodeRecorder` supplies the default one.

    Raises:
        KeyError: from a result that has no such metric.
    """

    def __init__(self, max_episodes: int, metric: str = "episodes_total") -> None:
        if max_episodes < 1:
            raise ValueError(f"max_episodes = {max_episodes}: must be at least 1")
        self.max_episodes = max_episodes
        self.metric = metric

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether this trial has used its episodes."""
        return metric_of(result, self.metric) >= self.max_episodes

    def stop_all(self) -> bool:
        """Never: every trial has a budget of its own."""
        return False


class ThresholdRewardStopper(Stopper):
    """Stops a trial at the first result whose mean reward over `window` episodes reaches `threshold`.

    Args:
        threshold: the mean reward to reach.
        window: episodes that must have ended before a mean counts.
        metric: the result's key, `/` for nested ones; `tuner.EpisodeRecorder` supplies the default one.

    Raises:
        KeyError: from a result that has no such metric.
    """

    def __init__(self, threshold: float, window: int = 50, metric: str = "mean_reward") -> None:
        if window < 1:
            raise ValueError(f"window = {window}: must be at least 1")
        self.threshold = threshold
        self.window = window
        self.metric = metric

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether this trial has reached the threshold; a NaN, as before the first episode, has not."""
        mean = metric_of(result, self.metric)
        # A metric of the user's own may come from a run without EpisodeRecorder; its window is theirs to know.
        episodes = metric_of(result, "episodes_total") if self.metric == "mean_reward" else math.inf
        return episodes >= self.window and mean >= self.threshold

    def stop_all(self) -> bool:
        """Never: every trial has a threshold of its own."""
        return False


class DeadlineStopper(Stopper):
    """Stops every trial after `seconds`, counted from the construction, or once `is_requested()` says so."""

    def __init__(self, seconds: float = math.inf, is_requested: Callable[[], bool] = lambda: False) -> None:
        self.deadline = time.monotonic() + seconds
        self.is_requested = is_requested

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Never for one trial alone."""
        return False

    def stop_all(self) -> bool:
        """Whether time is up."""
        return self.is_requested() or time.monotonic() >= self.deadline


def metric_of(result: Mapping[str, Any], metric: str) -> float:
    """The number under `metric`, a flat key or a path with `/`.

    Raises:
        KeyError: there is none; the message names the nearest keys.
    """
    value: Any = result
    for key in [metric] if metric in result else metric.split("/"):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or isinstance(value, Mapping):
        raise KeyError(f"the result has no metric {metric!r}{nearest(metric, _paths(result))}")
    return float(value)


def _paths(result: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in result.items():
        found += _paths(value, f"{prefix}{key}/") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return found
