"""The Optuna study of a sweep: the one durable record of what was tried and what came out. The first user of Optuna.

`lease` says which driver of a shared study runs which trial; `importance` asks Optuna's evaluators what it finds here.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import math
import pickle
import sqlite3
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.search_space import IntersectionSearchSpace
from optuna.storages._rdb.models import StudyUserAttributeModel
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tuner.episodes import Outcome, score
from tuner.errors import StudyUnreadable, UsageError
from tuner.lease import HOLDER, LeasedStorage, Owner, Unfinished
from tuner.space import Choice, Domain, Float, Int, SearchSpace
from tuner.startup import resting_collector
from tuner.storage import IDENTITY, STUDY, engine_options, without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_GRID = 10_000
STARTUP_TRIALS = 10
_QUEUED = OptunaState.WAITING  # and without the time of a start
_OF_ARRAYS = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric")


class TrialState(Enum):
    """Where a trial stands; WAITING is a trial that was interrupted and will go on."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAILED = "FAILED"


_STATES = {
    OptunaState.WAITING: TrialState.WAITING,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the study knows it."""

    number: int
    state: TrialState
    params: Mapping[str, Any]  # every PPO parameter that was used
    suggested: Mapping[str, Any]
    attempts: int
    value: float | None
    outcome: Outcome | None
    reason: str | None
    wall_s: float
    path: str | None = None  # what did the work, as the engine says it
    reports: Mapping[int, float] = field(default_factory=dict)
    elsewhere: str | None = None  # HOST:PATH of the run folder with its files, where that is not this one

    @property
    def is_baseline(self) -> bool:
        """Whether this is the space's baseline: trial 0."""
        return self.number == 0

    @property
    def is_finished(self) -> bool:
        """Whether the trial will not run again."""
        return self.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)


