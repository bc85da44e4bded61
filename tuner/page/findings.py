"""The verdict of a report in words, the figures behind it, and what is missing where there is none."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass

from tuner.inference import Effect, Estimate, Measure
from tuner.narrative.wording import count, number
from tuner.page.content import Report, name_of
from tuner.page.phrases import (
    KINDS,
    costs,
    effect,
    estimate,
    figure,
    interval,
    is_known,
    percent,
    reached,
    unbroken,
    unit,
)
from tuner.study import TrialState

LONGEST_REASON = 300  # in the first sentence; the table of trials has it whole


@dataclass(frozen=True)
class Badge:
    """The verdict in two words, and its kind: better, none, worse or missing."""

    kind: str
    text: str


def badge(report: Report) -> Badge:
    """The verdict, or why there is none."""
    verdict = report.answer.verdict
    if verdict is None:
        return Badge("missing", f"no verdict: {why_no_verdict(report)}")
    return Badge(KINDS[verdict.decision], verdict.decision.value)


def lead(report: Report) -> str:
    """The one sentence that a reader takes away."""
    verdict, best, baseline = report.answer.verdict, report.summary.best, report.summary.baseline
    if verdict is not None:
        return unbroken(verdict.sentence)
    if best is None or baseline is None:
        return _nothing_completed(report)
    if len(report.records) == 1:
        return f"Only the baseline was tried: {report.summary.in_words(baseline)}, with seed {best['seed']}."
    if best["number"] == 0:
        return f"No trial was better than the baseline: {report.summary.in_words(baseline)}, with seed {best['seed']}."
    return (
        f"Trial {best['number']} did best in the search: {report.summary.in_words(best)}; the baseline: "
        f"{report.summary.in_words(baseline)}. Both with seed {best['seed']} alone; other seeds will differ."
    )


def optimism(report: Report) -> str | None:
    """How far the search's own figure was from what unseen seeds say; None without a race and its verdict."""
    verdict, race = report.answer.verdict, report.answer.race
    if verdict is None or race is None or report.measure.is_judged:  # the search has no figure of a judge's
        return None
    if verdict.winner_estimate is not None:
        return _optimism(report, verdict.number, verdict.search_value, verdict.winner_estimate)
    if race.winner.number == 0 and len(race.entries) > 1:  # the baseline won: over whom the search had put before it
        first = min(race.entries, key=lambda entry: report.records[entry.number].value or 0.0)
        said = first.search.episodes_to_threshold if report.measure.counts_episodes else first.search.best_mean
        return _optimism(report, first.number, said, first.estimate)
    return None


def _optimism(report: Report, trial: int, said: float | None, found: Estimate) -> str:
    name, seed = name_of(trial), report.space.seed
    if said is None:
        return f"In the search {name} had not reached the threshold with seed {seed}."
    counts = report.measure.counts_episodes
    own = f"{number(said)} episodes" if counts else f"a best mean reward of {figure(said)}"
    head = f"The search's own figure for {name} was {own}, with seed {seed} alone"
    bound = "at least " if found.is_bound else ""
    gap = found.value - said if counts else said - found.value
    far = percent(abs(gap) / said) if counts else figure(abs(gap))
    if gap > 0:
        return f"{head}: too optimistic by {bound}{far}."
    return f"{head}: on unseen seeds it did better than that, by {far}." if gap else f"{head}, as on unseen seeds."


@dataclass(frozen=True)
class Tile:
    """One figure with its name and what belongs to it in small print."""

    name: str
    figure: str
    note: str


def tiles(report: Report) -> list[Tile]:
    """The figures behind the verdict, or without one behind the race's order."""
    verdict, race = report.answer.verdict, report.answer.race
    shown = []
    if verdict and verdict.winner_estimate and verdict.baseline_estimate and verdict.effect:
        seeds = len(verdict.seeds)
        shown = [
            _tile(report, verdict.number, verdict.winner_estimate, verdict.winner_reached, seeds),
            _tile(report, 0, verdict.baseline_estimate, verdict.baseline_reached, seeds),
            Tile("the difference", *_difference(verdict.effect, report.measure)),
        ]
    elif race:
        first = [race.winner, next(entry for entry in race.entries if entry.number == 0), *race.entries[1:]]
        two = list({entry.number: entry for entry in first}.values())[:2]
        shown = [_tile(report, entry.number, entry.estimate, entry.reached, len(race.seeds)) for entry in two]
    counts = ", ".join(f"{amount} {state}" for state, amount in report.summary.trials.items())
    shown.append(Tile("trials", number(sum(report.summary.trials.values())), "; ".join([counts, *costs(report)])))
    return shown


def _tile(report: Report, trial: int, found: Estimate, runs: int, seeds: int) -> Tile:
    note = f"{interval(found, report.measure)}; reached by {reached(report, runs, seeds)} seeds"
    if report.goal.threshold is None or report.measure.is_judged:
        note = f"{interval(found, report.measure)}; {count(seeds, 'seed')}"
    return Tile(f"{name_of(trial)}, {unit(report)}", estimate(found, report.measure), note)


def _difference(found: Effect, measure: Measure) -> tuple[str, str]:
    size, _, bounds = effect(found, measure).partition(" (")
    probability = f"in {percent(found.probability)} of all pairs its run beats the baseline's"
    return size, f"{bounds.rstrip(')')}; {probability}" if is_known(found) else probability


# What is missing


def why_no_verdict(report: Report) -> str:
    """What is missing for a verdict."""
    summary, trials = report.summary, int(report.sweep["trials"])
    if not report.records:
        return "no trial has started"
    if summary.finished < trials:
        return f"the search has not ended ({summary.finished} of {count(trials, 'trial')})"
    if report.records[0].state is not TrialState.COMPLETE:
        return f"the baseline {'FAILED' if report.records[0].state is TrialState.FAILED else 'did not complete'}"
    if not (report.sweep.get("race") or {}).get("seeds"):
        return "no race was run"
    if report.answer.is_complete:
        return "no other configuration completed"
    return "the test has not ended" if report.answer.race else "the race has not ended"


def _nothing_completed(report: Report) -> str:
    if not report.records:
        return "No trial has started."
    if report.summary.finished < len(report.records) and not any(record.is_finished for record in report.records):
        return "No trial has ended yet."
    reasons = Counter(record.reason for record in report.records if record.state is TrialState.FAILED)
    if not reasons:
        return "No trial completed."
    (reason, amount), total = reasons.most_common(1)[0], len(report.records)
    how_often = "" if amount == total else f", in {amount} of {total} trials"
    return f"No trial completed. The reason{how_often}: {textwrap.shorten(str(reason), LONGEST_REASON)}."
