"""Saves what can be proved of a damaged run folder into a copy, from which the same sweep goes on."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import study as studies
from tuner.checkpoint import Counters
from tuner.episodes import Row, outcome_of, read_rows, score, table_problem
from tuner.errors import AlreadyRunning, StateError, UsageError
from tuner.files import MANIFEST, copy_folder, fsync_dir, manifest_problem, replace_link, write_json
from tuner.layout import RunDir, TrialDir
from tuner.parameters import ENV_PREFIX
from tuner.plan import check_study
from tuner.results import open_study, read_space
from tuner.soundness import config_problems, run_of_answer_problems, run_problems, trial_problems
from tuner.space import SearchSpace
from tuner.study import TrialRecord, TrialState
from tuner.training import RunConfig

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

COSTS = ("search", "race", "path")

NOT_ON_DISK = (
    "what the study alone knew: how often a trial was started, why one was pruned or FAILED (it is run again), a "
    "pruner's rungs, what was suggested where it was lowered to fit (what was used stands in), and, as far as "
    "summary.json does not say them, costs and the engine's path"
)


@dataclass(frozen=True)
class SavedTrial:
    """What is saved of one trial: its place in the study, and of its folder the checkpoints that verify."""

    record: TrialRecord
    frozen: FrozenTrial | None  # as the study has it, where that is proved
    has_folder: bool
    loss: str | None


@dataclass(frozen=True)
class Salvage:
    """What can be saved of a run folder."""

    run_dir: RunDir
    space: SearchSpace
    sweep: Mapping[str, Any]
    study_loss: str | None
    trials: Sequence[SavedTrial]
    runs: Sequence[TrialDir]
    lost_runs: Sequence[str]
    costs_s: Mapping[str, float]

    def lines(self) -> list[str]:
        """What can be saved and what is lost, in plain words."""
        finished = sum(trial.record.is_finished for trial in self.trials)
        runs = len(self.runs) + len(self.lost_runs)
        return [
            f"can be saved  {finished} finished trials of {len(self.trials)} that were started"
            + (f", {len(self.runs)} of {runs} runs of the answer" if runs else ""),
            *(f"is lost       {loss}" for loss in self.losses()),
        ]

    def losses(self) -> list[str]:
        """What is lost, in plain words."""
        of_study = [self.study_loss, NOT_ON_DISK] if self.study_loss else []
        return [*of_study, *(trial.loss for trial in self.trials if trial.loss), *self.lost_runs]


def check_target(run_dir: RunDir, target: Path) -> None:
    """Refuse a folder that a copy cannot be written to.

    Raises:
        UsageError: it exists, lies in the run folder, or has a name that no sweep could have.
    """
    if os.path.lexists(target):
        raise UsageError(f"--repair-into {target}: is there already; name a folder that is not")
    if target.resolve().is_relative_to(run_dir.path.resolve()):
        raise UsageError(f"--repair-into {target}: lies in {run_dir.path}, which is left alone; name another folder")
    RunDir.named(target.parent, target.name)


def examine(run_dir: RunDir) -> Salvage:
    """What can be saved of a run folder; nothing in it is changed.

    Raises:
        StateError: what was asked for cannot be told, or another process is at work on it.
    """
    space, sweep = read_space(run_dir)
    with _unused(run_dir):
        study = _read_study(run_dir, sweep)
        examination = _Examination(run_dir, space, sweep["engine"], study.trusted, study.loss)
        numbers = {*study.trusted, *(number for number, _ in run_dir.trial_dirs())}
        count = min(max(numbers, default=-1) + 1, sweep["trials"])
        trials = [examination.trial(number) for number in range(count)]
        _check_sweep(run_dir, space, sweep["engine"], trials)
        params = {trial.record.number: trial.record.params for trial in trials if trial.record.suggested}
        runs, lost = [], []
        for folder in run_dir.answer_dirs():
            if not folder.result.exists():
                continue  # it is done again, as after any interruption
            problem = next(run_of_answer_problems(folder, params, space, sweep["engine"]), None)
            if problem is None:
                runs.append(folder)
            else:
                lost.append(f"{folder.path.parent.name}/{folder.path.name}, which is done again: {problem}")
    return Salvage(run_dir, space, sweep, study.loss, trials, runs, lost, study.costs_s)


def write(salvage: Salvage, target: Path) -> None:
    """Write what can be saved as a run folder of its own, in one rename.

    Raises:
        StateError: the copy would not be sound; it was not written.
        UsageError: there is no room, or no permission, for it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as parent:
            copy = RunDir(Path(parent) / target.name).make()
            _fill(copy, salvage)
            if problem := next(run_problems(copy), None):
                raise StateError(f"{salvage.run_dir.path}: cannot be repaired ({problem}); use another --name")
            copy.path.rename(target)
        fsync_dir(target.parent)
    except OSError as error:
        raise UsageError(f"--repair-into {target}: {error.strerror or error}; name another folder") from error


