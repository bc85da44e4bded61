"""Sets a run's rewards against its episodes' lengths: what their curves share, where they differ, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from tuner.episodes import Row
from tuner.narrative.stages import finite
from tuner.narrative.wording import coefficient, count, number

_EXACT = 1e-12  # of the greater number: rounding, and no more


def reward_against_length(rows: Sequence[Row]) -> str:
    """What the reward curve and the length curve have in common, where they differ, and why, in plain sentences.

    They are the same (an environment that pays 1 a step), opposite (one in which a step costs 1), or different: then
    the correlations over all episodes say how far they go together, and the first tenth of the episodes beside the last
    says what changed. Where one of them is constant there is no correlation, and that is said.
    """
    rows = finite(rows)
    if not rows:
        return "No episode ended, so there is no reward to set against a length."
    rewards, lengths = [row.reward for row in rows], [float(row.length) for row in rows]
    return (
        _same(rows, rewards, lengths)
        or _flat(rows, rewards, lengths)
        or _same_but_for_a_constant(rows, rewards, lengths)
        or _different(rows, rewards, lengths)
    )


def _same(rows: Sequence[Row], rewards: list[float], lengths: list[float]) -> str | None:
    both_flat = f" Every one lasted {count(rows[0].length, 'step')}, so both are flat." if _is_flat(lengths) else ""
    if _is_zero(_above(rewards, lengths), beside=lengths):
        return (
            f"{_each(rows)} the reward equals the length, so the two curves are one: the environment pays 1 for each "
            f"step, as CartPole does, and to earn more is to last longer.{both_flat}"
        )
    if _is_zero(_above(rewards, _minus(lengths)), beside=lengths):
        return (
            f"{_each(rows)} the reward is minus the length, so one curve is the other upside down: each step costs 1, "
            f"as in MountainCar, and to earn more is to end sooner.{both_flat}"
        )
    return None


def _flat(rows: Sequence[Row], rewards: list[float], lengths: list[float]) -> str | None:
    steps = count(rows[0].length, "step")
    if _is_flat(rewards) and _is_flat(lengths):
        return (
            f"{_each(rows)} the reward was {number(rewards[0])} and the length {steps}: both curves are flat, so there "
            "is no correlation between them."
        )
    if _is_flat(lengths):
        return (
            f"Every episode lasted {steps}, as Pendulum's do, so the length curve is flat, there is no correlation, "
            f"and only the reward can show what was learned.{_per_step(rows)}"
        )
    if _is_flat(rewards):
        return (
            f"Every episode earned {number(rewards[0])}, whatever its length, so the reward curve is flat and there is "
            f"no correlation.{_mean_lengths(rows)}"
        )
    return None


def _same_but_for_a_constant(rows: Sequence[Row], rewards: list[float], lengths: list[float]) -> str | None:
    more, sums = _above(rewards, lengths), _above(rewards, _minus(lengths))
    varied = max(lengths) - min(lengths)
    if _is_zero(_above(more, more[:1] * len(more)), beside=rewards + lengths):
        return (
            f"{_each(rows)} the reward is the length {_signed(more[0])}, so the two curves have one shape: the "
            "environment pays 1 for each step, and to earn more is to last longer."
        )
    if _is_zero(_above(sums, sums[:1] * len(sums)), beside=rewards + lengths):
        much = f"minus the length {_signed(sums[0])}"
    elif min(sums) == 0 and max(sums) <= min(1, varied / 10):
        much = f"minus the length, or up to {number(max(sums))} more"
    else:
        return None
    return (
        f"{_each(rows)} the reward is {much}, so one curve is the other upside down: each step costs 1, as in Acrobot, "
        "where the step into the goal is free, and to earn more is to end sooner."
    )


def _different(rows: Sequence[Row], rewards: list[float], lengths: list[float]) -> str:
    pearson, spearman = _pearson(rewards, lengths), _pearson(_ranks(rewards), _ranks(lengths))
    if len(rows) < 3 or pearson is None or spearman is None:
        return (
            f"Reward and length are not the same here, and {count(len(rows), 'such episode')} cannot show a "
            f"correlation.{_per_step(rows)}{_mean_lengths(rows)}"
        )
    bent = "" if abs(pearson - spearman) < 0.2 else ", though not in proportion"
    return (
        f"Reward and length are not the same here: over {count(len(rows), 'episode')} their correlation is "
        f"{coefficient(pearson)} (Pearson; {coefficient(spearman)} by Spearman's ranks), so {_meaning(spearman)}{bent}."
        f"{_per_step(rows)}{_mean_lengths(rows)}"
    )


def _meaning(spearman: float) -> str:
    if abs(spearman) < 0.3:
        return "the length says little of the reward: what counts is how steps are spent, not how many there are"
    longer = "longer" if spearman > 0 else "shorter"
    if abs(spearman) < 0.7:
        return f"{longer} episodes tend to earn more, but the length is only a part of it"
    return f"the curves go {'together' if spearman > 0 else 'against each other'}: {longer} episodes earn more"


def _per_step(rows: Sequence[Row]) -> str:
    """How the reward of a step changed, as a sentence to append; nothing where it cannot be told."""
    first, last = _ends(rows)
    before, after = _mean_per_step(first), _mean_per_step(last)
    if len(rows) < 2 or before is None or after is None:
        return ""
    begun = f" A step earned {number(before)} in the first {_episodes(first)}"
    if number(before) == number(after):
        return f"{begun} as in the last."
    ends = f"{begun} and {number(after)} in the last"
    if not _differ([row.reward / row.length for row in first], [row.reward / row.length for row in last]):
        return f"{ends}, which may be chance."
    return f"{ends}, so a step came to earn {'more' if after > before else 'less'}."


def _mean_per_step(rows: Sequence[Row]) -> float | None:
    if any(row.length <= 0 for row in rows):
        return None
    mean = _total([row.reward for row in rows]) / sum(row.length for row in rows)
    return mean if math.isfinite(mean) else None


def _mean_lengths(rows: Sequence[Row]) -> str:
    if len(rows) < 2:
        return ""
    first, last = _ends(rows)
    before, after = (number(sum(row.length for row in part) / len(part)) for part in (first, last))
    return f" The mean length was {before} in the first {_episodes(first)} and {after} in the last."


def _ends(rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """The first tenth of the episodes, and the last."""
    tenth = max(1, len(rows) // 10)
    return rows[:tenth], rows[-tenth:]


def _episodes(rows: Sequence[Row]) -> str:
    return "episode" if len(rows) == 1 else count(len(rows), "episode")


def _differ(first: list[float], last: list[float]) -> bool:
    """Whether the means differ by more than two standard errors of their difference."""
    if len(first) < 3:
        return False
    unit = max(abs(value) for value in first + last) or 1.0
    parts = [[value / unit for value in part] for part in (first, last)]
    means = [math.fsum(part) / len(part) for part in parts]
    squares = math.fsum((value - mean) ** 2 for part, mean in zip(parts, means, strict=True) for value in part)
    return abs(means[0] - means[1]) > 2 * math.sqrt(squares / (len(first) - 1) / len(first))


def _above(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]


def _minus(values: Sequence[float]) -> list[float]:
    return [-value for value in values]


def _is_zero(values: Sequence[float], beside: Sequence[float]) -> bool:
    """Whether all values are zero but for the rounding of numbers as great as those `beside`."""
    greatest = max(abs(value) for value in beside)
    return all(abs(value) <= _EXACT * greatest for value in values)


def _is_flat(values: Sequence[float]) -> bool:
    return _is_zero(_above(values, [values[0]] * len(values)), beside=values)


def _pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation, or None where one of the two does not vary."""
    x, y = _deviations(first), _deviations(second)
    if x is None or y is None:
        return None
    products = math.fsum(a * b for a, b in zip(x, y, strict=True))
    return max(-1.0, min(1.0, products / math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))))


