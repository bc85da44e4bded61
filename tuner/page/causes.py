"""What a report says of the race and of what made the difference: rows of tables, and a paragraph for each change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.answer.parts import Step, Tally
from tuner.importance import Importance
from tuner.inference import Decision, Effect, Estimate, Measure
from tuner.narrative.wording import count, listed, number
from tuner.page.content import Report, compared, name_of
from tuner.page.findings import Badge
from tuner.page.phrases import (
    KINDS,
    change,
    duration,
    effect,
    estimate,
    figure,
    interval,
    is_known,
    percent,
    reached,
    shown,
    unit,
)
from tuner.roles import ROLES, Role


def race_rows(report: Report) -> list[dict[str, str]]:
    """A row for each entry, the winner first."""
    race = report.answer.race
    return [
        {
            "configuration": name_of(entry.number),
            "role": listed(entry.roles),
            unit(report): estimate(entry.estimate, report.measure),
            "95 % interval": interval(entry.estimate, report.measure),
            "reached": reached(report, entry.reached, len(entry.values)),
            "better than the baseline": percent(entry.effect.probability) if entry.effect else "",
            "in the search": _search(report, entry.search.episodes_to_threshold, entry.search.best_mean),
        }
        for entry in (race.entries if race else ())
    ]


def match_rows(report: Report) -> list[dict[str, str]]:
    """A row for each opponent and side of the winner, and one of the baseline; none where no matches were played."""
    played = _matches(report)
    pairings = dict.fromkeys((found.opponent, found.side) for matches in played.values() for found in matches)
    return [
        {
            "opponent": found.opponent, "side": found.side, "configuration": name_of(number),
            "won": str(found.wins), "drawn": str(found.draws), "lost": str(found.losses),
            "win rate": percent(found.win_rate.value), "its 95 % interval": _rates(found.win_rate),
        }
        for pairing in pairings
        for number, matches in played.items()
        for found in matches if (found.opponent, found.side) == pairing
    ]  # fmt: skip


def _matches(report: Report) -> dict[int, Sequence[Tally]]:
    """By trial: the test's, which chose nothing, or where there was no test, the race's."""
    race, verdict = report.answer.race, report.answer.verdict
    if race is None:
        return {}
    if verdict and verdict.seeds:
        return {verdict.number: verdict.winner_matches, 0: verdict.baseline_matches}
    return {entry.number: entry.matches for entry in reversed(compared(race.entries))}


def _rates(found: Estimate) -> str:
    return f"{percent(found.low)} to {percent(found.high)}" if is_known(found) else "one seed: unknown"


def path_rows(report: Report) -> list[dict[str, str]]:
    """A row for the baseline and one for each step to the winner."""
    path = report.answer.path
    if path is None:
        return []
    start = {
        "change": "the baseline",
        unit(report): estimate(path.start, report.measure),
        "95 % interval": interval(path.start, report.measure),
        "against the step before": "",
        "shown": "",
    }
    return [start, *(_path_row(report, step) for step in path.steps)]


def _path_row(report: Report, step: Step) -> dict[str, str]:
    return {
        "change": "; ".join(change(name, *pair) for name, pair in step.changes.items()),
        unit(report): estimate(step.estimate, report.measure),
        "95 % interval": interval(step.estimate, report.measure),
        "against the step before": effect(step.effect, report.measure),
        "shown": step.effect.decision.value,
    }


def path_notes(report: Report) -> list[str]:
    """How the path was made, what it cost, and what it does not say."""
    path = report.answer.path
    if path is None:
        return []
    seconds = report.summary.cost_s.get("path")
    took = f" in {duration(seconds)}" if seconds else ""
    where = (
        f"Each step was chosen on {count(len(path.choosing_seeds), 'seed')} of the race and measured on "
        f"{count(len(path.measuring_seeds), 'other')}"
    )
    if set(path.choosing_seeds) & set(path.measuring_seeds):
        where = "Each step was chosen and measured on the same seed, so that luck can look like an effect"
    notes = [f"{where}; the path took {count(path.runs, 'run')} of its own{took}."]
    together = [step for step in path.steps if len(step.changes) > 1]
    if together:
        names = listed(list(together[-1].changes))
        notes.append(f"The least important were stepped together, so the path says nothing of each alone: {names}.")
    idle = [step for step in path.steps if step.effect.decision is Decision.NO_DIFFERENCE]
    if idle:
        names = listed([listed(list(step.changes)) if len(step.changes) == 1 else "the rest" for step in idle])
        notes.append(f"No difference shown for {names}: there the baseline's values may do as well.")
    return notes


@dataclass(frozen=True)
class Change:
    """A parameter that the best trial changed: its role in PPO, and what was measured of it here."""

    name: str
    before: str
    after: str
    role: Role | None
    measured: tuple[str, ...]
    badge: Badge | None  # what was shown of it, where it was measured


def changes(report: Report) -> list[Change]:
    """Every changed parameter, in the order of the path, or without one in that of their importances."""
    changed = report.summary.changed
    path = report.answer.path
    order = [name for step in path.steps for name in step.changes] if path else []
    order += [importance.name for importance in report.importances.ranked]
    names = sorted(changed, key=lambda name: order.index(name) if name in order else len(order))
    return [_change(report, name, *changed[name]) for name in names]


def _change(report: Report, name: str, before: Any, after: Any) -> Change:
    path = report.answer.path
    step = next((step for step in path.steps if name in step.changes), None) if path else None
    badge = None
    measured = [_direction(before, after)]
    if name not in report.space.params:
        measured.append("It was not searched: it follows from the parameters that were.")
    elif path is None or step is None:
        measured.append("What it brought alone was not measured.")
    else:
        decision = step.effect.decision
        badge = Badge(KINDS[decision], decision.value) if len(step.changes) == 1 else Badge("none", "stepped together")
        measured.append(_stepped(step, path.steps.index(step) + 1, name, report.measure))
        alone = path.alone.get(name)
        if alone and is_known(alone):
            seeds = count(len(path.choosing_seeds), "seed")
            measured.append(
                f"Changed alone from the baseline, on the {seeds} that chose the steps, which prove little: "
                f"{effect(alone, report.measure)}."
            )
    found = report.importances.of(name)
    if found:
        place, importance = found
        measured.append(
            f"Its importance in the search: {_share(importance)}, place {place} of {len(report.importances.ranked)}."
        )
    return Change(name, shown(before), shown(after), ROLES.get(name), tuple(measured), badge)


_SHOWN = {
    Decision.BETTER: "shown to be better", Decision.NO_DIFFERENCE: "no difference shown",
    Decision.WORSE: "shown to be worse",
}  # fmt: skip


def _direction(before: Any, after: Any) -> str:
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (before, after)):
        return f"Changed from {shown(before)} to {shown(after)}."
    size = ""
    if before > 0 and after > 0 and max(after / before, before / after) >= 1.5:
        size = f", {after / before:.2g} times as high" if after > before else f", divided by {before / after:.2g}"
    return f"{'Raised' if after > before else 'Lowered'} from {shown(before)} to {shown(after)}{size}."


def _stepped(step: Step, place: int, name: str, measure: Measure) -> str:
    if len(step.changes) > 1:
        others = [other for other in step.changes if other != name]
        with_them = others[0] if len(others) == 1 else f"{len(others)} others"
        return f"On the path it was stepped together with {with_them}: {_told(step.effect, measure)} for all of them."
    return f"On the path it was step {place}: {_told(step.effect, measure)}."


def _told(found: Effect, measure: Measure) -> str:
    if not is_known(found):
        return "one seed says nothing of the size"
    return f"{effect(found, measure)}, {_SHOWN[found.decision]}"


def _share(found: Importance) -> str:
    median, low, high = (percent(value) for value in (found.median, found.low, found.high))
    return f"{median} ({low} to {high})"


def _search(report: Report, episodes: int | None, best_mean: float | None) -> str:
    if report.search_measure.counts_episodes:
        return "not reached" if episodes is None else number(episodes)
    return "" if best_mean is None else figure(best_mean)
