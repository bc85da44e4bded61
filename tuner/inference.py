"""From numbers of several seeds to what they show: interquartile means, intervals, decisions. Formulas are SciPy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.episodes import Goal, Outcome

Values = NDArray[np.float64]  # one number a seed, in the order of the seeds; lower is better

CONFIDENCE = 0.95
RESAMPLES = 2000


class Decision(Enum):
    """What a comparison shows."""

    BETTER = "better"
    NO_DIFFERENCE = "no difference shown"
    WORSE = "worse"


@dataclass(frozen=True)
class Measure:
    """What runs are compared by: episodes to the threshold, or where nothing counts it, the best mean reward.

    A run that did not reach the threshold counts with its whole budget: a lower bound (it is censored). A rank bears
    that, and an interquartile mean as long as the run lies in the upper quarter; else `Estimate.is_bound` says so.
    """

    counts_episodes: bool
    goal: Goal

    @classmethod
    def of(cls, goal: Goal, outcomes: Sequence[Outcome | None]) -> Measure:
        """The measure for runs of one goal: episodes where any of them reached the threshold."""
        return cls(any(outcome is not None and outcome.is_reached for outcome in outcomes), goal)

    def values(self, outcomes: Sequence[Outcome | None]) -> Values:
        """A number for each run, lower is better; None is a run that FAILED and counts as the worst there can be."""
        return np.array([self._value(outcome) for outcome in outcomes], dtype=np.float64)

    def _value(self, outcome: Outcome | None) -> float:
        if not self.counts_episodes:
            return np.inf if outcome is None or outcome.best_mean is None else -outcome.best_mean
        reached = outcome.episodes_to_threshold if outcome is not None else None
        return float(self.goal.max_episodes if reached is None else reached)

    def in_unit(self, values: Values) -> tuple[float, ...]:
        """Values as people read them: a mean reward in its own sign."""
        return tuple(map(float, values if self.counts_episodes else -values))

    @property
    def name(self) -> str:
        """The measure in words."""
        return "episodes to threshold" if self.counts_episodes else "best mean reward"


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean with its 95 % bootstrap interval, in the measure's own unit."""

    value: float
    low: float
    high: float
    is_bound: bool = False  # so many runs missed the threshold that the value is only a lower bound


@dataclass(frozen=True)
class Effect:
    """One configuration against another on the same seeds, with a 95 % bootstrap interval.

    The ratio of their interquartile means (below 1 is better) where episodes are counted, else the difference of the
    best mean rewards (above 0 is better). `probability`: that a run of the first is better than one of the second,
    ties as half (rliable's probability of improvement; Mann-Whitney's U over the number of pairs).
    """

    kind: str  # "ratio" or "difference"
    value: float
    low: float
    high: float
    probability: float

    @property
    def decision(self) -> Decision:
        """What the interval shows: a difference where it leaves equality out."""
        equal, sign = (1.0, -1) if self.kind == "ratio" else (0.0, 1)
        if self.low <= equal <= self.high:
            return Decision.NO_DIFFERENCE
        return Decision.BETTER if sign * (self.value - equal) > 0 else Decision.WORSE


def iqm(values: Values, axis: int = -1) -> Any:
    """The interquartile mean: the mean of the middle half (Agarwal et al. 2021)."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def estimate(values: Values, measure: Measure) -> Estimate:
    """The interquartile mean of one configuration's runs."""
    found = _bootstrap((values,), iqm)
    if not measure.counts_episodes:
        return Estimate(-found[0], -found[2], -found[1])
    middle = np.sort(values)[: len(values) - int(0.25 * len(values))]
    return Estimate(*found, is_bound=bool(middle[-1] >= measure.goal.max_episodes))


def compare(ours: Values, theirs: Values, measure: Measure) -> Effect:
    """The effect of `ours` against `theirs`; both hold one number for each of the same seeds."""
    from scipy.stats import mannwhitneyu

    above = float(mannwhitneyu(theirs, ours).statistic) / (len(ours) * len(theirs))
    if measure.counts_episodes:
        return Effect("ratio", *_bootstrap((ours, theirs), lambda a, b, axis=-1: iqm(a, axis) / iqm(b, axis)), above)
    return Effect("difference", *_bootstrap((ours, theirs), lambda a, b, axis=-1: iqm(b, axis) - iqm(a, axis)), above)


def _bootstrap(samples: tuple[Values, ...], statistic: Callable[..., Any]) -> tuple[float, float, float]:
    """A statistic and its interval: seeds are drawn again with replacement, all samples by the same draw.

    With one environment there is one stratum, so this is rliable's stratified bootstrap.
    """
    from scipy.stats import bootstrap

    worst = max(float(np.max(sample, initial=-np.inf, where=np.isfinite(sample))) for sample in samples)
    samples = tuple(np.nan_to_num(sample, posinf=worst if np.isfinite(worst) else 0.0) for sample in samples)
    value = float(statistic(*samples))
    if len(samples[0]) < 2 or all(len(set(sample)) == 1 for sample in samples):
        return (value, value, value) if len(samples[0]) > 1 else (value, -np.inf, np.inf)
    interval = bootstrap(
        samples, statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return value, float(interval.low), float(interval.high)
