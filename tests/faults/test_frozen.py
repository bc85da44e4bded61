"""Fault 9: run folders of every released format are gone on with."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Command, tree
from tests.faults.frozen import freeze
from tests.faults.sound import Finished, assert_kept, assert_sound
from tuner.layout import RunDir
from tuner.results import open_study

ARCHIVES = sorted(freeze.HERE.glob("*.tar.xz"))


@pytest.mark.ray
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def test_a_frozen_run_folder_is_gone_on_with(archive: Path, command: Command, tmp_path: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path)  # noqa: S202 our own
    finished, interrupted = tmp_path / "finished", tmp_path / "interrupted"

    runs = {name: tree(finished / name) for name in ("trials", "race")}
    answer = json.loads((finished / "summary.json").read_bytes())
    done = command("sweep", freeze.SPACE, "--out", tmp_path, *freeze.FINISHED)
    assert done.returncode == 0, done.stderr
    assert "started" not in done.stdout
    assert {name: tree(finished / name) for name in runs} == runs
    assert json.loads((finished / "summary.json").read_bytes()) | {"versions": 0} == answer | {"versions": 0}
    assert_sound(finished, 2)

    before = Finished.of(interrupted)
    study, _ = open_study(RunDir(interrupted))
    assert [record.attempts for record in study.records()] == [1, 1]
    trial = RunDir(interrupted).trial(1)
    saved = json.loads((trial.checkpoint / "manifest.json").read_bytes())["counters"]
    rows = trial.episodes.read_text().splitlines()[: 1 + saved["episodes"]]
    done = command("sweep", freeze.SPACE, "--out", tmp_path, *freeze.INTERRUPTED)
    assert done.returncode == 0, done.stderr
    assert len(before.trials) == 1
    assert_kept(before, Finished.of(interrupted))
    assert_sound(interrupted, 3)
    assert [record.attempts for record in study.records()] == [1, 2, 1]
    assert trial.episodes.read_text().splitlines()[: len(rows)] == rows
