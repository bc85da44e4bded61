"""`tuner doctor`: what a machine can run, and whether a run folder is sound."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import FinishedSweep, tree
from tuner import doctor


def test_it_tells_what_this_machine_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0]: line for line in lines}
    assert set(found) == {"python", "packages", "cores", "GPUs", "engines", "soccer", "disk"}
    assert f"ray {version('ray')}" in found["packages"] and platform.python_version() in found["python"]
    assert int(found["cores"].split()[1].rstrip(":")) == len(os.sched_getaffinity(0))


def test_a_finished_sweep_is_sound_and_not_touched(finished: FinishedSweep, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(finished.path)
    assert doctor.main([str(finished.path)]) == 0
    assert capsys.readouterr().out.strip().endswith("sound")
    assert tree(finished.path) == before


def cut_table(run: Path) -> None:
    path = run / "trials/0001/episodes.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def change_config(run: Path) -> None:
    path = run / "trials/0001/config.json"
    path.write_text(path.read_text().replace('"gamma": 0.', '"gamma": 0.1'))


def damage_checkpoint(run: Path) -> None:
    path = next((run / "trials/0001/checkpoint").resolve().rglob("module_state.pkl"))
    path.write_bytes(path.read_bytes()[:-1])


def remove_table(run: Path) -> None:
    (run / "trials/0001/episodes.csv").unlink()


def truncate_study(run: Path) -> None:
    path = run / "study.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (cut_table, "trials/0001/episodes.csv"),
        (change_config, "trials/0001/config.json: gamma"),
        (damage_checkpoint, "does not verify"),
        (remove_table, "trials/0001/episodes.csv"),
        (truncate_study, "study.db"),
    ],
)
def test_damage_is_named_and_nothing_is_changed(
    damage: Callable[[Path], None],
    where: str,
    finished: FinishedSweep,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True))
    damage(run)
    before = tree(run)
    assert doctor.main([str(run)]) == 3
    printed = capsys.readouterr()
    assert where in printed.out
    assert "nothing was changed" in printed.err
    assert tree(run) == before


def test_a_transaction_that_a_driver_died_in_is_no_damage(finished: FinishedSweep, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True))
    dying = (
        "import os, signal, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.execute('pragma cache_size = 1')\n"  # so that pages are written before the commit
        "database.execute('update trial_params set param_value = 0')\n"
        "database.execute(\"update trial_user_attributes set value_json = value_json || ' '\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", dying, run / "study.db"])
    assert (run / "study.db-journal").stat().st_size > 0
    assert doctor.main([str(run)]) == 0
