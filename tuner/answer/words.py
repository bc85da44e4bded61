"""Estimates and effects as clauses of a sentence."""

from __future__ import annotations

import math

from tuner.inference import Effect, Estimate, Measure


def in_words(found: Estimate, measure: Measure, *, is_short: bool = False) -> str:
    """An estimate as a clause: `112 episodes to 475 (interquartile mean, 95 % interval 101 to 125)`."""
    digits = 0 if measure.counts_episodes else 1
    bound = "more than " if found.is_bound else ""
    interval = _interval(found.low, found.high, digits)
    if is_short:
        return f"{bound}{found.value:,.{digits}f} ({interval})"
    unit = f"episodes to a mean reward of {measure.goal.threshold:g}" if measure.counts_episodes else "best mean reward"
    value = f"{found.value:,.{digits}f}"
    what = f"{bound}{value} {unit}" if measure.counts_episodes else f"a {unit} of {value}"
    return f"{what} (interquartile mean, 95 % interval {interval})"


def _interval(low: float, high: float, digits: int) -> str:
    return f"{low:,.{digits}f} to {high:,.{digits}f}" if math.isfinite(low) else "unknown from one seed"


def effect_in_words(effect: Effect) -> str:
    """An effect as a clause: `68 % fewer (63 to 72)`, or `12.0 more (3.1 to 20.4)`."""
    if effect.kind == "ratio":
        word, sign = ("fewer", -1) if effect.value <= 1 else ("more", 1)
        value, *bounds = (100 * sign * (number - 1) for number in (effect.value, effect.low, effect.high))
        low, high = sorted(bounds)
        return f"{value:.0f} % {word} ({_interval(low, high, 0)})"
    word, sign = ("more", 1) if effect.value >= 0 else ("less", -1)
    low, high = sorted(sign * number for number in (effect.low, effect.high))
    return f"{sign * effect.value:.1f} {word} ({_interval(low, high, 1)})"
