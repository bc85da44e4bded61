"""A run folder as Python sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tuner
from tests.conftest import FinishedSweep
from tuner.errors import StateError, UsageError


def test_load_gives_best_and_baseline(finished: FinishedSweep) -> None:
    result = tuner.load(str(finished.path))
    summary = json.loads((finished.path / "summary.json").read_text())
    assert (result.best, result.baseline) == (summary["best"], summary["baseline"])


def test_episodes_are_every_row_of_every_trial(finished: FinishedSweep) -> None:
    frame = tuner.load(finished.path).episodes
    assert list(frame.columns) == ["trial", "episode", "reward", "length", "mean_reward", "mean_length",
                                   "env_steps", "iteration", "wall_s"]  # fmt: skip
    counts = frame.groupby("trial").size().to_dict()
    lines = {n: len((finished.path / f"trials/{n:04d}/episodes.csv").read_text().splitlines()) - 1 for n in range(6)}
    assert counts == lines


def test_plot_draws_both_runs_against_the_threshold(finished: FinishedSweep) -> None:
    result = tuner.load(finished.path)
    figure = result.plot()
    assert {trace.name for trace in figure.data} == {"baseline", "best"}
    assert result.best is not None
    best = next(trace for trace in figure.data if trace.name == "best")
    rows = result.episodes[result.episodes.trial == result.best["number"]]
    assert list(best.y) == list(rows.mean_reward)
    assert [shape.y0 for shape in figure.layout.shapes] == [100]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run folder"):
        tuner.load(tmp_path / "nowhere")


def test_a_damaged_summary_says_how_to_write_it_again(finished: FinishedSweep, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_bytes((finished.path / "sweep.json").read_bytes())
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(StateError, match=r"tuner\.report"):
        tuner.load(tmp_path)


def test_the_curves_are_the_notebooks_table(finished: FinishedSweep) -> None:
    curves = tuner.load(finished.path).curves
    assert list(curves) == [
        "episodes", "threshold_reward", "baseline_reward", "baseline_len", "best_reward", "best_len",
    ]  # fmt: skip
    assert list(curves["episodes"]) == list(range(1, len(curves) + 1)) and set(curves["threshold_reward"]) == {100.0}


def test_without_a_race_there_is_no_verdict(finished: FinishedSweep) -> None:
    assert tuner.load(finished.path).verdict is None