class SweepStudy:
    """One sweep's Optuna study."""

    def __init__(
        self, storage: str, space: SearchSpace, *, sampler: str = "tpe", sampler_seed: int = 0, pruner: str = "none",
        name: str = STUDY, owner: Owner | None = None, identity: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Open the study in `storage`, or create it.

        Args:
            storage: the URL of its database, the password included.
            space: what may be tried.
            sampler: how parameters are chosen.
            sampler_seed: the seed of that.
            pruner: which trials are ended early.
            name: the study's.
            owner: this run folder, where others' drivers may share the study; None where it has the study alone.
            identity: what a study that is shared must carry of its sweep; written into a new one.

        Raises:
            StudyUnreadable: the database is there and cannot be read.
            UsageError: a grid of more than 10,000 combinations.
        """
        self.space = space
        self.goal = space.goal
        self._url = without_password(storage)
        self._owner = owner
        self._ids: dict[int, int] = {}
        self._reported: dict[int, set[int]] = {}  # of the trials that this driver runs: the steps that the study has
        self._sampler = sampler
        self._sampler_seed = sampler_seed
        if sampler == "grid":
            check_grid(space)
        self._finished: dict[int, TrialRecord] = {}  # what has finished never changes, and is checked once
        self._common = IntersectionSearchSpace(include_pruned=True)  # as each TPESampler makes it, over all trials
        with _quiet(), _unreadable(self._url), resting_collector():  # reading 10,000 trials makes millions of objects
            _check_database(storage)
            self._leases = _opened(storage, owner)
            self._storage = optuna.storages.get_storage(self._leases)
            self._study = optuna.create_study(
                storage=self._storage, study_name=name, direction="minimize", load_if_exists=True,
                pruner=_pruner(pruner, space.window),
            )  # fmt: skip
            trials = self._study.get_trials(deepcopy=False)
            self.identity = self._agreed(identity) if identity and owner else identity or {}
        self._seen = len(trials)  # how many of the first trials `finished_elsewhere` has looked at
        self._awaited = {trial.number for trial in trials if not trial.state.is_finished()}

    @property
    def is_shared(self) -> bool:
        """Whether drivers of other run folders may be at work on the study."""
        return self._owner is not None

    def start_next(self, trials: float = math.inf) -> TrialRecord | None:
        """The next of the first `trials` that was never started, RUNNING, its parameters suggested and made valid."""
        while True:
            unfinished, count = self._unfinished()
            for trial in unfinished:
                if trial.is_queued and trial.number < trials and self._leases.take(trial):
                    return self._begun(trial.number)
            if count >= trials:
                return None
            # Queued first, then taken: of drivers that do this at once each gets another, and what is one too many
            # stays queued. It is looked at again, so that no trial is begun before the ones ahead of it are.
            with _quiet():
                self._storage.create_new_trial(self._study._study_id, optuna.trial.create_trial(state=_QUEUED))

    def resume_next(self, trials: float = math.inf) -> TrialRecord | None:
        """The next trial that was set aside, or whose driver was not heard of for `lease.LEASE_S`, RUNNING again.

        Of those beyond the first `trials` only this run folder's own.
        """
        for trial in self._unfinished()[0]:
            is_ours = trial.trial_id in self._leases.held or not self._leases.is_others(trial)
            is_free = (trial.is_expired and not is_ours) or (trial.is_waiting and not trial.is_queued)
            if is_free and (is_ours or trial.number < trials) and self._leases.take(trial):
                return self._begun(trial.number)
        return None

    def is_over(self, trials: int) -> bool:
        """Whether all of the first `trials` have ended, whoever ran them."""
        unfinished, count = self._unfinished()
        return count >= trials and not any(trial.number < trials for trial in unfinished)

    def reclaim(self) -> list[int]:
        """Take back what earlier drivers of this run folder left RUNNING; `reopen` goes on with it."""
        return [t.number for t in self._unfinished()[0] if self._leases.is_left(t) and self._leases.take(t)]

    def renew_leases(self) -> list[int]:
        """Tell other drivers that this one lives; the trials that it has lost to them."""
        numbers = {trial_id: number for number, trial_id in self._ids.items()}
        return sorted(numbers[trial_id] for trial_id in self._leases.renew())

    def finished_elsewhere(self) -> list[TrialRecord]:
        """The trials that drivers of other run folders finished since this was last asked."""
        unfinished, count = self._unfinished()
        self._awaited |= set(range(self._seen, count))
        ended = self._awaited - {trial.number for trial in unfinished}
        self._awaited -= ended
        self._seen = count
        return [record for record in map(self.record, sorted(ended)) if record.elsewhere]

    def reopen(self, number: int) -> TrialRecord:
        """An interrupted trial, RUNNING again under the parameters that it was given."""
        for trial in self._unfinished()[0]:
            if trial.number == number and trial.is_waiting:
                self._leases.take(trial)
        return self._begun(number)

    def _unfinished(self) -> tuple[list[Unfinished], int]:
        with _unreadable(self._url):
            unfinished, count = self._leases.unfinished(self._study._study_id)
        self._ids |= {trial.number: trial.trial_id for trial in unfinished}
        return unfinished, count

    def _begun(self, number: int) -> TrialRecord:
        """A trial that this driver has taken, with what it is to try."""
        with _quiet():
            if self.is_shared:
                self._study.get_trials(deepcopy=False)  # Optuna writes to no trial that it has not seen
            if number == 0 and "fixed_params" not in self._frozen(0).system_attrs:
                suggested = {
                    name: _encode(self.space.baseline[name], domain) for name, domain in self.space.params.items()
                }
                self._storage.set_trial_user_attr(self._id(0), "baseline", True)
                self._storage.set_trial_system_attr(self._id(0), "fixed_params", suggested)
            self._study.sampler = self._seeded_sampler(number)
            trial = self._trial(number)
            self._suggest_all(trial)  # also what a crash left unsuggested
            self._describe(trial)
        return self.record(number)

    def report(self, number: int, episode: int, value: float) -> None:
        """Record a trial's score as it stood at `episode`; a step reported before keeps its first value."""
        if number not in self._reported:  # reading a trial takes longer than writing the report
            self._reported[number] = set(self._frozen(number).intermediate_values)
        if episode not in self._reported[number]:
            self._storage.set_trial_intermediate_value(self._id(number), episode, value)
            self._reported[number].add(episode)

    def set_path(self, number: int, path: str) -> None:
        """Note which of its engine's paths a trial runs on."""
        self._storage.set_trial_user_attr(self._id(number), "path", path)

    def is_hopeless(self, number: int) -> bool:
        """Whether the pruner would end this trial at its last report."""
        return not isinstance(self._study.pruner, optuna.pruners.NopPruner) and self._trial(number).should_prune()

    def complete(self, number: int, outcome: Outcome, wall_s: float) -> None:
        """Finish a trial with its score; one without any episode is FAILED."""
        try:
            value = score(outcome, self.goal)
        except ValueError as error:
            self.fail(number, str(error), wall_s)
            return
        self._finish(number, outcome, wall_s, OptunaState.COMPLETE, value)

    def prune(self, number: int, outcome: Outcome, wall_s: float) -> None:
        """Finish a trial that the pruner ended; its value is its last report."""
        self._finish(number, outcome, wall_s, OptunaState.PRUNED)

    def fail(self, number: int, reason: str, wall_s: float = 0.0) -> None:
        """Finish a trial that cannot go on, with the reason."""
        self._storage.set_trial_user_attr(self._id(number), "reason", reason)
        self._finish(number, None, wall_s, OptunaState.FAIL)

    def interrupt(self, number: int) -> None:
        """Set a running trial aside; `reopen` goes on with it."""
        self._storage.set_trial_state_values(self._id(number), OptunaState.WAITING)

    def add_attempt(self, number: int) -> int:
        """Count one more start of a trial; the number of starts so far."""
        self._reported.pop(number, None)  # another driver may have had it since
        return self._count(number, "attempts")

    def add_death(self, number: int, cause: str) -> int:
        """Count one more death of a trial's process, and keep its cause; the number of deaths so far."""
        self._storage.set_trial_user_attr(self._id(number), "last_death", cause)
        return self._count(number, "deaths")

    def _count(self, number: int, name: str) -> int:
        count = int(self._frozen(number).user_attrs.get(name, 0)) + 1
        self._storage.set_trial_user_attr(self._id(number), name, count)
        return count

    def add_cost(self, part: str, seconds: float) -> None:
        """Add to the wall-clock time that `search`, `race` or `path` has taken over all invocations."""
        self._study.set_user_attr(self._cost_of(part), (self.cost_s(part) or 0.0) + seconds)

    def cost_s(self, part: str) -> float | None:
        """Wall-clock seconds that a part of the sweep has taken over all invocations; None before it began.

        Of a study that is shared, over those of this run folder.
        """
        seconds: float | None = self._study.user_attrs.get(self._cost_of(part))
        return seconds

    def _cost_of(self, part: str) -> str:
        return f"{part}_s of {self._owner.id}" if self._owner else f"{part}_s"

    @property
    def random_trials(self) -> int:
        """How many of the first trials no result had led to: the baseline, and what the sampler drew at random."""
        return STARTUP_TRIALS if self._sampler in ("tpe", "gp", "cmaes", "random") else 0

    def record(self, number: int) -> TrialRecord:
        """One trial."""
        with _unreadable(self._url):
            return self._finished.get(number) or self._record(self._frozen(number))

    def records(self) -> list[TrialRecord]:
        """Every trial that was started, by number."""
        with _unreadable(self._url):
            trials = self._study.get_trials(deepcopy=False)
            return [
                self._finished.get(trial.number) or self._record(trial) for trial in trials if not _is_queued(trial)
            ]

    def trusted(self) -> dict[int, tuple[TrialRecord, FrozenTrial]]:
        """Every trial that was started and is as it was written, whatever became of the others, and as Optuna has it.

        Raises:
            StudyUnreadable: Optuna cannot read the trials.
        """
        with _unreadable(self._url):
            trials = [trial for trial in self._study.get_trials(deepcopy=False) if not _is_queued(trial)]
        found = {}
        for trial in trials:
            with suppress(ValueError, LookupError, TypeError):
                found[trial.number] = self._record(trial), trial
        return found

    def best(self) -> TrialRecord | None:
        """The COMPLETE trial of the lowest score; pruned and failed ones are never best."""
        return best_in(self.records())

    def scored_trials(self) -> list[FrozenTrial]:
        """The COMPLETE trials as Optuna has them, for its own evaluators to read."""
        with _unreadable(self._url):
            return self._study.get_trials(deepcopy=False, states=(OptunaState.COMPLETE,))

    def _finish(
        self, number: int, outcome: Outcome | None, wall_s: float, state: OptunaState, value: float | None = None
    ) -> None:
        self._reported.pop(number, None)
        attrs = {"wall_s": round(wall_s, 3)} | (asdict(outcome) if outcome else {})
        for name, attr in attrs.items():
            self._storage.set_trial_user_attr(self._id(number), name, attr)
        suggested = self._decoded(self._frozen(number).params)
        self._storage.set_trial_user_attr(self._id(number), "seal", _seal(number, suggested, outcome, value))
        # GridSampler ends an `optimize` loop from here, and we have none.
        self._study.sampler = RandomSampler()
        with _quiet():
            self._study.tell(number, value, state=state)

    def _suggest_all(self, trial: optuna.Trial) -> None:
        stored, is_cut = trial.params, 0 < len(trial.params) < len(self.space.params)
        for name, domain in self.space.params.items():
            if is_cut and name in stored and name not in trial.relative_params:
                # Drawn again and let go: else what comes after it would be drawn in its place.
                frozen = self._storage.get_trial(trial._trial_id)
                self._study.sampler.sample_independent(self._study, frozen, name, _distribution(domain))
            _suggest(trial, name, domain)

    def _describe(self, trial: optuna.Trial) -> None:
        """Put what the trial uses, where it differs from what was suggested, beside it for other tools to see."""
        suggested = self._decoded(trial.params)
        used = self.space.resolve(suggested)
        changed = {name: used[name] for name in suggested if used[name] != suggested[name]}
        if changed != trial.user_attrs.get("used", {}):
            trial.set_user_attr("used", changed)

    def _decoded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _decode(value, self.space.params[name]) for name, value in params.items()}

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        attrs = trial.user_attrs
        suggested = self._decoded({name: trial.params[name] for name in trial.params if name in self.space.params})
        outcome = None
        if "episodes" in attrs and trial.state.is_finished():  # another driver may just be writing the rest
            names = ("episodes", "env_steps", "episodes_to_threshold", "best_mean")
            outcome = Outcome(**{name: attrs[name] for name in names})
        value = trial.value if trial.state is OptunaState.COMPLETE else None
        if trial.state.is_finished():
            if attrs.get("seal") not in (None, _seal(trial.number, suggested, outcome, value)):  # older ones had none
                raise ValueError(f"trial {trial.number} is not as it was written")
        record = TrialRecord(
            number=trial.number,
            state=_STATES[trial.state],
            params=self.space.resolve(suggested),
            suggested=suggested,
            attempts=attrs.get("attempts", 0),
            value=value,
            outcome=outcome,
            reason=attrs.get("reason"),
            wall_s=attrs.get("wall_s", 0.0),
            path=attrs.get("path"),
            reports=dict(trial.intermediate_values),
            elsewhere=self._elsewhere(attrs.get(HOLDER)),
        )
        if record.is_finished:
            self._finished[record.number] = record
        return record

    def _elsewhere(self, holder: Mapping[str, str] | None) -> str | None:
        if self._owner is None or holder is None or holder["id"] == self._owner.id:
            return None
        return holder["folder"]

    def _agreed(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """What the study carries of its sweep: this, unless another driver was quicker with what it has."""
        with self._leases.scoped_session() as session, suppress(IntegrityError):
            mine = StudyUserAttributeModel(
                study_id=self._study._study_id, key=IDENTITY, value_json=json.dumps(identity)
            )
            session.add(mine)
            session.commit()
        carried: dict[str, Any] = self._study.user_attrs[IDENTITY]
        return carried

    def _id(self, number: int) -> int:
        """Optuna's id of a trial, which never changes."""
        if number not in self._ids:
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        return self._ids[number]

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))

    def _trial(self, number: int) -> optuna.Trial:
        return optuna.trial.Trial(self._study, self._id(number))

    def _seeded_sampler(self, number: int) -> BaseSampler:
        """The sampler for one trial; its seed depends on the trial's number, never on how often a driver died."""
        seed = int(np.random.SeedSequence([self._sampler_seed, number]).generate_state(1)[0])
        if self._sampler == "tpe":
            tpe = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)
            tpe._search_space = self._common  # else each one reads every trial to find out what all have in common
            return tpe
        if self._sampler == "gp":
            return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        if self._sampler == "cmaes":
            return VerifyingCmaEsSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False)
        if self._sampler == "qmc":
            independent = RandomSampler(seed=seed)
            return QMCSampler(
                seed=self._sampler_seed, scramble=True, independent_sampler=independent,
                warn_asynchronous_seeding=False, warn_independent_sampling=False,
            )  # fmt: skip
        if self._sampler == "grid":
            grid = {name: [_encode(v, domain) for v in domain.grid()] for name, domain in self.space.params.items()}
            return GridSampler(grid, seed=self._sampler_seed)
        return RandomSampler(seed=seed)


