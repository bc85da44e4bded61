"""What a copy of a run folder holds that was read while trials write: what belongs together, whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tuner.files import replace_folder, write_json, write_manifest
from tuner.layout import RunDir
from tuner.snapshot import Snapshots


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run").make()


def names_in(run_dir: RunDir, when_read: Callable[[Path], Any] = lambda path: None) -> dict[str, int]:
    """The names and sizes of one copy; `when_read` is called before each file is read."""
    read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        when_read(path)
        return read(path)

    with mock.patch.object(Path, "read_bytes", read_bytes):
        parts = list(Snapshots(run_dir, lambda sha256: False).parts())
    return {name: content.size for part in parts for name, content in part.files.items()}


def save(run_dir: RunDir, iteration: int) -> Path:
    folder = run_dir.trial(0).make().checkpoint_at(iteration)
    folder.mkdir()
    (folder / "state").write_text("state")
    write_manifest(folder, {})
    return folder


def test_scratch_files_are_left_out(run_dir: RunDir) -> None:
    for name in (".lock", ".sweep.json.1.tmp", "sweep.json", "study.db-journal"):
        (run_dir.path / name).touch()
    (run_dir.trial(0).make().checkpoints / ".tmp-3").mkdir()
    (run_dir.trial(0).checkpoints / ".tmp-3" / "state").touch()
    (run_dir.path / ".best.tmp").mkdir()
    (run_dir.path / ".best.tmp" / "x").touch()
    assert names_in(run_dir) == {"sweep.json": 0}


def test_the_study_is_read_before_anything_else(run_dir: RunDir) -> None:
    with closing(sqlite3.connect(run_dir.study)) as study, study:
        study.execute("CREATE TABLE trials (number INTEGER)")
    run_dir.sweep.write_text("{}")
    first, *_ = Snapshots(run_dir, lambda sha256: False).parts()
    assert first.files.keys() == {"study.db"}, "a trial that it calls ended has written its last file by then"


def test_a_checkpoint_that_goes_while_it_is_read_is_left_out_whole(run_dir: RunDir) -> None:
    old, _ = save(run_dir, 1), save(run_dir, 2)

    def removing(path: Path) -> None:
        if path == old / "state":
            path.unlink()

    names = names_in(run_dir, removing)
    assert set(names) == {f"trials/0000/checkpoints/iter-2/{name}" for name in ("state", "manifest.json")}


def test_a_table_is_never_behind_a_checkpoint(run_dir: RunDir) -> None:
    folder = save(run_dir, 1)
    table = run_dir.trial(0).episodes
    table.write_text("row\n")

    def adding(path: Path) -> None:
        if path == folder / "state":  # a trial writes its rows, and then the checkpoint that counts them
            table.write_text("row\n" * 5)

    assert names_in(run_dir, adding)["trials/0000/episodes.csv"] == 20


def test_a_result_is_never_ahead_of_its_table(run_dir: RunDir) -> None:
    run = run_dir.answer_run("race", "baseline-s1").make()
    run.episodes.write_text("row\n")

    def finishing(path: Path) -> None:
        if path == run.episodes:
            write_json(run.result, {})

    assert set(names_in(run_dir, finishing)) == {"race/baseline-s1/episodes.csv"}


def test_best_is_of_one_trial(run_dir: RunDir) -> None:
    run_dir.best.mkdir()
    for name in "ab":
        (run_dir.best / name).write_text("old")
    new = run_dir.path / ".best.tmp"
    new.mkdir()
    for name in "ab":
        (new / name).write_text("newer")

    def exchanging(path: Path) -> None:
        if path == run_dir.best / "b" and new.exists():
            replace_folder(new, run_dir.best)

    assert names_in(run_dir, exchanging) == {"best/a": 5, "best/b": 5}
