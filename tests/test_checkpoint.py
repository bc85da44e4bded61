"""Verified checkpoints: the newest two are kept, a damaged one is never used, and half a one never counts."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner import checkpoint
from tuner.checkpoint import Counters
from tuner.files import MANIFEST
from tuner.layout import TrialDir


def counters(iteration: int) -> Counters:
    """Where a run stands after `iteration`."""
    return Counters(iteration, env_steps=128 * iteration, episodes=5 * iteration, wall_s=0.5 * iteration)


def weights_of(iteration: int) -> Callable[[Path], None]:
    """A writer of files as an algorithm writes them."""

    def write(folder: Path) -> None:
        (folder / "learner").mkdir()
        (folder / "algorithm_state.pkl").write_bytes(b"state")
        (folder / "learner" / "weights").write_bytes(f"weights {iteration}".encode())

    return write


def save(trial: TrialDir, *iterations: int) -> None:
    """Save a checkpoint after each of `iterations`."""
    for iteration in iterations:
        checkpoint.save(trial, counters(iteration), weights_of(iteration))


def newest(trial: TrialDir) -> int | None:
    """The iteration of the checkpoint that would be used."""
    found = checkpoint.newest_valid(trial)
    return found[1].iteration if found else None


def flip(path: Path, position: int = 0) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.fixture
def trial(tmp_path: Path) -> TrialDir:
    return TrialDir(tmp_path / "0007").make()


def test_a_checkpoint_holds_what_was_written(trial: TrialDir) -> None:
    save(trial, 10)
    assert (trial.checkpoint_at(10) / "learner" / "weights").read_bytes() == b"weights 10"


def test_the_newest_checkpoint_is_found_with_its_counters(trial: TrialDir) -> None:
    save(trial, 9, 10)
    assert checkpoint.newest_valid(trial) == (trial.checkpoint_at(10), counters(10))


def test_newer_is_by_number_and_not_by_name(trial: TrialDir) -> None:
    save(trial, 99, 100)
    assert newest(trial) == 100


def test_saving_says_where_the_checkpoint_is(trial: TrialDir) -> None:
    assert checkpoint.save(trial, counters(10), weights_of(10)) == trial.checkpoint_at(10)


def test_the_newest_two_are_kept(trial: TrialDir) -> None:
    save(trial, 10, 20, 30, 40)
    assert sorted(path.name for path in trial.checkpoints.iterdir()) == ["iter-30", "iter-40"]


def test_a_trial_without_a_checkpoint_has_none_to_use(trial: TrialDir) -> None:
    assert checkpoint.newest_valid(trial) is None


def test_a_trial_without_a_folder_has_none_to_use(tmp_path: Path) -> None:
    assert checkpoint.newest_valid(TrialDir(tmp_path / "none")) is None


def test_a_checkpoint_names_the_versions_that_wrote_it(trial: TrialDir) -> None:
    save(trial, 10)
    manifest = json.loads((trial.checkpoint_at(10) / MANIFEST).read_bytes())
    assert (manifest["format"], sorted(manifest["versions"])) == (1, ["ray", "torch"])


def damage_byte(folder: Path) -> None:
    flip(folder / "learner" / "weights")


def damage_missing_file(folder: Path) -> None:
    (folder / "algorithm_state.pkl").unlink()


def damage_missing_component(folder: Path) -> None:
    (folder / "learner" / "weights").unlink()
    (folder / "learner").rmdir()


def damage_planted_file(folder: Path) -> None:
    (folder / "planted.pkl").write_bytes(b"cos\nsystem\n")


def damage_link(folder: Path) -> None:
    (folder / "algorithm_state.pkl").unlink()
    (folder / "algorithm_state.pkl").symlink_to("learner/weights")


def damage_missing_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def damage_torn_manifest(folder: Path) -> None:
    os.truncate(folder / MANIFEST, 40)


def damage_foreign_manifest(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["counters"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def damage_counters(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"episodes": 100', '"episodes": 108'))


DAMAGES = [
    damage_byte, damage_missing_file, damage_missing_component, damage_planted_file, damage_link,
    damage_missing_manifest, damage_torn_manifest, damage_foreign_manifest, damage_counters,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    damage: Callable[[Path], None], trial: TrialDir
) -> None:
    save(trial, 10, 20)
    damage(trial.checkpoint_at(20))
    assert newest(trial) == 10


def test_a_damaged_checkpoint_is_said_to_be_with_its_folder_and_what_is_wrong(
    trial: TrialDir, caplog: pytest.LogCaptureFixture
) -> None:
    save(trial, 10, 20)
    damage_byte(trial.checkpoint_at(20))
    newest(trial)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"{trial.checkpoint_at(20)}: not used, learner/weights: changed")
    ]


def test_a_sound_checkpoint_needs_no_warning(trial: TrialDir, caplog: pytest.LogCaptureFixture) -> None:
    save(trial, 10, 20)
    newest(trial)
    assert caplog.records == []


def test_looking_for_a_checkpoint_changes_nothing(trial: TrialDir) -> None:
    save(trial, 10, 20)
    damage_byte(trial.checkpoint_at(20))
    before = sorted(trial.path.rglob("*"))
    newest(trial)
    assert sorted(trial.path.rglob("*")) == before


def test_where_all_checkpoints_are_damaged_there_is_none_to_use(trial: TrialDir) -> None:
    save(trial, 10, 20)
    damage_byte(trial.checkpoint_at(10))
    damage_byte(trial.checkpoint_at(20))
    assert newest(trial) is None


def test_a_damaged_checkpoint_does_not_take_the_place_of_a_sound_one(trial: TrialDir) -> None:
    save(trial, 10, 20)
    damage_byte(trial.checkpoint_at(20))
    save(trial, 15, 18)
    damage_byte(trial.checkpoint_at(18))
    assert newest(trial) == 15


def test_a_run_begun_anew_after_damage_keeps_the_checkpoints_it_writes(trial: TrialDir) -> None:
    save(trial, 20, 30)
    damage_byte(trial.checkpoint_at(20))
    damage_byte(trial.checkpoint_at(30))
    save(trial, 5)
    assert newest(trial) == 5


def test_a_damaged_checkpoint_is_written_again_when_the_run_comes_back_to_it(trial: TrialDir) -> None:
    save(trial, 10, 20)
    damage_byte(trial.checkpoint_at(20))
    save(trial, 20)
    assert newest(trial) == 20


def test_half_a_checkpoint_never_counts(trial: TrialDir) -> None:
    def dies(folder: Path) -> None:
        weights_of(20)(folder)
        raise KeyboardInterrupt

    save(trial, 10)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(trial, counters(20), dies)
    assert newest(trial) == 10


@pytest.mark.parametrize("name", ["write_manifest", "replace_link", "fsync_dir"])
def test_a_full_disk_at_any_step_leaves_a_checkpoint_that_verifies(
    name: str, trial: TrialDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    save(trial, 10)
    monkeypatch.setattr(checkpoint, name, fail)
    with pytest.raises(OSError, match="No space left"):
        save(trial, 20)
    assert newest(trial) in (10, 20)


def test_what_a_crash_left_is_cleared_by_the_next_checkpoint_of_that_iteration(trial: TrialDir) -> None:
    leftover = trial.checkpoints / ".tmp-20"
    leftover.mkdir()
    (leftover / "half").write_bytes(b"half")
    save(trial, 20)
    assert sorted(path.name for path in trial.checkpoint_at(20).iterdir()) == [
        "algorithm_state.pkl", "learner", MANIFEST,
    ]  # fmt: skip


def test_a_whole_folder_that_was_never_renamed_is_not_chosen(trial: TrialDir) -> None:
    save(trial, 10, 20)
    trial.checkpoint_at(20).rename(trial.checkpoints / ".tmp-20")
    assert newest(trial) == 10


def test_the_link_is_relative_and_leads_to_the_newest_checkpoint(trial: TrialDir) -> None:
    save(trial, 10, 20)
    assert trial.checkpoint.readlink() == Path("checkpoints/iter-20")


def test_the_link_holds_where_the_run_folder_was_moved(trial: TrialDir, tmp_path: Path) -> None:
    save(trial, 10)
    trial.path.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "checkpoint" / "learner" / "weights").read_bytes() == b"weights 10"


def test_the_link_never_dangles_after_damage(trial: TrialDir) -> None:
    save(trial, 20, 30)
    damage_byte(trial.checkpoint_at(20))
    damage_byte(trial.checkpoint_at(30))
    save(trial, 5)
    assert trial.checkpoint.is_dir()
