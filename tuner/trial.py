"""`PPOTrial`: one trial of a sweep as a Tune Trainable. Trains; decides nothing about the sweep."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tuner import cluster, signals
from tuner.deaths import StallWatch
from tuner.disk import is_full
from tuner.errors import TrialFailed
from tuner.layout import TrialDir
from tuner.startup import resting_collector
from tuner.training import RunConfig, Training

with resting_collector():
    from ray import tune
    from ray.tune import PlacementGroupFactory

# Tune takes about 480 results a second in all, and a result costs more than an iteration of a fast engine.
RESULT_EVERY_S = 1.0


class PPOTrial(tune.Trainable):
    """Trains one configuration, several PPO iterations a result, and stops exactly at its goal.

    `config` holds `folder` (the trial's own), `run` (`RunConfig.to_json()`), `cpus`, `gpus`, `timeout_s` and
    `keeps_policy`. A configuration or an environment that fails ends the trial with a result whose `failed` is the
    reason, a full disk with one whose `disk_full` is true as well; one that takes longer than `timeout_s` for a step
    ends this process, which leaves the reason in the folder; an error that Tune sees is the machine's.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """The trial's own CPUs and GPUs, and one CPU for each remote environment runner."""
        own = {"CPU": float(config["cpus"])} | ({"GPU": config["gpus"]} if config["gpus"] else {})
        return PlacementGroupFactory([own] + [{"CPU": 1.0}] * config["run"]["num_env_runners"])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make this process one that the driver, and nobody else, ends."""
        signals.leave_to_driver()
        cluster.end_with_ray()
        super().__init__(*args, **kwargs)

    def setup(self, config: dict[str, Any]) -> None:
        """Note what to do. Nothing is touched yet: Tune also sets up actors that it then does not use."""
        self._config = config
        self._training: Training | None = None
        self._watch: StallWatch | None = None
        self._moved_at = time.monotonic()
        self._failure: str | None = None
        self._is_disk_full = False
        self._last: dict[str, Any] = {}

    def step(self) -> dict[str, Any]:
        """Begin, go on from the folder's newest checkpoint, or train on: where the run stands, or why it failed."""
        try:
            folder, timeout_s = TrialDir(Path(self._config["folder"])), self._config["timeout_s"]
            self._watch = self._watch or StallWatch(folder, timeout_s)
            with self._watch.watching():
                if self._training is None:
                    run = RunConfig.from_json(self._config["run"])
                    keeps_policy = self._config.get("keeps_policy", True)
                    self._training = Training(run, folder, gpus=self._config["gpus"], keeps_policy=keeps_policy)
                last, self._last = self._last, _result(self._training)
            if self._last["env_steps_total"] != last.get("env_steps_total"):
                self._moved_at = time.monotonic()
            elif time.monotonic() - self._moved_at > timeout_s:  # RLlib iterates on without its stalled runners
                raise TrialFailed(f"no step within {timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 one trial's failure is a result, not the end of the sweep
            self._failure = _reason(error)
            self._is_disk_full = is_full(error)
        is_done = self._failure is not None or self._is_finished()
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
        except Exception as error:
            if not is_full(error):  # then the checkpoint before this one serves
                raise
        finally:
            self._close()

    def _is_finished(self) -> bool:
        return self._training is not None and self._training.is_finished

    def _close(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def _result(training: Training) -> dict[str, Any]:
    progress = training.advance(RESULT_EVERY_S)
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
