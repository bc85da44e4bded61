"""The path from the baseline to the winner: which changes made the difference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.answer.parts import BASELINE, PATH, Answer, Lookup, Path, Question, Run, Stage, Step, results_of
from tuner.inference import Measure, Values, compare, estimate, iqm
from tuner.layout import safe_name
from tuner.ledger import RACE, seeds_of
from tuner.space import SearchSpace

CHOOSING_SEEDS, MEASURING_SEEDS = 5, 10  # of the race's 20: enough to see a change by a fifth, at half the cost
SINGLE_STEPS = 4  # parameters that are stepped one at a time; the rest goes together


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


def digest(params: Mapping[str, Any]) -> str:
    """What a run of the path is named after: its parameters, in short."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:8]


class Ablation:
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
        seeds = seeds_of(RACE, question.seeds)
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
                values=self._measure.in_unit(values),
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
        added = ".".join(name for name in self._changes if name in taken)
        return Run(PATH, f"{safe_name(added)[:40].rstrip('._')}-{digest(params)}", seed, params)

    def _values(self, taken: set[str], seeds: Sequence[int]) -> Values:
        return self._measure.values(results_of([self._run(taken, seed) for seed in seeds], self._lookup))
