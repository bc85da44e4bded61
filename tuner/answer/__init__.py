"""The answer to a sweep: the winner on seeds that the search never saw, the verdict, and what made the difference.

Decides which runs are needed and what they show; runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tuner.answer.parts import BASELINE, PATH, Answer, Lookup, Question, Stage, runs_of
from tuner.answer.path import Ablation, changed, path_size
from tuner.answer.race import baseline_won, entrants, race_of, verdict_of
from tuner.ledger import RACE, TEST, seeds_of


def so_far(question: Question, lookup: Lookup) -> Answer:
    """The answer as far as the runs that there are can give it."""
    answer = Answer()
    if can_be_asked(question):
        for stage in stages(question, answer, lookup):
            if any(lookup(run) is None for run in stage.runs):
                return answer
    answer.is_complete = True
    return answer


def stages(question: Question, answer: Answer, lookup: Lookup) -> Iterator[Stage]:
    """Every stage in turn, each to be run before the next is asked for; fills `answer` as it goes."""
    entries = entrants(question)
    seeds = seeds_of(RACE, question.seeds)
    yield Stage(RACE, [run for entry in entries for run in runs_of(RACE, entry.label, entry.params, seeds)])
    measure, answer.race = race_of(question, entries, seeds, lookup)
    winner = answer.race.winner
    if winner.label == BASELINE:
        answer.verdict = baseline_won(answer.race, measure)
        return
    tests = seeds_of(TEST, question.seeds)
    baseline = next(entry for entry in answer.race.entries if entry.label == BASELINE)
    pair = winner, baseline
    yield Stage(TEST, [run for entry in pair for run in runs_of(RACE, entry.label, entry.params, tests)])
    answer.verdict = verdict_of(winner, baseline, tests, measure, lookup)
    if changed(question.space, winner.params):
        yield from Ablation(question, answer, measure, lookup).stages()


def can_be_asked(question: Question) -> bool:
    """Whether there is a baseline that did not fail, and another configuration to hold against it."""
    return question.seeds > 0 and len(entrants(question)) > 1


def race_size(seeds: int, finalists: int, parameters: int) -> dict[str, int]:
    """The most runs that each part can take, known before the search, for a space of so many searched parameters."""
    return {RACE: seeds * (finalists + 2), TEST: 2 * seeds, PATH: path_size(parameters, seeds)} if seeds else {}
