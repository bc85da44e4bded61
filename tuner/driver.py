"""Runs a planned sweep to its end, its deadline or a stop request. The only user of tune.Tuner."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from tuner import checkpoint, cluster, environment, judgement
from tuner.actors import actors_that_stay
from tuner.answer import race_size, so_far, stages
from tuner.answer.parts import PATH, Answer, Run, RunResult, Stage
from tuner.deaths import Death, death_of, iteration_timeout_s
from tuner.disk import DiskFloor, bytes_of, free_bytes, told_when_full
from tuner.files import write_json
from tuner.home import bring_stalled, home_at
from tuner.hooks import (
    ErrorStopper,
    Part,
    Relay,
    RunsSearcher,
    StudySearcher,
    StudyStopper,
    Watcher,
)
from tuner.layout import TrialDir
from tuner.lease import Owner
from tuner.ledger import RACE
from tuner.live import view_for
from tuner.metrics import Metrics
from tuner.plan import Plan, read_sweep, study_access, versions
from tuner.progress import SweepState
from tuner.reporter import Reporter
from tuner.signals import StopRequest
from tuner.storage import told_when_lost
from tuner.study import SweepStudy, TrialRecord
from tuner.summary import Summary
from tuner.tensorboard import TensorBoard
from tuner.training import RunConfig

logger = logging.getLogger(__name__)


def run(plan: Plan, stop: StopRequest, stream: TextIO | None) -> Summary:
    """Run, go on with, or extend the planned sweep, until its last trial, its deadline or a stop request.

    A finished sweep starts nothing. Whatever ends it, everything is saved.

    Args:
        plan: what to do.
        stop: whether somebody asked to stop.
        stream: where the live view goes; None shows none.

    Raises:
        UsageError: the environment, the judge, the machine or the cluster cannot do it; nothing was changed.
        StateError: the run folder cannot be used; nothing was changed.
        DiskFull: the disk is full, or would soon be; what there is stays whole.
        Interrupted: the store of a remote `--out` did not take the last of it, which the working copy has.
    """
    timeout_s = iteration_timeout_s()
    environment.check(plan.space.env, plan.space.env_config)
    if plan.space.judge:
        judgement.load(plan.space.judge)
    kept = plan.mirror.kept(stop.is_set) if plan.mirror else nullcontext()
    at_faults = told_when_lost(plan.options.storage), told_when_full(plan.run_dir.path)
    with _place_of(plan, stop) as place, kept, at_faults[0], at_faults[1], plan.run_dir.make().lock():
        run_dir = plan.run_dir
        _write_sweep(plan)
        study = open_study(plan)
        reporter = Reporter(run_dir, study, plan.source.name, plan.engine, plan.race)
        if is_finished(study, plan.trials) and (answer := reporter.answer()).is_complete:
            return reporter.write_missing(answer)
        floor = DiskFloor(run_dir, plan.space, max(place.parallel(), 1))
        floor.check()
        _warn_of_disk(plan, study)
        state = _state(plan, study, place)
        view: AbstractContextManager[Any] = view_for(state, stream) if stream else nullcontext()
        with view as shown, place.ray() as folder:
            work = Work(plan, study, reporter, state, floor, timeout_s, place, folder, stop, shown)
            with closing(Relay(_parts(work))) as relay:
                _tune(work, relay)
        answer = reporter.answer()
        is_over = is_finished(study, plan.trials) and answer.is_complete
        # The policy takes torch and RLlib, which may take longer to import than a stop has.
        return reporter.write(answer, with_policy=is_over or not stop.is_set())


def _state(plan: Plan, study: SweepStudy, place: Place) -> SweepState:
    runs = race_size(**plan.race, parameters=len(plan.space.params))
    return SweepState(study, plan.trials, max(place.parallel(), 1), plan.options.time_s, runs)


@dataclass(frozen=True)
class Place:
    """Where trials run: on a Ray of this machine's own, or on a cluster."""

    is_away: bool  # from the run folder
    parallel: Callable[[], int]  # trials at once, as of now
    ray: Callable[[], AbstractContextManager[Path]]  # ready for trials; yields a temporary folder


@contextmanager
def _place_of(plan: Plan, stop: StopRequest) -> Iterator[Place]:
    """Where the plan's trials will run; a cluster is joined while the context lasts.

    Raises:
        UsageError: not one trial fits there, or the cluster cannot be joined.
    """
    wanted = plan.options.parallel
    asked = (plan.cpus_per_trial, plan.options.gpus_per_trial)
    if plan.options.address is None:
        machine = cluster.machine()
        holds = cluster.trials_at_once(machine, *asked)
        _warn_of_parallel(wanted, holds, "this machine")
        parallel = min(wanted or holds, holds)
        yield Place(False, lambda: parallel, lambda: cluster.private_ray(machine))
        return
    with cluster.joined(plan.options.address) as joined:
        stop.listen()  # `ray.init` has put a handler of its own in place of ours
        joined.check_holds(*asked)
        if not (grows := bool(joined.to_come())):
            _warn_of_parallel(wanted, joined.trials_at_once(*asked), "the cluster")

        def room() -> int:
            # One more than there is room for: a cluster grows for what waits.
            holds = joined.trials_at_once(*asked) + grows
            return min(wanted or holds, holds)

        yield Place(True, room, lambda: home_at(plan.run_dir))


