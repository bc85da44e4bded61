"""`--dry-run`: the plan in words, its cost from earlier runs, and nothing written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import FinishedSweep
from tuner import sweep


def dry_run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, str]:
    """The head of a dry run, by the first word of each line."""
    assert sweep.main(["cartpole", "--dry-run", *map(str, words)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    return {line.split()[0]: line.partition(" ")[2].strip() for line in lines}


def test_it_shows_the_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = dry_run(capsys, "--trials", 9, "--parallel", 1, "--out", tmp_path / "runs")
    assert "mean reward 475 over 50 episodes" in plan["goal"] and "at most 1000 episodes" in plan["goal"]
    assert plan["trials"] == "9, the first is the baseline; 1 at once"
    assert plan["time"] == "unknown"
    assert not (tmp_path / "runs").exists()


def test_its_time_comes_from_earlier_runs_of_the_same_kind(
    finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True)
    words = ("--episodes", 150, "--threshold", 100, "--out", tmp_path, "--name", "other")
    a_time = r"[\d.]+(-[\d.]+)? (s|min|h)"
    assert re.fullmatch(a_time, dry_run(capsys, *words, "--trials", 60, "--race-seeds", 0)["time"])
    assert dry_run(capsys, *words)["time"].endswith(" for the search, unknown for the rest")
    summary = json.loads((tmp_path / "cartpole/summary.json").read_text())
    summary |= {"verdict": {}, "race": {"seeds": [1, 2, 3, 4]}, "cost_s": {"race": 500.0, "path": 500.0}}
    (tmp_path / "cartpole/summary.json").write_text(json.dumps(summary | {"verdict": {"decision": "better"}}))
    for table in (tmp_path / "cartpole").glob("trials/*/episodes.csv"):  # a second each, whatever else the machine does
        head, *rows = table.read_text().splitlines()
        table.write_text("\n".join([head, *(f"{row.rpartition(',')[0]},1.0" for row in rows), ""]))
    assert re.fullmatch(r"8\d(-\d+)? min", dry_run(capsys, *words)["time"])  # five times the seeds, 5,000 s
    assert dry_run(capsys, "--episodes", 200, "--out", tmp_path, "--name", "other")["time"] == "unknown"


def test_it_says_what_the_answer_may_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = dry_run(capsys, "--out", tmp_path, "--finalists", 2, "--race-seeds", 10)
    assert plan["race"] == (
        "2 finalists on 10 unseen seeds: 40 runs choose the winner, 20 judge it, at most 82 say why"
    )
    assert dry_run(capsys, "--out", tmp_path, "--engine", "rllib")["race"].startswith("none; --race-seeds 20")


def test_its_disk_is_enough_for_a_sweep_and_not_out_of_all_proportion(
    finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = dry_run(capsys, "--trials", 6, "--out", tmp_path)["folder"]
    megabytes = float(re.search(r"(\d+) MB", said)[1])  # type: ignore[index]
    taken = sum(file.stat().st_size for file in finished.path.rglob("*") if file.is_file()) / 1e6
    assert taken < megabytes < taken * 10
