"""Values, estimates and effects as the report words them. Knows nothing of a page."""

from __future__ import annotations

import math
from typing import Any

from tuner.answer import words
from tuner.inference import POINTS, Decision, Effect, Estimate, Measure
from tuner.narrative.wording import number
from tuner.page.content import Report
from tuner.parameters import display

# How a page marks what a decision says.
KINDS = {Decision.BETTER: "better", Decision.NO_DIFFERENCE: "none", Decision.WORSE: "worse"}


def shown(value: Any) -> str:
    """A parameter's value with no more digits than are read."""
    return f"{value:.4g}" if isinstance(value, float) else display(value)


def change(name: str, before: Any, after: Any) -> str:
    """`lr 0.0005 → 0.002`, in one line."""
    return f"{name} {shown(before)} \N{RIGHTWARDS ARROW} {shown(after)}".replace(" ", "\N{NO-BREAK SPACE}")


def estimate(found: Estimate, measure: Measure) -> str:
    """An interquartile mean; one that is a lower bound says so."""
    return f"{'more than ' if found.is_bound else ''}{amount(found.value, measure)}"


def interval(found: Estimate, measure: Measure) -> str:
    """`101 to 125`."""
    bounds = [amount(bound, measure) for bound in (found.low, found.high)]
    return " to ".join(bounds) if is_known(found) else "one seed: unknown"


def amount(value: float, measure: Measure) -> str:
    """A value of the measure."""
    return unbroken(words.number(value, measure)) if measure.is_judged else figure(value)


def duration(seconds: float) -> str:
    """`48 s`, `3.5 min`, `2.1 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def costs(report: Report) -> list[str]:
    """What each part of the sweep took: `search 69 s`."""
    return [f"{part} {duration(seconds)}" for part, seconds in report.summary.cost_s.items() if seconds]


def figure(value: float) -> str:
    """A number of episodes, or a mean reward."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def effect(found: Effect, measure: Measure) -> str:
    """`68 % fewer (63 to 72)`."""
    return unbroken(words.effect_in_words(found, measure)) if is_known(found) else "one seed: unknown"


def percent(part: float) -> str:
    """A part of one."""
    return unbroken(f"{100 * part:.0f} %")


def unbroken(text: str) -> str:
    """The text with its percent signs kept from a new line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def is_known(found: Estimate | Effect) -> bool:
    """Whether there is an interval; from one seed there is none."""
    return math.isfinite(found.low) and math.isfinite(found.high)


def unit(report: Report) -> str:
    """What the race's numbers count."""
    if report.measure.counts_episodes:
        return f"episodes to {number(report.goal.threshold or 0)}"
    return "share of points" if report.measure.name == POINTS else report.measure.name


def reached(report: Report, runs: int, seeds: int) -> str:
    """How many of the runs reached the threshold."""
    return "no threshold" if report.goal.threshold is None else f"{runs} of {seeds}"
