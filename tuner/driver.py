"""Runs a planned sweep to its end, its deadline or a stop request. The only user of tune.Tuner."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TextIO

from tuner import cluster, environment
from tuner.files import write_json
from tuner.hooks import StudySearcher, StudyStopper, Watcher
from tuner.live import SweepState, view_for
from tuner.plan import Plan, versions
from tuner.reporter import Reporter
from tuner.signals import StopRequest
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
        UsageError: the environment or the machine cannot do it; nothing was changed.
        StateError: the run folder cannot be used; nothing was changed.
    """
    environment.check(plan.space.env, plan.space.env_config)
    machine = cluster.machine()
    holds = cluster.trials_at_once(machine, plan.cpus_per_trial, plan.options.gpus_per_trial)
    parallel = min(plan.options.parallel or holds, holds, plan.trials)
    if plan.options.parallel and plan.options.parallel > holds:
        logger.warning("--parallel %d: this machine holds %d at once", plan.options.parallel, holds)
    run_dir = plan.run_dir.make()
    with run_dir.lock():
        _write_sweep(plan)
        study = open_study(plan)
        reporter = Reporter(run_dir, study, plan.source.name, plan.engine)
        if is_finished(study, plan.trials):
            return reporter.write_summary() if run_dir.summary.exists() else reporter.write()
        _search(plan, study, machine, parallel, reporter, stop, stream)
        return reporter.write()


def open_study(plan: Plan) -> SweepStudy:
    """The plan's study."""
    return SweepStudy(
        f"sqlite:///{plan.run_dir.study}",
        plan.space,
        sampler=plan.options.sampler,
        sampler_seed=plan.options.sampler_seed,
        pruner=plan.space.pruner,
    )


def is_finished(study: SweepStudy, trials: int) -> bool:
    """Whether every trial of the budget has ended."""
    records = study.records()
    return len(records) >= trials and all(record.is_finished for record in records)


def _search(
    plan: Plan,
    study: SweepStudy,
    machine: cluster.Machine,
    parallel: int,
    reporter: Reporter,
    stop: StopRequest,
    stream: TextIO | None,
) -> None:
    started = time.monotonic()
    state = SweepState(study, plan.trials, parallel, plan.options.time_s)
    view: AbstractContextManager[Any] = view_for(state, stream) if stream else nullcontext()
    with view as shown, cluster.private_ray(machine) as folder:
        from ray import tune
        from ray.tune.stopper import CombinedStopper

        from tuner.stoppers import DeadlineStopper
        from tuner.trial import PPOTrial

        stop.listen()
        watchers: Sequence[Watcher] = [
            reporter, TensorBoard(plan.run_dir, study), *([shown, PathNote(plan.engine)] if shown else []),
        ]  # fmt: skip

        def to_config(record: TrialRecord) -> dict[str, Any]:
            stop.listen()  # by the first trial Tune has put its own SIGUSR1 handler in place of ours
            return _trial_config(plan, record)

        searcher = StudySearcher(study, trials=plan.trials, parallel=parallel, to_config=to_config, watchers=watchers)
        left = math.inf if plan.options.time_s is None else plan.options.time_s - (time.monotonic() - started)
        stopper = CombinedStopper(
            StudyStopper(study, searcher, watchers), DeadlineStopper(left, is_requested=stop.is_set)
        )
        try:
            tune.Tuner(
                PPOTrial,
                tune_config=tune.TuneConfig(
                    search_alg=searcher, num_samples=-1, reuse_actors=True,
                    trial_name_creator=_tune_name, trial_dirname_creator=_tune_name,
                ),
                # In a notebook Tune's own choice of reporter would clear the cell, and our live view with it.
                run_config=tune.RunConfig(
                    progress_reporter=tune.CLIReporter(),
                    storage_path=str(folder / "tune"), name="sweep", stop=stopper, verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()  # fmt: skip
        finally:
            study.add_search_time(time.monotonic() - started)
            searcher.close()


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


def _trial_config(plan: Plan, record: TrialRecord) -> dict[str, Any]:
    """What a trial's actor needs to know."""
    run = RunConfig(
        env=plan.space.env, env_config=plan.space.env_config, engine=plan.engine, seed=plan.space.seed,
        goal=plan.goal, params=record.params,
    )  # fmt: skip
    return {
        "folder": str(plan.run_dir.trial(record.number).path.absolute()),
        "run": run.to_json(),
        "cpus": plan.options.cpus_per_trial,
        "gpus": plan.options.gpus_per_trial,
    }


def _write_sweep(plan: Plan) -> None:
    """Write `sweep.json`, or bring its number of trials up to date and warn of other versions."""
    there = plan.check_run_dir()
    if there is None:
        write_json(plan.run_dir.sweep, plan.to_json())
        return
    now = versions()
    changed = {
        name: (there["versions"].get(name), new) for name, new in now.items() if there["versions"].get(name) != new
    }
    if changed:
        pairs = ", ".join(f"{name} {old} there, {new} here" for name, (old, new) in changed.items())
        logger.warning("%s: was written with other versions: %s; going on", plan.run_dir.path, pairs)
    if changed or plan.trials > there["trials"]:
        former = [*there.get("former_versions", []), there["versions"]] if changed else there.get("former_versions", [])
        there |= {"trials": max(plan.trials, there["trials"]), "versions": now, "former_versions": former}
        write_json(plan.run_dir.sweep, there)


def _tune_name(trial: Any) -> str:
    """Tune's own name of a trial; it is seen nowhere but in a temporary folder."""
    return str(trial.trial_id)
