"""The page's charts of runs: curves, race, path and importances, as what Plotly draws from."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.figures import BASELINE_COLOUR, BEST_COLOUR, THRESHOLD_COLOUR, curves_csv
from tuner.files import plain
from tuner.inference import POINTS, Decision, Estimate, Measure
from tuner.narrative.wording import capital
from tuner.page.content import Band, Report, name_of
from tuner.page.phrases import change

OTHER_COLOUR = "#3a9d8f"
WORSE_COLOUR = "#c27a1c"
# The page's own, as `report.css` and `report.html.j2` have them.
INK = {"light": "#1b1f24", "dark": "#e6e6e6"}
PAPER = {"light": "#ffffff", "dark": "#16191d"}
RULE = {"light": "#e1e5ea", "dark": "#31363d"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Ubuntu, 'Noto Sans', sans-serif"


@dataclass(frozen=True)
class Chart:
    """One chart: Plotly's data and layout, without a theme, and what it shows in words."""

    name: str  # its id in the page
    title: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    label: str  # for those who do not see it

    @property
    def height(self) -> int:
        """In pixels; the width is the page's."""
        return int(self.layout["height"])

    def to_json(self) -> dict[str, Any]:
        """What the page's script hands to Plotly; a number that is not finite is a gap."""
        return {"data": plain(self.data), "layout": plain(self.layout)}


def themes() -> dict[str, Any]:
    """Plotly's templates for light and dark paper."""
    return {name: {"layout": _template(name)} for name in ("light", "dark")}


