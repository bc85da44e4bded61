"""The page's charts of the search: parallel coordinates and a slice for each parameter, as what Plotly draws from."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.figures import BASELINE_COLOUR, BEST_COLOUR, THRESHOLD_COLOUR
from tuner.page.charts import OTHER_COLOUR, Chart
from tuner.page.content import Report, name_of
from tuner.page.phrases import shown
from tuner.parameters import display
from tuner.space import Choice, Domain

FEWEST_TRIALS = 2
MOST_DOTS = 600  # in a slice; more take a browser seconds, and are a blot
# From back to front: name, the share of the trials that are at least so good, colour, width of a line.
GROUPS = (
    ("the rest", 1.0, "rgba(127,140,155,0.22)", 1.0),
    ("better half", 0.5, "rgba(127,140,155,0.5)", 1.0),
    ("best quarter", 0.25, "rgba(58,157,143,0.55)", 1.2),
    ("best tenth", 0.1, OTHER_COLOUR, 1.6),
)


@dataclass(frozen=True)
class Point:
    """A trial that has a score: what it used, and what came out."""

    trial: int
    params: Mapping[str, Any]
    value: float  # in the measure's unit
    score: float  # lower is better

    @property
    def jitter(self) -> float:
        """From -1 to 1, the same each time, so that dots of one choice lie side by side."""
        return 2 * (self.trial * 0.618034 % 1) - 1


def points(report: Report) -> list[Point]:
    """The trials that can be drawn, by number; none where there are too few to be compared."""
    found = [
        Point(record.number, record.params, value, record.value)
        for record in report.scored
        if (value := report.number_of(record)) is not None and record.value is not None
    ]
    return found if len(found) >= FEWEST_TRIALS else []


def every_nth(report: Report) -> int:
    """A slice shows a dot for every so-manieth trial."""
    return math.ceil(max(1, len(report.scored)) / MOST_DOTS)


def parallel_chart(report: Report) -> Chart | None:
    """A line for each trial through the values that it used and what came out; None where there is nothing to tell."""
    trials, names = points(report), list(report.space.params)
    if not trials or not names:
        return None
    axes = [ValueAxis.of(report.space.params[name], [trial.params[name] for trial in trials]) for name in names]
    outcome = _outcome_axis(report, trials)
    across = list(range(len(names) + 1))

    def lines(chosen: Sequence[Point], name: str, line: Mapping[str, Any]) -> dict[str, Any]:
        """One trace, with a gap after each line."""
        rows = [
            [*(axis.at(trial.params[name]) for axis, name in zip(axes, names, strict=True)), outcome.at(trial.value)]
            for trial in chosen
        ]
        return {
            "type": "scatter", "mode": "lines", "name": name, "line": line, "connectgaps": False,
            "x": [place for _ in rows for place in (*across, None)],
            "y": [place for row in rows for place in (*(round(at, 4) for at in row), None)],
            "customdata": [trial.trial for trial in chosen for _ in range(len(across) + 1)],
            "hovertemplate": "trial %{customdata}<extra></extra>",
        }  # fmt: skip

    data = [
        lines(members, group, {"color": colour, "width": width})
        for (group, _, colour, width), members in zip(GROUPS, _grouped(trials), strict=True)
        if members
    ]
    for trial in trials:
        if trial.trial in (0, report.best_number):
            line = {"color": BEST_COLOUR} if trial.trial else {"color": BASELINE_COLOUR, "dash": "dot"}
            data.append(lines([trial], name_of(trial.trial), line | {"width": 3.5}))
    layout = {
        "height": 504, "hovermode": "closest",
        "xaxis": {"tickvals": across, "ticktext": [_wrapped(name) for name in [*names, _outcome_name(report)]],
                  "side": "top", "range": [-0.3, len(names) + 0.6], "showgrid": False, "zeroline": False,
                  "tickangle": 0, "tickfont": {"size": 11}, "fixedrange": True},
        "yaxis": {"visible": False, "range": [-0.06, 1.06], "fixedrange": True},
        "shapes": [{"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "layer": "below"} for x in across],
        "annotations": [
            {"x": x, "y": at, "text": text, "xanchor": "left", "xshift": 4, "font": {"size": 10}, "borderpad": 0}
            for x, axis in zip(across, [*axes, outcome], strict=True) for at, text in axis.ticks
        ],
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.02, "x": 0, "traceorder": "reversed"},
        "margin": {"l": 8, "r": 8, "t": 80, "b": 40},
    }  # fmt: skip
    title = f"Every trial with a score ({len(trials)}): a line through its parameters to what came out, the best on top"
    return Chart("parallel", title, data, layout, f"Parallel coordinates of {', '.join(names)}.")


def slice_charts(report: Report) -> Iterator[Chart]:
    """A small chart for each parameter: its value against what came out."""
    trials = points(report)
    for name, domain in report.space.params.items() if trials else ():
        axis = ValueAxis.of(domain, [trial.params[name] for trial in trials])
        yield _slice(report, name, axis, trials)


def _slice(report: Report, name: str, axis: ValueAxis, trials: Sequence[Point]) -> Chart:
    step = 1 / max(1, len(axis.categories) - 1) if axis.categories else 0.0
    margin = 0.35 * step or 0.05

    def dots(chosen: Sequence[Point], marker: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "type": "scatter", "mode": "markers", "marker": marker,
            "x": [round(axis.at(trial.params[name]) + 0.22 * step * trial.jitter, 4) for trial in chosen],
            "y": [round(trial.value, 2) for trial in chosen], "customdata": [trial.trial for trial in chosen],
            "hovertemplate": "trial %{customdata}: %{y}<extra></extra>",
        }  # fmt: skip

    marked = {report.best_number: BEST_COLOUR, 0: BASELINE_COLOUR}
    rest = [trial for trial in trials if trial.trial not in marked][:: every_nth(report)]
    faintness = min(0.6, max(0.2, 60 / max(1, len(rest))))  # so that many in one place are seen to be many
    data = [dots(rest, {"color": OTHER_COLOUR, "size": 5, "opacity": faintness})]
    if axis.categories:
        data.append(_medians(name, axis, trials, step))
    for trial in trials:
        if trial.trial in marked:
            line = {"color": "#ffffff", "width": 1.5}
            data.append(dots([trial], {"color": marked[trial.trial], "size": 11, "line": line}))
    # Margins are fixed: two columns on a phone leave Plotly no room to find its own.
    plain = {"zeroline": False, "automargin": False, "tickfont": {"size": 11}}
    layout: dict[str, Any] = {
        "height": 200, "showlegend": False,
        "xaxis": {"tickvals": [at for at, _ in axis.ticks], "ticktext": [text for _, text in axis.ticks],
                  "range": [-margin, 1 + margin], "tickangle": 0} | plain,
        "yaxis": {"nticks": 5} | plain,
        "margin": {"l": 44, "r": 8, "t": 8, "b": 28},
    }  # fmt: skip
    budget = report.goal.max_episodes
    if report.search_measure.counts_episodes and max(trial.value for trial in trials) > budget:
        line = {"color": THRESHOLD_COLOUR, "dash": "dot", "width": 1}
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": budget, "y1": budget, "line": line}
        ]
    return Chart(f"slice-{name}", name, data, layout, f"Scatter plot of {name} against {_outcome_name(report)}.")


def _medians(name: str, axis: ValueAxis, trials: Sequence[Point], step: float) -> dict[str, Any]:
    """A short line at the median of each choice's trials."""
    x: list[float | None] = []
    y: list[float | None] = []
    width = 0.3 * step or 0.2
    for text in axis.categories or ():
        found = [trial.value for trial in trials if display(trial.params[name]) == text]
        if found:
            at, middle = axis.place(text), float(np.median(found))
            x += [at - width, at + width, None]
            y += [middle, middle, None]
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": {"color": THRESHOLD_COLOUR, "width": 2},
            "hoverinfo": "skip"}  # fmt: skip