@dataclass(frozen=True)
class _ReadStudy:
    """What the study says that can be believed."""

    trusted: Mapping[int, tuple[TrialRecord, FrozenTrial]]
    costs_s: Mapping[str, float]
    loss: str | None


def _read_study(run_dir: RunDir, sweep: Mapping[str, Any]) -> _ReadStudy:
    """Read a copy of the study, for opening one may write to it; without it the costs are the summary's."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_study(run_dir, sweep)
            for file in (run_dir.sweep, *run_dir.path.glob("study.db*")):
                shutil.copy(file, folder)
            study, _ = open_study(RunDir(Path(folder)))
            costs = {part: seconds for part in COSTS if (seconds := study.cost_s(part)) is not None}
            return _ReadStudy(study.trusted(), costs, None)
        except StateError as error:
            loss = str(error).replace(f"sqlite:///{folder}", str(run_dir.path)).partition("; ")[0]
    summary = _summary(run_dir)
    costs = {part: float(seconds) for part, seconds in summary.get("cost_s", {}).items() if seconds}
    return _ReadStudy({}, costs, loss)


class _Examination:
    """Decides about one trial after the other."""

    def __init__(
        self, run_dir: RunDir, space: SearchSpace, engine: str,
        trusted: Mapping[int, tuple[TrialRecord, FrozenTrial]], study_loss: str | None,
    ) -> None:  # fmt: skip
        self._run_dir = run_dir
        self._space = space
        self._engine = engine
        self._trusted = trusted
        self._study_loss = study_loss
        self._path = _only_path(_summary(run_dir))

    def trial(self, number: int) -> SavedTrial:
        """What is saved of a trial, as the study has it or, where it cannot be believed, as its folder shows it."""
        folder = self._run_dir.trial(number)
        if number not in self._trusted:
            return self._shown_by(folder, number)
        record, frozen = self._trusted[number]
        if record.state in (TrialState.PRUNED, TrialState.FAILED):
            return SavedTrial(record, frozen, folder.path.is_dir(), None)
        if record.state is TrialState.COMPLETE:
            problem = next(trial_problems(folder, record, self._space, self._engine), None)
            if problem is None:
                return SavedTrial(record, frozen, True, _checkpoint_loss(number, folder))
            return self._again(record, problem)
        if not folder.config.exists():  # it has only been asked for
            return SavedTrial(record, frozen, False, None)
        if problem := self._config_problem(folder, record.suggested):  # the study's word against the file's
            return self._again(replace(record, suggested={}), problem)
        if problem := self._table_problem(folder):
            return self._again(record, problem)
        return SavedTrial(record, frozen, True, None)

    def _shown_by(self, folder: TrialDir, number: int) -> SavedTrial:
        """A trial whose place in the study is lost."""
        suggested = self._suggested_in(folder)
        if suggested is None:
            what = "its config.json is missing or damaged, so it is suggested anew"
            return self._again(self._waiting(number, {}), what)
        if problem := self._table_problem(folder):
            return self._again(self._waiting(number, suggested), problem)
        rows = read_rows(folder.episodes)
        waiting = self._waiting(number, suggested)
        newest = next((c for i in folder.iterations() if (c := _counters(folder.checkpoint_at(i)))), None)
        if newest is None or newest.episodes != len(rows) or not self._is_over(rows, newest):
            return SavedTrial(waiting, None, True, f"the end of trial {number}, which goes on from its checkpoint")
        outcome = outcome_of(rows, self._space.goal)
        try:
            value = score(outcome, self._space.goal)
        except ValueError as error:
            return self._again(waiting, str(error))
        record = replace(
            waiting, state=TrialState.COMPLETE, value=value, outcome=outcome, wall_s=newest.wall_s, path=self._path,
            reports=self._reports(rows),
        )  # fmt: skip
        known = None if self._study_loss else f"what the study knew of trial {number} beside its result"
        return SavedTrial(record, None, True, _checkpoint_loss(number, folder) or known)

    def _again(self, record: TrialRecord, problem: str) -> SavedTrial:
        """A trial that is run again from its start, under what it was given where that is known."""
        waiting = replace(self._waiting(record.number, record.suggested), attempts=record.attempts)
        return SavedTrial(waiting, None, False, f"trial {record.number}, which is run again: {problem}")

    def _waiting(self, number: int, suggested: Mapping[str, Any]) -> TrialRecord:
        if number == 0:
            suggested = {name: self._space.baseline[name] for name in self._space.params}
        return TrialRecord(
            number, TrialState.WAITING, self._space.resolve(suggested), suggested,
            attempts=0, value=None, outcome=None, reason=None, wall_s=0.0,
        )  # fmt: skip

    def _suggested_in(self, folder: TrialDir) -> dict[str, Any] | None:
        """What was suggested, as `config.json` shows it; None where that is not a configuration of this sweep."""
        try:
            config = json.loads(folder.config.read_bytes())
            values = config | {ENV_PREFIX + key: value for key, value in config["env_config"].items()}
            suggested = {name: values[name] for name in self._space.params}
            if all(domain.contains(suggested[name]) for name, domain in self._space.params.items()):
                return None if self._config_problem(folder, suggested) else suggested
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return None

    def _config_problem(self, folder: TrialDir, suggested: Mapping[str, Any]) -> str | None:
        run = RunConfig.of(self._space, self._engine, self._space.seed, self._space.resolve(suggested))
        return next(config_problems(folder, run), None)

    def _table_problem(self, folder: TrialDir) -> str | None:
        """Why a trial cannot go on from its table and its newest checkpoint that verifies."""
        try:
            rows = read_rows(folder.episodes)
        except (OSError, StateError) as error:
            return str(error)
        needed = max((c.episodes for i in folder.iterations() if (c := _counters(folder.checkpoint_at(i)))), default=0)
        if len(rows) < needed:
            return f"{folder.episodes}: holds {len(rows)} whole rows, its checkpoint says {needed}"
        problem = table_problem(rows, self._space.goal)
        return problem and f"{folder.episodes}: {problem}"

    def _is_over(self, rows: Sequence[Row], newest: Counters) -> bool:
        goal, outcome = self._space.goal, outcome_of(rows, self._space.goal)
        is_out_of_steps = goal.max_steps is not None and newest.env_steps >= goal.max_steps
        return outcome.is_reached or len(rows) >= goal.max_episodes or is_out_of_steps

    def _reports(self, rows: Sequence[Row]) -> dict[int, float]:
        """What the trial reported: its score at every multiple of the window."""
        goal = self._space.goal
        ends = range(goal.window, len(rows) + 1, goal.window)
        return {end: score(outcome_of(rows[:end], goal), goal) for end in ends}


def _check_sweep(run_dir: RunDir, space: SearchSpace, engine: str, trials: Sequence[SavedTrial]) -> None:
    """Refuse a `sweep.json` that no trial agrees with: it is then the one file that is not as it was written.

    Raises:
        StateError: it is.
    """
    folders = [folder for _, folder in run_dir.trial_dirs() if folder.config.exists()]
    if folders and not any(trial.has_folder for trial in trials):
        run = RunConfig.of(space, engine, space.seed, space.resolve({}))
        problem = next(config_problems(run_dir.trial(0), run), f"{folders[0].config}: is of another sweep")
        raise StateError(f"{run_dir.sweep}: no trial agrees with it ({problem}); restore it from a copy")


def _fill(copy: RunDir, salvage: Salvage) -> None:
    without_checkpoint = []
    for trial in salvage.trials:
        if not trial.has_folder:
            continue
        folder = copy.trial(trial.record.number).make()
        _copy_run(salvage.run_dir.trial(trial.record.number), folder)
        if trial.record.state is TrialState.COMPLETE and not folder.iterations():
            without_checkpoint.append(trial.record.number)
    for run in salvage.runs:
        _copy_run(run, copy.answer_run(run.path.parent.name, run.path.name))
    if salvage.trials:
        trials = [trial.frozen or trial.record for trial in salvage.trials]
        studies.rebuild(f"sqlite:///{copy.study}", salvage.space, trials, salvage.costs_s)
    repaired = {"lost": salvage.losses(), "without_checkpoint": without_checkpoint}
    write_json(copy.sweep, {**salvage.sweep, "repaired": repaired})


def _copy_run(source: TrialDir, target: TrialDir) -> None:
    """Copy a run's files and those of its checkpoints that verify."""
    target.path.mkdir(parents=True, exist_ok=True)
    for file in (source.config, source.episodes, source.result, *source.path.glob("events.out.tfevents.*")):
        if file.is_file():
            shutil.copy2(file, target.path)
    kept = [i for i in source.iterations() if manifest_problem(source.checkpoint_at(i)) is None]
    for iteration in kept:
        copy_folder(source.checkpoint_at(iteration), target.checkpoint_at(iteration))
    if kept:
        replace_link(target.checkpoint, target.checkpoint_at(kept[0]))


