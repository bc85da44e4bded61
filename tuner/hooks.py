"""Where Tune meets the study: the Searcher that asks and tells it, and the Stopper that reports to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from ray.tune import Stopper
from ray.tune.search import Searcher

from tuner.episodes import Outcome
from tuner.study import SweepStudy, TrialRecord

# Deaths of a trial's process, over all invocations, after which they count against its configuration.
MAX_DEATHS = 4


class Watcher(Protocol):
    """Somebody who follows a sweep: the reporter, TensorBoard, the live view."""

    def on_start(self, record: TrialRecord) -> None:
        """A trial was started, for the first time or again."""

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """A running trial had a result."""

    def on_finish(self, record: TrialRecord) -> None:
        """A trial is COMPLETE, PRUNED or FAILED."""


@dataclass
class LiveTrial:
    """A trial that Tune is running."""

    record: TrialRecord
    last: Mapping[str, Any] = field(default_factory=dict)
    is_pruned: bool = False


class StudySearcher(Searcher):
    """Gives Tune the study's trials: interrupted ones first, then new ones, at most `parallel` at once."""

    def __init__(
        self,
        study: SweepStudy,
        *,
        trials: int,
        parallel: int,
        to_config: Callable[[TrialRecord], dict[str, Any]],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        super().__init__()
        self.live: dict[str, LiveTrial] = {}
        self.error: Exception | None = None
        self._study = study
        self._trials = trials
        self._parallel = parallel
        self._to_config = to_config
        self._watchers = watchers
        records = study.records()
        self._started = len(records)
        self._open = deque(record.number for record in records if not record.is_finished)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher into snapshots that nobody reads."""
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept anything: the objective is the study's own."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration, None while nothing can start, FINISHED when nothing is left."""
        if len(self.live) >= self._parallel:
            return None
        with self.remembering():
            return self._next(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study what became of a trial; one that Tune or the machine ended early will go on."""
        with self.remembering():
            self._ended(trial_id, error)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep an error of ours, which Tune takes for the trial's and hides, for `close` to raise."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise

    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._open:
            record = self._study.reopen(self._open.popleft())
        elif self._started < self._trials:
            record = self._study.start_next()
            self._started += 1
        else:  # a trial that runs may still come back, when its machine fails
            return None if self.live else Searcher.FINISHED
        self._study.add_attempt(record.number)
        record = self._study.record(record.number)
        self.live[trial_id] = LiveTrial(record)
        for watcher in self._watchers:
            watcher.on_start(record)
        return self._to_config(record)

    def _ended(self, trial_id: str, error: bool) -> None:
        live = self.live.pop(trial_id, None)
        if live is None:
            return
        number, last = live.record.number, live.last
        wall_s = float(last.get("wall_s", 0.0))
        if error:
            deaths = self._study.add_death(number)
            if deaths < MAX_DEATHS:
                self._open.append(number)
                return
            self._study.fail(number, f"its process died {deaths} times", wall_s)
        elif last.get("failed"):
            self._study.fail(number, last["failed"], wall_s)
        elif live.is_pruned:
            self._study.prune(number, outcome_in(last), wall_s)
        elif last.get("done"):
            self._study.complete(number, outcome_in(last), wall_s)
        else:
            self._study.interrupt(number)
            return
        record = self._study.record(number)
        for watcher in self._watchers:
            watcher.on_finish(record)

    def close(self) -> None:
        """Tell the study of the trials that Tune dropped when everything was stopped, and raise what went wrong."""
        for trial_id in list(self.live):
            with suppress(Exception):  # remembered, and raised when no trial is left RUNNING
                self.on_trial_complete(trial_id)
        for number in self._open:
            self._study.interrupt(number)
        if self.error is not None:
            raise self.error

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state."""


class StudyStopper(Stopper):
    """Hands every result to the study and the watchers, and stops a trial that the study's pruner gives up."""

    def __init__(self, study: SweepStudy, searcher: StudySearcher, watchers: Sequence[Watcher] = ()) -> None:
        self._study = study
        self._searcher = searcher
        self._watchers = watchers

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its stoppers into snapshots that nobody reads."""
        return {}

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the pruner ends this trial."""
        with self._searcher.remembering():
            return self._is_over(trial_id, result)

    def stop_all(self) -> bool:
        """Whether something of ours went wrong; else never, for one trial's fate is not another's."""
        return self._searcher.error is not None

    def _is_over(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        live = self._searcher.live.get(trial_id)
        if live is None:
            return False
        if not live.last and result.get("path") not in (None, live.record.path):
            self._study.set_path(live.record.number, result["path"])
        live.last = dict(result)
        if not result["failed"]:
            for watcher in self._watchers:
                watcher.on_progress(live.record, result)
        for episode, value in result.get("reports", ()):
            self._study.report(live.record.number, episode, value)
            if not result["done"] and self._study.is_hopeless(live.record.number) and not live.record.is_baseline:
                live.is_pruned = True  # never the baseline: everything is compared with it
                return True
        return False


def outcome_in(result: Mapping[str, Any]) -> Outcome:
    """The outcome that a trial's result carries."""
    names = ("episodes", "env_steps", "episodes_to_threshold", "best_mean")
    return Outcome(**{name: result[name] for name in names})
