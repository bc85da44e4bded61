"""Optuna's database storage where several drivers share a study: each trial is run by one of them, under a lease.

A driver writes its name, the holder, beside each trial that it takes, in the row on which all others have to wait. What
follows from a holder, every write of Optuna's included, begins with that row, in the transaction of the write: so a
driver that slept while its lease ran out cannot write once another has the trial. Time is the database's own.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel, TrialHeartbeatModel, TrialModel, TrialUserAttributeModel
from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Update, and_, func, select, update
from sqlalchemy.orm import Session

from tuner.errors import LeaseLost

HOLDER = "holder"  # the trial's attribute that says who runs it, or ran it last
LEASE_S = 60.0

_TRIALS = TrialModel.__table__.c  # the columns' names in the database are the same in every version of Optuna


@dataclass(frozen=True)
class Owner:
    """A run folder, as the drivers of other run folders know it: its id, and where it was made."""

    id: str
    folder: str  # HOST:PATH

    @classmethod
    def new(cls, folder: Path) -> Owner:
        """A name for a run folder that has none; it keeps it wherever it goes."""
        return cls(secrets.token_hex(8), f"{socket.gethostname()}:{folder.absolute()}")


@dataclass(frozen=True)
class Unfinished:
    """A trial that has not ended."""

    trial_id: int
    number: int
    is_waiting: bool
    is_queued: bool  # it has never been started
    holder: str | None  # as the database has it
    age_s: float | None  # since the lease was renewed

    @property
    def is_expired(self) -> bool:
        """Whether its driver has not been heard of for so long that another may take it."""
        return self.age_s is not None and self.age_s > LEASE_S


class LeasedStorage(RDBStorage):
    """Optuna's own, but for who may write to a trial; without an owner, one driver has the whole study."""

    def __init__(self, url: str, owner: Owner | None, engine_options: Mapping[str, Any]) -> None:
        # Each driver has a name of its own: were there two of one run folder, the later would take all from the other.
        self._owner = owner
        self._holder = json.dumps({**asdict(owner), "driver": secrets.token_hex(4)}) if owner else None
        self.held: set[int] = set()  # ids of the trials that this driver runs
        self._ended_below = 0  # an id: every trial before it has ended
        super().__init__(url.replace("{", "{{").replace("}", "}}"), dict(engine_options))
        self._complete()

    def _complete(self) -> None:
        """Make the indexes that are missing.

        SQLite commits every table and every index by itself, and Optuna makes an index only along with its table. A
        driver that was killed between the two left a study of which the next one would have made a second.
        """
        for table in BaseModel.metadata.sorted_tables:
            for index in table.indexes:
                index.create(self.engine, checkfirst=True)

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        """What Optuna calls in the transaction of every write to a trial.

        Raises:
            LeaseLost: another driver has the trial.
        """
        if self._holder is not None and not self._holds(self.scoped_session(), trial_id):
            self.held.discard(trial_id)
            raise LeaseLost(f"trial id {trial_id}")
        super().check_trial_is_updatable(trial_id, trial_state)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """Optuna's own; a trial that is no longer RUNNING is no longer held."""
        is_done = super().set_trial_state_values(trial_id, state, values)
        self.held.discard(trial_id)
        return is_done

    def unfinished(self, study_id: int) -> tuple[list[Unfinished], int]:
        """The trials that have not ended, by number, and how many there are in all."""
        holder, lease = TrialUserAttributeModel, TrialHeartbeatModel
        columns = select(
            _TRIALS.trial_id, _TRIALS.number, _TRIALS.state, _TRIALS.datetime_start, holder.value_json,
            lease.heartbeat, self._clock,
        )  # fmt: skip
        joined = columns.outerjoin(holder, and_(holder.trial_id == _TRIALS.trial_id, holder.key == HOLDER))
        query = joined.outerjoin(lease, lease.trial_id == _TRIALS.trial_id).where(
            _TRIALS.study_id == study_id, _TRIALS.trial_id >= self._ended_below,
            _TRIALS.state.in_((TrialState.WAITING, TrialState.RUNNING)),
        )  # fmt: skip
        last = select(_TRIALS.trial_id, _TRIALS.number).where(_TRIALS.study_id == study_id)
        with self.scoped_session() as session:
            newest = session.execute(last.order_by(_TRIALS.trial_id.desc()).limit(1)).first()
            rows = session.execute(query.order_by(_TRIALS.trial_id)).all()
        # The newest is read first: a trial that was created since then is looked for again.
        self._ended_below = min([row.trial_id for row in rows] + [newest.trial_id if newest else 0])
        found = [
            Unfinished(
                row.trial_id, row.number, row.state is TrialState.WAITING,
                row.state is TrialState.WAITING and row.datetime_start is None, row.value_json,
                None if row.heartbeat is None else (_naive(row[-1]) - row.heartbeat).total_seconds(),
            )
            for row in rows
        ]  # fmt: skip
        return found, newest.number + 1 if newest else 0

    def take(self, trial: Unfinished) -> bool:
        """Make this driver run a trial that is WAITING, or whose lease has run out; False where another was quicker."""
        with self.scoped_session() as session:
            is_ours = self._take_waiting(session, trial) if trial.is_waiting else self._take_over(session, trial)
            if is_ours:
                session.commit()
                self.held.add(trial.trial_id)
        return is_ours

    def is_left(self, trial: Unfinished) -> bool:
        """Whether an earlier driver of this run folder left a trial RUNNING."""
        return not trial.is_waiting and trial.trial_id not in self.held and not self.is_others(trial)

    def is_others(self, trial: Unfinished) -> bool:
        """Whether a driver of another run folder has a trial, or had it last."""
        return self._owner is not None and trial.holder is not None and json.loads(trial.holder)["id"] != self._owner.id

    def renew(self) -> set[int]:
        """Renew the leases of what this driver runs; the ids of the trials that it has lost."""
        holder, lease = TrialUserAttributeModel, TrialHeartbeatModel
        with self.scoped_session() as session:
            ours = select(holder.trial_id).where(
                holder.trial_id.in_(self.held), holder.key == HOLDER, holder.value_json == self._holder
            )
            kept = set(session.scalars(ours))
            _changed(session, update(lease).where(lease.trial_id.in_(kept)).values(heartbeat=self._now(session)))
            session.commit()
        lost, self.held = self.held - kept, kept
        return lost

    def _take_waiting(self, session: Session, trial: Unfinished) -> bool:
        waiting = update(TrialModel).where(
            TrialModel.trial_id == trial.trial_id, TrialModel.state == TrialState.WAITING
        )
        if not _changed(session, waiting.values(state=TrialState.RUNNING)):
            return False
        TrialModel.find_or_raise_by_id(trial.trial_id, session).datetime_start = datetime.now()
        if self._holder is not None:
            held = {"trial_id": trial.trial_id, "key": HOLDER}
            _put(session, TrialUserAttributeModel, held, value_json=self._holder)
            _put(session, TrialHeartbeatModel, {"trial_id": trial.trial_id}, heartbeat=self._now(session))
        return True

    def _take_over(self, session: Session, trial: Unfinished) -> bool:
        if self._holder is None:
            return True  # there is nobody else
        lease = TrialHeartbeatModel
        if not _changed(session, _of_holder(trial.trial_id, trial.holder).values(value_json=self._holder)):
            return False
        # From here on its driver waits for us; now is the time to look at what it did before it had to.
        state = session.scalar(select(_TRIALS.state).where(_TRIALS.trial_id == trial.trial_id))
        renewed: Any = session.scalar(select(lease.heartbeat).where(lease.trial_id == trial.trial_id))
        now = self._now(session)
        is_free = self.is_left(trial) or (now - renewed).total_seconds() > LEASE_S
        if state is not TrialState.RUNNING or not is_free:
            return False
        return _changed(session, update(lease).where(lease.trial_id == trial.trial_id).values(heartbeat=now))

    def _holds(self, session: Session, trial_id: int) -> bool:
        """Whether no other driver has the trial, nor can get it before the session's transaction ends."""
        # It changes nothing, and locks the row on every database.
        if _changed(session, _of_holder(trial_id, self._holder).values(value_json=self._holder)):
            return True
        holder = TrialUserAttributeModel
        others = select(holder.trial_id).where(holder.trial_id == trial_id, holder.key == HOLDER)
        return session.scalar(others) is None  # it is just being created

    def _now(self, session: Session) -> datetime:
        """The database's time, in UTC."""
        return _naive(session.scalars(select(self._clock)).one())

    @property
    def _clock(self) -> ColumnElement[datetime]:
        return func.utc_timestamp() if self.engine.name == "mysql" else func.now()


def _of_holder(trial_id: int, holder: str | None) -> Update:
    """A change of the row in which a trial's holder is, if it is this one."""
    row = TrialUserAttributeModel
    return update(row).where(row.trial_id == trial_id, row.key == HOLDER, row.value_json == holder)


def _changed(session: Session, statement: Update) -> bool:
    """Run it, and say whether there was such a row."""
    found: Any = session.execute(statement, execution_options={"synchronize_session": False})
    return bool(found.rowcount)


def _put(session: Session, model: Any, keys: Mapping[str, Any], **values: Any) -> None:
    """Change the row of these keys, or add it."""
    if not _changed(session, update(model).filter_by(**keys).values(**values)):
        session.add(model(**keys, **values))


def _naive(moment: datetime) -> datetime:
    """A database's moment as its tables hold it: in UTC, without saying so."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment
