"""How much each searched parameter mattered to the search, with its own uncertainty. The second user of Optuna.

The estimator is Optuna's PED-ANOVA: how differently the best trials' values are spread from all trials' values. One
study is one draw of what a search could have tried; trials drawn again with replacement show how much that matters.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from tuner.study import SweepStudy

FEWEST_TRIALS = 10
BEST_SHARE = 0.1  # of the trials, whose values are held against all trials'; but no fewer than FEWEST_BEST
FEWEST_BEST = 5
SAMPLES = 50
FEWEST_SAMPLES = 20
TRIALS_READ = 60_000  # over all samples, about: a second's work for ten parameters


@dataclass(frozen=True)
class Importance:
    """One parameter's share of all that mattered: the median over the samples, and where 90 % of them lie."""

    name: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Importances:
    """The searched parameters, the most important first; none, and the reason, where nothing can be said."""

    ranked: tuple[Importance, ...] = ()
    trials: int = 0
    samples: int = 0
    reason: str | None = None

    def of(self, name: str) -> tuple[int, Importance] | None:
        """A parameter's place, from 1, and its importance."""
        return next(((place, found) for place, found in enumerate(self.ranked, start=1) if found.name == name), None)


def importances(study: SweepStudy) -> Importances:
    """The importance of each searched parameter in the study's COMPLETE trials, the same each time it is asked."""
    trials = _shared(study.scored_trials())
    reason = _unusable(trials, len(study.space.params))
    if reason:
        return Importances(trials=len(trials), reason=reason)
    names = [name for name in study.space.params if any(name in trial.params for trial in trials)]
    count = min(SAMPLES, max(FEWEST_SAMPLES, TRIALS_READ // len(trials)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(BEST_SHARE, FEWEST_BEST / len(trials))))
    draws = np.random.default_rng(0).integers(len(trials), size=(count, len(trials)))
    shares = []
    with _quiet():
        sample = _Sample.new()
        for draw in draws:
            sample.drawn = [trials[index] for index in draw]
            if len({trial.value for trial in sample.drawn}) > 1:
                found = get_param_importances(sample, evaluator=evaluator, params=names)
                shares.append([found[name] for name in names])
    medians, lows, highs = np.quantile(np.array(shares), (0.5, 0.05, 0.95), axis=0)
    ranked = [Importance(name, *map(float, found)) for name, *found in zip(names, medians, lows, highs, strict=True)]
    ranked.sort(key=lambda importance: -importance.median)
    return Importances(tuple(ranked), len(trials), len(shares))


def _unusable(trials: Sequence[FrozenTrial], searched: int) -> str | None:
    """Why nothing can be said of the importances, in words; None where something can."""
    if not searched:
        return "no parameter was searched"
    if len(trials) < FEWEST_TRIALS:
        return (
            f"it takes {FEWEST_TRIALS} completed trials, and there {'is' if len(trials) == 1 else 'are'} {len(trials)}"
        )
    if len({trial.value for trial in trials}) == 1:
        return f"all {len(trials)} completed trials had the same score"
    return None


def _shared(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials with one object for each distribution: a sweep's never change, and comparing them takes longest."""
    known: dict[str, BaseDistribution] = {}
    return [
        FrozenTrial(
            number=trial.number, trial_id=trial.number, state=trial.state, value=trial.value, params=trial.params,
            distributions={name: known.setdefault(name, found) for name, found in trial.distributions.items()},
            datetime_start=None, datetime_complete=None, user_attrs={}, system_attrs={}, intermediate_values={},
        )
        for trial in trials
    ]  # fmt: skip


class _Sample(optuna.Study):
    """A study whose trials are those that were drawn; a copy of each into a real study takes longer than the rest."""

    drawn: Sequence[FrozenTrial] = ()

    @classmethod
    def new(cls) -> _Sample:
        """A study of none."""
        storage = optuna.storages.InMemoryStorage()
        name = optuna.create_study(storage=storage, direction="minimize").study_name
        return cls(name, storage)

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """The drawn trials, some of them several times; never copies."""
        return [trial for trial in self.drawn if states is None or trial.state in states]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's remarks on few trials, which the range shows, off the user's terminal."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
