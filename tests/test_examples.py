"""The examples are run as they stand, made smaller."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT


@pytest.mark.ray
def test_the_course_notebook_does_the_three_exercises_in_ten_cells(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "examples/course.ipynb", as_version=4)
    assert len(notebook.cells) == 10
    assert all(not cell.get("outputs") for cell in notebook.cells)
    sweep = notebook.cells[1]
    assert 'run_sweep("cartpole")' in sweep.source
    smaller = 'run_sweep("cartpole", trials=4, episodes=150, threshold=100.0, race_seeds=3, sampler="random")'
    sweep.source = sweep.source.replace('run_sweep("cartpole")', smaller)
    done = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    charts, words, verdict, path, roles = (done.cells[index].outputs for index in (3, 4, 6, 8, 9))
    assert sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in charts) == 2
    assert "the reward equals the length, so the two curves are one" in words[0].text
    assert any(head in verdict[0].text for head in ("Better than", "No difference shown", "Worse than"))
    assert "train_batch_size" in path[0].data["text/html"] or "lr" in path[0].data["text/html"]
    assert "Schulman et al. 2017" in roles[0].text
