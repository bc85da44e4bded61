"""Sweeps of Soccer-Twos through the real package and the stand-in, killed at several places."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.conftest import Command, read_study
from tests.soccer import alive, children, words_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("soccer_worker")]

WORDS = (
    *("soccer", "--trials", "2", "--episodes", "4", "--steps", "3000", "--race-seeds", "0", "--parallel", "2"),
    *("--set", "env_config.player=stand-in", "--set", "num_envs_per_env_runner=2", "--set", "train_batch_size=256"),
)


@contextmanager
def sweeping(out: Path) -> Iterator[subprocess.Popen[str]]:
    """The sweep in a process of its own, once both trials' matches are played."""
    words = [sys.executable, "-m", "tuner.sweep", *WORDS, "--out", str(out)]
    process = subprocess.Popen(words, cwd=out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 120
        while len(players(process.pid)) < 4 and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.communicate()


def players(pid: int) -> set[int]:
    """The stand-ins that descend from a process."""
    return {child for child in children(pid) if "stand_in" in words_of(child)}


def soccer_processes(pid: int) -> set[int]:
    """Everything of soccer that descends from a process: workers and players."""
    return {child for child in children(pid) if "soccer" in words_of(child)}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_sweep_whose_driver_is_killed_leaves_nothing_and_goes_on(command: Command, tmp_path: Path) -> None:
    with sweeping(tmp_path) as process:
        found = soccer_processes(process.pid)
        assert len(found) >= 8
        process.kill()
        assert alive(found, 5) == set()
    done = command("sweep", *WORDS, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "soccer"
    assert json.loads((run / "summary.json").read_bytes())["env_config"]["player"] == "stand-in"
    for trial in sorted((run / "trials").iterdir()):
        assert json.loads((trial / "config.json").read_bytes())["env_config"]["player"] == "stand-in"
    assert "player stand-in" in (run / "report.html").read_text()
    sound = command("doctor", run)
    assert sound.returncode == 0, sound.stderr


def test_a_killed_trial_is_tried_again_a_killed_worker_fails_its_own_and_no_player_is_left(tmp_path: Path) -> None:
    with sweeping(tmp_path) as process:
        workers = {parent_of(player) for player in players(process.pid)}
        killed, other = {parent_of(worker) for worker in workers}
        found, others = soccer_processes(killed), soccer_processes(other)
        os.kill(killed, signal.SIGKILL)
        os.kill(next(worker for worker in workers if parent_of(worker) == other), signal.SIGKILL)
        assert alive(found, 5) == set()
        output, _ = process.communicate(timeout=180)
        assert alive(others, 5) == set()
    assert "attempt 2" in output
    assert "FAILED: soccer match" in output and "SIGKILL" in output
    states = {trial.number: trial.state for trial in read_study(tmp_path / "soccer")}
    assert sorted(state.name for state in states.values()) == ["COMPLETE", "FAIL"]
    assert process.returncode == (1 if states[0] is TrialState.FAIL else 0), output
