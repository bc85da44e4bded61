"""Faults 15 and 16 on a real Ray: a trial that takes all memory, and one whose environment never comes back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.conftest import read_study
from tests.faults.test_processes import START_S, Sweep
from tuner import deaths
from tuner.errors import UsageError
from tuner.hooks import MAX_DEATHS
from tuner.layout import TrialDir

ROOM = 4e9  # bytes above the present use at which Ray's memory monitor acts; what else runs here may take some, too
TIMEOUT_S = 20

FAULTY = '''
"""CartPole that hangs, or takes more and more memory, from its 300th step on."""
import time
import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

held = []


class Faulty(CartPoleEnv):
    def __init__(self, fault: str, **options):
        super().__init__(**options)
        self.fault, self.steps = fault, 0

    def step(self, action):
        self.steps += 1
        if self.steps > 300 and self.fault == "hang":
            while True:
                time.sleep(1)
        if self.steps > 300 and self.fault == "hog" and len(held) < 80:
            held.append(np.ones(100_000_000 // 8))
            time.sleep(0.01)
        return super().step(action)


gymnasium.register("Faulty-v0", entry_point=Faulty, max_episode_steps=500)
'''
SPACE = '''
"""An environment with faults in some trials."""
from tuner.space import Choice, SearchSpace

faults = FAULTS
space = SearchSpace(
    env="faulty:Faulty-v0", max_episodes=1000, max_steps=1000, trials=2 + len(faults),
    baseline={"lr": 1e-3, "train_batch_size": 256, "minibatch_size": 64, "num_epochs": 2, "fcnet_hiddens": [16],
              "num_envs_per_env_runner": 1, "env_config.fault": "well"},
    params={"env_config.fault": Choice("well", *faults)},
)
'''


def write_space(folder: Path, *faults: str) -> Path:
    """Write an environment, and a space of two trials and one with each of these faults; the space's file."""
    (folder / "faulty.py").write_text(FAULTY)
    (folder / "mine.py").write_text(SPACE.replace("FAULTS", repr(faults)))
    return folder / "mine.py"


@dataclass(frozen=True)
class Swept:
    """A sweep that went on to its end over trials that hang, or take all memory."""

    trials: dict[str, list[FrozenTrial]]  # by fault
    log: str


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """One sweep with both faults, or with that alone that this machine has room for."""
    folder, memory = tmp_path_factory.mktemp("swept"), psutil.virtual_memory()
    faults = ("hang", "hog") if memory.available >= 2 * ROOM else ("hang",)
    space = write_space(folder, *faults)
    threshold = (memory.total - memory.available + ROOM) / memory.total
    env = {
        "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}",
        "RAY_memory_usage_threshold": f"{threshold:.4f}",
        "RAY_memory_monitor_refresh_ms": "50",
        deaths.TIMEOUT: str(TIMEOUT_S),
    }
    words = (str(space), "--sampler", "grid", "--race-seeds", "0", "--parallel", "1", "--name", "run")
    sweep = Sweep(folder, *words, env=env, cwd=folder)
    code = sweep.end(START_S * 4)
    log = sweep.log.read_text()
    assert code == 0, log
    assert not list(sweep.path.rglob(".stalled"))
    trials = read_study(sweep.path)
    return Swept({name: [t for t in trials if t.params["env_config.fault"] == name] for name in ("well", *faults)}, log)


@pytest.mark.ray
def test_a_sweep_goes_on_to_its_end_over_trials_that_hang_or_take_all_memory(swept: Swept) -> None:
    assert [trial.state for trial in swept.trials["well"]] == [TrialState.COMPLETE] * 2, swept.log


@pytest.mark.ray
def test_a_trial_whose_environment_hangs_is_failed_with_where_it_was(swept: Swept) -> None:
    (hung,) = swept.trials["hang"]
    assert hung.user_attrs["reason"].startswith(f"no iteration within {TIMEOUT_S} s; it was in step (faulty.py, line ")
    assert (hung.state, hung.user_attrs["attempts"]) == (TrialState.FAIL, 1)


@pytest.mark.ray
def test_a_trial_that_takes_all_memory_is_tried_again_and_then_failed(swept: Swept) -> None:
    if "hog" not in swept.trials:
        pytest.skip("too little memory to tell one greedy trial from everything else")
    (hog,) = swept.trials["hog"]
    assert hog.user_attrs["reason"] == f"its process died {MAX_DEATHS} times, at last of this: out of memory"
    assert (hog.state, hog.user_attrs["attempts"]) == (TrialState.FAIL, MAX_DEATHS)
    assert len(re.findall("its process ended: out of memory; it goes on", swept.log)) == MAX_DEATHS - 1


HANG = {
    "in Python": "while True: time.sleep(1)",
    "in C, with the interpreter's lock": "ctypes.PyDLL(None).sleep(600)",
}


@pytest.mark.parametrize("how", HANG)
def test_a_stall_ends_the_process_and_says_where_it_was(how: str, tmp_path: Path) -> None:
    script = tmp_path / "hangs.py"
    script.write_text(
        "import ctypes, sys, time\nfrom pathlib import Path\n"
        "from tuner.deaths import StallWatch\nfrom tuner.layout import TrialDir\n"
        f"def hangs():\n    {HANG[how]}\n"
        "watch = StallWatch(TrialDir(Path(sys.argv[1])), 0.5)\n"
        "with watch.watching():\n    hangs()\n"
    )
    done = subprocess.run([sys.executable, script, tmp_path / "trial"], timeout=60)
    assert done.returncode == 1
    death = deaths.death_of(TrialDir(tmp_path / "trial"), 0.5, "")
    assert death == deaths.Death("no iteration within 0.5 s; it was in hangs (hangs.py, line 6)", is_final=True)
    assert deaths.death_of(TrialDir(tmp_path / "trial"), 0.5, "") == deaths.UNKNOWN  # it is read once


def test_what_ends_in_time_leaves_nothing(tmp_path: Path) -> None:
    watch = deaths.StallWatch(TrialDir(tmp_path), 60)
    with watch.watching():
        pass
    watch.close()
    assert not TrialDir(tmp_path).stalled.exists()


def test_a_killed_process_leaves_a_note_that_says_nothing(tmp_path: Path) -> None:
    deaths.StallWatch(TrialDir(tmp_path), 60)
    assert deaths.death_of(TrialDir(tmp_path), 60, "") == deaths.UNKNOWN


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_that_is_no_time_is_refused_with_the_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(deaths.TIMEOUT, text)
    with pytest.raises(UsageError, match=f"{deaths.TIMEOUT}={text}: must be a number of seconds above 0"):
        deaths.iteration_timeout_s()


def test_a_trial_whose_machine_was_lost_is_told_so(tmp_path: Path) -> None:
    said = "ray.exceptions.ActorDiedError: The actor died because its node has died. Node Id: 12."
    assert deaths.death_of(TrialDir(tmp_path), 60, said) == deaths.Death("its machine was lost")
