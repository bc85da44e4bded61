"""The notebook's curves: the best trial's reward and length beside the baseline's, as table, picture and page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuner.episodes import Goal, Row

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = ("episodes", "threshold_reward", "baseline_reward", "baseline_len", "best_reward", "best_len")
BASELINE_COLOUR = "#7f8c9b"
BEST_COLOUR = "#1f77d0"
THRESHOLD_COLOUR = "#d9534f"

# Plotly's page follows the reader's light or dark preference, also while it is open.
_FOLLOW_THEME = """
const page = document.querySelector('.plotly-graph-div');
const dark = window.matchMedia('(prefers-color-scheme: dark)');
function follow() {
  const ink = dark.matches ? '#e6e6e6' : '#222222', rule = dark.matches ? '#3a3f45' : '#e3e6ea';
  const paper = dark.matches ? '#16191d' : '#ffffff';
  document.body.style.background = paper;
  const change = {'font.color': ink, 'hoverlabel.bgcolor': paper, 'hoverlabel.font.color': ink};
  for (const axis of ['xaxis', 'yaxis', 'xaxis2', 'yaxis2'])
    Object.assign(change, {[axis + '.gridcolor']: rule, [axis + '.zerolinecolor']: rule, [axis + '.linecolor']: rule});
  Plotly.relayout(page, change);
}
dark.addEventListener('change', follow);
follow();
"""


# Plotly 7 has a button that uploads a chart to its makers.
_PAGE = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["sendChartToCloud"]}


def curves_csv(baseline: Sequence[Row], best: Sequence[Row], goal: Goal) -> str:
    """The notebook's `all_metrics` table: one line for each episode number, empty where a run had ended."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    threshold = "" if goal.threshold is None else goal.threshold
    for index in range(max(len(baseline), len(best))):
        cells: list[Any] = [index + 1, threshold]
        for rows in (baseline, best):
            cells += [rows[index].mean_reward, rows[index].mean_length] if index < len(rows) else ["", ""]
        writer.writerow(cells)
    return buffer.getvalue()


def curves_png(baseline: Sequence[Row], best: Sequence[Row], goal: Goal, title: str) -> bytes:
    """The two charts as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    figure.suptitle(title)
    for axis, name, label in zip(axes, ("mean_reward", "mean_length"), _labels(goal), strict=True):
        for rows, colour, legend in _series(baseline, best):
            axis.plot([row.episode for row in rows], [getattr(row, name) for row in rows], color=colour, label=legend)
        axis.set(xlabel="episode", ylabel=label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    if goal.threshold is not None:
        axes[0].axhline(goal.threshold, color=THRESHOLD_COLOUR, linestyle="--", label=f"threshold {goal.threshold:g}")
    axes[0].legend(loc="best", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def curves_figure(baseline: Sequence[Row], best: Sequence[Row], goal: Goal, title: str) -> go.Figure:
    """The two charts as a Plotly figure."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for row, (name, label) in enumerate(zip(("mean_reward", "mean_length"), _labels(goal), strict=True), start=1):
        for rows, colour, legend in _series(baseline, best):
            line = go.Scatter(
                x=[item.episode for item in rows], y=[getattr(item, name) for item in rows], mode="lines",
                name=legend, legendgroup=legend, showlegend=row == 1, line={"color": colour, "width": 2},
            )  # fmt: skip
            figure.add_trace(line, row=row, col=1)
        figure.update_yaxes(title_text=label, row=row, col=1)
    if goal.threshold is not None:
        text = f"threshold {goal.threshold:g}"
        figure.add_hline(
            y=goal.threshold, line_dash="dash", line_color=THRESHOLD_COLOUR, annotation_text=text, row=1, col=1
        )
    figure.update_xaxes(title_text="episode", row=2, col=1)
    figure.update_layout(
        title=title, template="plotly_white", height=720, hovermode="x unified",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0}, margin={"t": 110},
    )  # fmt: skip
    return figure


def curves_html(figure: go.Figure) -> str:
    """The figure as one page that opens without a network, light or dark as its reader prefers."""
    html: str = figure.to_html(include_plotlyjs=True, full_html=True, post_script=_FOLLOW_THEME, config=_PAGE)
    head = '<head><meta name="viewport" content="width=device-width, initial-scale=1">'
    return html.replace("<head>", head, 1)


def _labels(goal: Goal) -> tuple[str, str]:
    return f"mean reward over {goal.window} episodes", f"mean length over {goal.window} episodes"


def _series(baseline: Sequence[Row], best: Sequence[Row]) -> list[tuple[Sequence[Row], str, str]]:
    return [(baseline, BASELINE_COLOUR, "baseline"), (best, BEST_COLOUR, "best")]