def _deviations(values: Sequence[float]) -> list[float] | None:
    """The differences from the mean in units of the greatest, so that no square overflows or vanishes."""
    unit = max(abs(value) for value in values) or 1.0
    scaled = [value / unit for value in values]
    mean = math.fsum(scaled) / len(scaled)
    greatest = max(abs(value - mean) for value in scaled)
    return [(value - mean) / greatest for value in scaled] if greatest else None


def _ranks(values: Sequence[float]) -> list[float]:
    """The place of each value in their order; equal values share the mean of their places."""
    order = sorted(range(len(values)), key=values.__getitem__)
    starts = [place for place, at in enumerate(order) if place == 0 or values[at] != values[order[place - 1]]]
    ranks = [0.0] * len(values)
    for start, end in pairwise([*starts, len(order)]):
        for at in order[start:end]:
            ranks[at] = (start + end - 1) / 2
    return ranks


def _total(values: Sequence[float]) -> float:
    """The sum, infinite where it overflows."""
    unit = max(abs(value) for value in values) or 1.0
    return math.fsum(value / unit for value in values) * unit


def _each(rows: Sequence[Row]) -> str:
    return "In its only episode" if len(rows) == 1 else f"In each of {number(len(rows))} episodes"


def _signed(constant: float) -> str:
    return f"{'plus' if constant > 0 else 'less'} {number(abs(constant))}"
