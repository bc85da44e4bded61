"""Where Tune meets the study: driven here by a stand-in for Tune on a real SQLite study, without Ray."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from tuner.deaths import Death
from tuner.episodes import Outcome
from tuner.hooks import MAX_DEATHS, Part, Relay, StudySearcher, StudyStopper
from tuner.space import Float, SearchSpace
from tuner.study import SweepStudy, TrialRecord, TrialState

SPACE = SearchSpace(
    env="CartPole-v1",
    threshold=100,
    window=5,
    max_episodes=50,
    baseline={"lr": 1e-3},
    params={"lr": Float(1e-4, 1e-2, log=True), "gamma": Float(0.9, 0.999)},
)

OUTCOME = Outcome(episodes=50, env_steps=1000, episodes_to_threshold=None, best_mean=60.0)


class Notes:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, TrialState]] = []

    def on_start(self, record: TrialRecord) -> None:
        self.events.append(("start", record.number, record.state))

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        self.events.append(("progress", record.number, record.state))

    def on_finish(self, record: TrialRecord) -> None:
        self.events.append(("finish", record.number, record.state))


class Broken(Notes):
    """A watcher with a defect."""

    def on_start(self, record: TrialRecord) -> None:
        raise ZeroDivisionError


class BrokenAtTheEnd(Notes):
    """A watcher that fails when a trial ends."""

    def on_finish(self, record: TrialRecord) -> None:
        raise ZeroDivisionError


class FakeTune:
    """Asks for trials and hands results on as Tune does; names trials by ids of its own."""

    def __init__(self, study: SweepStudy, trials: int = 4, parallel: int = 2, watcher: Any = None) -> None:
        watchers = [watcher] if watcher else []
        self.searcher = StudySearcher(
            study,
            trials=trials,
            parallel=lambda: parallel,
            watchers=watchers,
            to_config=lambda record: {"number": record.number, **record.params},
        )
        self.stopper = StudyStopper(study, self.searcher, watchers)
        self.configs: list[dict[str, Any]] = []
        self._ids = map(str, itertools.count())
        self._id_of: dict[int, str] = {}

    def start(self) -> list[int]:
        """Start all that may start now; their numbers in the study."""
        started = []
        while isinstance(config := self.searcher.suggest(tune_id := next(self._ids)), dict):
            self._id_of[config["number"]] = tune_id
            self.configs.append(config)
            started.append(config["number"])
        return started

    def result(self, number: int, outcome: Outcome = OUTCOME, **values: Any) -> bool:
        """Hand over a result of a running trial; whether it must stop."""
        result = {"failed": None, "done": False, "wall_s": 1.5, "reports": [], **vars(outcome)}
        return self.stopper(self._id_of[number], result | values)

    def end(self, number: int, error: bool = False) -> None:
        """Say that a trial is over."""
        self.searcher.on_trial_complete(self._id_of[number], error=error)

    def finish(self, number: int) -> None:
        """Let a trial reach its end."""
        self.result(number, done=True)
        self.end(number)

    def run(self) -> list[int]:
        """Run to the end; the numbers in the order of starting."""
        order = []
        while started := self.start():
            order += started
            for number in started:
                self.finish(number)
        return order


Open = Callable[..., SweepStudy]


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a study that was just created; a copy is faster than another creation."""
    path = tmp_path_factory.mktemp("new") / "study.db"
    SweepStudy(f"sqlite:///{path}", SPACE)
    return path.read_bytes()


@pytest.fixture
def reopen(tmp_path: Path, new: bytes) -> Open:
    """Opens the same study as a new driver would."""
    (tmp_path / "study.db").write_bytes(new)
    return lambda **options: SweepStudy(f"sqlite:///{tmp_path / 'study.db'}", SPACE, sampler="random", **options)


@pytest.fixture
def study(reopen: Open) -> SweepStudy:
    return reopen()


def states(study: SweepStudy) -> list[TrialState]:
    """The state of every trial, by number."""
    return [record.state for record in study.records()]


def test_exactly_the_budget_is_run(study: SweepStudy) -> None:
    assert FakeTune(study, trials=5).run() == [0, 1, 2, 3, 4]


def test_every_trial_of_a_sweep_that_ran_to_its_end_is_complete(study: SweepStudy) -> None:
    FakeTune(study, trials=5).run()
    assert states(study) == [TrialState.COMPLETE] * 5