def _opened(storage: str, owner: Owner | None) -> LeasedStorage:
    """The storage, its tables made where they are missing; of drivers that make them at once all but one fail."""
    options = engine_options(storage) if owner else {}
    for wait_s in (0.2, 0.5, 1.0, 2.0) if owner else ():
        with suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):
            return LeasedStorage(storage, owner, options)
        time.sleep(wait_s)
    return LeasedStorage(storage, owner, options)


class _OptimizerUnpickler(pickle.Unpickler):
    """Reads CMA-ES's state and nothing else: a database can be anybody's, and holds no manifest."""

    def find_class(self, module: str, name: str) -> Any:
        """The classes that such a state is made of."""
        is_array = module in _OF_ARRAYS and name in ("_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer")
        if (module, name) != ("cmaes._cma", "CMA") and not is_array:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an optimizer's state")
        return super().find_class(module, name)


class VerifyingCmaEsSampler(CmaEsSampler):
    """Optuna's, but for how it reads its optimizer back from the trials: it would run any pickle that is there."""

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {key: part for key, part in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)}
            if parts:
                state = io.BytesIO(bytes.fromhex(self._concat_optimizer_attrs(parts)))
                try:
                    return _OptimizerUnpickler(state).load()
                except (pickle.UnpicklingError, ValueError, EOFError) as error:
                    raise StudyUnreadable(
                        f"trial {trial.number}: the state of its sampler is not CMA-ES's own: {error}; "
                        "do not use this study, or name another --name"
                    ) from error
        return None