@dataclass(frozen=True)
class ValueAxis:
    """Where a parameter's values lie on an axis from 0 to 1, and what is written there."""

    low: float
    high: float
    is_log: bool
    categories: tuple[str, ...] | None
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, domain: Domain, used: Sequence[Any]) -> ValueAxis:
        """The axis of a domain; a value that was lowered below every choice has a place of its own."""
        if isinstance(domain, Choice):
            added = {display(value): value for value in used if value not in domain.values}
            texts = tuple(dict.fromkeys([*sorted(added, key=lambda text: added[text]), *map(display, domain.values)]))
            last = max(1, len(texts) - 1)
            ticks = tuple((place / last, _short(text)) for place, text in enumerate(texts))
            return cls(0, last, False, texts, ticks)
        low, high = float(domain.low), float(domain.high)
        points = [low, math.sqrt(low * high) if domain.log else (low + high) / 2, high]
        ticks = tuple((at / 2, shown(float(f"{point:.2g}"))) for at, point in enumerate(points))
        return cls(low, high, domain.log, None, ticks)

    def at(self, value: Any) -> float:
        """A value's place, from 0 to 1."""
        if self.categories is not None:
            return self.place(display(value))
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (float(value) - self.low) / ((self.high - self.low) or 1)

    def place(self, text: str) -> float:
        """The place of a choice."""
        return (self.categories or ()).index(text) / self.high


def _short(text: str) -> str:
    """A choice in little room: `relu`, `64,32`, `120k`."""
    return re.sub(r"^(\d{2,})000$", r"\1k", text.strip('"[]').replace(" ", ""))


def _outcome_axis(report: Report, trials: Sequence[Point]) -> ValueAxis:
    """From the worst value, at the bottom, to the best."""
    values = [trial.value for trial in trials]
    worst, best = (max(values), min(values)) if report.search_measure.counts_episodes else (min(values), max(values))
    ticks = ((0.0, f"{worst:,.4g}"), (1.0, f"{best:,.4g}"))
    return ValueAxis(worst, best, False, None, ticks if worst != best else ticks[:1])


def _outcome_name(report: Report) -> str:
    return "episodes to threshold" if report.search_measure.counts_episodes else "best mean reward"


def _grouped(trials: Sequence[Point]) -> list[list[Point]]:
    """The trials of each of GROUPS, each trial in the best that it belongs to."""
    order = sorted(trials, key=lambda trial: (trial.score, trial.trial))
    ends = [math.ceil(share * len(order)) for _, share, _, _ in GROUPS] + [0]
    return [order[end:start] for start, end in itertools.pairwise(ends)]


def _wrapped(name: str) -> str:
    """A long name on several short lines."""
    lines = [""]
    for word in name.replace("_", "_\0").replace(" ", " \0").split("\0"):
        if len(lines[-1]) + len(word) > 11 and lines[-1]:
            lines.append("")
        lines[-1] += word
    return "<br>".join(lines)
