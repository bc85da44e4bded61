"""TensorBoard: every trial's curves over episodes and over environment steps, and its hyperparameters.

May fail, and says so once; never stops a sweep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

# TensorBoard's own records: torch's writer would have every sweep wait for torch.
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from tuner import checkpoint
from tuner.episodes import read_rows
from tuner.layout import RunDir, TrialDir
from tuner.space import Choice, Domain
from tuner.study import SweepStudy, TrialRecord

logger = logging.getLogger(__name__)

_TYPES = {"bool": api_pb2.DATA_TYPE_BOOL, "string": api_pb2.DATA_TYPE_STRING, "number": api_pb2.DATA_TYPE_FLOAT64}
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
        if not record.elsewhere:
            self._guarded(lambda: self._runs.pop(record.number).finish(record))

    def on_loss(self, record: TrialRecord) -> None:
        """Close the run as it is."""
        self._guarded(lambda: self._runs.pop(record.number).close())

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
        # Not TensorBoard's EventFileWriter, whose thread prints a traceback when the disk is full.
        self._writer = RecordWriter((trial.path / f"events.out.tfevents.{time.time():.6f}").open("wb"))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        started = SessionStartInfo(start_time_secs=time.time())
        for name, value in params.items():
            setattr(started.hparams[name], f"{_kind(value)}_value", value)
        experiment = api_pb2.Experiment(
            hparam_infos=[api_pb2.HParamInfo(name=name, type=_TYPES[_kind(value)]) for name, value in params.items()],
            metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in _HPARAM_METRICS],
        )
        self._add(_hparams(metadata.EXPERIMENT_TAG, experiment=experiment))
        self._add(_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=started))
        for tag, step, value in survivors:
            self._add_scalar(tag, value, step)
        self._writer.flush()

    def write(self, result: Mapping[str, Any]) -> None:
        self._write_episodes()
        for name, value in result.get("statistics", {}).items():
            self._add_scalar(f"learner/{name}", value, result["env_steps_total"])
        self._writer.flush()

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
                self._add_scalar(tag, value, outcome.episodes if outcome else 0)
        ended = SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        self._add(_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=ended))
        self.close()

    def close(self) -> None:
        self._writer.close()

    def _write_episodes(self) -> None:
        rows = read_rows(self._trial.episodes, after=self._rows_written)
        for row in rows:
            for name in ("reward", "mean_reward", "mean_length"):
                self._add_scalar(f"by_episode/{name}", getattr(row, name), row.episode)
            self._add_scalar("by_env_step/mean_reward", row.mean_reward, row.env_steps)
        self._rows_written += len(rows)

    def _add_scalar(self, tag: str, value: float, step: int) -> None:
        self._add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def _add(self, summary: Summary, step: int = 0) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())


def _hparam(value: Any, domain: Domain) -> bool | int | float | str:
    """A value of one type in every trial: TensorBoard leaves out a hyperparameter that is now a number, now a text."""
    is_numeric = not isinstance(domain, Choice) or all(isinstance(choice, (int, float)) for choice in domain.values)
    return value if is_numeric else str(value)


def _kind(value: bool | float | str) -> str:
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "number"


def _hparams(tag: str, **content: Any) -> Summary:
    data = metadata.create_summary_metadata(HParamsPluginData(**content))
    return Summary(value=[Summary.Value(tag=tag, metadata=data, tensor=metadata.NULL_TENSOR)])


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
