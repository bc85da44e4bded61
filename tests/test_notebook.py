"""The rows of the course notebook that are about CartPole, each by its name; and the live view in a notebook."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import Command, FinishedSweep
from tests.test_documentation import PYTHON
from tests.test_sweep import rows_of
from tuner import catalog

PPO_01 = {
    "lr": 5e-4, "train_batch_size": 128, "minibatch_size": 32, "num_epochs": 6, "gamma": 0.99, "lambda_": 0.95,
    "use_gae": True, "use_critic": True, "vf_loss_coeff": 0.5, "entropy_coeff": 0.0, "vf_clip_param": 1e5,
    "clip_param": 0.5, "use_kl_loss": False, "fcnet_hiddens": [64, 32], "fcnet_activation": "relu",
    "vf_share_layers": False,
}  # fmt: skip


def test_ppo_01_on_cartpole_is_the_baseline_folded_into_one_process() -> None:
    space = catalog.load("cartpole").space
    assert (space.env, space.seed, space.threshold, space.max_episodes) == ("CartPole-v1", 10, 475, 1000)
    assert {name: space.baseline[name] for name in PPO_01} == PPO_01
    workers, environments = 4, 2
    assert space.baseline["num_env_runners"] == 0
    assert space.baseline["num_envs_per_env_runner"] == workers * environments
    assert space.baseline["num_envs_per_env_runner"] * space.baseline["rollout_fragment_length"] == 128


@pytest.mark.ray
def test_run_experiment_means_the_last_50_rewards_and_lengths_of_every_episode(
    command: Command, tmp_path: Path
) -> None:
    done = command("train", "cartpole", "--episodes", 120, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "cartpole-train-s10")
    assert [row["episode"] for row in rows] == list(range(1, 121))
    for index, row in enumerate(rows):
        last = rows[max(0, index - 49) : index + 1]
        assert row["mean_reward"] == pytest.approx(sum(r["reward"] for r in last) / len(last))
        assert row["mean_length"] == pytest.approx(sum(r["length"] for r in last) / len(last))
    assert re.search(r"episode 120: mean reward \d+\.\d\d, mean length \d+\.\d\d", done.stdout)
    assert (tmp_path / "cartpole-train-s10/checkpoint/manifest.json").is_file()
    assert done.stderr == "FusedPPO, path compiled\n"


def test_all_metrics_has_episodes_the_threshold_and_a_reward_and_a_length_column_for_each_experiment(
    finished: FinishedSweep,
) -> None:
    with (finished.path / "best/curves.csv").open() as file:
        assert next(csv.reader(file)) == [
            "episodes", "threshold_reward", "baseline_reward", "baseline_len", "best_reward", "best_len",
        ]  # fmt: skip
    page = (finished.path / "best/curves.html").read_text()
    assert "mean reward over 50 episodes" in page and "mean length over 50 episodes" in page


def test_results_are_there_as_csv_and_for_tensorboard(finished: FinishedSweep) -> None:
    for folder in (finished.path / "trials").iterdir():
        assert (folder / "episodes.csv").is_file()
        assert list(folder.glob("events.out.tfevents.*"))


@pytest.mark.ray
def test_exercise_2_a_configuration_that_reaches_475_before_episode_700_with_the_same_seed(
    command: Command, tmp_path: Path
) -> None:
    words = ("cartpole", "--trials", 2, "--sampler-seed", 4, "--race-seeds", 0)
    done = command("sweep", *words, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "cartpole/summary.json").read_text())
    assert summary["threshold"] == 475 and summary["best"]["seed"] == summary["baseline"]["seed"] == 10
    assert summary["best"]["number"] == 1, "the first suggestion of this sampler seed beats PPO_01"
    assert summary["best"]["episodes_to_threshold"] < 700


@pytest.mark.ray
def test_the_readmes_python_runs_in_a_notebook_and_the_live_view_is_a_cells_output(tmp_path: Path) -> None:
    block = next(block for block in PYTHON if "result.plot()" in block)
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + block.replace(
        "trials=16", "trials=2, episodes=60, race_seeds=2"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=180, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    pages = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert any("2/2 trials" in page and "baseline" in page for page in pages)
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
    assert (tmp_path / "runs/cartpole/summary.json").is_file()
