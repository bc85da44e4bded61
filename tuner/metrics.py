"""A sweep's figures as metrics of the Ray that it runs on, for Prometheus to collect. Starts nothing."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tuner.progress import SweepState
from tuner.study import TrialRecord, TrialState

# Ray puts `ray_` before each name, and shows them to everybody: labels hold no parameter and no path.
GAUGES = {
    "tuner_trials": "Trials of the sweep in each state.",
    "tuner_trials_total_budget": "Trials that the sweep may use.",
    "tuner_best_score": "The study's value of the best trial so far; smaller is better.",
    "tuner_best_episodes_to_threshold": "Episodes after which the best trial reached the threshold.",
    "tuner_episodes_per_second": "Episodes a second of all running trials.",
    "tuner_left_seconds_low": "Seconds of search left, the lower bound.",
    "tuner_left_seconds_high": "Seconds of search left, the upper bound.",
}

EVERY_S = 1.0  # between results; the figures are made anew from every trial that has finished


class Metrics:
    """A watcher of the search that keeps a `SweepState` of its own and exports it."""

    def __init__(self, state: SweepState, sweep: str) -> None:
        """Export `state` under the run folder's name `sweep`; needs a running Ray."""
        from ray.util.metrics import Gauge

        self._state = state
        self._gauges = {
            name: Gauge(name, description=text, tag_keys=("sweep", "state") if name == "tuner_trials" else ("sweep",))
            for name, text in GAUGES.items()
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags({"sweep": sweep})
        self._export()

    def on_start(self, record: TrialRecord) -> None:
        """Export with a trial that starts."""
        self._state.on_start(record)
        self._export()

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Export with a running trial's result."""
        self._state.on_progress(record, result)
        if time.monotonic() - self._exported_at > EVERY_S:
            self._export()

    def on_finish(self, record: TrialRecord) -> None:
        """Export with a trial that ended."""
        self._state.on_finish(record)
        self._export()

    def on_loss(self, record: TrialRecord) -> None:
        """Export without a trial that another driver took over."""
        self._state.on_loss(record)
        self._export()

    def _export(self) -> None:
        self._exported_at = time.monotonic()
        state = self._state
        trials = Counter(record.state for record in state.finished.values())
        trials[TrialState.RUNNING] = len(state.running)
        trials[TrialState.WAITING] = max(0, state.trials - sum(trials.values()))
        for trial_state in TrialState:
            self._gauges["tuner_trials"].set(trials[trial_state], {"state": trial_state.value})
        pace = sum(trial.episodes / trial.wall_s for trial in state.running.values() if trial.wall_s > 0)
        figures: dict[str, float | None] = {
            "tuner_trials_total_budget": state.trials,
            "tuner_episodes_per_second": pace,
        }
        if (best := state.best) is not None and best.outcome is not None:
            figures["tuner_best_score"] = best.value
            figures["tuner_best_episodes_to_threshold"] = best.outcome.episodes_to_threshold
        if (left := state.time_left()) is not None:
            figures["tuner_left_seconds_low"], figures["tuner_left_seconds_high"] = left
        for name, figure in figures.items():
            if figure is not None and math.isfinite(figure):
                self._gauges[name].set(figure)
