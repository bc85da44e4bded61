"""Faults 21 and 22: TensorBoard's files cannot be written, or vanish; five kills while they are written."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.faults import in_process
from tests.faults.in_process import SIGKILLED, SMALL, answer_of, wait
from tests.faults.sound import Finished, assert_kept, assert_sound
from tests.faults.test_driver import TRIALS
from tests.test_tensorboard import events_of
from tuner import tensorboard
from tuner.episodes import read_rows
from tuner.layout import RunDir
from tuner.training import Training

OPTIONS = ("--race-seeds", "0")
KILLS = 5
# Four scalars an episode and one an iteration of some 60 bytes each, and the hyperparameters twice.
BYTES_PER_EPISODE, BYTES_PER_TRIAL = 400, 4_000


def writer_raises() -> None:
    """From the 50th event on."""
    left, write = 50, tensorboard._Run._write

    def fail(run: tensorboard._Run, event: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(5, "Input/output error")
        write(run, event)

    mock.patch.object(tensorboard._Run, "_write", fail).start()


def events_vanish() -> None:
    """Again and again, while they are written."""
    iterate = in_process.ToyEngine.iterate

    def remove(engine: in_process.ToyEngine) -> object:
        for file in Path.cwd().glob("out/run/trials/*/events*"):
            file.unlink()
        return iterate(engine)

    mock.patch.object(in_process.ToyEngine, "iterate", remove).start()


def folder_vanishes() -> None:
    """Before a trial's file is opened."""
    start = tensorboard._Run.__init__

    def vanish(run: tensorboard._Run, trial: object, params: object) -> None:
        with mock.patch.object(Path, "open", side_effect=FileNotFoundError(2, "No such file or directory")):
            start(run, trial, params)  # type: ignore[arg-type]

    mock.patch.object(tensorboard._Run, "__init__", vanish).start()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answer of a sweep that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert wait(in_process.in_child(lambda: in_process.run(out, *SMALL))) == 0
    return answer_of(out)


@pytest.mark.parametrize(("fault", "warnings"), [(writer_raises, 1), (folder_vanishes, 1), (events_vanish, 0)])
def test_without_tensorboards_files_the_sweep_goes_on_to_the_same_answer(
    fault: Callable[[], None],
    warnings: int,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = in_process.swept(tmp_path / "out", *SMALL, before=fault)
    assert code == 0, said
    assert len(said.splitlines()) == said.count("TensorBoard files are no longer written: ") == warnings, said
    assert_sound(tmp_path / "out/run", 3)
    assert answer_of(tmp_path / "out") == expected


def kill_at(iteration: int) -> Callable[[], None]:
    """Have a sweep die before the n-th iteration that it does."""

    def before() -> None:
        left, iterate = iteration, in_process.ToyEngine.iterate

        def count(engine: in_process.ToyEngine) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return iterate(engine)

        def save(training: Training, always: Callable[[Training], None] = Training.save) -> None:
            if training.is_finished or training._engine.iteration % 3 == 0:  # so that a kill loses something
                always(training)

        mock.patch.object(in_process.ToyEngine, "iterate", count).start()
        mock.patch.object(Training, "save", save).start()

    return before


def test_after_five_kills_every_curve_is_one_line_and_hparams_are_there(tmp_path: Path) -> None:
    chance = random.Random(0)  # noqa: S311 for tests
    before = Finished({}, {})
    for _ in range(KILLS):
        code, said = in_process.swept(tmp_path, *OPTIONS, before=kill_at(chance.randrange(4, 12)))
        assert code == SIGKILLED, said
        after = Finished.of(tmp_path / "run")
        assert_kept(before, after)
        before = after
    assert in_process.swept(tmp_path, *OPTIONS)[0] == 0
    assert_sound(tmp_path / "run", TRIALS)
    for _, trial in RunDir(tmp_path / "run").trial_dirs():
        (file,) = trial.path.glob("events.out.tfevents.*")
        rows = read_rows(trial.episodes)
        assert file.stat().st_size < BYTES_PER_TRIAL + BYTES_PER_EPISODE * len(rows)
        events = events_of(trial.path)
        tags = events.Tags()["scalars"]
        assert {"by_episode/mean_reward", "by_env_step/mean_reward", "learner/entropy", "result/score"} <= set(tags)
        for tag in tags:
            steps = [scalar.step for scalar in events.Scalars(tag)]
            assert all(a < b for a, b in pairwise(steps)), (trial.path, tag, steps)
        assert [scalar.step for scalar in events.Scalars("by_episode/reward")] == [row.episode for row in rows]
        iterations = {row.iteration: row.env_steps for row in rows}
        assert len(events.Scalars("learner/entropy")) == len(iterations)
        for tag in ("_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"):
            assert events.SummaryMetadata(tag).plugin_data.plugin_name == "hparams"
