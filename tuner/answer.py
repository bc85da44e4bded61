"""The answer to a sweep: the winner on seeds that the search never saw, the verdict, and what made the difference.

Decides which runs are needed and what they show; runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from tuner.episodes import Goal, Outcome
from tuner.inference import Decision, Effect, Estimate, Measure, Values, compare, estimate, iqm
from tuner.layout import safe_name
from tuner.ledger import race_seeds, test_seeds
from tuner.space import SearchSpace
from tuner.study import TrialRecord, TrialState

BASELINE = "baseline"
RACE, TEST, PATH = "race", "test", "path"

MOST_PATH_RUNS = 300
CHOOSING_SEEDS, MEASURING_SEEDS = 5, 10  # of the race's 20: enough to see a change by a fifth, at half the cost
SINGLE_STEPS = 4  # parameters that are stepped one at a time; the rest goes together


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
        return Goal(self.space.threshold, self.space.window, self.space.max_episodes, self.space.max_steps)

    @property
    def can_be_asked(self) -> bool:
        """Whether there is a baseline that did not fail, and another configuration to hold against it."""
        return self.seeds > 0 and len(entrants(self)) > 1


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
    values: tuple[float, ...]  # one a seed, lower is better
    effect: Effect | None  # against the baseline; None for the baseline itself


@dataclass(frozen=True)
class Race:
    """What the race's seeds showed."""

    measure: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]  # the winner first
    runs: int

    @property
    def winner(self) -> Entry:
        """The entry of the best interquartile mean."""
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


@dataclass(frozen=True)
class Step:
    """One step of the path from the baseline to the winner."""

    label: str
    changes: Mapping[str, tuple[Any, Any]]  # parameter -> the baseline's value, the winner's
    estimate: Estimate  # with this step's changes and all before
    effect: Effect  # against the step before
    values: tuple[float, ...]


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


def so_far(question: Question, lookup: Lookup) -> tuple[Answer, Stage | None]:
    """The answer from the runs that there are, and the first stage that lacks some; None when none does."""
    answer = Answer()
    if question.can_be_asked:
        for stage in stages(question, answer, lookup):
            if any(lookup(run) is None for run in stage.runs):
                return answer, stage
    answer.is_complete = True
    return answer, None