def rebuild(
    storage: str, space: SearchSpace, trials: Sequence[TrialRecord | FrozenTrial], costs_s: Mapping[str, float]
) -> None:
    """Write a new study of these trials, numbered from 0 in their order; what was RUNNING is WAITING."""
    with _quiet():
        study = optuna.create_study(storage=storage, study_name="sweep", direction="minimize")
        for trial in trials:
            frozen = _frozen(trial, space) if isinstance(trial, TrialRecord) else copy.copy(trial)
            if frozen.state is OptunaState.RUNNING:
                frozen.state = OptunaState.WAITING
            study.add_trial(frozen)
        for part, seconds in costs_s.items():
            study.set_user_attr(f"{part}_s", seconds)


def _frozen(record: TrialRecord, space: SearchSpace) -> FrozenTrial:
    """A COMPLETE or WAITING trial as Optuna has it."""
    attrs: dict[str, Any] = {"baseline": True} if record.is_baseline else {}
    if record.attempts:
        attrs["attempts"] = record.attempts
    if record.path:
        attrs["path"] = record.path
    if record.state is TrialState.COMPLETE and record.outcome:
        seal = _seal(record.number, record.suggested, record.outcome, record.value)
        attrs |= {"wall_s": round(record.wall_s, 3), **asdict(record.outcome), "seal": seal}
    frozen = optuna.trial.create_trial(
        state=OptunaState[record.state.name],
        value=record.value,
        params={name: _encode(value, space.params[name]) for name, value in record.suggested.items()},
        distributions={name: _distribution(space.params[name]) for name in record.suggested},
        user_attrs=attrs,
        intermediate_values=dict(record.reports),
    )
    frozen.datetime_start = frozen.datetime_start or datetime.now()  # without it, a baseline that never started
    return frozen


