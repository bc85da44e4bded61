"""From numbers of several seeds to what they show: interquartile means, intervals, decisions. Formulas are SciPy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.episodes import Goal

if TYPE_CHECKING:
    from tuner.answer.parts import RunResult

Values = NDArray[np.float64]  # one number a seed, in the order of the seeds; lower is better

CONFIDENCE = 0.95
RESAMPLES = 2000


class Decision(Enum):
    """What a comparison shows."""

    BETTER = "better"
    NO_DIFFERENCE = "no difference shown"
    WORSE = "worse"


EPISODES, MEAN_REWARD = "episodes to threshold", "best mean reward"
POINTS, SCORE = "share of points in matches", "score of the judge"


@dataclass(frozen=True)
class Measure:
    """What runs are compared by, in words: what their judge says; without one, episodes to the threshold, or where
    nothing counts it, the best mean reward.

    A run that did not reach the threshold counts with its whole budget: a lower bound (it is censored). A rank bears
    that, and an interquartile mean as long as the run lies in the upper quarter; else `Estimate.is_bound` says so.
    """

    name: str  # EPISODES, MEAN_REWARD, or of a judge POINTS where it had matches played, else SCORE
    goal: Goal

    @classmethod
    def of(cls, goal: Goal, results: Sequence[RunResult]) -> Measure:
        """The measure for runs of one goal: a judge's where there is one, episodes where any reached the threshold."""
        judgements = [result.judgement for result in results if result.judgement]
        if judgements:
            return cls(POINTS if any(judgement.records for judgement in judgements) else SCORE, goal)
        is_reached = any(result.outcome is not None and result.outcome.is_reached for result in results)
        return cls(EPISODES if is_reached else MEAN_REWARD, goal)

    @property
    def counts_episodes(self) -> bool:
        """Whether fewer is better, and a ratio tells."""
        return self.name == EPISODES

    @property
    def is_judged(self) -> bool:
        """Whether a judge compared the runs."""
        return self.name in (POINTS, SCORE)

    @property
    def verb(self) -> str:
        """What a configuration does to have so much of it."""
        return {EPISODES: "needs", POINTS: "takes"}.get(self.name, "gets")

    def values(self, results: Sequence[RunResult]) -> Values:
        """A number for each run, lower is better; one that FAILED counts as the worst there can be."""
        return np.array([self._value(result) for result in results], dtype=np.float64)

    def _value(self, result: RunResult) -> float:
        outcome, judgement = result.outcome, result.judgement
        if self.is_judged:
            return np.inf if judgement is None else -judgement.score
        if not self.counts_episodes:
            return np.inf if outcome is None or outcome.best_mean is None else -outcome.best_mean
        reached = outcome.episodes_to_threshold if outcome is not None else None
        return float(self.goal.max_episodes if reached is None else reached)

    def in_unit(self, values: Values) -> tuple[float, ...]:
        """Values as people read them: where more is better, in their own sign."""
        return tuple(map(float, values if self.counts_episodes else -values))


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean, or a proportion, with its 95 % interval, in the measure's own unit."""

    value: float
    low: float
    high: float
    is_bound: bool = False  # so many runs missed the threshold that the value is only a lower bound


@dataclass(frozen=True)
class Effect:
    """One configuration against another on the same seeds, with a 95 % bootstrap interval.

    The ratio of their interquartile means (below 1 is better) where episodes are counted, else their difference (above
    0 is better). `probability`: that a run of the first is better than one of the second,
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


def proportion(wins: Sequence[int], matches: Sequence[int]) -> Estimate:
    """A win rate from `wins` of `matches` for each seed.

    The interval is for a policy trained on another seed in matches not yet played. Matches of one policy are not
    independent: where their rate differs between seeds by more than chance, the matches count as fewer (Korn and
    Graubard 1998: Clopper and Pearson's interval at the effective number of matches). One seed says nothing of others.
    """
    from scipy.stats import beta, t

    won, played = np.array(wins, dtype=np.float64), np.array(matches, dtype=np.float64)
    seeds, total = len(played), float(played.sum())
    rate = float(won.sum()) / total
    if seeds < 2:
        return Estimate(rate, -np.inf, np.inf)
    variance = seeds / (seeds - 1) * float(((won - rate * played) ** 2).sum()) / total**2
    effective = rate * (1 - rate) / variance if variance else total
    tail = (1 - CONFIDENCE) / 2
    effective = min(total, effective * float(t.ppf(tail, total - 1) / t.ppf(tail, seeds - 1)) ** 2)
    hits = rate * effective
    low = float(beta.ppf(tail, hits, effective - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, effective - hits)) if hits < effective else 1.0
    return Estimate(rate, low, high)


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