def _checkpoint_loss(number: int, folder: TrialDir) -> str | None:
    """What of a finished trial's checkpoints is left out."""
    iterations = folder.iterations()
    problems = {i: problem for i in iterations if (problem := manifest_problem(folder.checkpoint_at(i)))}
    if not problems and iterations:
        return None
    if len(problems) == len(iterations):
        return f"the policy of trial {number}: no checkpoint verifies; its result is kept"
    left_out = ", ".join(f"iter-{i} ({problem})" for i, problem in problems.items())
    return f"a checkpoint of trial {number}: {left_out}"


def _counters(folder: Path) -> Counters | None:
    """Where a run stood at a checkpoint that verifies."""
    if manifest_problem(folder) is None:
        with suppress(KeyError, TypeError):
            return Counters(**json.loads((folder / MANIFEST).read_bytes())["counters"])
    return None


def _summary(run_dir: RunDir) -> dict[str, Any]:
    """What the last `summary.json` says, nothing where it cannot be read."""
    try:
        found = json.loads(run_dir.summary.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _only_path(summary: Mapping[str, Any]) -> str | None:
    """The engine's path that every trial of the summary ran on, None where they differ."""
    paths = summary.get("paths", {})
    return next(iter(paths)) if len(paths) == 1 and sum(paths.values()) == sum(summary["trials"].values()) else None


@contextmanager
def _unused(run_dir: RunDir) -> Iterator[None]:
    """Keep the folder from being worked on meanwhile; unlike its own lock this writes nothing.

    Raises:
        AlreadyRunning: a live process owns it.
    """
    path = run_dir.path / ".lock"
    if not path.exists():
        yield
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.read().decode(errors="replace").strip() or "another process"
            raise AlreadyRunning(f"{run_dir.path}: is in use by {owner}; wait for it, or end it") from None
        yield