def _warn_of_parallel(wanted: int | None, holds: int, where: str) -> None:
    if wanted and wanted > holds:
        logger.warning("--parallel %d: %s holds %d at once", wanted, where, holds)


@dataclass(frozen=True)
class Work:
    """What the parts of one invocation share."""

    plan: Plan
    study: SweepStudy
    reporter: Reporter
    state: SweepState
    floor: DiskFloor
    timeout_s: float  # of an iteration
    place: Place
    folder: Path  # Ray's, and Tune's; gone in the end
    stop: StopRequest
    view: Any  # None when nothing is shown

    def is_stopping(self) -> bool:
        """Whether a stop was requested, or Ray is gone."""
        return self.stop.is_set() or cluster.loss() is not None

    def check(self) -> None:
        """Raise what everything has to end for: a disk that would soon be full, a store that another driver owns."""
        self.floor.check()
        if self.plan.mirror:
            self.plan.mirror.check()

    def death_of(self, trial_id: str, folder: TrialDir) -> Death:
        """Why the process of a trial of Tune's ended."""
        if self.place.is_away:
            bring_stalled(str(folder.path.relative_to(self.plan.run_dir.path)), folder)
        said = [file.read_text(errors="replace") for file in self.folder.rglob(f"{trial_id}/error.txt")]  # Tune's
        return death_of(folder, self.timeout_s, "".join(said))


def open_study(plan: Plan) -> SweepStudy:
    """The plan's study, in whose run folder there is a `sweep.json`.

    Raises:
        SpaceChanged: other drivers share it, and made it for another sweep.
    """
    study = SweepStudy(
        space=plan.space, sampler=plan.options.sampler, sampler_seed=plan.options.sampler_seed,
        pruner=plan.space.pruner, identity=plan.identity(), **study_access(plan.run_dir, read_sweep(plan.run_dir)),
    )  # fmt: skip
    if study.is_shared:
        plan.check_shared(study.identity)
    return study


def is_finished(study: SweepStudy, trials: int) -> bool:
    """Whether every trial of the budget has ended, and every one that this run folder has begun."""
    records = study.records()
    return len(records) >= trials and all(
        record.is_finished for record in records if record.number < trials or not record.elsewhere
    )


def _search(work: Work) -> Generator[Part]:
    plan, study = work.plan, work.study
    watchers: Sequence[Watcher] = [
        work.reporter, TensorBoard(plan.run_dir, study),
        *([work.view, PathNote(plan.engine)] if work.view else []),
        *([Metrics(_state(plan, study, work.place), plan.run_dir.path.name)] if work.place.is_away else []),
        *([plan.mirror] if plan.mirror else []),
    ]  # fmt: skip

    def to_config(record: TrialRecord) -> dict[str, Any]:
        run = RunConfig.of(plan.space, plan.engine, plan.space.seed, record.params)
        return _actor_config(work, plan.run_dir.trial(record.number), run)

    searcher = StudySearcher(
        study,
        trials=plan.trials,
        parallel=work.place.parallel,
        to_config=to_config,
        watchers=watchers,
        death_of=lambda trial_id, record: work.death_of(trial_id, plan.run_dir.trial(record.number)),
        is_stopping=work.is_stopping,
    )
    started = time.monotonic()
    try:
        yield Part(searcher, StudyStopper(study, searcher, watchers, work.check))
    finally:
        study.add_cost("search", time.monotonic() - started)
        searcher.close()


def _answer(work: Work) -> Generator[Part]:
    """The runs that the race, its verdict and the path still lack."""
    question, folders = work.reporter.question(), work.reporter.folders
    if so_far(question, folders).is_complete:
        return

    def to_config(run: Run) -> dict[str, Any]:
        return _actor_config(work, folders.folder(run), folders.config_of(run)) | {"keeps_policy": False}

    clock = StageClock(work.study)
    watchers = [clock, *([work.view] if work.view else []), *([work.plan.mirror] if work.plan.mirror else [])]
    searcher = RunsSearcher(
        stages(question, Answer(), folders),
        folders,
        parallel=work.place.parallel,
        to_config=to_config,
        watchers=watchers,
        death_of=lambda trial_id, run: work.death_of(trial_id, folders.folder(run)),
        is_stopping=work.is_stopping,
    )
    try:
        yield Part(searcher, ErrorStopper(searcher, work.check))
    finally:
        clock.stop()
        searcher.close()


def _parts(work: Work) -> Generator[Part]:
    """The search, then the answer, each as far as it is still to do."""
    if not is_finished(work.study, work.plan.trials):
        yield from _search(work)
    if is_finished(work.study, work.plan.trials):
        yield from _answer(work)


