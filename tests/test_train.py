"""`tuner train`: one run, the baseline or a configuration from a file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Command, FinishedSweep
from tests.test_sweep import SMALL, rows_of, rows_or_none, wait_for
from tuner import train

SHORT = ("--episodes", "60")


def reward_and_length(folder: Path) -> list[str]:
    return [",".join(line.split(",")[1:3]) for line in (folder / "episodes.csv").read_text().splitlines()]


@pytest.mark.ray
class TestARun:
    def test_the_best_configuration_gives_the_same_episodes_again_byte_for_byte(
        self, finished: FinishedSweep, command: Command, tmp_path: Path
    ) -> None:
        number = json.loads((finished.path / "summary.json").read_text())["best"]["number"]
        done = command("train", "cartpole", "--config", finished.path / "best/config.yaml", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        again = reward_and_length(tmp_path / "cartpole-train-s10")
        assert again == reward_and_length(finished.path / f"trials/{number:04d}")
        assert len(again) > 50

    def test_a_files_numbers_may_be_text_and_its_names_old_and_its_seed_holds(
        self, command: Command, tmp_path: Path
    ) -> None:
        (tmp_path / "config.yaml").write_text(
            "lr: '1e-3'\nsgd_minibatch_size: '64'\nseed: 77\nmodel: {fcnet_hiddens: [16]}\n"
        )
        words = ("cartpole", "--config", tmp_path / "config.yaml", *SHORT, "--out", tmp_path)
        done = command("train", *words)
        assert done.returncode == 0, done.stderr
        config = json.loads((tmp_path / "cartpole-train-s77/config.json").read_text())
        assert (config["lr"], config["minibatch_size"], config["fcnet_hiddens"]) == (1e-3, 64, [16])
        assert done.stderr.count("sgd_minibatch_size") == 1

    def test_an_interrupted_run_ends_with_75_and_the_same_command_goes_on(
        self, command: Command, tmp_path: Path
    ) -> None:
        words = [SMALL, "--engine", "rllib", "--episodes", "1500", "--out", str(tmp_path)]
        folder = tmp_path / "small-train-s10"
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner.train", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(rows_or_none(folder)) > 30)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 75 and "the same command goes on" in stderr.splitlines()[-1]
        kept = json.loads((folder / "checkpoint/manifest.json").read_text())["counters"]["episodes"]
        before = rows_of(folder)[:kept]
        assert command("train", *words).returncode == 0
        assert rows_of(folder)[:kept] == before and len(rows_of(folder)) == 1500


class TestBadInput:
    def refused(self, capsys: pytest.CaptureFixture[str], *words: object) -> str:
        assert train.main([str(word) for word in words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    def test_a_run_is_never_written_into_a_sweep(
        self, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
    ) -> None:
        last = self.refused(capsys, "cartpole", "--out", finished.path / "trials")
        assert "lies in the sweep" in last and "--out" in last

    def test_a_missing_file_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "nowhere.yaml" in self.refused(capsys, "cartpole", "--config", "nowhere.yaml")

    def test_all_problems_of_a_file_are_listed(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = tmp_path / "bad.yaml"
        file.write_text("lr: fast\ngama: 0.9\n")
        assert train.main(["cartpole", "--config", str(file), "--out", str(tmp_path / "runs")]) == 2
        message = capsys.readouterr().err
        assert "lr: fast: must be a number" in message and 'did you mean "gamma"' in message
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "[1, 2]", "a: [", "just words"])
    def test_what_is_not_a_mapping_of_plain_values_is_refused(
        self, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        (tmp_path / "bad.yaml").write_text(text)
        assert "bad.yaml" in self.refused(capsys, "cartpole", "--config", tmp_path / "bad.yaml")

    def test_another_environments_file_is_refused(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "other.yaml").write_text(yaml.safe_dump({"env": "Acrobot-v1"}))
        assert "Acrobot-v1" in self.refused(capsys, "cartpole", "--config", tmp_path / "other.yaml")
