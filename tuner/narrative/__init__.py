"""Says in sentences what the curves of a run show, from their figures alone. Draws nothing and knows no parameters."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.episodes import Goal, Row, outcome_of
from tuner.narrative.reward_length import reward_against_length
from tuner.narrative.stages import COLLAPSE, PLATEAU, RANDOM, RISING, Stage, finite, stages
from tuner.narrative.wording import capital, count, listed, number, share

__all__ = ["Stage", "comparison", "reward_against_length", "sentences", "stability", "stages"]

_STAGE_WORDS = {RANDOM: "random", RISING: "rising", PLATEAU: "a plateau", COLLAPSE: "a collapse"}
_STAGE_NOUNS = {RISING: "rise", PLATEAU: "plateau", COLLAPSE: "collapse"}
_SPENT_WORDS = {RANDOM: "in the random stage", RISING: "rising", PLATEAU: "on a plateau", COLLAPSE: "collapsing"}

_MOST_STAGES = 8  # more are counted, not listed


def sentences(name: str, rows: Sequence[Row], goal: Goal) -> list[str]:
    """All that the curves of the run called `name` show: its cost, its threshold, its stages, and how it held.

    What comes after a reward that is not finite is left out, and said to be.
    """
    if not rows:
        return [f"{capital(name)} ended no episode, so it has no curves."]
    usable = finite(rows)
    broken = [] if len(usable) == len(rows) else [_broken(name, len(usable))]
    if not usable:
        return broken
    return [
        *broken,
        _cost(name, usable, goal),
        _threshold(usable, goal),
        _stages(usable, goal),
        reward_against_length(usable),
        stability(usable, goal),
    ]


def stability(rows: Sequence[Row], goal: Goal) -> str:
    """How the run held what it had reached; of what would have come after its last episode nothing is said."""
    rows = finite(rows)
    if not rows:
        return "No episode ended, so nothing is known of its stability."
    windows = rows[goal.window - 1 :]
    if not windows:
        return f"No window of {count(goal.window, 'episode')} was filled, so nothing is known of its stability."
    at = _reached_at(rows, goal)
    after = [] if at is None else rows[rows.index(at) + 1 :]
    if at is not None and not after:
        return "The run stopped at its threshold, so nothing is known of what comes after it."
    return f"{_held(after, goal)}{_deepest_fall(windows)}"


def comparison(
    baseline_rows: Sequence[Row],
    best_rows: Sequence[Row],
    goal: Goal,
    *,
    baseline: str = "the baseline",
    best: str = "the best trial",
) -> list[str]:
    """How the best run's way differs from the baseline's: its random stage, its cost, and where its steps went."""
    names, runs = (best, baseline), (finite(best_rows), finite(baseline_rows))
    without = [name for name, rows in zip(names, runs, strict=True) if not rows]
    if without:
        return [f"{capital(listed(without))} ended no episode, so there is nothing to compare."]
    if _played(runs[0]) == _played(runs[1]):
        return [f"{capital(best)} and {baseline} played the same episodes, one for one."]
    return [_beside(names, [told(rows, goal) for rows in runs]) for told in (_left_random, _reached, _spent)]


def _broken(name: str, kept: int) -> str:
    if not kept:
        return f"The rewards of {name} are not finite numbers from the first episode on, so it has no curves."
    return f"After {count(kept, 'episode')} a reward of {name} is not a finite number; what follows is about those."


def _cost(name: str, rows: Sequence[Row], goal: Goal) -> str:
    made = f"{capital(name)} made {count(len(rows), 'episode')} in {count(rows[-1].env_steps, 'environment step')}"
    window, last = count(goal.window, "episode"), number(rows[-1].mean_reward)
    if len(rows) < goal.window:
        return f"{made}; they fill no window of {window}, and the mean reward of all is {last}."
    if len(rows) == goal.window:
        return f"{made}; they fill one window of {window}, whose mean reward is {last}."
    first = number(rows[goal.window - 1].mean_reward)
    return f"{made}; the mean reward of {window} went from {first} in the first window to {last} in the last."


def _threshold(rows: Sequence[Row], goal: Goal) -> str:
    highest = max(rows[goal.window - 1 :] or rows[-1:], key=lambda row: row.mean_reward)
    best = f"the best mean reward was {number(highest.mean_reward)}, at episode {number(highest.episode)}"
    if goal.threshold is None:
        return f"It had no threshold to reach; {best}."
    threshold = number(goal.threshold)
    at = _reached_at(rows, goal)
    if at is not None:
        steps = count(at.env_steps, "environment step")
        return f"It reached the threshold of {threshold} at episode {number(at.episode)}, after {steps}."
    if highest.mean_reward >= goal.threshold:
        return f"It did not reach the threshold of {threshold}, for which a window must be full; {best}."
    near = ", just below it" if number(highest.mean_reward) == threshold else ""
    return f"It did not reach the threshold of {threshold}; {best}{near}."


def _reached_at(rows: Sequence[Row], goal: Goal) -> Row | None:
    reached = outcome_of(rows, goal).episodes_to_threshold
    return next((row for row in rows if row.episode == reached), None)


def _stages(rows: Sequence[Row], goal: Goal) -> str:
    found = stages(rows, goal)
    if len(found) == 1:
        return "Its reward curve is one random stage: from first to last it stayed about where it began."
    if len(found) > _MOST_STAGES:
        names = [stage.name for stage in found[1:]]
        turns = [count(names.count(name), noun) for name, noun in _STAGE_NOUNS.items() if name in names]
        return f"Its reward curve has {len(found)} stages: after a random one, {_span(found[0])}, {listed(turns)}."
    parts = [
        f"{_STAGE_WORDS[stage.name]} in {_span(stage)} (mean reward {number(stage.mean_reward_first)} to "
        f"{number(stage.mean_reward_last)})"
        for stage in found
    ]
    return f"Its reward curve has {count(len(found), 'stage')}: {', then '.join(parts)}."


def _span(stage: Stage) -> str:
    if stage.first == stage.last:
        return f"episode {number(stage.first)}"
    return f"episodes {number(stage.first)} to {number(stage.last)}"


def _held(after: Sequence[Row], goal: Goal) -> str:
    if not after:
        return ""
    above = [row for row in after if goal.threshold is not None and row.mean_reward >= goal.threshold]
    return (
        f"Of the {count(len(after), 'window')} after the first at its threshold, {share(len(above) / len(after))} held "
        "it. "
    )


def _deepest_fall(windows: Sequence[Row]) -> str:
    means = [row.mean_reward for row in windows]
    peak = max(range(len(means)), key=lambda index: (means[index], index))
    if peak == len(means) - 1:
        return f"Its curve was at its highest, {number(means[peak])}, when the run ended."
    low = min(range(peak, len(means)), key=lambda index: means[index])
    fell = (
        f"From its peak of {number(means[peak])} at episode {number(windows[peak].episode)} the curve fell to "
        f"{number(means[low])} at episode {number(windows[low].episode)}"
    )
    gained, lost = means[peak] / 2 - means[0] / 2, means[peak] / 2 - means[low] / 2  # halves do not overflow
    if gained <= 0:
        return f"{fell}; no window was above the first full one, so nothing had been gained."
    if lost > gained:
        return f"{fell}, more than all that it had gained since its first full window."
    return f"{fell}, {share(lost / gained)} of what it had gained since its first full window."


def _played(rows: Sequence[Row]) -> list[tuple[float, int]]:
    return [(row.reward, row.length) for row in rows]


def _left_random(rows: Sequence[Row], goal: Goal) -> tuple[str, str]:
    found = stages(rows, goal)
    if len(found) == 1:
        return "never left the random stage", f"in {count(len(rows), 'episode')}"
    return "left the random stage", f"after {count(found[0].last, 'episode')}"


def _reached(rows: Sequence[Row], goal: Goal) -> tuple[str, str]:
    at = _reached_at(rows, goal)
    last = rows[-1] if at is None else at
    cost = f"{count(last.episode, 'episode')} and {count(last.env_steps, 'environment step')}"
    best = number(outcome_of(rows, goal).best_mean or 0.0)
    if goal.threshold is None:
        return "had a best mean reward of", f"{best} in {cost}"
    if at is None:
        return f"did not reach the threshold of {number(goal.threshold)}", f"in {cost} (best mean reward {best})"
    return f"reached the threshold of {number(goal.threshold)}", f"after {cost}"


def _spent(rows: Sequence[Row], goal: Goal) -> tuple[str, str]:
    """The share of the run's environment steps that the stages of each name took."""
    steps = dict.fromkeys(_SPENT_WORDS, 0)
    before = 0
    for stage in stages(rows, goal):
        until = rows[stage.last - 1].env_steps
        steps[stage.name] += max(0, until - before)
        before = until
    parts = [f"{share(part / sum(steps.values()))} {_SPENT_WORDS[name]}" for name, part in steps.items() if part]
    return ("spent its environment steps", listed(parts)) if parts else ("made", "no environment step")


def _beside(names: Sequence[str], told: Sequence[tuple[str, str]]) -> str:
    """What was told of two runs, each as a verb and the rest, in one sentence that says nothing twice."""
    (verb, rest), (other_verb, other_rest) = told
    if told[0] == told[1]:
        return f"{capital(names[0])}, like {names[1]}, {verb} {rest}."
    other = f"{names[1]} {other_verb} {other_rest}"
    if verb == other_verb:
        other = f"{'nor did ' if verb.startswith(('did not', 'never')) else ''}{names[1]} {other_rest}"
    return f"{capital(names[0])} {verb} {rest}; {other}."
