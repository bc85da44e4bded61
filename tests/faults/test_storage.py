"""A study in another database, shared by drivers: on a real PostgreSQL, and where that can be on SQLite, too."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from tests import postgres
from tests.conftest import Command, tree
from tests.faults import in_process
from tests.faults.in_process import SIGKILLED, ToyEngine, wait
from tests.test_hooks import OUTCOME, FakeTune
from tuner import board, doctor, lease, report, storage, sweep
from tuner.errors import LeaseLost, UsageError
from tuner.layout import RunDir
from tuner.lease import LeasedStorage, Owner
from tuner.policy import policy_folder
from tuner.results import SweepResult, open_study
from tuner.space import Float, SearchSpace
from tuner.study import SweepStudy, TrialState

TRIALS = 200

SPACE = SearchSpace(
    env="CartPole-v1", threshold=100, window=5, max_episodes=50, baseline={"lr": 1e-3},
    params={"lr": Float(1e-4, 1e-2, log=True)},
)  # fmt: skip

needs_postgres = pytest.mark.skipif(
    postgres.programs() is None, reason="no PostgreSQL here (Debian: apt-get install postgresql)"
)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A real PostgreSQL that asks for a password."""
    with postgres.temporary() as server:
        yield server


@pytest.fixture
def database(server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new database as TUNER_STORAGE names it, password and all; the URL without one."""
    name = f"t{random.randrange(10**12)}"  # noqa: S311 a name
    monkeypatch.setenv(storage.VARIABLE, server.create(name))
    return server.url(name, has_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database that drivers can share; the URL that connects."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    return storage.address(request.getfixturevalue("database"))


Join = Callable[[str], SweepStudy]


@pytest.fixture
def join(shared: str) -> Join:
    """Opens the study as the driver of a run folder of that name does."""

    def open_study(folder: str) -> SweepStudy:
        owner = Owner(folder, f"host:/{folder}")
        return SweepStudy(shared, SPACE, sampler="random", name="run", owner=owner, identity={"engine": "fused"})

    return open_study


@pytest.fixture
def expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lease has run out as soon as it is given."""
    monkeypatch.setattr(lease, "LEASE_S", -1.0)


def trials_in(url: str) -> list[FrozenTrial]:
    """The trials of the study `run` as Optuna alone reads them."""
    return optuna.load_study(study_name="run", storage=url).trials


def started(trials: list[FrozenTrial]) -> list[int]:
    """The numbers of those that were ever started."""
    return [trial.number for trial in trials if trial.datetime_start is not None]


def attempts(trials: list[FrozenTrial]) -> dict[int, int]:
    """How often each trial was started that ever was; what drivers had queued beyond the last never is."""
    return {trial.number: trial.user_attrs["attempts"] for trial in trials if trial.datetime_start is not None}


# The URL and its password


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:CANARY@db/tuner",  # pragma: allowlist secret
        "postgresql+psycopg://me:CANARY@db:1/tuner",  # pragma: allowlist secret
        "postgresql://me:CAN@ARY/CANARY@db/tuner",  # pragma: allowlist secret
        "postgresql://db/tuner?user=me&password=CANARY",
        "mysql://db/tuner?passwd=CANARY",
        "nonsense://me:CANARY@",  # pragma: allowlist secret
        "://:CANARY@",  # pragma: allowlist secret
    ],
)
def test_a_password_in_the_argument_is_refused_and_not_repeated(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main(["cartpole", "--out", str(tmp_path / "out"), "--storage", url]) == 2
    said = capsys.readouterr()
    assert "TUNER_STORAGE" in said.err and "CANARY" not in said.out + said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("CANARY", "is not the URL of a database"),
        ("postgresql://me:pass@CANARY@db/tuner", "write an @"),  # pragma: allowlist secret
        ("oracle://me:CANARY@db/tuner", "oracle is no database that can hold a study"),  # pragma: allowlist secret
        ("postgresql://me:CANARY@db", "names no database"),  # pragma: allowlist secret
        ("postgresql://me:CANARY@db:port/tuner", "is not the URL of a database"),  # pragma: allowlist secret
        ("sqlite://", "names no file"),
    ],
)
def test_a_variable_that_names_no_database_is_refused_and_not_repeated(
    url: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(storage.VARIABLE, url)
    assert sweep.main(["cartpole", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert f"TUNER_STORAGE: {why}" in said.err and "CANARY" not in said.out + said.err
    assert not (tmp_path / "out").exists()


def test_a_variable_that_is_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storage.VARIABLE, "")
    assert storage.asked_for(None) is None


def test_what_is_kept_of_a_url_has_no_password() -> None:
    kept = storage.without_password("mysql://me:a%2Fb@db:3307/t?charset=utf8mb4&ssl_key_password=c")
    assert kept == "mysql://me@db:3307/t?charset=utf8mb4"


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ("postgresql+psycopg://me@db.example.org:5432/tuner", True),
        ("postgresql://you@DB.example.org/tuner", True),
        ("postgresql://me@/tuner?host=db.example.org", True),
        ("postgresql://me@db.example.org:5433/tuner", False),
        ("postgresql://me@db.example.org/other", False),
        ("mysql://me@db.example.org/tuner", False),
        (None, False),
    ],
)
def test_the_same_database_may_be_written_otherwise(other: str | None, is_same: bool) -> None:
    assert storage.is_same("postgresql://me@db.example.org/tuner", other) is is_same


