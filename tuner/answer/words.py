"""Numbers, estimates and effects as clauses of a sentence."""

from __future__ import annotations

import math

from tuner.inference import POINTS, SCORE, Effect, Estimate, Measure


def in_words(found: Estimate, measure: Measure, *, is_short: bool = False) -> str:
    """An estimate as a clause: `112 episodes to 475 (interquartile mean, 95 % interval 101 to 125)`."""
    value = f"{'more than ' if found.is_bound else ''}{number(found.value, measure)}"
    interval = _interval(digits(found.low, measure), digits(found.high, measure), found)
    if is_short:
        return f"{value} ({interval})"
    if measure.counts_episodes:
        what = f"{value} episodes to a mean reward of {measure.goal.threshold:g}"
    elif measure.name == POINTS:
        what = f"{value} of the points in its matches"
    else:
        what = f"a {'score' if measure.name == SCORE else measure.name} of {value}"
    return f"{what} (interquartile mean, 95 % interval {interval})"


def effect_in_words(effect: Effect, measure: Measure) -> str:
    """An effect as a clause: `68 % fewer (63 to 72)`, `12.0 more (3.1 to 20.4)`, `32 percentage points more (…)`."""
    if effect.kind == "ratio":
        word, sign = ("fewer", -1) if effect.value <= 1 else ("more", 1)
        value, *bounds = (100 * sign * (ratio - 1) for ratio in (effect.value, effect.low, effect.high))
        low, high = sorted(bounds)
        return f"{value:.0f} % {word} ({_interval(f'{low:,.0f}', f'{high:,.0f}', effect)})"
    word, sign = ("more", 1) if effect.value >= 0 else ("less", -1)
    low, high = sorted(sign * bound for bound in (effect.low, effect.high))
    unit = " percentage points" if measure.name == POINTS else ""
    interval = _interval(digits(low, measure), digits(high, measure), effect)
    return f"{digits(sign * effect.value, measure)}{unit} {word} ({interval})"


def number(value: float, measure: Measure) -> str:
    """A value of the measure with no more digits than are read, and its unit: `112`, `31.4`, `83 %`."""
    return f"{digits(value, measure)}{' %' if measure.name == POINTS else ''}"


def digits(value: float, measure: Measure) -> str:
    """The value without its unit."""
    if measure.name == POINTS:
        return f"{100 * value:.0f}"
    if measure.name == SCORE:
        return f"{value:,.3g}"
    return f"{value:,.0f}" if measure.counts_episodes else f"{value:,.1f}"


def _interval(low: str, high: str, found: Estimate | Effect) -> str:
    return f"{low} to {high}" if math.isfinite(found.low) else "unknown from one seed"