def best_in(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The COMPLETE trial of the lowest score, the first of equals."""
    complete = [record for record in records if record.state is TrialState.COMPLETE]
    return min(complete, key=lambda record: (record.value, record.number), default=None)


def _seal(number: int, suggested: Mapping[str, Any], outcome: Outcome | None, value: float | None) -> str:
    """What a finished trial amounts to, in short: a bit flipped in the database may read back as a valid value."""
    content = json.dumps([number, suggested, outcome and asdict(outcome), value], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _check_database(storage: str) -> None:
    """Read a SQLite file to its end; SQLAlchemy would notice damage only where it comes by.

    Raises:
        ValueError: something in it is not as SQLite wrote it.
    """
    file = Path(storage.removeprefix("sqlite:///"))
    if not storage.startswith("sqlite:///") or not file.is_file() or not file.stat().st_size:
        return
    with closing(sqlite3.connect(file)) as database:
        problem = database.execute("PRAGMA integrity_check").fetchone()[0]
    if problem != "ok":
        raise ValueError(problem)


def check_grid(space: SearchSpace) -> int:
    """The number of combinations of the grid sampler.

    Raises:
        UsageError: more than 10,000.
    """
    size = space.grid_size()
    if size > MAX_GRID:
        counts = " x ".join(f"{name} {len(domain.grid())}" for name, domain in space.params.items())
        raise UsageError(
            f"--sampler grid: {size:,} combinations ({counts}) are more than {MAX_GRID:,}; "
            "fix parameters with --set KEY=VALUE or use --sampler tpe"
        )
    return size


def _is_queued(trial: FrozenTrial) -> bool:
    """Whether this trial has never been started."""
    return trial.state is _QUEUED and trial.datetime_start is None


def _pruner(name: str, window: int) -> optuna.pruners.BasePruner:
    if name == "asha":  # its rungs live in the trials' system attributes, that is in the database
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=2 * window, reduction_factor=3)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2 * window, interval_steps=window)
    return optuna.pruners.NopPruner()


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Float):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Int):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    return CategoricalDistribution([_encode(value, domain) for value in domain.values])


def _suggest(trial: optuna.Trial, name: str, domain: Domain) -> None:
    if isinstance(domain, Float):
        trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    elif isinstance(domain, Int):
        trial.suggest_int(name, domain.low, domain.high, log=domain.log, step=domain.step)
    else:
        trial.suggest_categorical(name, [_encode(value, domain) for value in domain.values])


def _encode(value: Any, domain: Domain) -> Any:
    """A value as Optuna's database takes it: lists as their JSON text."""
    return json.dumps(value) if isinstance(domain, Choice) and isinstance(value, (list, tuple)) else value


def _decode(value: Any, domain: Domain) -> Any:
    if isinstance(domain, Choice) and isinstance(value, str) and value not in domain.values:
        return json.loads(value)
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's remarks on its own experimental features off the user's terminal."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextmanager
def _unreadable(storage: str) -> Iterator[None]:
    file = Path(storage.removeprefix("sqlite:///"))
    try:
        # SQLite takes a file shorter than a page for a new database and would overwrite it.
        if storage.startswith("sqlite:///") and file.is_file() and 0 < file.stat().st_size < 512:
            raise ValueError("shorter than a page")
        yield
    except (
        SQLAlchemyError,
        sqlite3.Error,
        optuna.exceptions.StorageInternalError,
        RuntimeError,
        AssertionError,
        ValueError,
        LookupError,
    ) as error:  # the last four are what Optuna raises for cells that it did not write
        reason = str(error) if type(error) is ValueError else type(error).__name__  # ours say what is wrong
        raise StudyUnreadable(
            f"the study {storage} cannot be read ({reason}); "
            "restore it from a copy, or use another --name; tuner.doctor says what can be saved"
        ) from error
