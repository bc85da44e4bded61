"""Faults 1, 3, 4, 10, 11 and 14 on a real Ray: whatever of a sweep is signalled or killed, the same command goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from tests.conftest import ROOT, read_study
from tests.faults import IS_LONG
from tests.faults.sound import Finished, assert_kept, assert_sound
from tuner import checkpoint
from tuner.episodes import read_rows
from tuner.layout import RunDir, TrialDir

pytestmark = pytest.mark.ray

KILL_SEEDS = 20 if IS_LONG else 1
SEEDS = 6 if IS_LONG else 1
TRIALS = 3
WORDS = (str(ROOT / "tests/small.py"), "--trials", str(TRIALS), "--sampler", "random", "--race-seeds", "0",
         "--parallel", "2", "--name", "run", "--threshold", "501", "--episodes", "100000", "--steps", "300000",
         "--set", "num_epochs=30", "--set", "minibatch_size=32")  # fmt: skip # so that a trial takes some seconds
START_S = 120.0  # Ray and imports, on a machine with a lot to do
END_S = 30.0  # what a batch system may give
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # of a killed Ray; they look for its head for a minute


class Sweep:
    """A sweep in processes of its own."""

    def __init__(
        self, out: Path, *words: str, command: str = "sweep", env: dict[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self.path = out / "run"
        self.log = out / "log"
        (out / "tmp").mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"tuner.{command}", *(words or WORDS), "--out", str(out)],
                stdout=log, stderr=log, start_new_session=True, cwd=cwd, env={**os.environ, **(env or {})},
            )  # fmt: skip
        self.seen: dict[int, psutil.Process] = {}

    def processes(self) -> list[psutil.Process]:
        """The driver and all below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            driver = psutil.Process(self.process.pid)
            self.seen |= {process.pid: process for process in [driver, *driver.children(recursive=True)]}
        return list(self.seen.values())

    def named(self, word: str) -> list[psutil.Process]:
        """Those whose command holds a word."""
        return [process for process in self.processes() if word in name_of(process)]

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait until something is so, while the sweep runs."""
        deadline = time.monotonic() + START_S
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"not in {START_S} s: {self.log.read_text()[-3000:]}"
            time.sleep(0.1)

    def wait_for_rows(self, more_than: int = 0, number: int = 0) -> None:
        """Wait until a trial has more episodes than that."""
        self.wait_for(lambda: episodes_of(self.path, number) > more_than)

    def wait_for_a_result(self) -> None:
        """Wait until a trial of this invocation has made a result."""
        self.wait_for(lambda: "engine fused" in self.log.read_text())

    def signal_all(self, number: signal.Signals, chance: random.Random) -> None:
        """A signal to every process of the sweep, in any order."""
        processes = self.processes()
        for process in chance.sample(processes, len(processes)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """End the driver's whole process group, and have seen who else there was."""
        self.processes()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self, seconds: float) -> int:
        """The exit code, which must come within so many seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end within {seconds} s: {self.log.read_text()[-3000:]}")

    def last_line(self) -> str:
        return self.log.read_text().splitlines()[-1]

    def left_after(self, seconds: float, without: tuple[str, ...] = ()) -> list[str]:
        """What of it still lives after so many seconds, without what goes by these names."""
        waited = [process for process in self.seen.values() if not (without and name_of(process).startswith(without))]
        _, alive = psutil.wait_procs(waited, timeout=seconds)
        return [name_of(process) for process in alive if name_of(process)]


def name_of(process: psutil.Process) -> str:
    """A process's command, empty when it is gone."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def episodes_of(path: Path, number: int) -> int:
    """The whole rows in a trial's table."""
    table = RunDir(path).trial(number).episodes
    return max(0, table.read_bytes().count(b"\n") - 1) if table.exists() else 0


def answer_of(path: Path) -> list[tuple[Any, ...]]:
    """Every trial's parameters, state, value and reports, and its table but for what time and chance may change."""
    records = Finished.of(path).trials
    return [
        (
            record.params,
            record.state,
            record.value,
            record.reports,
            record.outcome,
            table_of(RunDir(path).trial(number)),
        )
        for number, record in sorted(records.items())
    ]


