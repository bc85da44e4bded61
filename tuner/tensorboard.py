"""TensorBoard: every trial's curves over episodes and over environment steps, and its hyperparameters.

May fail, and says so once; never stops a sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from tuner import checkpoint
from tuner.episodes import read_rows
from tuner.layout import RunDir, TrialDir
from tuner.space import Choice, Domain
from tuner.study import SweepStudy, TrialRecord

logger = logging.getLogger(__name__)

_HPARAM_METRICS = ("result/episodes_to_threshold", "result/best_mean", "result/score")


class TensorBoard:
    """Writes one run a trial; a trial that goes on has its events written again from its episode table."""

    def __init__(self, run_dir: RunDir, study: SweepStudy) -> None:
        self._run_dir = run_dir
        self._study = study
        self._runs: dict[int, _Run] = {}
        self._has_failed = False

    def on_start(self, record: TrialRecord) -> None:
        """Begin the trial's run."""
        self._guarded(lambda: self._start(record))

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Write the episodes and the statistics since the last result."""
        self._guarded(lambda: self._runs[record.number].write(result))

    def on_finish(self, record: TrialRecord) -> None:
        """Write the outcome and close the run."""
        self._guarded(lambda: self._runs.pop(record.number).finish(record))

    def _start(self, record: TrialRecord) -> None:
        previous = self._runs.pop(record.number, None)
        if previous is not None:
            previous.close()
        space = self._study.space
        params = {name: _hparam(record.params[name], domain) for name, domain in space.params.items()}
        self._runs[record.number] = _Run(self._run_dir.trial(record.number), params | {"seed": space.seed})

    def _guarded(self, write: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            write()
        except Exception as error:  # noqa: BLE001 a picture of the sweep may be lost, the sweep may not
            self._has_failed = True
            logger.warning("TensorBoard files are no longer written: %s: %s", type(error).__name__, error)


class _Run:
    def __init__(self, trial: TrialDir, params: Mapping[str, Any]) -> None:
        self._trial = trial.make()
        self._rows_written = 0
        survivors = _statistics_before_checkpoint(trial)
        for path in trial.path.glob("events.out.tfevents.*"):
            path.unlink()
        self._writer = SummaryWriter(str(trial.path), flush_secs=10)
        # add_hparams would open a run of its own beside this one.
        for summary in hparams(dict(params), dict.fromkeys(_HPARAM_METRICS, 0.0))[:2]:
            self._writer.file_writer.add_summary(summary)
        for tag, step, value in survivors:
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def write(self, result: Mapping[str, Any]) -> None:
        self._write_episodes()
        for name, value in result.get("statistics", {}).items():
            self._writer.add_scalar(f"learner/{name}", value, result["env_steps_total"])

    def finish(self, record: TrialRecord) -> None:
        self._write_episodes()
        outcome = record.outcome
        values = {
            "result/episodes_to_threshold": outcome.episodes_to_threshold if outcome else None,
            "result/best_mean": outcome.best_mean if outcome else None,
            "result/score": record.value,
        }
        for tag, value in values.items():
            if value is not None:
                self._writer.add_scalar(tag, value, outcome.episodes if outcome else 0)
        self._writer.file_writer.add_summary(hparams({}, {})[2])
        self.close()

    def close(self) -> None:
        self._writer.close()

    def _write_episodes(self) -> None:
        rows = read_rows(self._trial.episodes, after=self._rows_written)
        for row in rows:
            for name in ("reward", "mean_reward", "mean_length"):
                self._writer.add_scalar(f"by_episode/{name}", getattr(row, name), row.episode)
            self._writer.add_scalar("by_env_step/mean_reward", row.mean_reward, row.env_steps)
        self._rows_written += len(rows)


def _hparam(value: Any, domain: Domain) -> bool | int | float | str:
    """A value of one type in every trial: TensorBoard leaves out a hyperparameter that is now a number, now a text."""
    is_numeric = not isinstance(domain, Choice) or all(isinstance(choice, (int, float)) for choice in domain.values)
    return value if is_numeric else str(value)


def _statistics_before_checkpoint(trial: TrialDir) -> list[tuple[str, int, float]]:
    """The learner's statistics of an earlier attempt up to where its checkpoint goes on."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    saved = checkpoint.newest_valid(trial)
    if saved is None or not any(trial.path.glob("events.out.tfevents.*")):
        return []
    events = EventAccumulator(str(trial.path), size_guidance={"scalars": 0}).Reload()
    return [
        (tag, event.step, event.value)
        for tag in events.Tags()["scalars"]
        if tag.startswith("learner/")
        for event in events.Scalars(tag)
        if event.step <= saved[1].env_steps
    ]