def to_json(part: Any) -> Any:
    """A part of the answer as plain JSON values; infinite bounds are null."""
    if is_dataclass(part) and not isinstance(part, type):
        return {item.name: to_json(getattr(part, item.name)) for item in fields(part)}
    if isinstance(part, Enum):
        return part.value
    if isinstance(part, Mapping):
        return {name: to_json(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [to_json(value) for value in part]
    return None if isinstance(part, float) and not math.isfinite(part) else part


def stages(question: Question, answer: Answer, lookup: Lookup) -> Iterator[Stage]:
    """Every stage in turn, each to be run before the next is asked for; fills `answer` as it goes."""
    entries = entrants(question)
    seeds = race_seeds(question.seeds)
    yield Stage(RACE, [run for entry in entries for run in _runs(RACE, entry.label, entry.params, seeds)])
    measure, answer.race = _race(question, entries, seeds, lookup)
    winner = answer.race.winner
    if winner.label == BASELINE:
        answer.verdict = _baseline_won(answer.race, measure)
        return
    tests = test_seeds(question.seeds)
    baseline = next(entry for entry in answer.race.entries if entry.label == BASELINE)
    pair = winner, baseline
    yield Stage(TEST, [run for entry in pair for run in _runs(RACE, entry.label, entry.params, tests)])
    answer.verdict = _verdict(winner, baseline, tests, measure, lookup)
    if changed(question.space, winner.params):
        yield from _Ablation(question, answer, measure, lookup).stages()


# The race and its verdict


@dataclass(frozen=True)
class Entrant:
    """A configuration that the race is for, before it has run."""

    label: str
    record: TrialRecord
    roles: tuple[str, ...]

    @property
    def params(self) -> Mapping[str, Any]:
        """Every PPO parameter."""
        return self.record.params


def entrants(question: Question) -> list[Entrant]:
    """The baseline, the search's best different configurations, and the best that no result had led to."""
    complete = [record for record in question.records if record.state is TrialState.COMPLETE and record.outcome]
    if not complete or not complete[0].is_baseline:
        return []
    ranked: list[TrialRecord] = []
    for record in sorted(complete, key=lambda record: (record.value, record.number)):
        if all(record.params != other.params for other in [complete[0], *ranked]):
            ranked.append(record)
    chosen = {record.number: ["finalist"] for record in ranked[: question.finalists]}
    control = next((record for record in ranked if record.number < question.random_trials), None)
    if control is not None:
        chosen.setdefault(control.number, []).append("random control")
    others = [Entrant(f"trial-{r.number:04d}", r, tuple(chosen[r.number])) for r in ranked if r.number in chosen]
    return [Entrant(BASELINE, complete[0], (BASELINE,)), *others]


def race_size(seeds: int, finalists: int, parameters: int) -> dict[str, int]:
    """The most runs that each part can take, known before the search, for a space of so many searched parameters."""
    return {RACE: seeds * (finalists + 2), TEST: 2 * seeds, PATH: path_size(parameters, seeds)} if seeds else {}


def _runs(folder: str, label: str, params: Mapping[str, Any], seeds: Sequence[int]) -> list[Run]:
    return [Run(folder, label, seed, params) for seed in seeds]


def _outcomes(runs: Sequence[Run], lookup: Lookup) -> list[Outcome | None]:
    results = [lookup(run) for run in runs]
    if None in results:
        raise RuntimeError(f"{runs[results.index(None)].name} was not run before the next stage was asked for")
    return [result.outcome for result in results if result is not None]


def _race(
    question: Question, entries: Sequence[Entrant], seeds: tuple[int, ...], lookup: Lookup
) -> tuple[Measure, Race]:
    outcomes = {e.label: _outcomes(_runs(RACE, e.label, e.params, seeds), lookup) for e in entries}
    measure = Measure.of(question.goal, [outcome for found in outcomes.values() for outcome in found])
    values = {label: measure.values(found) for label, found in outcomes.items()}
    ran = [
        Entry(
            label=e.label, number=e.record.number, roles=e.roles, params=e.params,
            search=e.record.outcome or Outcome(), estimate=estimate(values[e.label], measure),
            reached=_reached(outcomes[e.label]), values=tuple(map(float, values[e.label])),
            effect=None if e.label == BASELINE else compare(values[e.label], values[BASELINE], measure),
        )
        for e in entries
    ]  # fmt: skip
    ran.sort(key=lambda entry: (float(iqm(values[entry.label])), entry.number))
    return measure, Race(measure.name, seeds, tuple(ran), len(seeds) * len(entries))


def _reached(outcomes: Sequence[Outcome | None]) -> int:
    return sum(outcome is not None and outcome.is_reached for outcome in outcomes)


def _baseline_won(race: Race, measure: Measure) -> Verdict:
    winner = race.winner
    sentence = (
        f"No difference shown: on {len(race.seeds)} unseen seeds no finalist did better than the baseline, with "
        f"{in_words(winner.estimate, measure)}."
    )
    return Verdict(
        Decision.NO_DIFFERENCE, BASELINE, 0, (), None, None, None, 0, 0, _search_value(winner.search, measure), sentence
    )


def _verdict(winner: Entry, baseline: Entry, seeds: tuple[int, ...], measure: Measure, lookup: Lookup) -> Verdict:
    ours, theirs = (_outcomes(_runs(RACE, entry.label, entry.params, seeds), lookup) for entry in (winner, baseline))
    our_values, their_values = measure.values(ours), measure.values(theirs)
    effect = compare(our_values, their_values, measure)
    estimates = estimate(our_values, measure), estimate(their_values, measure)
    name = f"trial {winner.number}"
    head = {
        Decision.BETTER: f"Better than the baseline: {name} needs",
        Decision.WORSE: f"Worse than the baseline: {name} needs",
        Decision.NO_DIFFERENCE: f"No difference shown: {name} needs",
    }[effect.decision]
    if not measure.counts_episodes:
        head = head.replace("needs", "gets")
    sentence = (
        f"{head} {in_words(estimates[0], measure)} on {len(seeds)} unseen seeds, "
        f"the baseline {in_words(estimates[1], measure, is_short=True)}: {effect_in_words(effect)}."
    )
    return Verdict(
        effect.decision, winner.label, winner.number, seeds, effect, *estimates, _reached(ours), _reached(theirs),
        _search_value(winner.search, measure), sentence,
    )  # fmt: skip


def _search_value(outcome: Outcome, measure: Measure) -> float | None:
    return outcome.episodes_to_threshold if measure.counts_episodes else outcome.best_mean


def in_words(found: Estimate, measure: Measure, *, is_short: bool = False) -> str:
    """An estimate as a clause: `112 episodes to 475 (interquartile mean, 95 % interval 101 to 125)`."""
    digits = 0 if measure.counts_episodes else 1
    bound = "more than " if found.is_bound else ""
    interval = _interval(found.low, found.high, digits)
    if is_short:
        return f"{bound}{found.value:,.{digits}f} ({interval})"
    unit = f"episodes to a mean reward of {measure.goal.threshold:g}" if measure.counts_episodes else "best mean reward"
    value = f"{found.value:,.{digits}f}"
    what = f"{bound}{value} {unit}" if measure.counts_episodes else f"a {unit} of {value}"
    return f"{what} (interquartile mean, 95 % interval {interval})"


def _interval(low: float, high: float, digits: int) -> str:
    return f"{low:,.{digits}f} to {high:,.{digits}f}" if math.isfinite(low) else "unknown from one seed"


def effect_in_words(effect: Effect) -> str:
    """An effect as a clause: `68 % fewer (63 to 72)`, or `12.0 more (3.1 to 20.4)`."""
    if effect.kind == "ratio":
        word, sign = ("fewer", -1) if effect.value <= 1 else ("more", 1)
        value, *bounds = (100 * sign * (number - 1) for number in (effect.value, effect.low, effect.high))
        low, high = sorted(bounds)
        return f"{value:.0f} % {word} ({_interval(low, high, 0)})"
    word, sign = ("more", 1) if effect.value >= 0 else ("less", -1)
    low, high = sorted(sign * number for number in (effect.low, effect.high))
    return f"{sign * effect.value:.1f} {word} ({_interval(low, high, 1)})"


# The path from the baseline to the winner


def changed(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The searched parameters in which a configuration differs from the baseline: the baseline's value and its own."""
    before = space.resolve({})
    return {name: (before[name], params[name]) for name in space.params if params[name] != before[name]}


def path_seeds(seeds: int) -> tuple[int, int]:
    """How many of the race's seeds choose the steps of a path, and how many others measure them."""
    choosing = min(CHOOSING_SEEDS, max(1, seeds // 3))
    return choosing, min(MEASURING_SEEDS, max(1, seeds - choosing))


def path_size(changes: int, seeds: int) -> int:
    """The most runs that a path over so many changes takes; never more than 300, whatever is searched."""
    choosing, measuring = path_seeds(seeds)
    singles = min(changes, SINGLE_STEPS)
    later_rounds = sum(range(2, singles))  # the first round takes every change, the last one has nothing to choose
    return choosing * (changes + later_rounds) + measuring * singles


class _Ablation:
    """The ablation path: change after change, in the order that helps most (Fawcett and Hoos 2016, their greedy form).

    The first round tries every change alone. The best few are then stepped one at a time, each chosen among those that
    are left, and the rest is stepped together. Steps are chosen on some seeds and measured on others: measuring on the
    seeds that chose would make luck look like an effect.
    """

    def __init__(self, question: Question, answer: Answer, measure: Measure, lookup: Lookup) -> None:
        if answer.race is None:
            raise ValueError("the path needs the race's winner")
        self._space = question.space
        self._answer = answer
        self._measure = measure
        self._lookup = lookup
        self._winner = answer.race.winner
        self._changes = changed(question.space, self._winner.params)
        choosing, measuring = path_seeds(question.seeds)
        seeds = race_seeds(question.seeds)
        self._choosing = seeds[:choosing]
        self._measuring = seeds[choosing : choosing + measuring] or seeds[:1]
        self._needed: set[tuple[str, int]] = set()

    def stages(self) -> Iterator[Stage]:
        """Every round as a stage."""
        names = list(self._changes)
        yield self._stage([self._run({name}, seed) for name in names for seed in self._choosing])
        alone = {name: self._values({name}, self._choosing) for name in names}
        baseline = self._values(set(), self._choosing)
        order = sorted(names, key=lambda name: (float(iqm(alone[name])), names.index(name)))
        singles, rest = order[:SINGLE_STEPS], order[SINGLE_STEPS:]
        taken: list[str] = []
        while singles:
            if taken and len(singles) > 1:
                yield self._stage([self._run({*taken, name}, seed) for name in singles for seed in self._choosing])
                singles.sort(key=lambda name: float(iqm(self._values({*taken, name}, self._choosing))))
            taken.append(singles.pop(0))
            yield self._stage([self._run(set(taken), seed) for seed in self._measuring])
        groups = [[name] for name in taken] + ([rest] if rest else [])
        self._answer.path = Path(
            steps=tuple(self._steps(groups)),
            start=estimate(self._values(set(), self._measuring), self._measure),
            alone={name: compare(alone[name], baseline, self._measure) for name in order},
            choosing_seeds=self._choosing, measuring_seeds=self._measuring, runs=len(self._needed),
        )  # fmt: skip

    def _stage(self, runs: Sequence[Run]) -> Stage:
        own = [run for run in runs if run.folder == PATH]
        self._needed |= {(run.label, run.seed) for run in own}
        return Stage(PATH, own)

    def _steps(self, groups: Sequence[Sequence[str]]) -> Iterator[Step]:
        taken: set[str] = set()
        before = self._values(taken, self._measuring)
        for group in groups:
            taken |= set(group)
            values = self._values(taken, self._measuring)
            yield Step(
                label=self._run(taken, self._measuring[0]).label,
                changes={name: self._changes[name] for name in group},
                estimate=estimate(values, self._measure),
                effect=compare(values, before, self._measure),
                values=tuple(map(float, values)),
            )
            before = values

    def _run(self, taken: set[str], seed: int) -> Run:
        """A run with these changes; those of none and of all were run in the race."""
        if not taken:
            return Run(RACE, BASELINE, seed, self._space.resolve({}))
        if taken == self._changes.keys():
            return Run(RACE, self._winner.label, seed, self._winner.params)
        params = self._space.resolve({name: self._changes[name][1] for name in self._changes if name in taken})
        # Named after what it trains: a path is never mixed up with one to another winner.
        digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:8]
        added = ".".join(name for name in self._changes if name in taken)
        return Run(PATH, f"{safe_name(added)[:40].rstrip('._')}-{digest}", seed, params)

    def _values(self, taken: set[str], seeds: Sequence[int]) -> Values:
        return self._measure.values(_outcomes([self._run(taken, seed) for seed in seeds], self._lookup))