def _template(name: str) -> dict[str, Any]:
    ink, rule, paper = INK[name], RULE[name], PAPER[name]
    axis = {"gridcolor": rule, "linecolor": rule, "zerolinecolor": rule, "automargin": True,
            "title": {"standoff": 8, "font": {"size": 12}}, "tickfont": {"size": 12}}  # fmt: skip
    return {
        "font": {"color": ink, "family": FONT, "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": axis, "yaxis": axis, "hovermode": "closest",
        "hoverlabel": {"bgcolor": paper, "bordercolor": rule, "font": {"color": ink, "family": FONT}},
        "annotationdefaults": {"font": {"color": ink}, "bgcolor": paper, "showarrow": False},
        "shapedefaults": {"line": {"color": rule}},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "title": {"text": ""}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": BASELINE_COLOUR, "activecolor": ink},
        "margin": {"l": 16, "r": 16, "t": 68, "b": 16},  # at the top, its buttons above the legend
    }  # fmt: skip


# Curves


def notebook_charts(report: Report) -> Iterator[Chart]:
    """The notebook's two line charts of `all_metrics`, made as it makes them; none without an episode."""
    if not report.baseline_rows and not report.best_rows:
        return
    import pandas as pd
    import plotly.express as px

    is_one = report.best_number == 0 or not report.best_rows
    best = [] if is_one else report.best_rows
    table = pd.read_csv(io.StringIO(curves_csv(report.baseline_rows, best, report.goal))).dropna(axis=1, how="all")
    colours = {"threshold_reward": THRESHOLD_COLOUR, "baseline_reward": BASELINE_COLOUR, "best_reward": BEST_COLOUR,
               "baseline_len": BASELINE_COLOUR, "best_len": BEST_COLOUR}  # fmt: skip
    for part, what in (("_reward", "reward"), ("_len", "length")):
        columns = [column for column in table.columns if part in column]
        figure = px.line(table, x="episodes", y=columns, color_discrete_map=colours, render_mode="svg")
        drawn = json.loads(figure.to_json())
        layout = {key: value for key, value in drawn["layout"].items() if key not in ("template", "margin", "legend")}
        of = "the baseline" if is_one else f"the baseline and {report.best_name}"
        title = f"Mean {what} over {report.goal.window} episodes: {of}, seed {report.space.seed}"
        label = f"Line chart. {title}."
        yield Chart(f"notebook{part}", title, drawn["data"], {**layout, "height": 388, "hovermode": "x unified"}, label)


def bands_chart(report: Report) -> Chart | None:
    """The trailing mean of every seed's run, as median and quartiles; below, how many runs go on."""
    if not report.bands:
        return None
    data = [trace for index, band in enumerate(report.bands) for trace in _band(band, _colour(index))]
    layout: dict[str, Any] = {
        "height": 488, "hovermode": "x unified",
        "xaxis": {"title": {"text": "episode"}, "anchor": "y2"},
        "yaxis": {"title": {"text": f"mean reward over {report.goal.window}"}, "domain": [0.3, 1]},
        "yaxis2": {"title": {"text": "runs going on"}, "domain": [0, 0.2], "rangemode": "tozero", "nticks": 3},
    }  # fmt: skip
    if report.goal.threshold is not None:
        layout |= threshold_line(report.goal.threshold)
    title = "The reward again, over all seeds of the race and its test, which the search never saw"
    names = " and ".join(band.label for band in report.bands)
    label = f"Bands over seeds: median and quartiles of the mean reward of {names} by episode."
    return Chart("bands", title, data, layout, label)


def _band(band: Band, colour: str) -> Iterator[dict[str, Any]]:
    episodes = list(range(1, len(band.median) + 1))
    common = {"type": "scatter", "mode": "lines", "x": episodes, "legendgroup": band.label}
    edge = common | {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    digits = [[round(value, 2) for value in values] for values in (band.low, band.high, band.median)]
    yield edge | {"y": digits[0]}
    yield edge | {"y": digits[1], "fill": "tonexty", "fillcolor": _faint(colour)}
    yield common | {
        "y": digits[2], "name": f"{band.label}, median of {band.runs} runs", "line": {"color": colour, "width": 2.5},
        "customdata": list(band.going[: len(episodes)]),
        "hovertemplate": f"%{{y:.0f}}, %{{customdata}} of {band.runs} runs going on<extra>{band.label}</extra>",
    }  # fmt: skip
    yield {
        "type": "scatter", "mode": "lines", "x": list(range(1, len(band.going) + 1)), "y": list(band.going),
        "yaxis": "y2", "legendgroup": band.label, "showlegend": False, "hoverinfo": "skip",
        "line": {"color": colour, "width": 1.5, "shape": "hv"},
    }  # fmt: skip


def threshold_line(threshold: float) -> dict[str, Any]:
    """The parts of a layout that draw it across the chart."""
    line = {"color": THRESHOLD_COLOUR, "dash": "dash", "width": 1.5}
    shape = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": threshold, "y1": threshold, "line": line}
    text = {"xref": "paper", "x": 1, "xanchor": "right", "y": threshold, "yanchor": "bottom", "showarrow": False,
            "text": f"threshold {threshold:g}", "font": {"color": THRESHOLD_COLOUR, "size": 12},
            "bgcolor": "rgba(0,0,0,0)"}  # fmt: skip
    return {"shapes": [shape], "annotations": [text]}


# Race and path


def race_chart(report: Report) -> Chart | None:
    """A dot for each seed, and each entry's interquartile mean with its interval."""
    race = report.answer.race
    if race is None:
        return None
    counts = report.measure.counts_episodes
    budget = float(report.goal.max_episodes)
    data: list[dict[str, Any]] = []
    for place, entry in enumerate(race.entries):
        colour = BASELINE_COLOUR if entry.number == 0 else BEST_COLOUR if place == 0 else OTHER_COLOUR
        dots = [(seed, value) for seed, value in zip(race.seeds, entry.values, strict=True) if math.isfinite(value)]
        missed = [counts and value >= budget for _, value in dots]
        data.append({
            "type": "scatter", "mode": "markers", "x": [value for _, value in dots],
            "y": [place + 0.06 + 0.14 * _jitter(index) for index in range(len(dots))],
            "text": [f"seed {seed}{': threshold not reached' if no else ''}"
                     for (seed, _), no in zip(dots, missed, strict=True)],
            "marker": {"color": colour, "size": 7, "opacity": 0.55, "line": {"width": 1, "color": colour},
                       "symbol": ["circle-open" if no else "circle" for no in missed]},
            "hovertemplate": f"%{{text}}, %{{x:{_format(report.measure)}}}<extra></extra>", "showlegend": False,
        })  # fmt: skip
        data.append(_whisker(entry.estimate, place + 0.36, colour, report.measure) | {"showlegend": False})
    names = [name_of(entry.number) for entry in race.entries]
    layout = _rows_layout(names, race.measure, 60 + 84 * len(names), 0.22)
    layout["xaxis"] |= _axis(report.measure)
    title = (
        f"{capital(race.measure)}, a dot for each of {len(race.seeds)} seeds; "
        "below the dots, the interquartile mean and its 95 % interval"
    )
    return Chart("race", title, data, layout, f"Dot plot of the race: {', '.join(names)}.")


def path_chart(report: Report) -> Chart | None:
    """From the baseline to the winner, change after change."""
    path = report.answer.path
    if path is None:
        return None
    names, data, before = ["the baseline"], [_whisker(path.start, _BELOW, BASELINE_COLOUR, report.measure)], path.start
    for place, step in enumerate(path.steps, start=1):
        colour = _STEP_COLOURS[step.effect.decision]
        single = [change(name, *pair) for name, pair in step.changes.items()]
        names.append(f"+ {single[0]}" if len(single) == 1 else f"+ {len(single)} more together")
        data.append({
            "type": "bar", "orientation": "h", "y": [place + _BELOW], "base": [before.value],
            "x": [step.estimate.value - before.value], "width": 0.3, "hoverinfo": "skip",
            "marker": {"color": _faint(colour, 0.45), "line": {"color": colour, "width": 1}},
        })  # fmt: skip
        data.append(_whisker(step.estimate, place + _BELOW, colour, report.measure))
        before = step.estimate
    for trace in data:
        trace["showlegend"] = False
    layout = _rows_layout(names, report.measure.name, 60 + 58 * len(names))
    layout["xaxis"] |= _axis(report.measure)
    title = (
        "From the baseline to the winner, one change after the other, each with its 95 % interval; "
        "grey: no difference shown"
    )
    return Chart("path", title, data, layout, f"Step chart of the path: {', then '.join(names)}.")


def importances_chart(report: Report) -> Chart | None:
    """Each parameter's share of all that mattered to the search, with its range."""
    ranked = report.importances.ranked
    if not ranked:
        return None
    percent = [[100 * value for value in (found.median, found.low, found.high)] for found in ranked]
    dots = {
        "type": "scatter", "mode": "markers", "y": [place + _BELOW for place in range(len(ranked))], 
        "x": [middle for middle, _, _ in percent],
        "marker": {"color": BEST_COLOUR, "size": 9}, "showlegend": False,
        "hovertemplate": "%{x:.0f} %<extra></extra>",
        "error_x": {"type": "data", "symmetric": False, "array": [high - middle for middle, _, high in percent],
                    "arrayminus": [middle - low for middle, low, _ in percent], "color": BEST_COLOUR, "thickness": 1.5},
    }  # fmt: skip
    layout = _rows_layout([found.name for found in ranked], "share of all that mattered, %", 60 + 40 * len(ranked))
    layout["xaxis"] |= {"rangemode": "tozero"}
    title = f"In {report.importances.trials} trials: the median and the middle 90 % of bootstrap samples"
    return Chart("importances", title, [dots], layout, f"Dot plot: {', '.join(found.name for found in ranked)}.")


_BELOW = 0.22  # of a row, where its mark is

_STEP_COLOURS = {
    Decision.BETTER: BEST_COLOUR, Decision.NO_DIFFERENCE: BASELINE_COLOUR, Decision.WORSE: WORSE_COLOUR,
}  # fmt: skip


def _axis(measure: Measure) -> dict[str, Any]:
    """An axis of the measure's values."""
    return {"tickformat": ".0%"} if measure.name == POINTS else {}


def _format(measure: Measure) -> str:
    """How Plotly writes one of them."""
    return ".0%" if measure.name == POINTS else ",.5~g"


def _whisker(found: Estimate, y: float, colour: str, measure: Measure) -> dict[str, Any]:
    is_known = math.isfinite(found.low) and math.isfinite(found.high)
    error = {"type": "data", "symmetric": False, "array": [found.high - found.value],
             "arrayminus": [found.value - found.low], "color": colour, "thickness": 2.5, "width": 5}  # fmt: skip
    value, low, high = (
        format(x, ".0%" if measure.name == POINTS else ",.4g") for x in (found.value, found.low, found.high)
    )
    text = f"{value} ({low} to {high})" if is_known else value
    return {
        "type": "scatter", "mode": "markers", "x": [found.value], "y": [y], "text": [text],
        "marker": {"color": colour, "size": 11, "symbol": "diamond"}, "hovertemplate": "%{text}<extra></extra>",
        **({"error_x": error} if is_known else {}),
    }  # fmt: skip


def _rows_layout(names: Sequence[str], unit: str, height: int, above: float = 0.0) -> dict[str, Any]:
    """A layout with one row for each name, the first on top; names stand above, for a phone has no room beside."""
    label = {"xref": "paper", "x": 0, "xanchor": "left", "yanchor": "bottom", "showarrow": False, "borderpad": 0}
    return {
        "height": height, "xaxis": {"title": {"text": unit}, "zeroline": False},
        "yaxis": {"visible": False, "range": [len(names) - 0.4, -0.5], "fixedrange": True},
        "margin": {"l": 8, "r": 16, "t": 4, "b": 16},
        "annotations": [label | {"y": place - above, "text": name} for place, name in enumerate(names)],
    }  # fmt: skip


def _jitter(index: int) -> float:
    """From -1 to 1, spread evenly, the same each time."""
    return 2 * (index * 0.618034 % 1) - 1


def _colour(index: int) -> str:
    return (BASELINE_COLOUR, BEST_COLOUR)[index]


def _faint(colour: str, alpha: float = 0.2) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
