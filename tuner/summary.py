"""`summary.json` and its few lines for a terminal: what a sweep found, made from the study and the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.answer.parts import Answer, Verdict
from tuner.files import plain
from tuner.parameters import display
from tuner.plan import versions
from tuner.study import SweepStudy, TrialRecord, TrialState, best_in

FORMAT = 1


@dataclass(frozen=True)
class Summary:
    """What a sweep found."""

    space: str
    env: str
    env_config: Mapping[str, Any]
    engine: str
    threshold: float | None
    window: int
    trials: Mapping[str, int]
    baseline: Mapping[str, Any] | None
    best: Mapping[str, Any] | None  # the race's winner, or before the race the search's best
    cost_s: Mapping[str, float | None]
    seed: int
    answer: Answer = field(default_factory=Answer)
    paths: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What `summary.json` holds; keys whose part was not run are null."""
        race, verdict = self.answer.race, self.answer.verdict
        return {
            "format": FORMAT, "space": self.space, "env": self.env, "env_config": dict(self.env_config),
            "engine": self.engine, "paths": dict(self.paths),
            "threshold": self.threshold, "window": self.window,
            "trials": dict(self.trials), "baseline": self.baseline, "best": self.best,
            "seeds": {"search": [self.seed], "race": race and [*race.seeds], "test": verdict and [*verdict.seeds]},
            "race": plain(race), "verdict": verdict and _verdict(verdict), "path": plain(self.answer.path),
            "cost_s": dict(self.cost_s), "versions": versions(),
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
        verdict = self.answer.verdict
        word = "winner" if verdict else "best"
        if self.best["number"] == 0:
            lines.append(f"{word:<9} the baseline: no trial was better")
        else:
            lines.append(f"{word:<9} trial {self.best['number']}: {self.in_words(self.best)}")
        width = max((len(name) for name in self.changed), default=0)
        lines += [f"          {name:<{width}}  {display(a)} -> {display(b)}" for name, (a, b) in self.changed.items()]
        if verdict:
            lines.append(f"verdict   {verdict.sentence}")
            if verdict.winner_estimate and verdict.search_value is not None:
                lines.append(f"          the search's one seed alone had said {verdict.search_value:,.4g}")
            return lines
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


def summarize(study: SweepStudy, space: str, engine: str, answer: Answer | None = None) -> Summary:
    """The summary of a study as it stands, and of the answer as far as it goes."""
    answer = answer or Answer()
    records = study.records()
    counts = Counter(record.state.value for record in records)
    best = study.record(answer.race.winner.number) if answer.race else best_in(records)
    costs = {part: study.cost_s(part) for part in ("search", "race", "path")}
    return Summary(
        space=space,
        env=study.space.env,
        env_config=study.space.env_config,
        engine=engine,
        threshold=study.goal.threshold,
        window=study.goal.window,
        trials={state.value: counts[state.value] for state in TrialState if counts[state.value]},
        baseline=_described(records[0], study) if records and records[0].is_baseline else None,
        best=_described(best, study) if best else None,
        cost_s={part: seconds and round(seconds, 3) for part, seconds in costs.items()},
        seed=study.space.seed,
        answer=answer,
        paths=dict(Counter(record.path for record in records if record.path)),
    )


def best_of(study: SweepStudy, answer: Answer) -> TrialRecord | None:
    """The trial that won the race, or while there is no race the search's best."""
    return study.record(answer.race.winner.number) if answer.race else study.best()


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """The verdict with its interval in front, which is what most readers want of it."""
    values: dict[str, Any] = plain(verdict)
    effect = values["effect"]
    return {"decision": values.pop("decision"), "interval": effect and [effect["low"], effect["high"]], **values}


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
        **({"elsewhere": record.elsewhere} if record.elsewhere else {}),
    }
