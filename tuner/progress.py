"""How far a sweep is: the figures that every live view shows, and the time left. Shows nothing itself."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.answer.parts import PATH, Run, RunResult, Stage
from tuner.study import SweepStudy, TrialRecord, TrialState


@dataclass
class RunningTrial:
    """A running trial as its results tell."""

    record: TrialRecord
    wall_s: float = 0.0
    episodes: int = 0
    mean_reward: float | None = None
    means: list[float] = field(default_factory=list)


@dataclass
class RunningStage:
    """A part of the answer that is being run."""

    name: str
    runs: int
    done: int
    started: float = field(default_factory=lambda: time.monotonic())
    done_before: int = 0  # by earlier invocations


# What each part of the answer is for, in a few words.
STAGES = {"race": "the finalists on unseen seeds", "test": "winner and baseline on others",
          "path": "which changes made the difference"}  # fmt: skip


class SweepState:
    """The figures that every view shows."""

    def __init__(
        self, study: SweepStudy, trials: int, parallel: int, seconds: float | None,
        answer_runs: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.study = study
        self.answer_runs = answer_runs or {}
        self.stages: dict[str, RunningStage] = {}
        self.trials = trials
        self.parallel = parallel
        self.started = time.monotonic()
        self.deadline = None if seconds is None else self.started + seconds
        self.running: dict[int, RunningTrial] = {}
        records = study.records()
        self.finished = {record.number: record for record in records if record.is_finished}

    @property
    def baseline(self) -> TrialRecord | None:
        """The baseline, once it has finished."""
        return self.finished.get(0)

    @property
    def best(self) -> TrialRecord | None:
        """The best COMPLETE trial so far."""
        complete = [record for record in self.finished.values() if record.state is TrialState.COMPLETE]
        return min(complete, key=lambda record: (record.value, record.number), default=None)

    def on_start(self, record: TrialRecord) -> None:
        """Add a running trial."""
        self.running[record.number] = RunningTrial(record)

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Bring a running trial up to date."""
        trial = self.running[record.number]
        trial.wall_s, trial.episodes, trial.mean_reward = result["wall_s"], result["episodes"], result["mean_reward"]
        if trial.mean_reward is not None:
            trial.means.append(trial.mean_reward)

    def on_finish(self, record: TrialRecord) -> None:
        """Move a trial to the finished ones."""
        self.running.pop(record.number, None)
        self.finished[record.number] = record

    def on_loss(self, record: TrialRecord) -> None:
        """Leave out a trial that another driver took over."""
        self.running.pop(record.number, None)

    def on_stage(self, stage: Stage, done: int) -> bool:
        """Begin a part of the answer, or add a round to it; whether it is the first."""
        shown = self.stages.get(stage.name)
        if shown is None:
            self.stages[stage.name] = RunningStage(stage.name, len(stage.runs), done, done_before=done)
            return True
        shown.runs += len(stage.runs)
        shown.done += done
        shown.done_before += done
        return False

    def on_run(self, run: Run, result: RunResult) -> RunningStage:
        """Count a run of the part that is being run."""
        stage = next(reversed(self.stages.values()))
        stage.done += 1
        return stage

    def left_s(self) -> float:
        """Seconds until the deadline of this invocation."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def answer_time_left(self) -> tuple[float, float] | None:
        """Seconds left for the answer: what the part that runs needs, and that with all that may come after."""
        ran = sum(stage.done - stage.done_before for stage in self.stages.values())
        if ran < self.parallel:
            return None
        pace = (time.monotonic() - next(iter(self.stages.values())).started) / ran
        rest = sum(stage.runs - stage.done for stage in self.stages.values())
        later = sum(most for name, most in self.answer_runs.items() if name not in self.stages)
        if PATH in self.stages:  # the only part that begins with a round of its runs
            later = self.answer_runs[PATH] - self.stages[PATH].runs
        return min(pace * rest, self.left_s()), min(pace * (rest + later), self.left_s())

    def time_left(self) -> tuple[float, float] | None:
        """Seconds of search left, as a range from the middle half of the finished trials' durations; None at first."""
        durations = sorted(record.wall_s for record in self.finished.values() if record.wall_s > 0)
        if len(durations) < 2:
            return None
        waiting = max(0, self.trials - len(self.finished) - len(self.running))
        rests = [self._rest(trial, durations) for trial in self.running.values()]
        low, high = (
            max([(sum(bounds) + waiting * duration) / self.parallel, *bounds])
            for duration, *bounds in zip(_middle_half(durations), *rests, strict=True)
        )
        return min(low, self.left_s()), min(high, self.left_s())

    def _rest(self, trial: RunningTrial, durations: Sequence[float]) -> tuple[float, float]:
        """Seconds that a running trial still takes, from those that took longer, else from its pace to its budget."""
        longer = [duration - trial.wall_s for duration in durations if duration > trial.wall_s]
        if longer:
            return _middle_half(longer)
        left = self.study.goal.max_episodes - trial.episodes
        return 0.0, trial.wall_s * left / max(trial.episodes, 1)

    def in_words(self, record: TrialRecord) -> str:
        """How a finished trial did, in a few words."""
        if record.state is TrialState.FAILED:
            return f"FAILED: {record.reason}"
        outcome = record.outcome
        if outcome is None or outcome.best_mean is None:
            return str(record.state.value)
        if outcome.episodes_to_threshold is not None:
            return f"{self.study.goal.threshold:g} reached at episode {outcome.episodes_to_threshold}"
        return f"best mean {outcome.best_mean:.1f} in {outcome.episodes} episodes"


def _middle_half(durations: Sequence[float]) -> tuple[float, float]:
    last = len(durations) - 1
    return durations[round(0.25 * last)], durations[round(0.75 * last)]
