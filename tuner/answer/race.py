"""The race, which chooses the winner, and the verdict, which judges it on other seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.answer.parts import BASELINE, Entry, Lookup, Question, Race, RunResult, Tally, Verdict, results_of, runs_of
from tuner.answer.words import effect_in_words, in_words
from tuner.episodes import Outcome
from tuner.inference import Decision, Measure, Values, compare, estimate, iqm, proportion
from tuner.ledger import RACE
from tuner.study import TrialRecord, TrialState


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
    ranked: dict[str, TrialRecord] = {}  # by what they train: the first of a configuration is the best of it
    for record in sorted(complete, key=lambda record: (not record.is_baseline, record.value, record.number)):
        ranked.setdefault(json.dumps(record.params, sort_keys=True), record)
    baseline, *others = ranked.values()
    chosen = {record.number: ["finalist"] for record in others[: question.finalists]}
    control = next((record for record in others if record.number < question.random_trials), None)
    if control is not None:
        chosen.setdefault(control.number, []).append("random control")
    entered = [Entrant(f"trial-{r.number:04d}", r, tuple(chosen[r.number])) for r in others if r.number in chosen]
    return [Entrant(BASELINE, baseline, (BASELINE,)), *entered]


def race_of(
    question: Question, entries: Sequence[Entrant], seeds: tuple[int, ...], lookup: Lookup
) -> tuple[Measure, Race]:
    """What the race's runs show, and the measure that they, and no others, chose."""
    results = {e.label: results_of(runs_of(RACE, e.label, e.params, seeds), lookup) for e in entries}
    measure = Measure.of(question.goal, [result for found in results.values() for result in found])
    values = {label: measure.values(found) for label, found in results.items()}
    ran = [
        Entry(
            label=e.label, number=e.record.number, roles=e.roles, params=e.params,
            search=e.record.outcome or Outcome(), estimate=estimate(values[e.label], measure),
            reached=_reached(results[e.label]), values=measure.in_unit(values[e.label]),
            effect=None if e.label == BASELINE else compare(values[e.label], values[BASELINE], measure),
            matches=matches_of(results[e.label]),
        )
        for e in entries
    ]  # fmt: skip
    finite = [value for found in values.values() for value in found if math.isfinite(value)]
    worst = question.goal.max_episodes if measure.counts_episodes else max(finite, default=0.0)
    ran.sort(key=lambda entry: (*_on_average(values[entry.label], worst), entry.number))
    return measure, Race(measure.name, seeds, tuple(ran), len(seeds) * len(entries))


def _on_average(values: Values, worst: float) -> tuple[bool, float]:
    """What the least of wins: the mean over all seeds, where a run that FAILED counts as the worst; not too many may.

    The interquartile mean would choose who is fast on most seeds and fails on a quarter of them.
    """
    return math.isinf(float(iqm(values))), float(np.nan_to_num(values, posinf=worst).mean())


def matches_of(results: Sequence[RunResult]) -> tuple[Tally, ...]:
    """The matches of one configuration's runs, by opponent and side in the order of the judge; none without a judge."""
    records = [record for result in results if result.judgement for record in result.judgement.records]
    pairings = dict.fromkeys((record.opponent, record.side) for record in records)
    return tuple(
        Tally(
            *pairing, wins=sum(r.wins for r in own), draws=sum(r.draws for r in own), losses=sum(r.losses for r in own),
            win_rate=proportion([r.wins for r in own], [r.matches for r in own]),
        )
        for pairing in pairings
        if (own := [record for record in records if (record.opponent, record.side) == pairing])
    )  # fmt: skip


def _reached(results: Sequence[RunResult]) -> int:
    return sum(result.outcome is not None and result.outcome.is_reached for result in results)


def baseline_won(race: Race, measure: Measure) -> Verdict:
    """The verdict where no entry did better than the baseline, and nothing is left to test."""
    winner = race.winner
    sentence = (
        f"No difference shown: on {len(race.seeds)} unseen seeds no finalist did better than the baseline on average, "
        f"with {in_words(winner.estimate, measure)}."
    )
    return Verdict(
        Decision.NO_DIFFERENCE, BASELINE, 0, (), None, None, None, 0, 0, _search_value(winner.search, measure), sentence
    )


def verdict_of(winner: Entry, baseline: Entry, seeds: tuple[int, ...], measure: Measure, lookup: Lookup) -> Verdict:
    """What the test's runs say of the race's winner."""
    ours, theirs = (results_of(runs_of(RACE, entry.label, entry.params, seeds), lookup) for entry in (winner, baseline))
    our_values, their_values = measure.values(ours), measure.values(theirs)
    effect = compare(our_values, their_values, measure)
    estimates = estimate(our_values, measure), estimate(their_values, measure)
    head = {
        Decision.BETTER: "Better than the baseline", Decision.WORSE: "Worse than the baseline",
        Decision.NO_DIFFERENCE: "No difference shown",
    }[effect.decision]  # fmt: skip
    sentence = (
        f"{head}: trial {winner.number} {measure.verb} {in_words(estimates[0], measure)} on {len(seeds)} unseen seeds, "
        f"the baseline {in_words(estimates[1], measure, is_short=True)}: {effect_in_words(effect, measure)}."
    )
    return Verdict(
        effect.decision, winner.label, winner.number, seeds, effect, *estimates, _reached(ours), _reached(theirs),
        _search_value(winner.search, measure), sentence, matches_of(ours), matches_of(theirs),
    )  # fmt: skip


def _search_value(outcome: Outcome, measure: Measure) -> float | None:
    if measure.is_judged:  # the search's runs are not
        return None
    return outcome.episodes_to_threshold if measure.counts_episodes else outcome.best_mean