def table_of(folder: TrialDir) -> list[Any]:
    return [replace(row, wall_s=0.0) for row in read_rows(folder.episodes)]


def ends(sweep: Sweep, before: Finished, undisturbed: list[tuple[Any, ...]]) -> None:
    """It ends with 0, sound, with all that was finished before and the answer of a sweep that nobody disturbed."""
    assert sweep.end(START_S * 3) == 0, sweep.log.read_text()
    assert_kept(before, Finished.of(sweep.path))
    assert_sound(sweep.path, TRIALS)
    assert answer_of(sweep.path) == undisturbed


def states(path: Path) -> set[TrialState]:
    return {trial.state for trial in read_study(path)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The answer of a sweep that nobody disturbed."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"))
    assert sweep.end(START_S * 3) == 0, sweep.log.read_text()
    return answer_of(sweep.path)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[], Sweep]]:
    """Starts the sweep in the test's folder, as often as it is called, and leaves none behind."""
    sweeps: list[Sweep] = []

    def start() -> Sweep:
        sweeps.append(Sweep(tmp_path))
        return sweeps[-1]

    yield start
    for sweep in sweeps:
        if sweep.process.poll() is None:
            sweep.kill()


@pytest.mark.parametrize("seed", range(KILL_SEEDS))
def test_killed_at_random_moments_the_same_command_ends_with_the_same_answer(
    seed: int, undisturbed: list[tuple[Any, ...]], started: Callable[[], Sweep]
) -> None:
    chance = random.Random(seed)  # noqa: S311 for tests
    before = Finished({}, {})
    for _ in range(3 if IS_LONG else 2):
        sweep = started()
        sweep.wait_for_rows()  # with what was there before, that is anywhere from the very start
        time.sleep(chance.uniform(0, 6))
        sweep.kill()
        assert sweep.left_after(30, without=AGENTS) == [], f"seed {seed}"
        after = Finished.of(sweep.path)
        assert_kept(before, after)
        before = after
    ends(started(), before, undisturbed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_signal_to_every_process_ends_with_75_and_a_killed_trial_goes_on_where_that_saved_it(
    seed: int, undisturbed: list[tuple[Any, ...]], started: Callable[[], Sweep]
) -> None:
    chance = random.Random(seed)  # noqa: S311 for tests
    sweep = started()
    sweep.wait_for_rows(100)
    time.sleep(chance.uniform(0, 1))
    number = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)[seed % 3]
    sweep.signal_all(number, chance)
    assert sweep.end(END_S) == 75, sweep.log.read_text()
    assert sweep.last_line() == f"error: stopped by {number.name}, everything is saved; the same command goes on"
    assert sweep.left_after(5) == []
    assert TrialState.RUNNING not in states(sweep.path)
    folder = RunDir(sweep.path).trial(0)
    saved = checkpoint.newest_valid(folder)
    assert saved is not None
    assert saved[1].episodes >= episodes_of(sweep.path, 0) - 25  # an iteration is 256 steps

    before = Finished.of(sweep.path)
    sweep = started()
    sweep.wait_for(lambda: "started, attempt 2" in sweep.log.read_text())
    sweep.wait_for_rows(saved[1].episodes)
    busy: list[psutil.Process] = []
    sweep.wait_for(lambda: busy.extend(sweep.named("ray::PPOTrial.train")) or busy)
    chance.choice(busy).kill()
    ends(sweep, before, undisturbed)
    trials = read_study(sweep.path)
    died = [trial for trial in trials if trial.user_attrs.get("deaths")]
    assert [trial.user_attrs["deaths"] for trial in died] == [1]
    assert died[0].user_attrs["last_death"] == "killed, or it crashed"
    assert died[0].user_attrs["attempts"] >= 2
    assert "it goes on from its checkpoint" in sweep.log.read_text()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_second_ctrl_c_and_a_kill_while_it_ends_and_while_it_goes_on_lose_nothing(
    seed: int, undisturbed: list[tuple[Any, ...]], started: Callable[[], Sweep]
) -> None:
    chance = random.Random(seed)  # noqa: S311 for tests
    sweep = started()
    sweep.wait_for_rows(100)
    sweep.signal_all(signal.SIGINT, chance)
    time.sleep(chance.uniform(0, 0.5))
    sweep.signal_all(signal.SIGINT, chance)
    assert sweep.end(END_S) == 75, sweep.log.read_text()
    assert sweep.last_line().endswith("the same command goes on")
    assert sweep.left_after(5) == []

    sweep = started()
    sweep.wait_for_rows(100)
    sweep.process.send_signal(signal.SIGTERM)
    time.sleep(chance.uniform(0, 3))
    with contextlib.suppress(ProcessLookupError):
        sweep.kill()
    sweep = started()
    time.sleep(chance.uniform(0, 8))
    with contextlib.suppress(ProcessLookupError):
        sweep.kill()
    before = Finished.of(sweep.path)
    ends(started(), before, undisturbed)


