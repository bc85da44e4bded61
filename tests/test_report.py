"""`tuner report`: `best/`, `summary.json` and the report again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import FinishedSweep, tree
from tuner import report


@pytest.fixture
def copy(finished: FinishedSweep, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True))


def test_what_was_deleted_is_written_again_as_it_was(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(copy)
    shutil.rmtree(copy / "best")
    for name in ("summary.json", "report.html", "report.md"):
        (copy / name).unlink()
    assert report.main([str(copy)]) == 0
    after = tree(copy)
    # Plotly names the page's element anew each time, torch its archive, and the lock its owner.
    renamed = {"best/curves.html", "best/policy.pt"}
    for name in before.keys() - renamed - {".lock"}:
        assert after.get(name) == before[name], name
    assert renamed <= after.keys()
    printed = capsys.readouterr().out
    assert "best      trial" in printed and f"report    {copy / 'report.html'}" in printed


def test_a_folder_without_a_study_is_refused_and_left_alone(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "study.db").unlink()
    before = tree(copy)
    assert report.main([str(copy)]) == 3
    assert "study.db: is missing" in capsys.readouterr().err
    after = tree(copy)
    assert {name: data for name, data in after.items() if name != ".lock"} == {
        name: data for name, data in before.items() if name != ".lock"
    }


def test_a_folder_that_is_no_run_folder_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 2
    assert "no sweep.json" in capsys.readouterr().err
