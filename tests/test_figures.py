"""The notebook's curves: as a table, as a picture, and as a page that needs no network."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from tuner.episodes import Goal, Row
from tuner.figures import curves_csv, curves_figure, curves_html, curves_png

GOAL = Goal(threshold=475.0, window=50, max_episodes=1000)
NO_THRESHOLD = Goal(threshold=None, window=50, max_episodes=1000)
LOADING_ATTRIBUTES = ("src", "href", "data", "action", "poster", "srcset")


def rows(*means: float) -> list[Row]:
    """A run whose trailing means were these."""
    return [
        Row(number, mean + 1, 20, mean, mean / 2, 20 * number, number // 4, 0.1 * number)
        for number, mean in enumerate(means, start=1)
    ]


BASELINE, BEST = rows(20.0, 30.0, 40.0), rows(25.0, 480.5)


def table(baseline: Sequence[Row] = BASELINE, best: Sequence[Row] = BEST, goal: Goal = GOAL) -> list[dict[str, str]]:
    """The lines of `curves.csv` by column."""
    return list(csv.DictReader(io.StringIO(curves_csv(baseline, best, goal))))


def figure(goal: Goal = GOAL, title: str = "cartpole: trial 7 and the baseline, seed 10") -> Any:
    """The Plotly figure of the two runs."""
    return curves_figure(BASELINE, BEST, goal, title)


class Page(HTMLParser):
    """What a browser would load for a page, and the text of its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self._is_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_script = tag == "script"
        self.loads += [value or "" for name, value in attrs if name in LOADING_ATTRIBUTES]

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts.append(data)


@pytest.fixture(scope="module")
def html() -> str:
    return curves_html(figure())


@pytest.fixture(scope="module")
def drawing(html: str) -> str:
    """The script that draws the two runs, without Plotly's own code."""
    return next(script for script in Page(html).scripts if "Plotly.newPlot" in script and len(script) < 100_000)


def test_the_table_has_the_notebooks_columns() -> None:
    assert list(table()[0]) == [
        "episodes", "threshold_reward", "baseline_reward", "baseline_len", "best_reward", "best_len",
    ]  # fmt: skip


def test_the_table_has_one_row_for_each_episode_of_the_longer_run() -> None:
    assert [row["episodes"] for row in table()] == ["1", "2", "3"]


def test_the_table_holds_the_trailing_means_of_both_runs() -> None:
    assert list(table()[1].values()) == ["2", "475.0", "30.0", "15.0", "480.5", "240.25"]


def test_the_table_is_empty_where_a_run_had_ended() -> None:
    assert list(table()[2].values()) == ["3", "475.0", "40.0", "20.0", "", ""]


def test_the_table_is_empty_where_the_baseline_had_ended_first() -> None:
    assert list(table(baseline=BEST, best=BASELINE)[2].values()) == ["3", "475.0", "", "", "40.0", "20.0"]


def test_the_threshold_is_empty_where_there_is_none() -> None:
    assert [row["threshold_reward"] for row in table(goal=NO_THRESHOLD)] == ["", "", ""]


def test_the_table_of_runs_without_episodes_is_its_header() -> None:
    assert curves_csv([], [], GOAL).splitlines() == [
        "episodes,threshold_reward,baseline_reward,baseline_len,best_reward,best_len"
    ]


def test_a_number_in_the_table_reads_back_equal() -> None:
    assert float(table(best=rows(1 / 3))[0]["best_reward"]) == 1 / 3


@pytest.mark.parametrize("goal", [GOAL, NO_THRESHOLD], ids=["threshold", "no threshold"])
def test_the_picture_is_a_picture(goal: Goal) -> None:
    with Image.open(io.BytesIO(curves_png(BASELINE, BEST, goal, "cartpole"))) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (1200, 480))


def test_the_picture_shows_other_runs_differently() -> None:
    assert curves_png(BASELINE, BEST, GOAL, "cartpole") != curves_png(BASELINE, BASELINE, GOAL, "cartpole")


def test_the_picture_of_the_same_runs_is_the_same() -> None:
    assert curves_png(BASELINE, BEST, GOAL, "cartpole") == curves_png(BASELINE, BEST, GOAL, "cartpole")


def test_a_run_without_episodes_can_be_drawn() -> None:
    with Image.open(io.BytesIO(curves_png(BASELINE, [], GOAL, "cartpole"))) as picture:
        assert picture.format == "PNG"


def test_the_figure_has_both_runs_in_both_charts() -> None:
    assert [(trace.name, trace.yaxis) for trace in figure().data] == [
        ("baseline", "y"), ("best", "y"), ("baseline", "y2"), ("best", "y2"),
    ]  # fmt: skip


def test_the_figure_draws_rewards_above_and_lengths_below() -> None:
    assert [list(trace.y) for trace in figure().data] == [
        [20.0, 30.0, 40.0], [25.0, 480.5], [10.0, 15.0, 20.0], [12.5, 240.25],
    ]  # fmt: skip


def test_the_figure_names_each_run_once_in_its_legend() -> None:
    assert [trace.name for trace in figure().data if trace.showlegend] == ["baseline", "best"]


def test_the_figure_has_a_line_at_the_threshold() -> None:
    assert [(shape.y0, shape.y1, shape.yref) for shape in figure().layout.shapes] == [(475.0, 475.0, "y")]


def test_the_figure_has_no_line_where_there_is_no_threshold() -> None:
    assert len(figure(NO_THRESHOLD).layout.shapes) == 0


def test_the_axes_say_what_they_show() -> None:
    layout = figure().layout
    assert (layout.yaxis.title.text, layout.yaxis2.title.text, layout.xaxis2.title.text) == (
        "mean reward over 50 episodes", "mean length over 50 episodes", "episode",
    )  # fmt: skip


def test_the_page_loads_nothing_from_anywhere(html: str) -> None:
    assert Page(html).loads == []


def test_the_page_brings_the_code_that_draws_it(html: str) -> None:
    assert any("plotly.js v" in script and len(script) > 1_000_000 for script in Page(html).scripts)


@pytest.mark.parametrize("part", ['"name":"baseline"', '"name":"best"', "threshold 475", "trial 7 and the baseline"])
def test_the_page_holds_both_runs_the_threshold_and_the_title(part: str, drawing: str) -> None:
    assert part in drawing


def test_the_page_holds_the_numbers_of_the_runs(drawing: str) -> None:
    assert json.dumps([25.0, 480.5], separators=(",", ":")) in drawing


def test_a_title_with_markup_cannot_leave_its_place_in_the_page() -> None:
    html = curves_html(figure(title="</script><img src='http://example.org/x.png'>"))
    assert Page(html).loads == []
