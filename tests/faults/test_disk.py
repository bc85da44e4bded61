"""Faults 19 and 20: the disk becomes full at any write, or has little left; the run folder cannot be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.conftest import ROOT
from tests.faults import IS_LONG, disks, in_process
from tests.faults.in_process import SMALL, answer_of, wait
from tests.faults.sound import Finished, assert_kept, assert_sound
from tuner import cluster, sweep
from tuner.files import manifest_problem
from tuner.layout import RunDir
from tuner.results import open_study
from tuner.study import TrialState

EVERY_NTH_WRITE = 5 if IS_LONG else 120
FIRST_WRITE = 1 if IS_LONG else 4
LITTLE = 6_000_000  # bytes: less than the floor


@pytest.fixture
def expected(finished: Path) -> dict[str, Any]:
    """The answer of a sweep that nothing happened to."""
    return answer_of(finished)


def swept(
    out: Path, *, at_write: int = 0, do: Callable[[], None] = lambda: None, floor: bool = True
) -> tuple[int, str]:
    """A sweep's exit code and what it wrote to stderr; something is done right before the write of that number."""

    def before() -> None:
        _before_write(at_write, do)
        mock.patch("tuner.disk.CHECK_EVERY_S", 0.0).start()
        if not floor:
            mock.patch("tuner.disk.DiskFloor.check").start()

    return in_process.swept(out, *SMALL, before=before)


def _before_write(number: int, do: Callable[[], None]) -> None:
    """Have this process do something before it opens, renames, links, removes, syncs or commits for the n-th time."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    left = number

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            do()

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        is_opened = name == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if is_opened or name in ("os.rename", "os.symlink", "os.remove", "os.mkdir"):
            count()

    def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
        count()
        real(descriptor)

    sys.addaudithook(audit)
    event.listen(Engine, "commit", count)
    os.fsync = fsync


def test_a_disk_that_is_full_at_any_write_ends_with_75_and_the_same_command_goes_on(
    expected: dict[str, Any], tmp_path: Path
) -> None:
    def part() -> None:
        disk, number, code = disks.mount_small(tmp_path / "disk"), FIRST_WRITE, 75
        filler = disk / "filler"
        while code == 75:
            out = disk / str(number)
            # Without the floor, which would end the sweep before the disk does.
            code, said = swept(out, at_write=number, do=lambda: disks.fill(filler), floor=False)
            assert code in (0, 75), f"write {number}: exit code {code}: {said}"
            if code == 75:
                assert "no space is left" in said.splitlines()[-1] and "same command goes on" in said.splitlines()[-1]
                assert "Traceback" not in said, said
            filler.unlink(missing_ok=True)
            before = Finished.of(out / "run")
            again, said = swept(out)
            assert again == 0, f"after write {number}: {said}"
            assert_kept(before, Finished.of(out / "run"))
            assert_sound(out / "run", 3)
            assert answer_of(out) == expected, f"after write {number}"
            subprocess.run(["rm", "-r", out], check=True)
            number += EVERY_NTH_WRITE
        assert number > 300, "the sweep makes fewer writes than this test was meant for"

    disks.in_own_mounts(part)


@pytest.mark.parametrize("number", [60, 270])  # in the search, and in the race
def test_a_disk_with_little_left_ends_a_sweep_before_anything_is_torn(
    number: int, expected: dict[str, Any], tmp_path: Path
) -> None:
    def part() -> None:
        disk = disks.mount_small(tmp_path / "disk", megabytes=40)
        out, filler = disk / "out", disk / "filler"
        code, said = swept(out, at_write=number, do=lambda: disks.fill(filler, leave=LITTLE))
        last = said.splitlines()[-1]
        assert code == 75 and "MB are needed to go on safely; free some space" in last, said
        run_dir = RunDir(out / "run")
        assert list(run_dir.path.rglob(".*tmp*")) == []
        for _, trial in run_dir.trial_dirs():
            assert all(manifest_problem(trial.checkpoint_at(number)) is None for number in trial.iterations())
        study, _ = open_study(run_dir)
        assert all(record.state in (TrialState.WAITING, TrialState.COMPLETE) for record in study.records())

        code, said = swept(out)  # still too little: nothing is started
        assert code == 75 and "MB are needed" in said.splitlines()[-1], said
        filler.unlink()
        before = Finished.of(out / "run")
        assert swept(out)[0] == 0
        assert_kept(before, Finished.of(out / "run"))
        assert_sound(out / "run", 3)
        assert answer_of(out) == expected

    disks.in_own_mounts(part)


def test_a_disk_that_is_full_when_the_best_checkpoint_is_copied_ends_with_75(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    copies = lambda: mock.patch("shutil.copyfile", side_effect=full).start()  # noqa: E731
    code, said = in_process.swept(tmp_path, *SMALL, before=copies)
    assert code == 75 and "no space is left" in said.splitlines()[-1], said


@pytest.mark.ray
def test_a_real_sweep_whose_disk_fills_up_ends_with_75_and_goes_on(tmp_path: Path) -> None:
    def part() -> None:
        disk = disks.mount_small(tmp_path / "disk", megabytes=24)
        words = [sys.executable, "-m", "tuner.sweep", str(ROOT / "tests/small.py"), "--out", str(disk)]
        words += ["--name", "run", "--engine", "rllib", "--trials", "2", "--episodes", "400"]
        words += ["--race-seeds", "0", "--parallel", "1"]
        table = disk / "run/trials/0000/episodes.csv"
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 120
            while not (table.exists() and len(table.read_text().splitlines()) > 30):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
            disks.fill(disk / "filler")
            _, said = process.communicate(timeout=60)
        last = said.splitlines()[-1]
        assert process.returncode == 75 and last.startswith("error: ") and "same command goes on" in last, said
        assert "Traceback" not in said
        (disk / "filler").unlink()
        again = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert again.returncode == 0, again.stderr
        assert_sound(disk / "run", 2)

    disks.in_own_mounts(part)


@pytest.mark.parametrize("name", ["", "run", "run/trials", "run/study.db"])
def test_a_folder_that_cannot_be_written_is_refused_with_2_before_ray_starts(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if name:
        assert wait(in_process.in_child(lambda: in_process.run(out, *SMALL))) == 0

    def part() -> None:
        disks.mount_read_only(out / name)
        words = [str(in_process.SPACE), "--out", str(out), "--name", "run", "--trials", "4", "--episodes", "10"]
        with mock.patch.object(cluster, "private_ray", side_effect=AssertionError("Ray was started")):
            assert sweep.main([*words, "--race-seeds", "1"]) == 2

    disks.in_own_mounts(part)
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and str(out) in last and "choose" in last