def test_when_the_raylet_or_the_head_is_killed_the_sweep_ends_with_75_and_goes_on(
    undisturbed: list[tuple[Any, ...]], started: Callable[[], Sweep]
) -> None:
    before = Finished({}, {})
    for name in ("raylet/raylet", "gcs/gcs_server"):
        sweep = started()
        sweep.wait_for_a_result()
        sweep.named(name)[0].kill()
        assert sweep.end(60) == 75, sweep.log.read_text()
        assert f"Ray's {name.partition('/')[2]} (process" in sweep.last_line()
        assert sweep.last_line().endswith("what ran goes on from its last checkpoint; the same command goes on")
        assert TrialState.RUNNING not in states(sweep.path)
        assert not any(trial.user_attrs.get("deaths") for trial in read_study(sweep.path))
        assert_kept(before, after := Finished.of(sweep.path))
        before = after
    ends(started(), before, undisturbed)


def test_a_trial_goes_on_when_its_environment_runner_is_killed(tmp_path: Path) -> None:
    words = (WORDS[0], "--trials", "1", "--race-seeds", "0", "--episodes", "800", "--set", "num_env_runners=1")
    sweep = Sweep(tmp_path, *words, "--name", "run")
    sweep.wait_for_rows(60)
    sweep.wait_for(lambda: sweep.named("ray::SingleAgentEnvRunner"))
    killed = sweep.named("ray::SingleAgentEnvRunner")[0]
    killed.kill()
    assert episodes_of(sweep.path, 0) < 700, "it came too late to disturb anything"
    sweep.wait_for(lambda: any(other.pid != killed.pid for other in sweep.named("ray::SingleAgentEnvRunner")))
    assert sweep.end(START_S * 3) == 0, sweep.log.read_text()
    assert_sound(sweep.path, 1)
    (trial,) = read_study(sweep.path)
    assert trial.user_attrs["attempts"] == 1 and "deaths" not in trial.user_attrs
    rows = read_rows(RunDir(sweep.path).trial(0).episodes)
    assert len(rows) == 800
    assert all(row.reward == row.length <= 500 for row in rows)


@pytest.mark.parametrize("space", sorted((ROOT / "search_spaces").glob("*.py")), ids=lambda path: path.stem)
def test_no_connector_of_ours_has_a_state_that_a_killed_runner_could_lose(space: Path) -> None:
    from tuner import catalog
    from tuner.parameters import split
    from tuner.ppo.config import ppo_config

    loaded = catalog.load(str(space)).space
    params, env_config = split(loaded.resolve({}))
    config = ppo_config(loaded.env, params, seed=1, env_config={**loaded.env_config, **env_config})
    assert config._env_to_module_connector is None and config._module_to_env_connector is None
    assert config._learner_connector is None
    assert config.observation_filter in (None, "NoFilter")