def test_the_password_of_the_variable_is_for_its_own_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storage.VARIABLE, "postgresql://me:" + "CANARY@db.example.org/tuner")
    assert "CANARY" in storage.address("postgresql+psycopg://me@db.example.org:5432/tuner")
    assert "CANARY" not in storage.address("postgresql://me@elsewhere.example.org/tuner")


def test_a_file_is_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.asked_for("sqlite:///shared.db") == f"sqlite:///{tmp_path / 'shared.db'}"


def test_a_file_in_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'none' / 'shared.db'}"
    assert sweep.main(["cartpole", "--out", str(tmp_path / "out"), "--storage", url]) == 2
    assert "no folder that can be written to" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def unused_port() -> int:
    return postgres._free_port()


@needs_postgres
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda url: url.replace(url.rpartition(":")[2], f"{unused_port()}/tuner"), "start the database"),
        (lambda url: url.rpartition("/")[0] + "/nowhere", "create the database nowhere"),
        (lambda url: url.replace("postgresql:", "postgresql+pg8000:"), r"pip install 'rllib-ppo-tuner[cluster]'"),
        (lambda url: url.replace("tuner:", "tuner:not"), "put the whole URL with its password into TUNER_STORAGE"),
    ],
    ids=["no server", "no database", "no driver", "wrong password"],
)
def test_a_database_that_cannot_be_used_is_bad_input_with_the_remedy(
    change: Callable[[str], str],
    why: str,
    server: postgres.Server,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(storage.VARIABLE, change(os.environ[storage.VARIABLE]))
    began = time.monotonic()
    assert sweep.main(["cartpole", "--out", str(tmp_path / "out")]) == 2
    assert time.monotonic() - began < 30
    said = capsys.readouterr().err
    assert why in said and server.password not in said
    assert not (tmp_path / "out").exists()


# The owner of a trial, and its lease


def test_of_many_drivers_one_gets_each_trial(join: Join) -> None:
    taken: list[int] = []

    def drive(name: str) -> None:
        study = join(name)
        while (record := study.start_next(20)) is not None:
            taken.append(record.number)

    join("first")  # so that the study is there
    drivers = [threading.Thread(target=drive, args=(f"driver {n}",)) for n in range(4)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(60)
    assert sorted(taken) == list(range(20))


def test_drivers_that_make_a_study_at_once_make_one(shared: str, join: Join) -> None:
    studies: list[SweepStudy] = []
    drivers = [threading.Thread(target=lambda n=n: studies.append(join(f"driver {n}"))) for n in range(4)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(60)
    assert len(studies) == 4
    assert [record.number for study in studies if (record := study.start_next(1))] == [0]
    assert trials_in(shared)[0].user_attrs["baseline"] is True


def test_the_first_trial_is_the_baseline_whoever_takes_it(join: Join) -> None:
    join("a")
    record = join("b").start_next()
    assert record is not None and record.suggested == {"lr": SPACE.baseline["lr"]}


def test_a_trial_one_too_many_stays_queued_and_is_the_first_when_the_budget_grows(shared: str, join: Join) -> None:
    a, b = join("a"), join("b")
    for _ in range(3):  # as if both had seen two trials
        a._storage.create_new_trial(
            a._study._study_id, optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)
        )
    assert [record.number for study in (a, b, a, b) if (record := study.start_next(2))] == [0, 1]
    assert started(trials_in(shared)) == [0, 1] and [record.number for record in a.records()] == [0, 1]
    record = b.start_next(4)
    assert record is not None and record.number == 2


def test_a_trial_whose_lease_holds_is_anothers(join: Join) -> None:
    a, b = join("a"), join("b")
    a.start_next()
    assert (b.reclaim(), b.resume_next()) == ([], None)


def test_a_trial_whose_lease_ran_out_is_taken_once(join: Join, expired: None) -> None:
    join("a").start_next()
    b, c = join("b"), join("c")
    (seen_by_b,), (seen_by_c,) = b._unfinished()[0], c._unfinished()[0]
    assert (b._leases.take(seen_by_b), c._leases.take(seen_by_c)) == (True, False)


def test_a_lease_that_is_renewed_holds(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = join("a"), join("b")
    a.start_next()
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    for _ in range(8):
        time.sleep(0.5)
        assert a.renew_leases() == [] and b.resume_next() is None
    time.sleep(4)
    record = b.resume_next()
    assert record is not None and a.renew_leases() == [record.number]


def test_a_lease_that_was_renewed_after_another_looked_holds(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = join("a"), join("b")
    a.start_next()
    time.sleep(3)
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    trial = b._unfinished()[0][0]
    assert trial.is_expired
    a.renew_leases()
    assert not b._leases.take(trial)


@pytest.mark.parametrize(
    "write",
    [
        lambda study: study.report(0, 5, 1.0),
        lambda study: study.complete(0, OUTCOME, 1.0),
        lambda study: study.fail(0, "it broke"),
        lambda study: study.interrupt(0),
        lambda study: study.add_attempt(0),
        lambda study: study.set_path(0, "toy"),
    ],
    ids=["report", "complete", "fail", "interrupt", "attempt", "path"],
)
@pytest.mark.parametrize("end", ["runs", "waits", "has ended"])
def test_who_lost_a_trial_writes_nothing_of_it(
    write: Callable[[SweepStudy], object], end: str, shared: str, join: Join, expired: None
) -> None:
    a, b = join("a"), join("b")
    a.start_next()
    a.is_hopeless(0)
    assert b.resume_next() is not None
    if end == "waits":
        b.interrupt(0)
    elif end == "has ended":
        b.complete(0, OUTCOME, 2.0)
    before = vars(trials_in(shared)[0])
    with pytest.raises(LeaseLost):
        write(a)
    assert vars(trials_in(shared)[0]) == before


@needs_postgres
def test_who_is_about_to_lose_a_trial_waits_for_the_outcome(database: str, expired: None) -> None:
    url = storage.address(database)
    a, b = (
        SweepStudy(url, SPACE, sampler="random", name="run", owner=Owner(name, name), identity={"engine": "fused"})
        for name in "ab"
    )
    a.start_next()
    raised: list[BaseException] = []

    def report_late() -> None:
        try:
            a.report(0, 5, 1.0)
        except LeaseLost as error:
            raised.append(error)

    writer = threading.Thread(target=report_late)
    with b._leases.scoped_session() as session:
        assert b._leases._take_over(session, b._unfinished()[0][0])
        writer.start()
        writer.join(1)
        assert writer.is_alive()
        session.commit()
    writer.join(10)
    assert len(raised) == 1 and trials_in(url)[0].intermediate_values == {}


def test_a_run_folder_takes_back_at_once_what_its_driver_left(join: Join) -> None:
    join("a").start_next()
    again = join("a")
    assert again.reclaim() == [0]
    assert again.reopen(0).state is TrialState.RUNNING


def test_of_two_drivers_of_one_run_folder_the_later_has_its_trials(join: Join) -> None:
    first = join("a")
    first.start_next()
    join("a").reclaim()
    with pytest.raises(LeaseLost):
        first.report(0, 5, 1.0)


def test_what_a_driver_set_aside_is_anybodys_within_the_budget(join: Join) -> None:
    a, b = join("a"), join("b")
    for _ in range(2):
        a.start_next()
    a.interrupt(0)
    a.interrupt(1)
    record = b.resume_next(1)
    assert record is not None and (record.number, b.resume_next(1)) == (0, None)
    mine = a.resume_next(1)
    assert mine is not None and mine.number == 1  # beyond the budget, and begun here


def test_a_record_says_where_else_its_files_are(join: Join) -> None:
    a, b = join("a"), join("b")
    for study in (a, b):
        record = study.start_next()
        assert record is not None
        study.complete(record.number, OUTCOME, 1.0)
    assert [record.elsewhere for record in a.records()] == [None, "host:/b"]
    assert [record.elsewhere for record in join("b").records()] == ["host:/a", None]


def test_what_a_part_took_is_each_run_folders_own(join: Join) -> None:
    a, b = join("a"), join("b")
    a.add_cost("search", 1.0)
    b.add_cost("search", 2.0)
    assert (join("a").cost_s("search"), join("b").cost_s("search")) == (1.0, 2.0)


# The searcher of several drivers


def test_a_driver_waits_for_what_others_run_and_ends_with_the_last(join: Join) -> None:
    a, b = FakeTune(join("a"), trials=2), FakeTune(join("b"), trials=2)
    assert a.start() == [0, 1]
    assert b.searcher.suggest("later") is None
    a.finish(0)
    a.finish(1)
    b.searcher._next_look = 0.0
    assert b.searcher.suggest("later") == "FINISHED"


def test_a_driver_takes_over_what_runs_out(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTune(join("a"), trials=2).start()
    b = FakeTune(join("b"), trials=2)
    assert b.start() == []
    monkeypatch.setattr(lease, "LEASE_S", -1.0)
    b.searcher._next_look = 0.0
    assert b.start() == [0, 1]
    b.finish(0)
    b.finish(1)
    assert [record.attempts for record in join("c").records()] == [2, 2]


def test_a_driver_ends_a_trial_that_it_lost_without_a_trace(
    join: Join, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[int] = []

    class Notes:
        on_start = on_progress = on_finish = lambda *_: None

        def on_loss(self, record: Any) -> None:
            lost.append(record.number)

    a = FakeTune(join("a"), trials=3, watcher=Notes())
    assert a.start() == [0, 1]
    monkeypatch.setattr(lease, "LEASE_S", -1.0)
    b = FakeTune(join("b"), trials=2)
    assert b.start() == [0, 1]
    monkeypatch.setattr(lease, "LEASE_S", 60.0)
    assert a.result(0, reports=[[5, 1.0]]) is True  # found out by its first write
    a.end(0)
    assert a.stopper.stop_all() is False  # by the renewal
    assert a.result(1) is True
    a.end(1)
    assert (lost, a.start()) == ([0, 1], [2])
    assert [record.state for record in join("c").records()] == [TrialState.RUNNING] * 3
    assert "another took it over" in caplog.text


def test_a_driver_hears_of_what_others_finished(join: Join) -> None:
    heard: list[tuple[int, str | None]] = []

    class Notes:
        on_start = on_progress = on_loss = lambda *_: None

        def on_finish(self, record: Any) -> None:
            heard.append((record.number, record.elsewhere))

    a = FakeTune(join("a"), trials=4, parallel=1, watcher=Notes())
    assert a.start() == [0]
    b = FakeTune(join("b"), trials=3)
    for number in b.start():
        b.finish(number)
    a.stopper.stop_all()
    assert heard == [(1, "host:/b"), (2, "host:/b")]
    a.searcher._next_renewal = 0.0
    a.stopper.stop_all()
    assert len(heard) == 2


# Whole sweeps


def sweeping(out: Path, *options: str, lease_s: float = 2.0, before: Callable[[], None] = lambda: None) -> int:
    """A driver in a process of its own, in which `before` was called, its id."""

    def drive() -> int:
        lease.LEASE_S = lease_s
        before()
        return in_process.run(out, "--episodes", "10", "--race-seeds", "0", "--sampler", "random", *options)

    return in_process.in_child(drive)


@pytest.fixture(scope="module", autouse=True)
def _everything_imported() -> None:
    """Before a test sets TUNER_STORAGE: the sweep that imports everything is of no database."""
    in_process._import_everything()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def held_by(url: str, folder: Path, state: str = "RUNNING") -> list[int]:
    """The trials that the driver of a run folder has, or had last."""
    import psycopg

    query = """
        select t.number from trials t join trial_user_attributes a on a.trial_id = t.trial_id
        where t.state = %s and a.key = 'holder' and a.value_json::json ->> 'folder' like %s order by t.number
    """
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        try:
            return [number for (number,) in connection.execute(query, (state, f"%:{folder}"))]
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject):
            return []


def halt_at(call: int, owner: type, name: str) -> None:
    """Have this process halt, as one whose machine sleeps, at the end of a method's n-th call."""
    method, calls = getattr(owner, name), itertools.count(1)

    def called(*args: Any, **options: Any) -> Any:
        result = method(*args, **options)
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(owner, name, called)


def wait_halted(pid: int) -> None:
    """Wait until a child of ours has halted; it must not end before."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), os.waitstatus_to_exitcode(status)


def searching(url: str, folder: str, *, halts_with: int = TRIALS) -> int:
    """A driver of the study and the searcher alone in a process of its own, its id; a trial takes no time.

    It halts when it has had so many trials and the last ones are running.
    """

    def drive() -> int:
        lease.LEASE_S = 8.0  # of a driver that is alive, however busy the machine, none runs out
        owner = Owner(folder, f"host:{folder}")
        study = SweepStudy(url, SPACE, sampler="random", name="run", owner=owner, identity={"engine": "fused"})
        tune, live, had = FakeTune(study, trials=TRIALS), [], 0
        for tune_id in map(str, itertools.count()):
            config = tune.searcher.suggest(tune_id)
            if config == "FINISHED":
                tune.searcher.close()
                return 0
            if isinstance(config, dict):
                tune._id_of[config["number"]] = tune_id
                live.append(config["number"])
                had += 1
                continue
            if had >= halts_with:
                os.kill(os.getpid(), signal.SIGSTOP)
            while live:
                tune.finish(live.pop())
            tune.stopper.stop_all()
        return 70

    return in_process.in_child(drive)


@needs_postgres
def test_two_drivers_run_each_trial_of_one_study_once_though_one_is_killed(database: str) -> None:
    url, folders = storage.address(database), (Path("/a"), Path("/b"))
    pids = [searching(url, str(folders[0]), halts_with=TRIALS // 5), searching(url, str(folders[1]))]
    wait_halted(pids[0])
    left = held_by(url, folders[0])
    os.kill(pids[0], signal.SIGKILL)
    assert [wait(pid) for pid in pids] == [SIGKILLED, 0]

    trials = trials_in(url)
    assert [trial.number for trial in trials if trial.state.name == "COMPLETE"] == list(range(TRIALS))
    assert started(trials) == list(range(TRIALS))
    again = {number for number, count in attempts(trials).items() if count > 1}
    assert again <= set(left)  # one may have been taken and not yet counted
    of_a, of_b = (held_by(url, folder, "COMPLETE") for folder in folders)
    assert of_a and left and set(left) <= set(of_b) and len(of_a) + len(of_b) == TRIALS


@needs_postgres
def test_a_driver_that_slept_past_its_lease_finishes_nothing_that_another_took(database: str, tmp_path: Path) -> None:
    url = storage.address(database)
    a = sweeping(tmp_path / "a", "--trials", "12", lease_s=1.0, before=partial(halt_at, 12, ToyEngine, "iterate"))
    wait_halted(a)
    assert (left := held_by(url, tmp_path / "a/run"))
    assert wait(sweeping(tmp_path / "b", "--trials", "12", lease_s=1.0)) == 0
    before = [vars(trial) for trial in trials_in(url)]
    assert set(left) <= set(held_by(url, tmp_path / "b/run", "COMPLETE"))
    os.kill(a, signal.SIGCONT)
    assert wait(a) == 0
    assert [vars(trial) for trial in trials_in(url)] == before


@needs_postgres
def test_a_driver_that_slept_in_the_middle_of_a_write_keeps_nobody_waiting_and_goes_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage, "_HALTED_MS", 5_000)
    url = storage.address(database)
    halts = partial(halt_at, 40, LeasedStorage, "check_trial_is_updatable")  # which has the trial's row locked
    a = sweeping(tmp_path / "a", "--trials", "12", lease_s=1.0, before=halts)
    wait_halted(a)
    assert (left := held_by(url, tmp_path / "a/run"))
    assert wait(sweeping(tmp_path / "b", "--trials", "12", lease_s=1.0)) == 0
    before = [vars(trial) for trial in trials_in(url)]
    assert set(left) <= set(held_by(url, tmp_path / "b/run", "COMPLETE"))
    os.kill(a, signal.SIGCONT)
    assert wait(a) == 75
    assert "was lost" in (said := capfd.readouterr().err) and "the same command goes on" in said
    assert wait(sweeping(tmp_path / "a", "--trials", "12")) == 0
    assert [vars(trial) for trial in trials_in(url)] == before


@needs_postgres
def test_a_sweep_whose_drivers_were_all_killed_goes_on(database: str, tmp_path: Path) -> None:
    url = storage.address(database)
    outs = tmp_path / "a", tmp_path / "b"
    pids = [sweeping(out, "--trials", "30") for out in outs]
    until(lambda: all(held_by(url, out / "run", "COMPLETE") for out in outs))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert [wait(pid) for pid in pids] == [SIGKILLED] * 2
    before = {trial.number: vars(trial) for trial in trials_in(url) if trial.state.name == "COMPLETE"}
    pids = [sweeping(out, "--trials", "30") for out in outs]
    assert [wait(pid) for pid in pids] == [0, 0]
    after = {trial.number: vars(trial) for trial in trials_in(url)}
    assert {number: after[number] for number in before} == before
    assert started(trials_in(url)) == list(range(30))
    assert Counter(trial.state.name for trial in trials_in(url))["COMPLETE"] == 30
    assert wait(sweeping(tmp_path / "a", "--trials", "33")) == 0  # and a larger budget extends it
    assert started(trials_in(url)) == list(range(33))


@needs_postgres
def test_a_database_that_goes_away_interrupts_a_sweep_that_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.temporary_folder() as folder:
        server = postgres.made(folder)
        with postgres.started(folder, server):
            url = server.create("tuner")
            monkeypatch.setenv(storage.VARIABLE, url)
            pid = sweeping(tmp_path / "a", "--trials", "40")
            until(lambda: held_by(url, tmp_path / "a/run", "COMPLETE"))
        assert wait(pid) == 75
        with postgres.started(folder, server):
            assert wait(sweeping(tmp_path / "a", "--trials", "40")) == 0


@pytest.fixture
def two(database: str, tmp_path: Path) -> tuple[Path, Path]:
    """The run folders of two drivers, one after the other: the first ran trials 0 to 2, the second 3 and 4."""
    for name, trials in (("a", "3"), ("b", "5")):
        assert wait(sweeping(tmp_path / name, "--trials", trials)) == 0
    return tmp_path / "a" / "run", tmp_path / "b" / "run"


@needs_postgres
def test_the_password_is_written_nowhere(
    two: tuple[Path, Path], server: postgres.Server, capfd: pytest.CaptureFixture[str]
) -> None:
    for run in two:
        assert [name for name, data in tree(run).items() if server.password.encode() in data] == []
        assert f"127.0.0.1:{server.port}" in (run / "sweep.json").read_text()
        assert report.main([str(run)]) == 0
        assert doctor.main([str(run)]) == 0
    said = capfd.readouterr()
    assert server.password not in said.out + said.err


@needs_postgres
def test_what_ran_elsewhere_is_said_where_its_files_are_missing(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = two
    where = f"ran elsewhere: its files are in the run folder of {lease.socket.gethostname()}:{a}"
    assert doctor.main([str(b)]) == 0
    said = capsys.readouterr().out
    assert all(f"trial {number} {where}" in said for number in (0, 1, 2)) and "trial 3" not in said
    assert report.main([str(b)]) == 0
    assert f"trial 0 {where}; best/ lacks its curves" in caplog.text
    assert where in (b / "report.html").read_text()
    summary = json.loads((b / "summary.json").read_bytes())
    assert summary["trials"] == {"COMPLETE": 5} and summary["baseline"]["elsewhere"].endswith(f":{a}")
    with pytest.raises(UsageError, match="trial 0 ran elsewhere"):
        SweepResult.load(b).plot()


@needs_postgres
def test_the_best_of_a_run_folder_without_the_winner_is_its_configuration(two: tuple[Path, Path]) -> None:
    a, b = two
    best = json.loads((b / "summary.json").read_bytes())["best"]
    here, there = (a, b) if best["number"] >= 3 else (b, a)
    assert report.main([str(here)]) == report.main([str(there)]) == 0
    assert (here / "best/config.yaml").read_bytes() == (there / "best/config.yaml").read_bytes()
    assert not (here / "best/checkpoint").exists() and (there / "best/checkpoint").is_dir()
    assert {path.name for path in (here / "best").iterdir()} >= {"curves.csv", "curves.png", "curves.html"}
    with pytest.raises(UsageError, match=r"ran elsewhere: its files are in the run folder of .*; play it there"):
        policy_folder(here)


@needs_postgres
@pytest.mark.parametrize(
    ("words", "difference"),
    [(("--seed", "7"), "--seed is 1 there, 7 here"), (("--set", "gamma=0.9"), "baseline.gamma"),
     (("--episodes", "11"), "--episodes is 10 there, 11 here")],
)  # fmt: skip
def test_a_driver_of_another_sweep_is_refused_with_the_difference(
    words: tuple[str, ...], difference: str, database: str, tmp_path: Path
) -> None:
    assert wait(sweeping(tmp_path / "a", "--trials", "2")) == 0
    options = ("--race-seeds", "0", "--sampler", "random", "--trials", "2", "--episodes", "10", *words)
    code, said = in_process.swept(tmp_path / "b", *options)
    assert code == 3 and difference in said and "the study run in postgresql://" in said
    assert not (tmp_path / "b").exists()


@needs_postgres
def test_a_run_folder_stays_with_its_database(
    two: tuple[Path, Path], server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = two
    written = tree(a)
    url = os.environ[storage.VARIABLE]
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
    code, said = in_process.swept(a.parent, "--storage", elsewhere)
    assert code == 3 and url.rpartition("@")[2] in said and elsewhere in said and server.password not in said
    assert tree(a) == written and not (tmp_path / "other.db").exists()
    same = url.replace("postgresql:", "postgresql+psycopg:").replace(f":{server.password}", "")
    options = ("--trials", "3", "--episodes", "10", "--race-seeds", "0", "--sampler", "random")
    for words in ((*options, "--storage", same), options):  # written otherwise; and left out, for it is known
        code, said = in_process.swept(a.parent, *words)
        assert code == 0, said
    monkeypatch.delenv(storage.VARIABLE)
    code, said = in_process.swept(tmp_path / "own", *options)
    assert code == 0, said
    code, said = in_process.swept(tmp_path / "own", *options, "--storage", elsewhere)
    assert code == 3 and "study.db" in said and elsewhere in said


@needs_postgres
def test_a_study_that_is_gone_from_its_database_is_never_begun_anew(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, _ = two
    optuna.delete_study(study_name="run", storage=storage.address(os.environ[storage.VARIABLE]))
    assert report.main([str(a)]) == 3
    assert "holds no study run" in capsys.readouterr().err
    code, said = in_process.swept(a.parent, "--trials", "3", "--episodes", "10", "--sampler", "random")
    assert code == 3 and "holds no study run" in said


@needs_postgres
def test_a_run_folder_whose_database_is_out_of_reach_is_bad_input(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, _ = two
    monkeypatch.delenv(storage.VARIABLE)
    for main in (report.main, doctor.main):
        assert main([str(a)]) == 2
        assert "put the whole URL with its password into TUNER_STORAGE" in capsys.readouterr().err


@needs_postgres
def test_the_board_names_the_database_without_its_password(two: tuple[Path, Path], server: postgres.Server) -> None:
    shown = board._study_of(RunDir(two[0]))
    assert shown.startswith(f"postgresql://{postgres.USER}@127.0.0.1:{server.port}/")


@needs_postgres
def test_a_dry_run_says_where_the_study_is_and_makes_nothing(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main(["cartpole", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert f"study     cartpole in {database}" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert held_by(storage.address(database), tmp_path) == []  # there are no tables


def test_a_file_can_be_shared_like_a_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    pids = [sweeping(tmp_path / name, "--trials", "16", "--storage", url, lease_s=10.0) for name in "ab"]
    assert [wait(pid) for pid in pids] == [0, 0]
    assert attempts(trials_in(url)) == dict.fromkeys(range(16), 1)
    assert not list(tmp_path.glob("*/run/study.db"))


@needs_postgres
@pytest.mark.ray
def test_a_real_sweep_has_its_study_in_a_database_with_a_password_file(
    command: Command, server: postgres.Server, tmp_path: Path
) -> None:
    server.create("real")
    word = tmp_path / "pgpass"
    word.write_text(f"127.0.0.1:{server.port}:real:{postgres.USER}:{server.password}\n")
    word.chmod(0o600)
    words = ("cartpole", "--trials", "3", "--episodes", "60", "--race-seeds", "0", "--parallel", "1")
    words += ("--out", str(tmp_path / "out"))
    url = server.url("real", has_password=False)
    done = command("sweep", *words, "--storage", url, env={"PGPASSFILE": str(word)})
    assert done.returncode == 0, done.stderr
    run = tmp_path / "out" / "cartpole"
    assert json.loads((run / "summary.json").read_bytes())["trials"] == {"COMPLETE": 3}
    assert not (run / "study.db").exists() and (run / "best/checkpoint").is_dir()
    assert [name for name, data in tree(run).items() if server.password.encode() in data] == []
    again = command("sweep", *words, env={"PGPASSFILE": str(word)})
    assert again.returncode == 0 and "started" not in again.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(word))
        assert len(open_study(RunDir(run))[0].records()) == 3
