"""The race, which chooses the winner, and the verdict, which judges it on other seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.answer.parts import BASELINE, Entry, Lookup, Question, Race, Verdict, outcomes_of, runs_of
from tuner.answer.words import effect_in_words, in_words
from tuner.episodes import Outcome
from tuner.inference import Decision, Measure, compare, estimate, iqm
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
    outcomes = {e.label: outcomes_of(runs_of(RACE, e.label, e.params, seeds), lookup) for e in entries}
    measure = Measure.of(question.goal, [outcome for found in outcomes.values() for outcome in found])
    values = {label: measure.values(found) for label, found in outcomes.items()}
    ran = [
        Entry(
            label=e.label, number=e.record.number, roles=e.roles, params=e.params,
            search=e.record.outcome or Outcome(), estimate=estimate(values[e.label], measure),
            reached=_reached(outcomes[e.label]), values=measure.in_unit(values[e.label]),
            effect=None if e.label == BASELINE else compare(values[e.label], values[BASELINE], measure),
        )
        for e in entries
    ]  # fmt: skip
    ran.sort(key=lambda entry: (float(iqm(values[entry.label])), entry.number))
    return measure, Race(measure.name, seeds, tuple(ran), len(seeds) * len(entries))


def _reached(outcomes: Sequence[Outcome | None]) -> int:
    return sum(outcome is not None and outcome.is_reached for outcome in outcomes)


def baseline_won(race: Race, measure: Measure) -> Verdict:
    """The verdict where no entry did better than the baseline, and nothing is left to test."""
    winner = race.winner
    sentence = (
        f"No difference shown: on {len(race.seeds)} unseen seeds no finalist did better than the baseline, with "
        f"{in_words(winner.estimate, measure)}."
    )
    return Verdict(
        Decision.NO_DIFFERENCE, BASELINE, 0, (), None, None, None, 0, 0, _search_value(winner.search, measure), sentence
    )


def verdict_of(winner: Entry, baseline: Entry, seeds: tuple[int, ...], measure: Measure, lookup: Lookup) -> Verdict:
    """What the test's runs say of the race's winner."""
    ours, theirs = (
        outcomes_of(runs_of(RACE, entry.label, entry.params, seeds), lookup) for entry in (winner, baseline)
    )
    our_values, their_values = measure.values(ours), measure.values(theirs)
    effect = compare(our_values, their_values, measure)
    estimates = estimate(our_values, measure), estimate(their_values, measure)
    head = {
        Decision.BETTER: "Better than the baseline", Decision.WORSE: "Worse than the baseline",
        Decision.NO_DIFFERENCE: "No difference shown",
    }[effect.decision]  # fmt: skip
    verb = "needs" if measure.counts_episodes else "gets"
    sentence = (
        f"{head}: trial {winner.number} {verb} {in_words(estimates[0], measure)} on {len(seeds)} unseen seeds, "
        f"the baseline {in_words(estimates[1], measure, is_short=True)}: {effect_in_words(effect)}."
    )
    return Verdict(
        effect.decision, winner.label, winner.number, seeds, effect, *estimates, _reached(ours), _reached(theirs),
        _search_value(winner.search, measure), sentence,
    )  # fmt: skip


def _search_value(outcome: Outcome, measure: Measure) -> float | None:
    return outcome.episodes_to_threshold if measure.counts_episodes else outcome.best_mean
