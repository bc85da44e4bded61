"""Cuts one run's reward curve into stages, from its figures alone. Knows neither parameters nor words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tuner.episodes import Goal, Row

RANDOM, RISING, PLATEAU, COLLAPSE = "random", "rising", "plateau", "collapse"

# Shares of the run's own range, the difference between the highest and the lowest point of its curve.
MATERIAL = 0.1
DEEP = 0.25
# Of a run's range, in standard errors of one window's mean: 8 is more than the curves of 19 in 20 runs that learn
# nothing make by chance (1,000 episodes, windows of 50; normal, exponential and rare rewards alike).
CHANCE = 8.0
CERTAIN = 2.0


@dataclass(frozen=True)
class Stage:
    """One stretch of a run: its first and last episode, inclusive, and the table's mean rewards there."""

    name: str  # random, rising, plateau or collapse
    first: int
    last: int
    mean_reward_first: float
    mean_reward_last: float

    @property
    def episodes(self) -> int:
        """How many episodes it holds."""
        return self.last - self.first + 1


def finite(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows before the first whose reward or means are not finite numbers."""
    for index, row in enumerate(rows):
        if not (math.isfinite(row.reward) and math.isfinite(row.mean_reward) and math.isfinite(row.mean_length)):
            return rows[:index]
    return rows


def stages(rows: Sequence[Row], goal: Goal) -> list[Stage]:
    """The stages of a whole table, in order; together they hold each episode once, up to a reward that is not finite.

    The curve is the trailing mean; before a fifth of a window has been played it is held at the mean of that fifth.
    A material change is a tenth of the curve's range, or two standard errors of a window's mean where that is more.
    A run whose whole range is within eight standard errors shows no more than chance: it is one `random` stage.

    - `random`: from the first episode until the curve first lies a material change above its beginning.
    - `collapse`: a fall from a peak by at least a quarter of the range that lasts for more than a window, or to the
      end of the run; it begins a material change below the peak and ends a material change above its lowest point.
    - `plateau`: at least a window and a tenth of the run in which the record does not grow by half a material change,
      with the small steps between two such stretches and at their edges, where the whole then still grows less than
      half as fast as the run on average. Dips that are no collapse belong to it.
    - `rising`: everything else.
    """
    rows = finite(rows)
    names = _names(rows, goal.window)
    return [
        Stage(names[start], start + 1, end, rows[start].mean_reward, rows[end - 1].mean_reward)
        for start, end in _parts(names)
    ]


def _parts(names: list[str]) -> list[tuple[int, int]]:
    """Where equal names stand side by side: from the first up to, but without, the second index."""
    starts = [index for index, name in enumerate(names) if index == 0 or name != names[index - 1]]
    return list(pairwise([*starts, len(names)]))


@dataclass(frozen=True)
class _Measure:
    """What counts as what, on a curve whose range is one."""

    material: float
    fall: float
    window: int
    shortest: int
    pace: float  # an episode's share of the range


def _names(rows: Sequence[Row], window: int) -> list[str]:
    """The stage of each episode."""
    scaled = _scaled([row.reward for row in rows], [row.mean_reward for row in rows])
    if scaled is None:
        return [RANDOM] * len(rows)
    rewards, means = scaled
    curve = _held(means, window)
    low, spread = min(curve), max(curve) - min(curve)
    error = _standard_error(rewards, window)
    if spread <= CHANCE * error:
        return [RANDOM] * len(rows)
    curve = [(value - low) / spread for value in curve]
    material = max(MATERIAL, CERTAIN * error / spread)
    shortest = max(window, len(rows) // 10)
    return _cut(curve, _Measure(material, max(DEEP, material), window, shortest, 1 / len(rows)))


def _scaled(*series: list[float]) -> list[list[float]] | None:
    """The series in one unit in which no sum of squares overflows; None where all are zero or empty."""
    unit = max((abs(value) for values in series for value in values), default=0.0)
    return [[value / unit for value in values] for values in series] if unit else None


def _held(means: list[float], window: int) -> list[float]:
    begun = min(len(means), max(1, window // 5))  # before, one lucky episode would be a level
    return [means[max(index, begun - 1)] for index in range(len(means))]


def _standard_error(rewards: list[float], window: int) -> float:
    """Of one window's mean, from the differences of neighbours, which learning hardly touches."""
    if len(rewards) < 2:
        return 0.0
    variance = math.fsum((after - before) ** 2 for before, after in pairwise(rewards)) / 2 / (len(rewards) - 1)
    return math.sqrt(variance / min(len(rewards), window))


def _cut(curve: list[float], measure: _Measure) -> list[str]:
    names: list[str] = []
    for peak, trough in _falls(curve, measure):
        edge, floor = curve[peak] - measure.material, curve[trough] + measure.material
        leaves = max(index for index in range(peak, trough) if curve[index] > edge)
        settles = min(index for index in range(leaves + 1, trough + 1) if curve[index] <= floor)
        names += _climb(curve[len(names) : leaves + 1], measure, is_first=not names)
        names += [COLLAPSE] * (settles + 1 - len(names))
    return names + _climb(curve[len(names) :], measure, is_first=not names)


def _falls(curve: list[float], measure: _Measure) -> Iterator[tuple[int, int]]:
    """The peak and the lowest point of each collapse."""
    peak, trough = 0, 0
    below: int | None = None  # since when the curve lies deep below its peak
    is_down = False
    for index, value in enumerate(curve):
        if is_down:
            if value <= curve[trough]:
                trough = index
            elif value - curve[trough] >= measure.fall:
                yield peak, trough
                peak, below, is_down = index, None, False
        elif value >= curve[peak]:
            peak, below = index, None
        elif curve[peak] - value < measure.fall:
            below = None
        else:
            below = index if below is None else below
            is_down = index - below >= measure.window or index == len(curve) - 1
            if is_down:
                trough = min(range(peak, index + 1), key=lambda at: (curve[at], -at))
    if is_down:
        yield peak, trough


def _climb(curve: list[float], measure: _Measure, is_first: bool) -> list[str]:
    """The stages of a stretch without a collapse."""
    record = list(accumulate(curve, max))
    if is_first:
        at_first = sum(value < record[0] + measure.material for value in record)
        return [RANDOM] * at_first + _paces(record[at_first:], measure)
    if record and record[-1] - record[0] < measure.material:
        return [PLATEAU if len(record) >= measure.shortest else COLLAPSE] * len(record)
    return _paces(record, measure)


def _paces(record: list[float], measure: _Measure) -> list[str]:
    """Plateaus and rises; a small step between two plateaus, or at the edge of one, belongs to them."""
    names = _flat_or_rising(record, measure)
    parts = [*_parts(names), (len(names), len(names))]
    since = 0  # where the plateau before began, or the rise itself
    for (start, end), (_, until) in pairwise(parts):
        if start == 0 or names[start - 1] != PLATEAU:
            since = start
        if names[start] == RISING and (since < start or end < until):
            is_small = record[end - 1] - record[max(start - 1, 0)] < measure.material
            if is_small and record[until - 1] - record[since] < measure.pace * (until - since) / 2:
                names[start:end] = [PLATEAU] * (end - start)
    return names


def _flat_or_rising(record: list[float], measure: _Measure) -> list[str]:
    start, end = _longest_flat(record)
    if end - start < measure.shortest:
        return [RISING] * len(record)
    before, after = record[:start], record[end:]
    return [*_flat_or_rising(before, measure), *[PLATEAU] * (end - start), *_flat_or_rising(after, measure)]


def _longest_flat(record: list[float]) -> tuple[int, int]:
    """The longest stretch in which a record grows by less than half a material share."""
    longest, end = (0, 0), 0
    for start in range(len(record)):
        while end < len(record) and record[end] - record[start] < MATERIAL / 2:
            end += 1
        if end - start > longest[1] - longest[0]:
            longest = start, end
    return longest
