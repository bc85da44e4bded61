"""`tuner sweep`: real sweeps on a real Ray, looked at from outside."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState
from PIL import Image

from tests.conftest import ROOT, Command, FinishedSweep, read_study, tree
from tuner import sweep

pytestmark = pytest.mark.ray

SMALL = str(ROOT / "tests/small.py")
WINDOW = 50
FAST = ("--episodes", "150", "--threshold", "100", "--race-seeds", "0")


def rows_of(folder: Path) -> list[dict[str, float]]:
    """An episode table, read with nothing of this project."""
    with (folder / "episodes.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def trial_folders(path: Path) -> list[Path]:
    return sorted((path / "trials").iterdir())


class TestAFinishedSweep:
    def test_six_trials_leave_six_complete_or_pruned_ones_and_none_running(self, finished: FinishedSweep) -> None:
        states = [trial.state for trial in finished.trials()]
        assert len(states) == 6
        assert set(states) <= {TrialState.COMPLETE, TrialState.PRUNED}

    def test_trial_0_is_the_baseline_of_the_space(self, finished: FinishedSweep) -> None:
        config = json.loads((finished.path / "trials/0000/config.json").read_text())
        assert {name: config[name] for name in ("lr", "train_batch_size", "minibatch_size", "num_epochs")} == {
            "lr": 5e-4, "train_batch_size": 128, "minibatch_size": 32, "num_epochs": 6,
        }  # fmt: skip

    def test_the_run_folder_holds_what_the_interface_names(self, finished: FinishedSweep) -> None:
        names = {path.name for path in finished.path.iterdir()} - {".lock"}
        assert names == {"sweep.json", "study.db", "trials", "best", "summary.json", "report.html", "report.md"}
        for folder in trial_folders(finished.path):
            there = {re.sub(r"tfevents\..*", "tfevents", path.name) for path in folder.iterdir()}
            assert there == {"config.json", "episodes.csv", "checkpoints", "checkpoint", "events.out.tfevents"}

    def test_the_newest_checkpoint_is_a_relative_link(self, finished: FinishedSweep) -> None:
        for folder in trial_folders(finished.path):
            target = (folder / "checkpoint").readlink()
            iterations = [int(path.name.removeprefix("iter-")) for path in (folder / "checkpoints").iterdir()]
            assert target.as_posix() == f"checkpoints/iter-{max(iterations)}"
            assert len(iterations) <= 2

    def test_a_cartpole_episode_is_never_longer_than_500_and_its_reward_is_its_length(
        self, finished: FinishedSweep
    ) -> None:
        for folder in trial_folders(finished.path):
            for row in rows_of(folder):
                assert 1 <= row["length"] <= 500
                assert row["reward"] == row["length"]

    def test_episode_numbers_have_no_gap_and_steps_and_iterations_never_go_back(self, finished: FinishedSweep) -> None:
        for folder in trial_folders(finished.path):
            rows = rows_of(folder)
            assert [row["episode"] for row in rows] == list(range(1, len(rows) + 1))
            for name in ("env_steps", "iteration", "wall_s"):
                values = [row[name] for row in rows]
                assert values == sorted(values)

    def test_steps_are_those_of_the_episodes_and_of_the_ones_in_flight(self, finished: FinishedSweep) -> None:
        for folder in trial_folders(finished.path):
            rows = rows_of(folder)
            envs = json.loads((folder / "config.json").read_text())["num_envs_per_env_runner"]
            ended = sum(row["length"] for row in rows)
            assert ended <= rows[-1]["env_steps"] <= ended + (envs - 1) * 500

    def test_trailing_means_and_episodes_to_threshold_follow_from_the_raw_rows(self, finished: FinishedSweep) -> None:
        for folder, trial in zip(trial_folders(finished.path), finished.trials(), strict=True):
            rows = rows_of(folder)
            reached = None
            for index, row in enumerate(rows):
                last = rows[max(0, index + 1 - WINDOW) : index + 1]
                assert row["mean_reward"] == pytest.approx(statistics.fmean(r["reward"] for r in last), rel=1e-12)
                assert row["mean_length"] == pytest.approx(statistics.fmean(r["length"] for r in last), rel=1e-12)
                if reached is None and index + 1 >= WINDOW and row["mean_reward"] >= 100:
                    reached = index + 1
            assert trial.user_attrs["episodes_to_threshold"] == reached
            if trial.state is TrialState.COMPLETE:  # exactly at the goal or at the budget
                assert len(rows) == (reached or 150)

    def test_some_trials_reach_the_threshold_and_the_best_is_the_earliest(self, finished: FinishedSweep) -> None:
        reached = {
            trial.number: trial.user_attrs["episodes_to_threshold"]
            for trial in finished.trials()
            if trial.user_attrs["episodes_to_threshold"]
        }
        assert reached
        best = json.loads((finished.path / "summary.json").read_text())["best"]
        assert best["episodes_to_threshold"] == min(reached.values()) == reached[best["number"]]

    def test_the_summary_has_the_keys_of_the_interface(self, finished: FinishedSweep) -> None:
        summary = json.loads((finished.path / "summary.json").read_text())
        assert set(summary) == {"format", "space", "env", "env_config", "engine", "paths", "threshold", "window",
                                "trials", "baseline", "best", "seeds", "race", "verdict", "path", "cost_s",
                                "versions"}  # fmt: skip
        assert summary["env"] == "CartPole-v1" and summary["env_config"] == {}
        assert summary["engine"] == "fused" and summary["paths"] == {"compiled": 6}
        assert {"number", "params", "seed", "episodes_to_threshold", "best_mean", "attempts"} <= set(summary["best"])
        assert summary["race"] is None and summary["verdict"] is None
        assert summary["trials"] == {"COMPLETE": 6}
        assert summary["cost_s"]["search"] > 0

    def test_sweep_json_says_what_was_asked_for(self, finished: FinishedSweep) -> None:
        there = json.loads((finished.path / "sweep.json").read_text())
        assert there["space"] == "cartpole"
        assert there["file"].endswith("search_spaces/cartpole.py") and len(there["sha256"]) == 64
        assert there["definition"]["max_episodes"] == 150
        assert {"ray", "torch", "optuna"} <= set(there["versions"])

    def test_the_study_shows_ppos_own_names_to_other_tools(self, finished: FinishedSweep) -> None:
        for trial in finished.trials():
            assert {"lr", "train_batch_size", "minibatch_size", "num_epochs", "gamma", "lambda_"} <= set(trial.params)


class TestBest:
    def test_curves_csv_is_the_notebooks_table(self, finished: FinishedSweep) -> None:
        number = json.loads((finished.path / "summary.json").read_text())["best"]["number"]
        baseline, best = (rows_of(finished.path / f"trials/{n:04d}") for n in (0, number))
        with (finished.path / "best/curves.csv").open() as file:
            table = list(csv.DictReader(file))
        assert list(table[0]) == [
            "episodes", "threshold_reward", "baseline_reward", "baseline_len", "best_reward", "best_len",
        ]  # fmt: skip
        assert len(table) == max(len(baseline), len(best))
        for index, row in enumerate(table):
            assert (int(row["episodes"]), float(row["threshold_reward"])) == (index + 1, 100)
            for name, rows in (("baseline", baseline), ("best", best)):
                if index < len(rows):
                    assert float(row[f"{name}_reward"]) == rows[index]["mean_reward"]
                    assert float(row[f"{name}_len"]) == rows[index]["mean_length"]
                else:
                    assert row[f"{name}_reward"] == row[f"{name}_len"] == ""

    def test_config_yaml_is_the_best_trials_configuration(self, finished: FinishedSweep) -> None:
        number = json.loads((finished.path / "summary.json").read_text())["best"]["number"]
        config = json.loads((finished.path / f"trials/{number:04d}/config.json").read_text())
        assert yaml.safe_load((finished.path / "best/config.yaml").read_text()) == config
        assert config["seed"] == 10

    def test_curves_png_is_a_picture(self, finished: FinishedSweep) -> None:
        with Image.open(finished.path / "best/curves.png") as picture:
            assert picture.format == "PNG" and picture.width >= 800
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 10

    def test_the_checkpoint_loads_and_trains_where_this_project_is_not_installed(self, finished: FinishedSweep) -> None:
        script = f"""
