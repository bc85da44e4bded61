"""A whole sweep in this process: the real command, study, searcher, tables, checkpoints and answer.

Ray, Tune and PPO alone are replaced: Tune by a loop over the same searcher and stopper, PPO by an engine whose episodes
follow from its parameters and its seed. So a sweep takes a second, and may be killed hundreds of times.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import ray

from tuner import cluster, driver, environment, export, figures, sweep, training
from tuner.episodes import Episode
from tuner.ppo import engine
from tuner.trial import PPOTrial

SPACE = Path(__file__).with_name("space.py")
STEPS = 40  # environment steps an iteration
SMALL = ("--trials", "3", "--episodes", "10", "--race-seeds", "1")  # options of a sweep of few writes
SIGKILLED = -signal.SIGKILL


class ToyEngine:
    """An Engine: an iteration is two episodes, better with each; the next one depends on all before."""

    path = "toy"

    def __init__(self, params: Mapping[str, Any], seed: int) -> None:
        self.iteration = self.env_steps = 0
        self._gain = 1e4 * params["lr"] * params["gamma"]
        self._generator = np.random.default_rng(seed)

    def iterate(self) -> tuple[Sequence[Episode], Mapping[str, float]]:
        """Two episodes."""
        self.iteration += 1
        before, self.env_steps = self.env_steps, self.env_steps + STEPS
        rewards = 10 + self._gain * self.iteration**0.5 + self._generator.normal(0, 3, 2)
        return [Episode(float(r), 20, before + 20 * (i + 1)) for i, r in enumerate(rewards)], {"entropy": 1.0}

    def save(self, folder: Path) -> None:
        """The generator's state, in two files."""
        (folder / "generator.json").write_text(json.dumps(self._generator.bit_generator.state))
        (folder / "part").mkdir()
        (folder / "part" / "counters.json").write_text(json.dumps([self.iteration, self.env_steps]))

    def restore(self, folder: Path, iteration: int, env_steps: int) -> None:
        """Go on."""
        self._generator.bit_generator.state = json.loads((folder / "generator.json").read_text())
        assert json.loads((folder / "part" / "counters.json").read_text()) == [iteration, env_steps]
        self.iteration, self.env_steps = iteration, env_steps

    def close(self) -> None:
        """Nothing was started."""


def run(out: Path | str, *options: str, printed: Path = Path(os.devnull)) -> int:
    """`tuner sweep --json` on the faults' space, its exit code; `printed` gets what it prints."""
    words = [str(SPACE), "--out", str(out), "--name", "run", "--parallel", "2", "--json", *options]
    with replaced(), printed.open("w") as file, contextlib.redirect_stdout(file):
        return sweep.main(words)


@contextlib.contextmanager
def replaced(*, has_ppo: bool = False) -> Iterator[None]:
    """Ray, Tune and, unless it is wanted, PPO replaced; a checkpoint after each result, and no picture."""
    with contextlib.ExitStack() as stack:
        patch = lambda owner, name, value: stack.enter_context(mock.patch.object(owner, name, value))  # noqa: E731
        patch(cluster, "private_ray", lambda machine: contextlib.nullcontext(Path("/nowhere")))
        patch(environment, "check", lambda env, env_config: None)
        patch(driver, "_tune", _tune)
        if not has_ppo:
            patch(engine, "build", lambda name, env, params, *, seed, **rest: ToyEngine(params, seed))
            patch(export, "write_policy", lambda checkpoint, file: None)  # there is none
        patch(figures, "curves_png", lambda *_: b"")
        patch(training, "CHECKPOINT_EVERY_S", 0.0)
        patch(training, "CHECKPOINTS_SHARE", math.inf)
        stack.enter_context(mock.patch("tuner.trial.RESULT_EVERY_S", 0.0))
        yield


def _tune(work: Any, relay: Any) -> None:
    """What Tune does with what is a searcher and a stopper, one result after the other."""
    live: dict[str, PPOTrial] = {}
    number = 0
    while not work.stop.is_set():
        suggested = relay.suggest(f"trial-{number}")
        if isinstance(suggested, dict):
            live[f"trial-{number}"] = trial = PPOTrial.__new__(PPOTrial)  # its own part alone, without Tune's
            trial.setup(suggested)
            number += 1
            continue
        if suggested and not live:
            break
        if not live and relay.stop_all():  # others may be at work on the study
            break
        for key, trial in list(live.items()):
            result = trial.step()
            if relay(key, result) or result["done"]:
                del live[key]
                trial.cleanup()
                relay.on_trial_complete(key, result)
            if relay.stop_all():
                return
    for key, trial in live.items():
        trial.cleanup()
        relay.on_trial_complete(key, trial._last)


@functools.cache
def _import_everything() -> None:
    """Run a sweep here once, so that no child has to import what one needs."""
    with tempfile.TemporaryDirectory() as folder:
        assert run(Path(folder), "--trials", "2", "--episodes", "10", "--race-seeds", "1") == 0


def in_child(call: Any) -> int:
    """Run something in a fork, its process id; it ends with what the call returns."""
    assert not ray.is_initialized(), "a fork of a process with a Ray of its own waits for threads that it has not"
    _import_everything()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = call()
        except BaseException:  # noqa: BLE001 whatever it is, nobody else would tell
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def swept(out: Path | str, *options: str, before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """A sweep in a fork, in which `before` was called: its exit code, and what it wrote to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "stderr")

        def call() -> int:
            logging.getLogger().handlers.clear()  # pytest's, in the place of which the command puts its own
            before()
            with said.open("w") as file, contextlib.redirect_stderr(file):
                return run(out, *options)

        code = wait(in_child(call))
        return code, said.read_text()


def answer_in(file: Path) -> dict[str, Any]:
    """What a summary says but for what time and chance may change: costs, versions, attempts."""
    summary: dict[str, Any] = json.loads(file.read_bytes())
    del summary["cost_s"], summary["versions"]
    for trial in (summary["baseline"], summary["best"]):
        del trial["attempts"]
    return summary


def answer_of(out: Path) -> dict[str, Any]:
    """The answer in a sweep's folder."""
    return answer_in(out / "run" / "summary.json")


def wait(pid: int) -> int:
    """The exit code of a child, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
