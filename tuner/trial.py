"""`PPOTrial`: one trial of a sweep as a Tune Trainable. Trains; decides nothing about the sweep."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any

from tuner import cluster, signals
from tuner.deaths import StallWatch
from tuner.disk import is_full
from tuner.errors import TrialFailed
from tuner.home import Workplace, workplace
from tuner.startup import resting_collector
from tuner.training import RunConfig, Training

with resting_collector():
    from ray import tune
    from ray.tune import PlacementGroupFactory

# A result costs more than an iteration of a fast engine, and a driver takes 100 to 200 a second in all: where many
# trials run each has one less often, but not so seldom that a stop request, which waits for it, outlasts its grace.
RESULT_EVERY_S = 1.0
MOST_RESULTS_PER_S = 100
SELDOM_S = 5.0


class PPOTrial(tune.Trainable):
    """Trains one configuration, several PPO iterations a result, and stops exactly at its goal.

    `config` holds `folder` (the trial's own), `is_away` (whether that is relative to the run folder on the driver's
    machine), `run` (`RunConfig.to_json()`), `cpus`, `gpus`, `timeout_s`, `parallel` (how many run at once) and
    `keeps_policy`. A configuration or an environment that fails ends the trial with a result whose `failed` is the
    reason, a full disk with one whose `disk_full` is true as well; one that takes longer than `timeout_s` for a step
    ends this process, which leaves the reason in the folder; an error that Tune sees is the machine's.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """The trial's own CPUs and GPUs, and one CPU for each remote environment runner, all on one machine."""
        own = {"CPU": float(config["cpus"])} | ({"GPU": config["gpus"]} if config["gpus"] else {})
        bundles = [own] + [{"CPU": 1.0}] * config["run"]["num_env_runners"]
        return PlacementGroupFactory(bundles, strategy="STRICT_PACK")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make this process one that the driver, and nobody else, ends."""
        signals.leave_to_driver()
        cluster.end_with_ray()
        super().__init__(*args, **kwargs)

    def setup(self, config: dict[str, Any]) -> None:
        """Note what to do. Nothing is touched yet: Tune also sets up actors that it then does not use."""
        self._config = config
        self._workplace: Workplace | None = None
        self._training: Training | None = None
        self._delivered = 0  # iterations
        self._watch: StallWatch | None = None
        self._moved_at = time.monotonic()
        self._failure: str | None = None
        self._is_disk_full = False
        self._last: dict[str, Any] = {}

    def step(self) -> dict[str, Any]:
        """Begin, go on from the folder's newest checkpoint, or train on: where the run stands, or why it failed."""
        self._workplace = self._workplace or workplace(self._config["folder"], self._config.get("is_away", False))
        try:
            timeout_s = self._config["timeout_s"]
            self._watch = self._watch or StallWatch(self._workplace.folder, timeout_s)
            with self._watch.watching():
                if self._training is None:
                    run, folder = RunConfig.from_json(self._config["run"]), self._workplace.folder
                    keeps_policy = self._config.get("keeps_policy", True)
                    self._training = Training(run, folder, gpus=self._config["gpus"], keeps_policy=keeps_policy)
                    self._delivered = self._training.saved_iteration
                every_s = result_every_s(self._config["parallel"], timeout_s)
                last, self._last = self._last, _result(self._training, every_s)
            if self._last["env_steps_total"] != last.get("env_steps_total"):
                self._moved_at = time.monotonic()
            elif time.monotonic() - self._moved_at > timeout_s:  # RLlib iterates on without its stalled runners
                raise TrialFailed(f"no step within {timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 one trial's failure is a result, not the end of the sweep
            self._fail(error)
        try:
            self._deliver()
        except Exception as error:
            if not is_full(error):
                raise  # the way home is the machines'
            self._fail(error)
        is_done = self._failure is not None or self._is_finished()
        if is_done:  # this process may wait for its next trial for long
            with suppress(Exception):  # what an environment says at its end is no longer anybody's concern
                self._close()
        return self._last | {"failed": self._failure, "disk_full": self._is_disk_full, "done": is_done}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve the next trial in this process: imports, compiled code and Ray are paid for once."""
        self._close()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Save what an interruption would lose, then free everything."""
        try:
            if self._training is not None and self._failure is None and not self._is_finished():
                self._training.save()
                self._deliver()
        except Exception as error:
            if not is_full(error):  # then the checkpoint before this one serves
                raise
        finally:
            self._close()

    def _deliver(self) -> None:
        """Have what was saved since the last time reach the run folder, and a finished run's table at any rate."""
        if self._training is None or self._workplace is None:
            return
        is_finished = self._is_finished()
        if is_finished or self._failure is not None or self._training.saved_iteration != self._delivered:
            keeps_checkpoint = not is_finished or self._config.get("keeps_policy", True)
            self._workplace.deliver(with_checkpoint=keeps_checkpoint)
            self._delivered = self._training.saved_iteration

    def _fail(self, error: Exception) -> None:
        self._failure = _reason(error)
        self._is_disk_full = is_full(error)

    def _is_finished(self) -> bool:
        return self._training is not None and self._training.is_finished

    def _close(self) -> None:
        training, self._training = self._training, None
        watch, self._watch = self._watch, None
        place, self._workplace = self._workplace, None
        with ExitStack() as stack:  # all of them, whichever fails
            for held in (place, watch, training):
                if held is not None:
                    stack.callback(held.close)


def result_every_s(parallel: int, timeout_s: float) -> float:
    """Seconds between two results of a trial, where so many run at once and each has to have one within `timeout_s`."""
    seldom = RESULT_EVERY_S * min(max(1.0, parallel / MOST_RESULTS_PER_S), SELDOM_S)
    return min(seldom, timeout_s / 2)


def _result(training: Training, every_s: float) -> dict[str, Any]:
    progress = training.advance(every_s)
    judgement = training.judgement() if training.is_finished else None
    return {
        **asdict(progress.outcome),
        "path": progress.path,
        "iteration": progress.iteration,
        "mean_reward": progress.mean_reward,
        "mean_length": progress.mean_length,
        "wall_s": progress.wall_s,
        "env_steps_total": progress.env_steps,
        "stopped_by": progress.stopped_by,
        "judgement": judgement,  # as it is: of mappings Tune makes keys such as `judgement/score`
        "statistics": dict(progress.statistics),
        "reports": [list(report) for report in progress.reports],
        "pid": os.getpid(),
    }


def _reason(error: BaseException) -> str:
    """The cause in one line: our own reason as it stands, anything else with its type."""
    while not str(error) and error.__cause__ is not None:  # RLlib raises an empty RuntimeError from an environment's
        error = error.__cause__
    if isinstance(error, TrialFailed):
        return str(error)
    lines = str(error).strip().splitlines()
    # Ray wraps a remote error's traceback into the message; its last line is the error itself.
    text = lines[-1].strip() if "Traceback" in str(error) else (lines[0].strip() if lines else "")
    return f"{type(error).__name__}: {text}"[:300]
