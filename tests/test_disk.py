"""The disk under a run folder: a full one is known for what it is, ends the sweep, and is no trial's fault."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.test_hooks import SPACE, FakeTune
from tuner import disk
from tuner.disk import DiskFloor, is_full, told_when_full
from tuner.errors import DiskFull
from tuner.layout import RunDir
from tuner.study import SweepStudy, TrialState

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NO_SPACE, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (sqlite3.OperationalError("database is locked"), False),
        (ValueError("disk is full"), False),
    ],
)
def test_a_full_disk_is_known_also_behind_another_error(error: Exception, expected: bool) -> None:
    assert is_full(error) is expected
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("could not save") from cause
    except RuntimeError as outer:
        assert is_full(outer) is expected


def test_an_error_for_lack_of_space_ends_a_command_with_75_and_any_other_is_left_alone() -> None:
    with pytest.raises(DiskFull, match=r"^runs/a: no space is left on its disk; free some, .* goes on$") as found:
        with told_when_full(Path("runs/a")):
            raise NO_SPACE
    assert found.value.exit_code == 75
    with pytest.raises(ZeroDivisionError), told_when_full(Path("runs/a")):
        raise ZeroDivisionError


def test_the_floor_holds_a_checkpoint_of_each_running_trial(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path).make()
    one, nine = DiskFloor(run_dir, SPACE, parallel=1).bytes, DiskFloor(run_dir, SPACE, parallel=9).bytes
    of_network = (nine - one) / 8
    saved = run_dir.trial(0).checkpoint_at(7)
    saved.mkdir(parents=True)
    (saved / "weights").write_bytes(bytes(50_000_000))
    assert DiskFloor(run_dir, SPACE, parallel=9).bytes >= one - of_network + 9 * 50_000_000
    run_dir.study.write_bytes(bytes(1_000_000))
    assert DiskFloor(run_dir, SPACE, parallel=9).bytes >= one - of_network + 9 * 50_000_000 + 1_000_000


def test_the_disk_is_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, free = [100.0], [10**12]
    monkeypatch.setattr(disk.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, free[0]))  # type: ignore[attr-defined]
    floor = DiskFloor(RunDir(tmp_path).make(), SPACE, parallel=2)
    floor.check()
    free[0] = 1_000_000
    floor.check()
    now[0] += 1
    with pytest.raises(DiskFull, match=r": 1\.0 MB are free on its disk, [\d.]+ MB are needed"):
        floor.check()


def test_a_full_disk_in_a_trial_is_nobodys_failure_and_stops_everything(tmp_path: Path) -> None:
    study = SweepStudy(f"sqlite:///{tmp_path / 'study.db'}", SPACE)
    tune = FakeTune(study)
    assert tune.start() == [0, 1]
    tune.result(1, failed="OSError: [Errno 28] No space left on device", disk_full=True, done=True)
    tune.end(1)
    assert tune.stopper.stop_all()
    with pytest.raises(DiskFull, match=r"^trial 1: no space is left .* the same command goes on$"):
        tune.searcher.close()
    assert [record.state for record in study.records()] == [TrialState.WAITING, TrialState.WAITING]
