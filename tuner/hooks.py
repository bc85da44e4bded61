"""Where Tune meets the study and the answer: Searchers that ask and tell them, Stoppers, and the relay through both."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

from ray.tune import Stopper
from ray.tune.search import Searcher

from tuner import lease
from tuner.answer.parts import Run, RunResult, Stage
from tuner.deaths import UNKNOWN, Death
from tuner.episodes import Outcome
from tuner.errors import DiskFull, LeaseLost
from tuner.runs import RunFolders
from tuner.study import SweepStudy, TrialRecord

logger = logging.getLogger(__name__)

# Deaths of a trial's process, over all invocations, after which they count against its configuration.
MAX_DEATHS = 4

LOOK_EVERY_S = 1.0  # at a study in which nothing can be started yet


class Watcher(Protocol):
    """Somebody who follows a sweep: the reporter, TensorBoard, the live view."""

    def on_start(self, record: TrialRecord) -> None:
        """A trial was started, for the first time or again."""

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """A running trial had a result."""

    def on_finish(self, record: TrialRecord) -> None:
        """A trial is COMPLETE, PRUNED or FAILED; `record.elsewhere` says whether it ran in another run folder."""

    def on_loss(self, record: TrialRecord) -> None:
        """A running trial was taken over by another driver."""


@dataclass
class LiveTrial:
    """A trial that Tune is running."""

    record: TrialRecord
    last: Mapping[str, Any] = field(default_factory=dict)
    is_pruned: bool = False
    is_lost: bool = False  # to another driver


class QuietSearcher(Searcher):
    """A Searcher whose state is on disk alone, and which remembers an error of ours that Tune would hide."""

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._is_stopping = is_stopping  # then what fails or dies is to blame for nothing, and goes on another time

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher into snapshots that nobody reads."""
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept anything: the objective is our own."""
        return True

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep an error of ours, which Tune takes for the trial's and hides, for `close` to raise."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise

    def found_full_disk(self, whose: str, last: Mapping[str, Any]) -> None:
        """Take a trial's full disk for everybody's: it is neither the trial's fault nor gone for the next one."""
        self.error = self.error or DiskFull(
            f"{whose}: no space is left on its disk ({last['failed']}); free some, then the same command goes on"
        )

    def close(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is on disk is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: what is on disk is the state."""


class StudySearcher(QuietSearcher):
    """Gives Tune the study's trials: those set aside first, then new ones, at most `parallel()` at once.

    Where other drivers share the study, what they run is waited for, and taken where they are gone.
    """

    def __init__(
        self,
        study: SweepStudy,
        *,
        trials: int,
        parallel: Callable[[], int],
        to_config: Callable[[TrialRecord], dict[str, Any]],
        watchers: Sequence[Watcher] = (),
        death_of: Callable[[str, TrialRecord], Death] = lambda trial_id, record: UNKNOWN,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(is_stopping)
        self.live: dict[str, LiveTrial] = {}
        self._study = study
        self._trials = trials
        self._parallel = parallel
        self._to_config = to_config
        self._death_of = death_of
        self._watchers = watchers
        self._open = deque(study.reclaim())  # RUNNING and ours, without a process
        self._next_look = self._next_renewal = time.monotonic()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration, None while nothing can start, FINISHED when nothing is left."""
        if len(self.live) >= self._parallel() or self._is_stopping():
            return None
        if not self._open and time.monotonic() < self._next_look:
            if not self.live:
                time.sleep(0.05)  # Tune, which has nothing to wait for, would ask without end
            return None
        with self.remembering():
            return self._next(trial_id)

    def keep_up(self) -> None:
        """Renew the leases of what runs here, and hear of what other drivers took over or finished."""
        now = time.monotonic()
        if not self._study.is_shared or now < self._next_renewal:
            return
        self._next_renewal = now + lease.LEASE_S / 6
        lost = self._study.renew_leases()
        for live in self.live.values():
            if live.record.number in lost:
                self._lose(live)
        self._open = deque(number for number in self._open if number not in lost)
        for record in self._study.finished_elsewhere():
            for watcher in self._watchers:
                watcher.on_finish(record)

    @contextmanager
    def losing(self, live: LiveTrial) -> Iterator[None]:
        """Have a trial that another driver took over end here without a trace."""
        try:
            yield
        except LeaseLost:
            self._lose(live)

    def _lose(self, live: LiveTrial) -> None:
        if live.is_lost:
            return
        live.is_lost = True
        logger.warning(
            "trial %d: this driver was not heard of for more than %.0f s, so another took it over; it goes on there",
            live.record.number, lease.LEASE_S,
        )  # fmt: skip
        for watcher in self._watchers:
            watcher.on_loss(live.record)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study what became of a trial; one that Tune or the machine ended early will go on."""
        with self.remembering():
            self._ended(trial_id, error)

    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        with suppress(LeaseLost):
            return self._begun(trial_id)
        return None  # another driver took it over meanwhile; the next one comes when Tune asks again

    def _begun(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._open:
            record: TrialRecord | None = self._study.reopen(self._open.popleft())
        else:
            record = self._study.resume_next(self._trials) or self._study.start_next(self._trials)
        if record is None:  # a trial that runs may still come back, when its machine fails, here or elsewhere
            if not self.live and self._study.is_over(self._trials):
                return str(Searcher.FINISHED)
            self._next_look = time.monotonic() + LOOK_EVERY_S
            return None
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
        self._next_look = time.monotonic()
        with self.losing(live):
            if not live.is_lost:
                self._tell(trial_id, live, error)

    def _tell(self, trial_id: str, live: LiveTrial, error: bool) -> None:
        number, last = live.record.number, live.last
        wall_s = float(last.get("wall_s", 0.0))
        if (error or last.get("failed")) and self._is_stopping():
            self._study.interrupt(number)
            return
        if error:
            death = self._death_of(trial_id, live.record)
            deaths = self._study.add_death(number, death.cause)
            if deaths < MAX_DEATHS and not death.is_final:
                logger.warning("trial %d: its process ended: %s; it goes on from its checkpoint", number, death.cause)
                self._open.append(number)
                return
            self._study.fail(number, reason_after(deaths, death), wall_s)
        elif last.get("disk_full"):
            self.found_full_disk(f"trial {number}", last)
            self._study.interrupt(number)
            return
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
            with suppress(LeaseLost):
                self._study.interrupt(number)
        super().close()


class ErrorStopper(Stopper):
    """Stops everything once something of ours went wrong, or `check` raises."""

    def __init__(self, searcher: QuietSearcher, check: Callable[[], None] = lambda: None) -> None:
        self._failing = searcher
        self._check = check

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its stoppers into snapshots that nobody reads."""
        return {}

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Never: one trial's fate is not another's."""
        return False

    def stop_all(self) -> bool:
        """Whether something of ours went wrong."""
        with suppress(Exception), self._failing.remembering():
            self._check()
        return self._failing.error is not None


class StudyStopper(ErrorStopper):
    """Hands every result to the study and the watchers, and stops a trial that the study's pruner gives up."""

    def __init__(
        self,
        study: SweepStudy,
        searcher: StudySearcher,
        watchers: Sequence[Watcher] = (),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(searcher, check)
        self._study = study
        self._searcher = searcher
        self._watchers = watchers

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the pruner ends this trial."""
        with self._searcher.remembering():
            return self._is_over(trial_id, result)

    def stop_all(self) -> bool:
        """Whether something of ours went wrong; Tune asks between any two events, so that here is where to keep up."""
        with suppress(Exception), self._searcher.remembering():
            self._searcher.keep_up()
        return super().stop_all()

    def _is_over(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        live = self._searcher.live.get(trial_id)
        if live is None:
            return False
        with self._searcher.losing(live):
            if not live.is_lost and self._is_hopeless(live, result):
                live.is_pruned = True
        return live.is_pruned or live.is_lost

    def _is_hopeless(self, live: LiveTrial, result: Mapping[str, Any]) -> bool:
        """Record a result, and say whether the pruner gives its trial up."""
        if not live.last and result.get("path") not in (None, live.record.path):
            self._study.set_path(live.record.number, result["path"])
        live.last = dict(result)
        if not result["failed"]:
            for watcher in self._watchers:
                watcher.on_progress(live.record, result)
        for episode, value in result.get("reports", ()):
            if episode in live.record.reports:  # by an earlier attempt
                continue
            self._study.report(live.record.number, episode, value)
            if not result["done"] and self._study.is_hopeless(live.record.number) and not live.record.is_baseline:
                return True  # never the baseline: everything is compared with it
        return False


class RunsWatcher(Protocol):
    """Somebody who follows the answer's runs."""

    def on_stage(self, stage: Stage, done: int) -> None:
        """A stage begins; `done` of its runs are there already."""

    def on_run(self, run: Run, result: RunResult) -> None:
        """A run ended."""


class RunsSearcher(QuietSearcher):
    """Gives Tune the runs that each stage still lacks, and goes on to the next stage when none is left."""

    def __init__(
        self,
        stages: Iterator[Stage],
        folders: RunFolders,
        *,
        parallel: Callable[[], int],
        to_config: Callable[[Run], dict[str, Any]],
        watchers: Sequence[RunsWatcher] = (),
        death_of: Callable[[str, Run], Death] = lambda trial_id, run: UNKNOWN,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(is_stopping)
        self._stages = stages
        self._folders = folders
        self._parallel = parallel
        self._to_config = to_config
        self._death_of = death_of
        self._watchers = watchers
        self._queue: deque[Run] = deque()
        self._live: dict[str, Run] = {}
        self._deaths: Counter[str] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run's configuration, None while nothing can start, FINISHED when the answer is complete."""
        if len(self._live) >= self._parallel() or self._is_stopping():
            return None
        with self.remembering():
            while not self._queue:
                if self._live:
                    return None
                stage = next(self._stages, None)
                if stage is None:
                    return str(Searcher.FINISHED)
                self._queue.extend(run for run in stage.runs if self._folders(run) is None)
                for watcher in self._watchers:
                    watcher.on_stage(stage, len(stage.runs) - len(self._queue))
            run = self._queue.popleft()
            self._live[trial_id] = run
            return self._to_config(run)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record what became of a run; one that was ended early is done again by the same command."""
        run = self._live.pop(trial_id, None)
        if run is None:
            return
        with self.remembering():
            if (found := self._result(trial_id, run, result or {}, error)) is not None:
                self._folders.finish(run, found)
                for watcher in self._watchers:
                    watcher.on_run(run, found)

    def _result(self, trial_id: str, run: Run, last: dict[str, Any], error: bool) -> RunResult | None:
        wall_s = float(last.get("wall_s", 0.0))
        if (error or last.get("failed")) and self._is_stopping():
            return None
        if error:
            death = self._death_of(trial_id, run)
            self._deaths[run.name] += 1
            if self._deaths[run.name] < MAX_DEATHS and not death.is_final:
                logger.warning("run %s: its process ended: %s; it goes on", run.name, death.cause)
                self._queue.append(run)
                return None
            return RunResult(None, reason_after(self._deaths[run.name], death), wall_s)
        if last.get("disk_full"):
            self.found_full_disk(f"{run.folder}/{run.name}", last)
            return None
        if last.get("failed"):
            return RunResult(None, last["failed"], wall_s)
        return RunResult(outcome_in(last), None, wall_s, last.get("judgement")) if last.get("done") else None


@dataclass(frozen=True)
class Part:
    """A part of a sweep: who gives out what Tune runs, and who hears of its results."""

    searcher: QuietSearcher
    stopper: ErrorStopper


class Relay(QuietSearcher, Stopper):
    """Gives Tune one part after the other as if they were one, so that the trials' processes serve all of them.

    The next part is asked for when the one before has nothing left and nothing running, or when all ends.
    """

    def __init__(self, parts: Generator[Part]) -> None:
        super().__init__(lambda: False)  # each part asks for itself
        self._parts = parts
        self._changing = Lock()  # Tune has a thread of its own, which a lost Ray holds up, and `close` is another's
        self._part = next(parts, None)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """What the first part that has not finished suggests."""
        with self.remembering():
            while self._part is not None:
                suggested: dict[str, Any] | str | None = self._part.searcher.suggest(trial_id)
                if suggested != Searcher.FINISHED:
                    return suggested
                with self._changing:
                    self._part = next(self._parts, None)
        return str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the part that is under way."""
        if self._part is not None:
            self._part.searcher.on_trial_complete(trial_id, result, error)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the part that is under way ends this trial."""
        return self._part is not None and self._part.stopper(trial_id, result)

    def stop_all(self) -> bool:
        """Whether something went wrong in a part or between two."""
        return self.error is not None or (self._part is not None and self._part.stopper.stop_all())

    def close(self) -> None:
        """End the part that is under way, and raise what went wrong."""
        with self._changing:
            self._parts.close()
        super().close()


def reason_after(deaths: int, death: Death) -> str:
    """Why a trial is not tried once more."""
    return death.cause if death.is_final else f"its process died {deaths} times, at last of this: {death.cause}"


def outcome_in(result: Mapping[str, Any]) -> Outcome:
    """The outcome that a trial's result carries."""
    names = ("episodes", "env_steps", "episodes_to_threshold", "best_mean")
    return Outcome(**{name: result[name] for name in names})
