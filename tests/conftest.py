"""What the tests share: commands as a user runs them, and one real sweep that many tests look at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial

from tuner.envs.soccer import interpreter

ROOT = Path(__file__).parent.parent
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts beside itself ignore it
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs `python -m tuner.COMMAND …` as a process of its own, in an empty folder unless told otherwise."""
    empty = tmp_path_factory.mktemp("empty")

    def run(
        name: str, *args: object, cwd: Path = empty, env: Mapping[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", f"tuner.{name}", *map(str, args)]
        return subprocess.run(
            words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout
        )

    return run


@dataclass(frozen=True)
class FinishedSweep:
    """A sweep of six trials that ended: its folder, the words that made it, and what it printed."""

    path: Path
    words: tuple[str, ...]
    stdout: str

    def trials(self) -> list[FrozenTrial]:
        """The study as Optuna alone reads it."""
        return read_study(self.path)


@pytest.fixture(scope="session")
def finished(command: Command, tmp_path_factory: pytest.TempPathFactory) -> FinishedSweep:
    """Six real trials on CartPole-v1; some reach the threshold, which is low so that this takes seconds."""
    out = tmp_path_factory.mktemp("finished")
    words = ("cartpole", "--trials", "6", "--race-seeds", "0", "--episodes", "150", "--threshold", "100", "--out", out)
    done = command("sweep", *words)
    assert done.returncode == 0, done.stderr
    return FinishedSweep(out / "cartpole", tuple(map(str, words)), done.stdout)


def read_study(path: Path) -> list[FrozenTrial]:
    """A run folder's trials as Optuna alone reads them."""
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{path / 'study.db'}").trials


def tree(path: Path) -> dict[str, bytes]:
    """Every file under `path` with its bytes."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="session")
def soccer_worker() -> interpreter.WorkerEnvironment:
    """The environment of the real soccer-twos, built where it is missing."""
    if sys.platform != "linux":
        pytest.skip("the bridge needs Linux")
    if interpreter.problem() and interpreter.find() is None:
        pytest.skip("no Python 3.8 to 3.10 on this machine")
    return interpreter.install()


@pytest.fixture(scope="session")
def _local_ray() -> Iterator[None]:
    from tuner import cluster

    with cluster.private_ray(cluster.Machine(cpus=2, gpus=0)):
        yield


@pytest.fixture
def local_ray(_local_ray: None) -> None:
    """A Ray of the tests' own in this process."""
