"""TensorBoard files, read back with TensorBoard's own reader."""

from __future__ import annotations

import csv
import logging
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.conftest import FinishedSweep
from tuner.layout import RunDir
from tuner.results import open_study
from tuner.tensorboard import TensorBoard


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def table_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "episodes.csv").open() as file:
        return list(csv.DictReader(file))


def test_scalars_over_episodes_are_the_episode_table(finished: FinishedSweep) -> None:
    for number in range(6):
        folder = finished.path / f"trials/{number:04d}"
        events, rows = events_of(folder), table_of(folder)
        for name in ("reward", "mean_reward", "mean_length"):
            scalars = events.Scalars(f"by_episode/{name}")
            assert [scalar.step for scalar in scalars] == [int(row["episode"]) for row in rows]
            assert [scalar.value for scalar in scalars] == pytest.approx([float(row[name]) for row in rows], rel=1e-6)


def test_scalars_over_environment_steps_are_the_episode_table(finished: FinishedSweep) -> None:
    folder = finished.path / "trials/0000"
    scalars = events_of(folder).Scalars("by_env_step/mean_reward")
    assert [scalar.step for scalar in scalars] == [int(row["env_steps"]) for row in table_of(folder)]


def test_the_learners_statistics_are_there_under_readable_names(finished: FinishedSweep) -> None:
    tags = set(events_of(finished.path / "trials/0000").Tags()["scalars"])
    assert {"learner/policy_loss", "learner/vf_loss", "learner/entropy", "learner/kl", "learner/lr"} <= tags


def test_hparams_hold_the_values_that_were_used(finished: FinishedSweep) -> None:
    events = events_of(finished.path / "trials/0000")
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["lr"].number_value == 5e-4
    assert hparams["minibatch_size"].number_value == 32
    assert hparams["fcnet_hiddens"].string_value == "[64, 32]"
    assert hparams["lr_anneal_steps"].string_value == "None"


def test_the_outcome_is_a_scalar_that_hparams_can_sort_by(finished: FinishedSweep) -> None:
    for trial in finished.trials():
        events = events_of(finished.path / f"trials/{trial.number:04d}")
        assert events.Scalars("result/score")[0].value == pytest.approx(trial.value, rel=1e-6)


def test_a_trial_that_goes_on_has_one_run_whose_steps_never_go_back(finished: FinishedSweep, tmp_path: Path) -> None:
    run_dir = RunDir(Path(shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True)))
    study, _ = open_study(run_dir)
    board = TensorBoard(run_dir, study)
    board.on_start(study.record(0))
    board.on_progress(study.record(0), {"statistics": {}, "env_steps_total": 0})
    board.on_finish(study.record(0))
    files = list(run_dir.trial(0).path.glob("events.out.tfevents.*"))
    assert len(files) == 1
    events = events_of(run_dir.trial(0).path)
    for tag in events.Tags()["scalars"]:
        steps = [scalar.step for scalar in events.Scalars(tag)]
        assert steps == sorted(steps)
        if not tag.startswith(("by_env_step", "learner")):
            assert len(set(steps)) == len(steps)


def test_a_writer_that_fails_warns_once_and_stops_nothing(
    finished: FinishedSweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "trials").write_text("a file where a folder should be")
    study, _ = open_study(RunDir(finished.path))
    board = TensorBoard(RunDir(tmp_path), study)
    with caplog.at_level(logging.WARNING):
        for number in (0, 1):
            board.on_start(study.record(number))
            board.on_finish(study.record(number))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "TensorBoard files are no longer written"
    ]
