"""The answer's parts as plain values: the question, the runs that it takes, race, verdict and path. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.episodes import Goal, Outcome
from tuner.inference import Decision, Effect, Estimate
from tuner.judgement import Judgement
from tuner.space import SearchSpace
from tuner.study import TrialRecord

BASELINE = "baseline"
PATH = "path"  # the stage and the folder, beside the ledgers' race and test


@dataclass(frozen=True)
class Run:
    """One training run that the answer needs, and the folder it has: `race/<label>-s<seed>` or `path/…`."""

    folder: str
    label: str
    seed: int
    params: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return f"{self.label}-s{self.seed}"


@dataclass(frozen=True)
class RunResult:
    """What became of a run; without an outcome it FAILED, for the reason."""

    outcome: Outcome | None
    reason: str | None = None
    wall_s: float = 0.0
    judgement: Judgement | None = None  # where the space names a judge


Lookup = Callable[[Run], RunResult | None]  # None: not run yet


@dataclass(frozen=True)
class Stage:
    """Runs that depend on nothing but the stages before."""

    name: str  # race, test or path
    runs: Sequence[Run]


@dataclass(frozen=True)
class Question:
    """What is asked of a finished search."""

    space: SearchSpace
    records: Sequence[TrialRecord]
    seeds: int  # of the race, and as many of the test
    finalists: int
    random_trials: int = 0  # the first so many trials, the baseline among them, were not chosen by what came out

    @property
    def goal(self) -> Goal:
        """What every run is for."""
        return self.space.goal


@dataclass(frozen=True)
class Tally:
    """A configuration's matches against one opponent on one side of the field, over all its seeds."""

    opponent: str
    side: str
    wins: int
    draws: int
    losses: int
    win_rate: Estimate  # over seeds and matches: see `inference.proportion`


@dataclass(frozen=True)
class Entry:
    """One configuration in the race."""

    label: str
    number: int  # its trial of the search
    roles: tuple[str, ...]  # baseline, finalist, random control
    params: Mapping[str, Any]
    search: Outcome
    estimate: Estimate
    reached: int  # of the seeds
    values: tuple[float, ...]  # one a seed, in the measure's unit; infinite where a run FAILED and has none
    effect: Effect | None  # against the baseline; None for the baseline itself
    matches: tuple[Tally, ...] = ()  # where a judge had them played


@dataclass(frozen=True)
class Race:
    """What the race's seeds showed."""

    measure: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]  # the winner first
    runs: int

    @property
    def winner(self) -> Entry:
        """The entry that did best on the average of all seeds."""
        return self.entries[0]


@dataclass(frozen=True)
class Verdict:
    """What the test's seeds, which chose nothing, say of the winner."""

    decision: Decision
    winner: str
    number: int
    seeds: tuple[int, ...]
    effect: Effect | None  # None where the baseline won the race, and there was nothing to test
    winner_estimate: Estimate | None
    baseline_estimate: Estimate | None
    winner_reached: int
    baseline_reached: int
    search_value: float | None  # what the search's one seed said of the winner, in the measure's unit
    sentence: str
    winner_matches: tuple[Tally, ...] = ()  # where a judge had them played
    baseline_matches: tuple[Tally, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of the path from the baseline to the winner."""

    label: str
    changes: Mapping[str, tuple[Any, Any]]  # parameter -> the baseline's value, the winner's
    estimate: Estimate  # with this step's changes and all before
    effect: Effect  # against the step before
    values: tuple[float, ...]  # one a measuring seed, in the measure's unit


@dataclass(frozen=True)
class Path:
    """Which changes made the difference: each step is chosen on some of the race's seeds and measured on the others."""

    steps: tuple[Step, ...]
    start: Estimate  # the baseline on the measuring seeds
    alone: Mapping[str, Effect]  # each change alone against the baseline, on the choosing seeds
    choosing_seeds: tuple[int, ...]
    measuring_seeds: tuple[int, ...]
    runs: int


@dataclass
class Answer:
    """As much of the answer as there is; None is a part that was not run, or not yet."""

    race: Race | None = None
    verdict: Verdict | None = None
    path: Path | None = None
    is_complete: bool = False


def runs_of(folder: str, label: str, params: Mapping[str, Any], seeds: Sequence[int]) -> list[Run]:
    """A configuration's run on each seed."""
    return [Run(folder, label, seed, params) for seed in seeds]


def results_of(runs: Sequence[Run], lookup: Lookup) -> list[RunResult]:
    """What became of runs that were all run.

    Raises:
        RuntimeError: one was not run.
    """
    results = [(run, lookup(run)) for run in runs]
    for run, result in results:
        if result is None:
            raise RuntimeError(f"{run.name} was not run before the next stage was asked for")
    return [result for _, result in results if result is not None]