@pytest.mark.parametrize("parallel", [1, 3])
def test_at_most_parallel_trials_run_at_once(parallel: int, study: SweepStudy) -> None:
    assert len(FakeTune(study, trials=6, parallel=parallel).start()) == parallel


def test_a_trial_that_ended_makes_room_for_one_more(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.finish(1)
    assert tune.start() == [2]


def test_a_trial_gets_the_configuration_of_its_record(study: SweepStudy) -> None:
    tune = FakeTune(study, parallel=3)
    tune.start()
    assert tune.configs == [{"number": record.number, **record.params} for record in study.records()]


def test_tune_is_told_to_wait_while_the_last_trials_run(study: SweepStudy) -> None:
    tune = FakeTune(study, trials=1)
    tune.start()
    assert tune.searcher.suggest("another") is None


def test_tune_is_told_the_end_when_nothing_is_left(study: SweepStudy) -> None:
    tune = FakeTune(study, trials=2)
    tune.run()
    assert tune.searcher.suggest("another") == Searcher.FINISHED


def test_a_finished_sweep_starts_nothing(study: SweepStudy, reopen: Open) -> None:
    FakeTune(study, trials=3).run()
    assert FakeTune(reopen(), trials=3).run() == []


def test_a_larger_budget_runs_what_is_missing(study: SweepStudy, reopen: Open) -> None:
    FakeTune(study, trials=3).run()
    assert FakeTune(reopen(), trials=5).run() == [3, 4]


def test_a_smaller_budget_starts_nothing(study: SweepStudy, reopen: Open) -> None:
    FakeTune(study, trials=3).run()
    assert FakeTune(reopen(), trials=1).run() == []


def test_interrupted_trials_go_on_before_new_ones_start(study: SweepStudy, reopen: Open) -> None:
    tune = FakeTune(study, trials=6, parallel=3)
    tune.start()
    tune.finish(1)
    tune.searcher.close()
    assert FakeTune(reopen(), trials=6, parallel=1).run() == [0, 2, 3, 4, 5]


def test_an_interrupted_trial_goes_on_under_its_parameters(study: SweepStudy, reopen: Open) -> None:
    before = FakeTune(study)
    before.start()
    before.searcher.close()
    after = FakeTune(reopen())
    after.start()
    assert after.configs == before.configs


def test_the_trials_of_a_killed_driver_go_on(study: SweepStudy, reopen: Open) -> None:
    FakeTune(study).start()
    assert FakeTune(reopen()).run() == [0, 1, 2, 3]


def test_every_start_is_an_attempt(study: SweepStudy, reopen: Open) -> None:
    FakeTune(study).start()
    FakeTune(reopen()).run()
    assert [record.attempts for record in study.records()] == [2, 2, 1, 1]


def test_a_trial_whose_process_died_is_tried_again(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.end(1, error=True)
    assert tune.start() == [1]


def test_a_trial_that_is_tried_again_keeps_its_parameters(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.end(1, error=True)
    tune.start()
    assert tune.configs[-1] == tune.configs[1]


def test_a_process_that_died_disturbs_no_other_trial(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.end(1, error=True)
    tune.finish(0)
    assert study.record(0).state is TrialState.COMPLETE


def test_a_trial_whose_process_keeps_dying_is_failed_with_the_number_of_deaths(study: SweepStudy) -> None:
    tune = FakeTune(study, trials=2)
    for _ in range(MAX_DEATHS):
        tune.start()
        tune.end(1, error=True)
    record = study.record(1)
    assert (record.state, record.reason) == (
        TrialState.FAILED,
        f"its process died {MAX_DEATHS} times, at last of this: killed, or it crashed",
    )


def test_a_trial_whose_process_keeps_dying_is_not_started_without_end(study: SweepStudy) -> None:
    tune = FakeTune(study, trials=2, parallel=1)
    starts = 0
    while tune.start():
        starts += 1
        for number in list(tune.searcher.live.values()):
            tune.end(number.record.number, error=True)
    assert starts == 2 * MAX_DEATHS


def test_a_sweep_goes_on_after_a_trial_whose_process_kept_dying(study: SweepStudy) -> None:
    tune = FakeTune(study, trials=3, parallel=1)
    for _ in range(MAX_DEATHS):
        tune.start()
        tune.end(0, error=True)
    assert tune.run() == [1, 2]


def test_interruptions_on_request_do_not_count_as_deaths_of_the_process(study: SweepStudy, reopen: Open) -> None:
    for _ in range(MAX_DEATHS):
        tune = FakeTune(reopen(), trials=1)
        tune.start()
        tune.searcher.close()
    tune = FakeTune(reopen(), trials=1)
    tune.start()
    tune.end(0, error=True)
    assert tune.start() == [0]


def test_a_trial_that_is_done_is_complete_with_its_outcome(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.finish(1)
    record = study.record(1)
    assert (record.state, record.outcome, record.wall_s) == (TrialState.COMPLETE, OUTCOME, 1.5)


def test_a_failed_result_is_a_failed_trial_with_its_reason(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(1, failed="ValueError: it broke", done=True)
    tune.end(1)
    record = study.record(1)
    assert (record.state, record.reason) == (TrialState.FAILED, "ValueError: it broke")


def test_a_trial_that_fails_before_its_first_episode_is_failed_too(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.stopper(next(iter(tune.searcher.live)), {"failed": "no such environment", "done": True})
    tune.end(0)
    assert study.record(0).reason == "no such environment"


def test_after_a_failed_trial_the_next_one_starts(study: SweepStudy) -> None:
    tune = FakeTune(study, parallel=1)
    tune.start()
    tune.result(0, failed="ValueError: it broke", done=True)
    tune.end(0)
    assert tune.start() == [1]


def test_a_sweep_whose_every_trial_fails_still_ends_after_its_budget(study: SweepStudy) -> None:
    tune = FakeTune(study, trials=3)
    while started := tune.start():
        for number in started:
            tune.result(number, failed="ValueError: it broke", done=True)
            tune.end(number)
    assert states(study) == [TrialState.FAILED] * 3


def test_a_trial_in_which_no_episode_ended_is_failed(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(1, Outcome(env_steps=9000), done=True)
    tune.end(1)
    assert study.record(1).state is TrialState.FAILED


def test_a_report_that_an_earlier_attempt_made_is_not_made_again(study: SweepStudy, reopen: Open) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(1, reports=[[5, 80.0]])
    tune.searcher.close()
    tune = FakeTune(reopen())
    tune.start()
    tune.result(1, reports=[[5, 80.0], [10, 70.0]])
    assert study.record(1).reports == {5: 80.0, 10: 70.0}


def test_reports_reach_the_study(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(1, reports=[[5, 80.0], [10, 70.0]])
    assert study.record(1).reports == {5: 80.0, 10: 70.0}


def test_a_running_trial_is_not_stopped_without_a_pruner(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(0, reports=[[10, 10.0]])
    assert tune.result(1, reports=[[10, 99.0]]) is False


def test_a_trial_that_the_pruner_gives_up_is_stopped(reopen: Open) -> None:
    tune = FakeTune(reopen(pruner="asha"), parallel=3)
    tune.start()
    tune.result(1, reports=[[10, 10.0]])
    assert tune.result(2, reports=[[10, 99.0]]) is True


def test_a_trial_that_the_pruner_gave_up_is_pruned(reopen: Open) -> None:
    study = reopen(pruner="asha")
    tune = FakeTune(study, parallel=3)
    tune.start()
    tune.result(1, reports=[[10, 10.0]])
    tune.result(2, reports=[[10, 99.0]])
    tune.end(2)
    assert study.record(2).state is TrialState.PRUNED


def test_pruning_never_ends_the_baseline(reopen: Open) -> None:
    tune = FakeTune(reopen(pruner="asha"))
    tune.start()
    tune.result(1, reports=[[10, 10.0]])
    assert tune.result(0, reports=[[10, 99.0]]) is False


def test_a_trial_that_is_done_is_complete_even_where_the_pruner_would_give_it_up(reopen: Open) -> None:
    study = reopen(pruner="asha")
    tune = FakeTune(study, parallel=3)
    tune.start()
    tune.result(1, reports=[[10, 10.0]])
    tune.result(2, reports=[[10, 99.0]], done=True)
    tune.end(2)
    assert study.record(2).state is TrialState.COMPLETE


def test_a_pruned_trial_counts_towards_the_budget(reopen: Open) -> None:
    tune = FakeTune(reopen(pruner="asha"), trials=3, parallel=3)
    tune.start()
    tune.result(1, reports=[[10, 10.0]])
    tune.result(2, reports=[[10, 99.0]])
    tune.end(2)
    assert tune.start() == []


def test_closing_leaves_no_running_trial_behind(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(1)
    tune.searcher.close()
    assert states(study) == [TrialState.WAITING] * 2


def test_closing_leaves_no_trial_running_whose_process_had_just_died(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.end(1, error=True)
    tune.searcher.close()
    assert states(study) == [TrialState.WAITING] * 2


def test_closing_leaves_no_trial_of_a_killed_driver_running_that_had_no_turn(study: SweepStudy, reopen: Open) -> None:
    FakeTune(study, parallel=2).start()
    tune = FakeTune(reopen(), parallel=1)
    tune.start()
    tune.searcher.close()
    assert states(study) == [TrialState.WAITING] * 2


def test_closing_finishes_a_trial_whose_last_result_had_come(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(1, done=True)
    tune.searcher.close()
    assert states(study) == [TrialState.WAITING, TrialState.COMPLETE]


def test_a_result_of_a_trial_that_is_over_changes_nothing(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.finish(1)
    before = study.records()
    tune.result(1, reports=[[10, 1.0]])
    tune.end(1)
    assert study.records() == before


def test_a_watcher_is_told_of_every_start_progress_and_end(study: SweepStudy) -> None:
    notes = Notes()
    FakeTune(study, trials=1, watcher=notes).run()
    assert notes.events == [
        ("start", 0, TrialState.RUNNING),
        ("progress", 0, TrialState.RUNNING),
        ("finish", 0, TrialState.COMPLETE),
    ]


def test_a_watcher_is_not_shown_a_failed_result_as_progress(study: SweepStudy) -> None:
    notes = Notes()
    tune = FakeTune(study, trials=1, watcher=notes)
    tune.start()
    tune.result(0, failed="ValueError: it broke", done=True)
    tune.end(0)
    assert [event for event, _, _ in notes.events] == ["start", "finish"]


def test_a_watcher_is_not_told_that_an_interrupted_trial_ended(study: SweepStudy) -> None:
    notes = Notes()
    tune = FakeTune(study, trials=1, watcher=notes)
    tune.start()
    tune.searcher.close()
    assert [event for event, _, _ in notes.events] == ["start"]


def test_a_defect_of_our_own_stops_the_sweep(study: SweepStudy) -> None:
    tune = FakeTune(study, watcher=Broken())
    with pytest.raises(ZeroDivisionError):
        tune.start()
    assert tune.stopper.stop_all()


def test_a_defect_of_our_own_is_raised_at_the_end_with_no_trial_left_running(study: SweepStudy) -> None:
    tune = FakeTune(study, watcher=Broken())
    with pytest.raises(ZeroDivisionError):
        tune.start()
    with pytest.raises(ZeroDivisionError):
        tune.searcher.close()
    assert states(study) == [TrialState.WAITING]


def test_a_defect_in_telling_of_one_trials_end_leaves_the_others_not_running(study: SweepStudy) -> None:
    tune = FakeTune(study, watcher=BrokenAtTheEnd())
    tune.start()
    tune.result(0, done=True)
    with pytest.raises(ZeroDivisionError):
        tune.searcher.close()
    assert states(study) == [TrialState.COMPLETE, TrialState.WAITING]


def test_one_trials_result_never_stops_all_of_them(study: SweepStudy) -> None:
    tune = FakeTune(study)
    tune.start()
    tune.result(1, failed="ValueError: it broke", done=True)
    assert tune.stopper.stop_all() is False


@pytest.mark.parametrize("part", ["searcher", "stopper"])
def test_what_tune_pickles_into_its_snapshots_holds_nothing_of_ours(part: str, study: SweepStudy) -> None:
    tune = FakeTune(study)
    assert vars(pickle.loads(pickle.dumps(getattr(tune, part)))) == {}  # noqa: S301 pickled on the same line


def test_tunes_own_objective_is_left_unused(study: SweepStudy) -> None:
    assert FakeTune(study).searcher.set_search_properties("reward", "max", {}) is True


def searcher_of(study: SweepStudy, **options: Any) -> StudySearcher:
    return StudySearcher(
        study, trials=2, parallel=lambda: 1, to_config=lambda record: {"number": record.number}, **options
    )


def test_a_trial_that_would_end_its_process_again_is_failed_at_once_with_the_cause(study: SweepStudy) -> None:
    searcher = searcher_of(study, death_of=lambda trial_id, record: Death("no iteration within 5 s", is_final=True))
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    record = study.record(0)
    assert (record.state, record.reason) == (TrialState.FAILED, "no iteration within 5 s")


def test_the_cause_of_a_death_is_on_record_and_the_last_one_is_the_reason(study: SweepStudy) -> None:
    searcher = searcher_of(study, death_of=lambda trial_id, record: Death(f"cause {trial_id}"))
    for death in range(MAX_DEATHS):
        searcher.suggest(str(death))
        searcher.on_trial_complete(str(death), error=True)
    assert study.record(0).reason == f"its process died {MAX_DEATHS} times, at last of this: cause {MAX_DEATHS - 1}"


@pytest.mark.parametrize("last", [None, {"failed": "BrokenPipeError: [Errno 32]", "done": True}])
def test_what_dies_or_fails_while_a_sweep_is_stopping_is_to_blame_for_nothing(
    last: dict[str, Any] | None, reopen: Open
) -> None:
    study, is_stopping = reopen(), False
    searcher = searcher_of(study, is_stopping=lambda: is_stopping)
    searcher.suggest("a")
    is_stopping = True
    if last is not None:
        StudyStopper(study, searcher)("a", last)
    searcher.on_trial_complete("a", last, error=last is None)
    assert searcher.suggest("b") is None
    assert (study.record(0).state, study.record(0).reason) == (TrialState.WAITING, None)
    for death in range(MAX_DEATHS - 1):  # the one above did not count
        tune = FakeTune(reopen(), trials=1)
        assert tune.start() == [0], death
        tune.end(0, error=True)
    assert study.record(0).state is not TrialState.FAILED


class Parts:
    """Two parts that give out one trial of a study each, and what became of them."""

    def __init__(self, study: SweepStudy, fails_at_end: bool = False) -> None:
        self.events: list[str] = []
        self._study = study
        self._fails = fails_at_end

    def __call__(self) -> Generator[Part]:
        for number in (1, 2):
            searcher = StudySearcher(self._study, trials=number, parallel=lambda: 1, to_config=lambda record: {})
            self.events.append(f"{number} began")
            try:
                yield Part(searcher, StudyStopper(self._study, searcher))
            finally:
                self.events.append(f"{number} ended")
                if self._fails:
                    raise ZeroDivisionError


RESULT = {"failed": None, "done": True, "wall_s": 1.5, "reports": [], **vars(OUTCOME)}


def test_a_relay_begins_the_next_part_once_nothing_of_the_one_before_is_left_or_running(study: SweepStudy) -> None:
    parts = Parts(study)
    relay = Relay(parts())
    assert (relay.suggest("a"), relay.suggest("b"), parts.events) == ({}, None, ["1 began"])
    relay("a", RESULT)
    relay.on_trial_complete("a")
    assert (relay.suggest("c"), parts.events) == ({}, ["1 began", "1 ended", "2 began"])
    relay("c", RESULT)
    relay.on_trial_complete("c")
    assert relay.suggest("d") == Searcher.FINISHED
    assert not relay.stop_all()
    relay.close()
    assert parts.events == ["1 began", "1 ended", "2 began", "2 ended"]
    assert states(study) == [TrialState.COMPLETE] * 2


def test_what_fails_between_two_parts_stops_all_and_is_raised_at_the_end(study: SweepStudy) -> None:
    relay = Relay(Parts(study, fails_at_end=True)())
    relay.suggest("a")
    relay("a", RESULT)
    relay.on_trial_complete("a")
    with pytest.raises(ZeroDivisionError):  # Tune hides it
        relay.suggest("b")
    assert relay.stop_all()
    with pytest.raises(ZeroDivisionError):
        relay.close()


def test_a_relay_that_is_closed_ends_the_part_under_way(study: SweepStudy) -> None:
    parts = Parts(study)
    relay = Relay(parts())
    relay.suggest("a")
    relay.close()
    assert parts.events == ["1 began", "1 ended"]


def test_a_relay_is_closed_while_a_part_waits_for_a_ray_that_is_gone(study: SweepStudy) -> None:
    is_asked, goes_on = threading.Event(), threading.Event()

    def parallel() -> int:
        is_asked.set()
        goes_on.wait(30)
        return 1

    def parts() -> Generator[Part]:
        searcher = StudySearcher(study, trials=1, parallel=parallel, to_config=lambda record: {})
        yield Part(searcher, StudyStopper(study, searcher))

    relay = Relay(parts())
    tune = threading.Thread(target=relay.suggest, args=("a",))
    tune.start()
    assert is_asked.wait(30)
    closing = threading.Thread(target=relay.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    goes_on.set()
    tune.join(30)
