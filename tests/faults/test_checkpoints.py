"""Faults 12 and 13: the newest checkpoint of an interrupted trial is half written, or damaged."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from tests.faults import in_process
from tests.faults.in_process import SIGKILLED, SMALL, answer_of
from tests.faults.sound import Finished, assert_kept, assert_sound
from tuner.files import MANIFEST
from tuner.layout import RunDir, TrialDir

SAVES = 12  # those of the whole sweep after which it is killed, in the middle of two trials


def half_written(trial: TrialDir) -> None:
    """As a driver leaves it that dies between two of a checkpoint's files."""
    newest = trial.checkpoint_at(trial.iterations()[0])
    half = trial.checkpoints / f".tmp-{trial.iterations()[0] + 1}"
    shutil.copytree(newest, half, dirs_exist_ok=True)
    (half / MANIFEST).unlink()
    (half / "part" / "counters.json").unlink()


def component_missing(trial: TrialDir) -> None:
    shutil.rmtree(trial.checkpoint_at(trial.iterations()[0]) / "part")


def byte_flipped(trial: TrialDir) -> None:
    file = trial.checkpoint_at(trial.iterations()[0]) / "generator.json"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def all_damaged(trial: TrialDir) -> None:
    for iteration in trial.iterations():
        shutil.rmtree(trial.checkpoint_at(iteration) / "part")


def die_after_saves() -> None:
    """Have this process die right after it wrote the last of its checkpoints."""
    left, save = SAVES, in_process.ToyEngine.save

    def count(engine: in_process.ToyEngine, folder: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        save(engine, folder)

    mock.patch.object(in_process.ToyEngine, "save", count).start()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a sweep that was killed while trials ran."""
    out = tmp_path_factory.mktemp("interrupted")
    assert in_process.swept(out, *SMALL, before=die_after_saves)[0] == SIGKILLED
    return out


@pytest.mark.parametrize(
    ("damage", "warnings"), [(half_written, 0), (component_missing, 1), (byte_flipped, 1), (all_damaged, 2)]
)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_used(
    damage: Callable[[TrialDir], None], warnings: int, interrupted: Path, finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(interrupted, tmp_path / "out", symlinks=True))
    before = Finished.of(out / "run")
    running = [(n, trial) for n, trial in RunDir(out / "run").trial_dirs() if n not in before.trials]
    number, trial = next((n, trial) for n, trial in running if len(trial.iterations()) == 2)
    rows = trial.episodes.read_text().splitlines()
    second = trial.iterations()[1]
    damage(trial)

    restores = tmp_path / "restores"
    restores.touch()

    def note_restores() -> None:
        restore = in_process.ToyEngine.restore

        def noted(engine: in_process.ToyEngine, folder: Path, iteration: int, env_steps: int) -> None:
            with restores.open("a") as file:
                print(folder, file=file)
            restore(engine, folder, iteration, env_steps)

        mock.patch.object(in_process.ToyEngine, "restore", noted).start()

    code, said = in_process.swept(out, *SMALL, before=note_restores)
    assert code == 0, said
    told = [line for line in said.splitlines() if "not used" in line]
    assert len(told) == warnings and all(f"trials/{number:04d}/checkpoints/iter-" in line for line in told), said
    restored = [line for line in restores.read_text().splitlines() if f"trials/{number:04d}/" in line]
    used = {0: [second + 1], 1: [second], 2: []}[warnings]  # the engine saves after each iteration
    assert restored == [str(trial.checkpoint_at(iteration)) for iteration in used]
    assert_kept(before, Finished.of(out / "run"))
    assert_sound(out / "run", 3)
    assert trial.episodes.read_text().splitlines()[: 1 + 2 * second] == rows[: 1 + 2 * second] or damage is all_damaged
    assert answer_of(out) == answer_of(finished)