def _tune(work: Work, relay: Relay) -> None:
    """Have Tune run what the relay gives out, until it has no more, the deadline, or a stop request."""
    from ray import tune
    from ray.tune.stopper import CombinedStopper

    from tuner.stoppers import DeadlineStopper
    from tuner.trial import PPOTrial

    work.stop.listen()  # `ray.init` has put a handler of its own in place of ours
    deadline = DeadlineStopper(work.state.left_s(), is_requested=work.stop.is_set)
    tuner = tune.Tuner(
        PPOTrial,
        tune_config=tune.TuneConfig(
            search_alg=relay, num_samples=-1, reuse_actors=True,
            trial_name_creator=_tune_name, trial_dirname_creator=_tune_name,
        ),
        # In a notebook Tune's own choice of reporter would clear the cell, and our live view with it.
        run_config=tune.RunConfig(
            progress_reporter=tune.CLIReporter(),
            storage_path=str(work.folder), name="tune", stop=CombinedStopper(relay, deadline), verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )  # fmt: skip
    with actors_that_stay():
        cluster.call(tuner.fit, work.stop)


class StageClock:
    """A watcher of the answer that adds what each part took to the study."""

    def __init__(self, study: SweepStudy) -> None:
        self._study = study
        self._part: str | None = None
        self._since = time.monotonic()

    def on_stage(self, stage: Stage, done: int) -> None:
        """End the part before, begin this one's; the test's runs belong to the race."""
        self.stop()
        self._part = PATH if stage.name == PATH else RACE

    def on_run(self, run: Run, result: RunResult) -> None:
        """Nothing: the clock goes on."""

    def stop(self) -> None:
        """Add what has passed."""
        now = time.monotonic()
        if self._part is not None:
            self._study.add_cost(self._part, now - self._since)
        self._part, self._since = None, now


class PathNote:
    """A Watcher that says once which of the engine's paths trials run on."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._told: set[str] = set()

    def on_start(self, record: TrialRecord) -> None:
        """Nothing is known yet."""

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Tell of a path that no trial was on before."""
        path = result.get("path")
        if path and path not in self._told:
            self._told.add(path)
            logger.info("engine %s, path %s", self._engine, path)

    def on_finish(self, record: TrialRecord) -> None:
        """Nothing more is known."""

    def on_loss(self, record: TrialRecord) -> None:
        """Nothing more is known."""


def _actor_config(work: Work, folder: TrialDir, run: RunConfig) -> dict[str, Any]:
    """What a trial's actor needs to know."""
    checkpoint.newest_valid(folder)  # for its warning: what the actor itself says nobody hears
    options, is_away = work.plan.options, work.place.is_away
    path = folder.path.relative_to(work.plan.run_dir.path) if is_away else folder.path.absolute()
    return {
        "folder": str(path), "is_away": is_away, "run": run.to_json(),
        "cpus": options.cpus_per_trial, "gpus": options.gpus_per_trial, "timeout_s": work.timeout_s,
        "parallel": work.place.parallel(),
    }  # fmt: skip


def _warn_of_disk(plan: Plan, study: SweepStudy) -> None:
    """Say once, before anything is started, that the disk will not do."""
    left = plan.trials - sum(record.is_finished for record in study.records())
    needed, free = bytes_of(plan.space, left), free_bytes(plan.run_dir.path)
    if needed > free:
        logger.warning(
            "%s: needs about %.0f MB more, %.0f MB are free; the sweep ends before the disk is full, and goes on when "
            "there is more", plan.run_dir.path, needed / 1e6, free / 1e6,
        )  # fmt: skip


def _write_sweep(plan: Plan) -> None:
    """Write `sweep.json`, or bring its trials and race up to date and warn of other versions."""
    there = plan.check_run_dir()
    if there is None:
        owner = {"owner": asdict(Owner.new(plan.run_dir.path))} if plan.options.storage else {}
        write_json(plan.run_dir.sweep, plan.to_json() | owner)
        return
    now = versions()
    changed = {
        name: (there["versions"].get(name), new) for name, new in now.items() if there["versions"].get(name) != new
    }
    if changed:
        pairs = ", ".join(f"{name} {old} there, {new} here" for name, (old, new) in changed.items())
        logger.warning("%s: was written with other versions: %s; going on", plan.run_dir.path, pairs)
    if changed or plan.trials > there["trials"] or plan.race != there.get("race"):
        former = [*there.get("former_versions", []), there["versions"]] if changed else there.get("former_versions", [])
        trials = max(plan.trials, there["trials"])
        there |= {"trials": trials, "race": plan.race, "versions": now, "former_versions": former}
        write_json(plan.run_dir.sweep, there)


def _tune_name(trial: Any) -> str:
    """Tune's own name of a trial; it is seen nowhere but in a temporary folder."""
    return str(trial.trial_id)
