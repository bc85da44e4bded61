"""`summary.json` and its few lines for a terminal: what a sweep found, made from the study alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.parameters import display
from tuner.plan import versions
from tuner.study import SweepStudy, TrialRecord, TrialState

FORMAT = 1


@dataclass(frozen=True)
class Summary:
    """What a sweep found."""

    space: str
    engine: str
    threshold: float | None
    window: int
    trials: Mapping[str, int]
    baseline: Mapping[str, Any] | None
    best: Mapping[str, Any] | None
    search_s: float
    paths: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What `summary.json` holds; keys whose part was not run are null."""
        return {
            "format": FORMAT, "space": self.space, "engine": self.engine, "paths": dict(self.paths),
            "threshold": self.threshold, "window": self.window,
            "trials": dict(self.trials), "baseline": self.baseline, "best": self.best, "race": None, "verdict": None,
            "cost_s": {"search": round(self.search_s, 3), "race": None, "path": None},
            "versions": versions(),
        }  # fmt: skip

    @property
    def failure(self) -> str | None:
        """Why the sweep cannot be called done: its baseline, or more than half of its trials, FAILED."""
        if self.baseline is not None and self.baseline["state"] == TrialState.FAILED.value:
            return f"the baseline {self.in_words(self.baseline)}"
        failed, all_trials = self.trials.get(TrialState.FAILED.value, 0), sum(self.trials.values())
        return f"{failed} of {all_trials} trials FAILED" if 2 * failed > all_trials else None

    @property
    def finished(self) -> int:
        """Trials that will not run again."""
        going_on = (TrialState.WAITING.value, TrialState.RUNNING.value)
        return sum(count for state, count in self.trials.items() if state not in going_on)

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """The parameters in which the best trial differs from the baseline: the baseline's value and the best's."""
        if self.best is None or self.baseline is None:
            return {}
        before = self.baseline["params"]
        return {name: (before[name], value) for name, value in self.best["params"].items() if value != before[name]}

    def lines(self) -> list[str]:
        """The answer in a few lines."""
        counts = ", ".join(f"{count} {state}" for state, count in self.trials.items())
        lines = [f"trials    {counts}"]
        if self.baseline:
            lines.append(f"baseline  {self.in_words(self.baseline)}")
        if self.best is None:
            return [*lines, "best      none: no trial completed"]
        lines.append(f"best      trial {self.best['number']}: {self.in_words(self.best)}")
        if self.best["number"] == 0:
            return [*lines, "          that is the baseline: no trial was better"]
        width = max((len(name) for name in self.changed), default=0)
        lines += [f"          {name:<{width}}  {display(a)} -> {display(b)}" for name, (a, b) in self.changed.items()]
        return [*lines, f"          found with the one seed {self.best['seed']}; other seeds will differ"]

    def in_words(self, trial: Mapping[str, Any]) -> str:
        """How a trial did, in one clause."""
        if trial["state"] == TrialState.FAILED.value:
            return f"FAILED: {trial['reason']}"
        if trial["best_mean"] is None:
            return str(trial["state"])
        mean = f"mean reward over {self.window} episodes"
        if trial["episodes_to_threshold"] is not None:
            return f"{mean} reached {self.threshold:g} at episode {trial['episodes_to_threshold']}"
        missed = "" if self.threshold is None else f", {self.threshold:g} not reached"
        return f"best {mean} {trial['best_mean']:.1f} in {trial['episodes']} episodes{missed}"


def summarize(study: SweepStudy, space: str, engine: str) -> Summary:
    """The summary of a study as it stands."""
    records = study.records()
    counts = Counter(record.state.value for record in records)
    best = study.best()
    return Summary(
        space=space,
        engine=engine,
        threshold=study.goal.threshold,
        window=study.goal.window,
        trials={state.value: counts[state.value] for state in TrialState if counts[state.value]},
        baseline=_described(records[0], study) if records else None,
        best=_described(best, study) if best else None,
        search_s=study.search_s,
        paths=dict(Counter(record.path for record in records if record.path)),
    )


def _described(record: TrialRecord, study: SweepStudy) -> dict[str, Any]:
    outcome = record.outcome
    return {
        "number": record.number,
        "state": record.state.value,
        "params": dict(record.params),
        "seed": study.space.seed,
        "episodes_to_threshold": outcome.episodes_to_threshold if outcome else None,
        "best_mean": outcome.best_mean if outcome else None,
        "episodes": outcome.episodes if outcome else None,
        "attempts": record.attempts,
        "reason": record.reason,
    }