import sys
sys.modules["tuner"] = sys.modules["search_spaces"] = None  # importing either raises ImportError
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPO
algorithm = Algorithm.from_checkpoint({str((finished.path / "best/checkpoint").absolute())!r})
assert type(algorithm) is PPO and algorithm.config.env == "CartPole-v1", algorithm
steps = algorithm.train()["num_env_steps_sampled_lifetime"]
print("trained", steps)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "trained" in done.stdout


class TestTheSameCommandAgain:
    def test_it_starts_nothing_changes_nothing_and_prints_the_same_answer(
        self, finished: FinishedSweep, command: Command
    ) -> None:
        before = tree(finished.path)
        done = command("sweep", *finished.words)
        assert done.returncode == 0
        answer = finished.stdout[finished.stdout.index("trials    ") :]
        assert done.stdout == answer
        after = tree(finished.path)
        # The lock names its last owner, and the summary is written by each invocation.
        for name in before.keys() | after.keys():
            if name != ".lock":
                assert before.get(name) == after.get(name), name

    def test_a_larger_number_of_trials_runs_only_the_new_ones(
        self, finished: FinishedSweep, command: Command, tmp_path: Path
    ) -> None:
        shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True)
        before = tree(tmp_path / "cartpole/trials")
        done = command("sweep", "cartpole", "--trials", 8, *FAST, "--parallel", 1, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        trials = read_study(tmp_path / "cartpole")
        assert len(trials) == 8 and all(trial.state.is_finished() for trial in trials)
        after = tree(tmp_path / "cartpole/trials")
        assert {name: after[name] for name in before} == before
        assert re.findall(r"trial (\d+) started", done.stdout) == ["6", "7"]

    def test_a_smaller_number_of_trials_starts_nothing(
        self, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(["cartpole", "--trials", "2", *FAST, "--out", str(finished.path.parent)]) == 0
        assert "started" not in capsys.readouterr().out and len(finished.trials()) == 6

    def test_another_seed_is_refused_and_named(
        self, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = tree(finished.path)
        assert sweep.main([*finished.words, "--seed", "11"]) == 3
        assert "--seed is 10 there, 11 here" in capsys.readouterr().err.splitlines()[-1]
        assert tree(finished.path) == before

    def test_json_is_the_summary_and_nothing_else(
        self, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main([*finished.words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads((finished.path / "summary.json").read_text())


# Slow enough to be interrupted in the middle.
SLOW = ("--engine", "rllib", "--race-seeds", "0", "--parallel", "1")  # the second process costs more than it brings


class TestInterruption:
    def started(self, words: list[str], folder: Path) -> subprocess.Popen[str]:
        """A sweep whose baseline is under way."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner.sweep", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(rows_or_none(folder / "trials/0000")) > 60)
        return process

    def stopped(self, process: subprocess.Popen[str], number: signal.Signals) -> str:
        """The last line on stderr of a sweep that a signal ended."""
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 75
        last = stderr.splitlines()[-1]
        assert "the same command goes on" in last
        return last

    def test_a_second_sweep_is_refused_and_after_a_signal_the_same_command_goes_on_with_at_most_one_iteration_lost(
        self, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = [SMALL, *SLOW, "--trials", "2", "--episodes", "250", "--out", str(tmp_path)]
        with self.started(words, tmp_path / "small") as process:
            assert sweep.main(words) == 3
            assert f"process {process.pid}" in capsys.readouterr().err.splitlines()[-1]
            assert "SIGUSR1" in self.stopped(process, signal.SIGUSR1)
        assert TrialState.RUNNING not in {trial.state for trial in read_study(tmp_path / "small")}
        rows = rows_of(tmp_path / "small/trials/0000")
        saved = json.loads((tmp_path / "small/trials/0000/checkpoint/manifest.json").read_text())["counters"]
        # An iteration is 256 steps, at most some 25 episodes.
        assert saved["episodes"] >= len(rows) - 25

        assert command("sweep", *words).returncode == 0
        after = read_study(tmp_path / "small")
        assert [trial.state for trial in after] == [TrialState.COMPLETE] * 2
        assert after[0].user_attrs["attempts"] == 2
        assert rows_of(tmp_path / "small/trials/0000")[: saved["episodes"]] == rows[: saved["episodes"]]

    def test_a_deadline_ends_with_0_says_what_is_left_and_leaves_nothing_running(
        self, command: Command, tmp_path: Path
    ) -> None:
        done = command("sweep", SMALL, *SLOW, "--trials", 3, "--episodes", 9000, "--out", tmp_path, "--time", "8s")
        assert done.returncode == 0, done.stderr
        assert re.search(r"to do     \d of 3 trials; the same command goes on", done.stdout)
        assert TrialState.RUNNING not in {trial.state for trial in read_study(tmp_path / "small")}


FLAKY = '''
"""CartPole that fails once, at the step of this process that its configuration names."""
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

steps = 0


class Flaky(CartPoleEnv):
    def __init__(self, fails_at: int, how: str, **options):
        super().__init__(**options)
        self.fails_at, self.how = fails_at, how

    def step(self, action):
        global steps
        steps += 1
        if steps == self.fails_at and self.how == "raise":
            raise ValueError("the simulator lost its licence")
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float("nan") if steps == self.fails_at else reward, terminated, truncated, info


gymnasium.register("Flaky-v0", entry_point=Flaky, max_episode_steps=500)
'''
FLAKY_SPACE = '''
"""An environment that raises in the middle of one trial."""
from tuner.space import Float, SearchSpace

space = SearchSpace(
    env="flaky:Flaky-v0", max_episodes=1000, max_steps=1000, trials=3, env_config={"fails_at": FAILS_AT, "how": "HOW"},
    baseline={"lr": 1e-3, "train_batch_size": 256, "minibatch_size": 64, "num_epochs": 2, "fcnet_hiddens": [16]},
    params={"lr": Float(1e-4, 1e-2, log=True)},
)
'''


class TestFailures:
    def run(
        self, command: Command, folder: Path, fails_at: int, how: str = "raise"
    ) -> subprocess.CompletedProcess[str]:
        (folder / "flaky.py").write_text(FLAKY)
        (folder / "mine.py").write_text(FLAKY_SPACE.replace("FAILS_AT", str(fails_at)).replace("HOW", how))
        env = {"PYTHONPATH": str(folder)}
        return command("sweep", "./mine.py", "--parallel", 1, "--race-seeds", 0, cwd=folder, env=env)

    def test_a_trial_whose_environment_raises_is_failed_with_its_reason_and_the_sweep_goes_on(
        self, command: Command, tmp_path: Path
    ) -> None:
        done = self.run(command, tmp_path, fails_at=1500)
        assert done.returncode == 0, done.stderr
        trials = read_study(tmp_path / "runs/mine")
        assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
        assert trials[1].user_attrs["reason"] == "ValueError: the simulator lost its licence"
        assert trials[1].value is None
        assert "FAILED: ValueError: the simulator lost its licence" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr

    def test_a_baseline_that_turns_nan_is_failed_and_never_best_and_the_sweep_ends_with_1(
        self, command: Command, tmp_path: Path
    ) -> None:
        done = self.run(command, tmp_path, fails_at=500, how="nan")
        assert done.returncode == 1
        trials = read_study(tmp_path / "runs/mine")
        assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
        assert trials[0].user_attrs["reason"].startswith("non-finite")
        assert json.loads((tmp_path / "runs/mine/summary.json").read_text())["best"]["number"] != 0
        last = done.stderr.splitlines()[-1]
        assert "the baseline FAILED: non-finite" in last and "--name" in last


class TestPruning:
    def test_a_hopeless_trial_is_pruned_before_its_budget(self, command: Command, tmp_path: Path) -> None:
        # Ten epochs, so that a trial takes longer than the second between two of its results.
        words = (SMALL, *SLOW, "--trials", 6, "--set", "num_epochs=10", "--pruner", "asha", "--out", tmp_path)
        assert command("sweep", *words).returncode == 0
        trials = read_study(tmp_path / "small")
        pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
        assert pruned and trials[0].state is TrialState.COMPLETE
        assert all(len(rows_of(tmp_path / f"small/trials/{trial.number:04d}")) < 300 for trial in pruned)


class TestViews:
    def test_off_a_terminal_there_is_one_line_an_event_and_no_control_character(self, finished: FinishedSweep) -> None:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", finished.stdout)
        for number in range(6):
            assert len(re.findall(rf"^trial {number} started", finished.stdout, re.MULTILINE)) == 1
            assert len(re.findall(rf"^trial {number} COMPLETE", finished.stdout, re.MULTILINE)) == 1
        assert "time left" in finished.stdout

    def test_on_a_terminal_there_is_a_live_table_and_ctrl_c_ends_it_with_the_answer(self, tmp_path: Path) -> None:
        words = [SMALL, *SLOW, "--trials", "9", "--episodes", "150", "--out", str(tmp_path)]
        main, side = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner.sweep", *words], stdout=side, stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(side)
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(read_terminal, main, process)  # all the time: who writes to a full terminal waits
            wait_for(lambda: len(rows_or_none(tmp_path / "small/trials/0002")) > 60)
            process.send_signal(signal.SIGINT)
            shown = reading.result()
        assert process.returncode == 75, shown[-2000:]
        assert "/9 trials" in shown and "mean reward" in shown and "time left" in shown
        assert re.search("[▁▂▃▄▅▆▇█]", shown) and "\x1b[" in shown
        assert re.search("best      (trial|the baseline)", shown) and "stopped by SIGINT" in shown
        assert "Traceback" not in shown


class TestResources:
    def test_remote_runners_are_honoured_quiet_prints_the_answer_alone_and_a_ray_that_runs_here_is_left_alone(
        self, command: Command, tmp_path: Path
    ) -> None:
        words = (SMALL, "--trials", 1, "--episodes", 60, "--set", "num_env_runners=1", "--quiet", "--race-seeds", 0)
        script = "import ray; ray.init(num_cpus=1, include_dashboard=False); print('up', flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None and other.stdout.readline().strip() == "up"
            done = command("sweep", *words, "--out", tmp_path)  # takes two CPUs: more than the other Ray has
            assert (done.returncode, done.stderr) == (0, "")
            assert other.poll() is None
            other.communicate("\n", timeout=60)
        assert done.stdout.startswith("trials    1 COMPLETE")
        rows = rows_of(tmp_path / "small/trials/0000")
        assert len(rows) == 60 and all(row["reward"] == row["length"] for row in rows)

    def test_a_request_that_can_never_be_met_ends_with_2_within_30_s(self, command: Command, tmp_path: Path) -> None:
        started = time.monotonic()
        done = command("sweep", "cartpole", "--cpus-per-trial", 64, "--out", tmp_path)
        assert done.returncode == 2 and time.monotonic() - started < 30
        assert "64 CPUs" in done.stderr.splitlines()[-1]
        assert not list(tmp_path.iterdir())

    def test_gpus_that_are_not_there_end_with_2(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert sweep.main(["cartpole", "--gpus-per-trial", "9", "--out", str(tmp_path)]) == 2
        assert "9 GPUs" in capsys.readouterr().err


class TestFromPython:
    def test_run_sweep_returns_the_result(self, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]) -> None:
        result = sweep.run_sweep(
            "cartpole", trials=6, episodes=150, threshold=100.0, race_seeds=0, out=str(finished.path.parent)
        )
        assert result.best is not None and result.best["episodes_to_threshold"] <= 150
        assert result.path == finished.path

    def test_an_unknown_option_is_named(self) -> None:
        with pytest.raises(Exception, match="unknown option 'trails'"):
            sweep.run_sweep("cartpole", trails=3)


def rows_or_none(folder: Path) -> list[dict[str, float]]:
    return rows_of(folder) if (folder / "episodes.csv").exists() else []


def wait_for(condition: object, seconds: float = 90) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the sweep did not get there"
        time.sleep(0.1)


def read_terminal(descriptor: int, process: subprocess.Popen[bytes], seconds: float = 180) -> str:
    """Everything that a process wrote to its terminal."""
    chunks = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        readable, _, _ = select.select([descriptor], [], [], 0.2)
        try:
            chunk = os.read(descriptor, 65536) if readable else b""
        except OSError:  # the other end was closed
            break
        chunks.append(chunk)
        if not chunk and process.poll() is not None:
            break
    process.wait(timeout=10)
    os.close(descriptor)
    return b"".join(chunks).decode(errors="replace")
