"""The study on a real SQLite file: what is handed out, what is recorded, and what survives a reopened database."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from search_spaces.cartpole import space as cartpole
from tuner.episodes import Outcome, score
from tuner.errors import StudyUnreadable, UsageError
from tuner.space import Choice, Float, Int, SearchSpace
from tuner.study import STARTUP_TRIALS, SweepStudy, TrialRecord, TrialState, check_grid

SPACE = SearchSpace(
    env="CartPole-v1", threshold=100, window=5, max_episodes=50,
    baseline={"lr": 1e-3, "gamma": 0.99, "train_batch_size": 128, "minibatch_size": 32, "fcnet_hiddens": [64, 32]},
    params={
        "lr": Float(1e-4, 1e-2, log=True),
        "num_epochs": Int(2, 30),
        "train_batch_size": Choice(64, 128, 512),
        "minibatch_size": Choice(32, 64, 256),
        "lr_anneal_steps": Choice(None, 30_000),
        "fcnet_hiddens": Choice([64, 32], [64, 64], [128, 128]),
    },
)  # fmt: skip

GRID = SearchSpace(
    env="CartPole-v1", threshold=100, window=5, max_episodes=50,
    baseline={"gamma": 0.99, "fcnet_hiddens": [64, 32]},
    params={
        "gamma": Choice(0.98, 0.99),
        "fcnet_hiddens": Choice([64, 32], [64, 64]),
        "lr": Float(1e-5, 1e-3, log=True),
    },
)  # fmt: skip

# TPE learns from the trials before it only after its random ones.
SUGGESTED = {"tpe": STARTUP_TRIALS + 2, "random": 3, "qmc": 4}

NEXT_PARAMS = """
import json, sys
from tuner.space import SearchSpace
from tuner.study import SweepStudy

url, sampler, space = sys.argv[1:]
study = SweepStudy(url, SearchSpace.from_json(json.loads(space)), sampler=sampler)
print(json.dumps(dict(study.start_next().suggested)))
"""

Open = Callable[..., SweepStudy]


def url(path: Path) -> str:
    """The study's database in `path`."""
    return f"sqlite:///{path}"


def missed(best_mean: float, episodes: int = 50) -> Outcome:
    """A run that used its budget."""
    return Outcome(episodes, 1000, None, best_mean)


def reached(at: int) -> Outcome:
    """A run that reached the threshold."""
    return Outcome(at, 20 * at, at, 101.0)


def finish_as_usual(study: SweepStudy, record: TrialRecord) -> None:
    """The outcome that a trial of these parameters always has."""
    study.complete(record.number, missed(40 + 10 * math.log10(record.params["lr"]), 50), wall_s=1.0)


def raw_trials(path: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials as Optuna alone reads them."""
    return optuna.load_study(study_name="sweep", storage=url(path)).trials


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


@pytest.fixture
def reopen(path: Path) -> Open:
    """Opens the same database as a new driver would."""

    def open_study(space: SearchSpace = SPACE, **options: Any) -> SweepStudy:
        return SweepStudy(url(path), space, **options)

    return open_study


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a study of SPACE that was just created; a copy is faster than another creation."""
    path = tmp_path_factory.mktemp("new") / "study.db"
    SweepStudy(url(path), SPACE)
    return path.read_bytes()


@pytest.fixture
def study(path: Path, new: bytes, reopen: Open) -> SweepStudy:
    path.write_bytes(new)
    return reopen()


@pytest.fixture
def beside(tmp_path: Path, new: bytes) -> Callable[[str], str]:
    """Further databases of SPACE, each under a name of its own."""

    def create(name: str) -> str:
        (tmp_path / name).write_bytes(new)
        return url(tmp_path / name)

    return create


class Killed(BaseException):
    """What nothing catches."""


def test_a_study_whose_making_was_killed_between_any_two_tables_and_indexes_is_made_whole(tmp_path: Path) -> None:
    def indexes(file: Path) -> set[str]:
        with sqlite3.connect(file) as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}

    whole, last, is_killed = tmp_path / "whole.db", 0, True
    SweepStudy(f"sqlite:///{whole}", SPACE)
    while is_killed:
        last += 1
        left = itertools.count(last, -1)

        def die(connection: Any, cursor: Any, statement: str, *_: Any, left: Iterator[int] = left) -> None:
            if statement.lstrip().startswith("CREATE") and next(left) == 1:
                raise Killed

        file = tmp_path / f"{last}.db"
        event.listen(Engine, "before_cursor_execute", die)
        try:
            SweepStudy(f"sqlite:///{file}", SPACE)
            is_killed = False
        except Killed:
            pass
        finally:
            event.remove(Engine, "before_cursor_execute", die)
        first = SweepStudy(f"sqlite:///{file}", SPACE).start_next()
        assert first is not None and first.number == 0
        assert indexes(file) == indexes(whole)
    assert last > 12, "Optuna makes fewer tables and indexes than this test was meant for"


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "qmc", "random", "grid"])
def test_trial_0_is_the_baseline_whatever_the_sampler(sampler: str, reopen: Open) -> None:
    record = reopen(GRID, sampler=sampler).start_next()
    assert (record.number, record.suggested) == (0, {name: GRID.baseline[name] for name in GRID.params})


def test_cartpoles_trial_0_is_cartpoles_baseline(reopen: Open) -> None:
    assert reopen(cartpole).start_next().params == cartpole.baseline


def test_a_study_that_was_only_opened_has_no_trials(study: SweepStudy) -> None:
    assert study.records() == []


def test_opening_a_study_again_queues_no_second_baseline(reopen: Open) -> None:
    for _ in range(3):
        study = reopen()
    study.start_next()
    assert study.start_next().params != SPACE.baseline


def test_a_trial_that_was_started_is_running(study: SweepStudy) -> None:
    assert study.start_next().state is TrialState.RUNNING


@pytest.mark.parametrize(
    ("finish", "state"),
    [
        (lambda study, number: study.complete(number, missed(50.0), 1.0), TrialState.COMPLETE),
        (lambda study, number: study.prune(number, missed(50.0), 1.0), TrialState.PRUNED),
        (lambda study, number: study.fail(number, "it broke", 1.0), TrialState.FAILED),
        (lambda study, number: study.interrupt(number), TrialState.WAITING),
    ],
    ids=["complete", "prune", "fail", "interrupt"],
)
def test_a_trials_end_is_its_state_also_for_a_new_driver(
    finish: Callable[[SweepStudy, int], None], state: TrialState, study: SweepStudy, reopen: Open
) -> None:
    finish(study, study.start_next().number)
    assert [record.state for record in reopen().records()] == [state]


def test_a_trial_is_numbered_after_the_ones_before_it(study: SweepStudy) -> None:
    assert [study.start_next().number for _ in range(4)] == [0, 1, 2, 3]


def test_a_record_holds_every_parameter_and_what_was_suggested(study: SweepStudy) -> None:
    study.start_next()
    record = study.start_next()
    assert (record.suggested.keys(), record.params.keys()) == (SPACE.params.keys(), SPACE.baseline.keys())


def test_an_outcome_is_the_same_for_a_new_driver(study: SweepStudy, reopen: Open) -> None:
    study.complete(study.start_next().number, reached(17), wall_s=12.3456)
    record = reopen().record(0)
    assert (record.outcome, record.value, record.wall_s) == (reached(17), score(reached(17), study.goal), 12.346)


def test_a_finished_trial_is_never_handed_out_again(study: SweepStudy, reopen: Open) -> None:
    for _ in range(3):
        finish_as_usual(study, study.start_next())
    assert reopen().start_next().number == 3


def test_an_interrupted_trial_goes_on_under_the_parameters_it_was_given(study: SweepStudy, reopen: Open) -> None:
    study.start_next()
    before = study.start_next()
    study.interrupt(before.number)
    after = reopen().reopen(before.number)
    assert (after.suggested, after.params) == (before.suggested, before.params)


def test_a_reopened_trial_is_running(study: SweepStudy, reopen: Open) -> None:
    study.interrupt(study.start_next().number)
    assert reopen().reopen(0).state is TrialState.RUNNING


def test_a_trial_of_a_killed_driver_goes_on_under_the_parameters_it_was_given(study: SweepStudy, reopen: Open) -> None:
    study.start_next()
    before = study.start_next()
    assert reopen().reopen(before.number).params == before.params


def test_an_interrupted_trial_is_never_handed_out_as_a_new_one(study: SweepStudy) -> None:
    study.start_next()
    study.interrupt(study.start_next().number)
    assert study.start_next().number == 2


def test_an_interrupted_trial_keeps_its_reports(study: SweepStudy, reopen: Open) -> None:
    number = study.start_next().number
    study.report(number, 5, 60.0)
    study.interrupt(number)
    assert reopen().reopen(number).reports == {5: 60.0}


def test_an_interrupted_baseline_is_still_the_first_trial_where_nothing_is_searched(reopen: Open) -> None:
    space = SearchSpace(env="CartPole-v1", window=5)
    study = reopen(space)
    study.interrupt(study.start_next().number)
    assert [record.number for record in reopen(space).records()] == [0]


@pytest.mark.parametrize("sampler", SUGGESTED)
@pytest.mark.parametrize("missing", [1, 3, 6])
def test_a_driver_that_died_between_two_parameters_leaves_a_trial_that_is_completed_as_it_was_begun(
    missing: int, sampler: str, path: Path, reopen: Open
) -> None:
    study = reopen(sampler=sampler)
    for _ in range(SUGGESTED[sampler]):
        finish_as_usual(study, study.start_next())
    whole = study.start_next()
    with sqlite3.connect(path) as database:
        database.execute(
            "delete from trial_params where param_id in "
            "(select param_id from trial_params where trial_id = ? order by param_id desc limit ?)",
            (whole.number + 1, missing),
        )
    healed = reopen(sampler=sampler).reopen(whole.number).suggested
    assert healed.keys() == whole.suggested.keys()
    if sampler != "qmc":  # whose sequence counts in the study what it gave out, and goes on with its next point
        assert healed == whole.suggested


@pytest.mark.parametrize("sampler", SUGGESTED)
def test_a_new_driver_for_every_trial_suggests_what_an_undisturbed_one_does(
    sampler: str, beside: Callable[[str], str]
) -> None:
    def suggested(database: str, is_disturbed: bool) -> list[Any]:
        study = SweepStudy(database, SPACE, sampler=sampler)
        for _ in range(SUGGESTED[sampler]):
            record = study.start_next()
            if is_disturbed:
                study.interrupt(record.number)
                study = SweepStudy(database, SPACE, sampler=sampler)
                study.reopen(record.number)
            finish_as_usual(study, record)
        return [record.suggested for record in study.records()]

    assert suggested(beside("disturbed"), True) == suggested(beside("undisturbed"), False)


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_another_process_suggests_what_this_one_would(sampler: str, study: SweepStudy, tmp_path: Path) -> None:
    study = SweepStudy(url(tmp_path / "study.db"), SPACE, sampler=sampler)
    for _ in range(SUGGESTED[sampler]):
        finish_as_usual(study, study.start_next())
    shutil.copy(tmp_path / "study.db", tmp_path / "theirs.db")
    words = [sys.executable, "-c", NEXT_PARAMS, url(tmp_path / "theirs.db"), sampler, json.dumps(SPACE.to_json())]
    theirs = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert json.loads(theirs) == study.start_next().suggested


def test_reports_do_not_change_what_is_suggested_next(beside: Callable[[str], str]) -> None:
    suggested = []
    for reports in (0, 7):
        study = SweepStudy(beside(f"{reports} reports"), SPACE, sampler="random")
        number = study.start_next().number
        for step in range(reports):
            study.report(number, 5 * step, 60.0)
            study.is_hopeless(number)
        suggested.append(study.start_next().suggested)
    assert suggested[0] == suggested[1]


@pytest.mark.parametrize("sampler", SUGGESTED)
def test_another_sampler_seed_suggests_other_parameters(sampler: str, beside: Callable[[str], str]) -> None:
    suggested = []
    for seed in (0, 1):
        study = SweepStudy(beside(f"seed {seed}"), SPACE, sampler=sampler, sampler_seed=seed)
        study.start_next()
        suggested.append(study.start_next().suggested)
    assert suggested[0] != suggested[1]


def test_what_was_lowered_is_beside_what_was_suggested(study: SweepStudy, path: Path) -> None:
    for _ in range(12):
        study.start_next()
    lowered = [
        (trial.params["minibatch_size"], trial.user_attrs["used"]["minibatch_size"])
        for trial in raw_trials(path)
        if trial.params["minibatch_size"] > trial.params["train_batch_size"]
    ]
    assert set(lowered) == {(256, 64)}


def test_a_trial_whose_suggestion_fits_has_nothing_beside_it(study: SweepStudy, path: Path) -> None:
    study.start_next()
    assert "used" not in raw_trials(path)[0].user_attrs


def test_params_are_those_that_were_used_and_suggested_those_of_the_study(study: SweepStudy, path: Path) -> None:
    for _ in range(12):
        study.start_next()
    record = next(
        record for record in study.records() if record.params["minibatch_size"] != record.suggested["minibatch_size"]
    )
    assert record.suggested["minibatch_size"] == raw_trials(path)[record.number].params["minibatch_size"]


def test_choices_that_are_lists_survive_the_database(study: SweepStudy, reopen: Open) -> None:
    for _ in range(8):
        study.start_next()
    seen = [record.params["fcnet_hiddens"] for record in reopen().records()]
    assert seen[0] == [64, 32] and all(layers in ([64, 32], [64, 64], [128, 128]) for layers in seen)


def test_a_choice_that_is_a_list_is_text_that_other_tools_can_show(study: SweepStudy, path: Path) -> None:
    study.start_next()
    assert raw_trials(path)[0].params["fcnet_hiddens"] == "[64, 32]"


def test_choices_of_text_and_numbers_survive_the_database(reopen: Open) -> None:
    params = {"rollout_fragment_length": Choice("auto", 16), "fcnet_activation": Choice("tanh", "relu")}
    space = SearchSpace(env="CartPole-v1", params=params)
    study = reopen(space, sampler="random")
    for _ in range(8):
        study.start_next()
    seen = {tuple(record.suggested.values()) for record in reopen(space).records()}
    assert seen <= set(itertools.product(("auto", 16), ("tanh", "relu")))


def test_none_is_a_choice_like_any_other(study: SweepStudy) -> None:
    assert {study.start_next().params["lr_anneal_steps"] for _ in range(10)} == {None, 30_000}


def test_the_best_trial_is_the_one_of_the_lowest_score(study: SweepStudy) -> None:
    for outcome in (missed(99.0), reached(30), reached(20), reached(25)):
        study.complete(study.start_next().number, outcome, 1.0)
    best = study.best()
    assert best is not None and best.number == 2


def test_of_two_equal_trials_the_earlier_one_is_best(study: SweepStudy) -> None:
    for _ in range(3):
        study.complete(study.start_next().number, reached(20), 1.0)
    best = study.best()
    assert best is not None and best.number == 0


def test_a_failed_or_pruned_or_running_trial_is_never_best(study: SweepStudy) -> None:
    numbers = [study.start_next().number for _ in range(4)]
    study.report(numbers[1], 5, 1.0)
    study.prune(numbers[1], reached(10), 1.0)
    study.fail(numbers[2], "it broke", 1.0)
    study.report(numbers[3], 5, 1.0)
    assert study.best() is None
    study.complete(numbers[0], missed(-1e6), 1.0)
    assert study.best() == study.record(0)


def test_a_pruned_trials_value_is_its_last_report(study: SweepStudy, path: Path) -> None:
    number = study.start_next().number
    for episode, value in ((5, 80.0), (10, 70.0)):
        study.report(number, episode, value)
    study.prune(number, missed(31.0, 10), 1.0)
    assert raw_trials(path)[number].value == 70.0


def test_a_failed_trial_keeps_its_reason_and_has_no_value(study: SweepStudy, reopen: Open) -> None:
    study.fail(study.start_next().number, "ValueError: it broke", 2.0)
    record = reopen().record(0)
    assert (record.reason, record.value, record.outcome, record.wall_s) == ("ValueError: it broke", None, None, 2.0)


def test_a_trial_in_which_no_episode_ended_is_failed_with_the_reason(study: SweepStudy) -> None:
    study.complete(study.start_next().number, Outcome(env_steps=5000), 1.0)
    record = study.record(0)
    assert (record.state, record.reason) == (TrialState.FAILED, "no episode ended within 5000 environment steps")


@pytest.mark.parametrize("best_mean", [math.nan, math.inf, -math.inf])
def test_no_number_that_is_none_reaches_the_study(best_mean: float, study: SweepStudy, path: Path) -> None:
    study.complete(study.start_next().number, missed(best_mean), 1.0)
    trial = raw_trials(path)[0]
    assert (trial.state, trial.values) == (optuna.trial.TrialState.FAIL, None)


@pytest.mark.parametrize("best_mean", [math.nan, math.inf])
def test_the_reason_of_a_trial_that_turned_non_finite_does_not_blame_its_episodes(
    best_mean: float, study: SweepStudy
) -> None:
    study.complete(study.start_next().number, missed(best_mean, episodes=50), 1.0)
    assert "no episode ended" not in str(study.record(0).reason)


def test_a_step_reported_again_keeps_its_first_value(study: SweepStudy, reopen: Open) -> None:
    number = study.start_next().number
    study.report(number, 5, 60.0)
    reopen().report(number, 5, 99.0)
    assert study.record(number).reports == {5: 60.0}


def test_a_step_reported_again_is_passed_over_in_silence(study: SweepStudy, recwarn: pytest.WarningsRecorder) -> None:
    number = study.start_next().number
    study.report(number, 5, 60.0)
    study.report(number, 5, 60.0)
    assert [str(warning.message) for warning in recwarn] == []


def test_attempts_are_counted_over_all_drivers(study: SweepStudy, reopen: Open) -> None:
    number = study.start_next().number
    assert (study.add_attempt(number), reopen().add_attempt(number), reopen().record(number).attempts) == (1, 2, 2)


def test_what_a_part_took_adds_up_over_all_drivers(study: SweepStudy, reopen: Open) -> None:
    assert study.cost_s("search") is None
    study.add_cost("search", 1.5)
    reopen().add_cost("search", 2.0)
    assert (reopen().cost_s("search"), reopen().cost_s("race")) == (3.5, None)


def test_only_the_trials_of_a_sampler_that_begins_at_random_are_a_random_control(reopen: Open) -> None:
    assert reopen().random_trials == STARTUP_TRIALS
    space = SearchSpace(env="CartPole-v1", baseline={"gamma": 0.99}, params={"gamma": Choice(0.9, 0.99)})
    assert SweepStudy("sqlite://", space, sampler="grid").random_trials == 0
    assert SweepStudy("sqlite://", space, sampler="qmc").random_trials == 0


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "qmc", "random", "grid"])
def test_a_sampler_gives_a_valid_trial_after_another(sampler: str, reopen: Open) -> None:
    study = reopen(GRID, sampler=sampler)
    for _ in range(STARTUP_TRIALS + 2):
        finish_as_usual(study, study.start_next())
    outside = [
        (name, value)
        for record in study.records()
        for name, value in record.suggested.items()
        if not GRID.params[name].contains(value)
    ]
    assert outside == []


def test_a_grid_of_more_than_10_000_combinations_is_bad_input_with_the_counts(path: Path) -> None:
    space = SearchSpace(
        env="CartPole-v1",
        params={name: Float(0.001, 1.0) for name in ("gamma", "lambda_", "clip_param", "kl_coeff", "kl_target")}
        | {"num_epochs": Int(10, 30)},
        baseline={"clip_param": 0.3},
    )
    with pytest.raises(UsageError, match=r"--sampler grid: 15,625 combinations \(gamma 5 x .*--set KEY=VALUE"):
        SweepStudy(url(path), space, sampler="grid")
    assert not path.exists()


def test_a_grid_of_10_000_combinations_is_accepted() -> None:
    choices = {
        "gamma": Choice(*(0.99 - n / 1000 for n in range(100))),
        "lambda_": Choice(*(1.0 - n / 1000 for n in range(100))),
    }
    assert check_grid(SearchSpace(env="CartPole-v1", params=choices)) == 10_000


@pytest.mark.parametrize(
    "params",
    [GRID.params, {"num_epochs": Int(28, 30)}, {"gamma": Choice(0.98, 0.99)}, {"gamma": Choice(0.99)}, {}],
    ids=["three parameters", "a range", "two values", "one value", "nothing"],
)
def test_a_grid_covers_every_combination_once(params: dict[str, Any], reopen: Open) -> None:
    space = SearchSpace(env="CartPole-v1", window=5, baseline=GRID.baseline, params=params)
    study = reopen(space, sampler="grid")
    for _ in range(check_grid(space) + 1):
        study.complete(study.start_next().number, missed(50.0), 1.0)
    tried = [json.dumps(list(record.suggested.values())) for record in study.records() if not record.is_baseline]
    everything = itertools.product(*(domain.grid() for domain in space.params.values()))
    assert sorted(tried) == sorted(json.dumps(list(point)) for point in everything)


def test_a_grid_goes_on_where_an_earlier_driver_left_it(reopen: Open) -> None:
    params = {"gamma": Choice(0.9, 0.95, 0.98, 0.99)}
    space = SearchSpace(env="CartPole-v1", window=5, params=params)
    for _ in range(4):
        study = reopen(space, sampler="grid")
        study.complete(study.start_next().number, missed(50.0), 1.0)
    last = reopen(space, sampler="grid").start_next()
    seen = [record.suggested["gamma"] for record in study.records() if not record.is_baseline]
    assert {*seen, last.suggested["gamma"]} == {0.9, 0.95, 0.98, 0.99}


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"not a database",
        b"\0" * 8192,
        b"SQLite format 3\0" + b"\0" * 4080,
        b"SQLite format 3\0" + b"\xff" * 8000,
    ],
    ids=["one byte", "text", "zeros", "header and zeros", "header and ones"],
)
def test_a_file_that_is_no_database_is_unreadable_and_left_as_it_is(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(StudyUnreadable):
        SweepStudy(url(path), SPACE)
    assert path.read_bytes() == data


@pytest.mark.parametrize("pages", [1, 2, 5, 10, -1])
def test_a_truncated_database_is_unreadable_and_left_as_it_is(pages: int, path: Path, study: SweepStudy) -> None:
    for _ in range(3):
        finish_as_usual(study, study.start_next())
    whole = path.read_bytes()
    truncated = whole[: 4096 * pages + 100] if pages > 0 else whole[:-4096]
    path.write_bytes(truncated)
    with pytest.raises(StudyUnreadable):
        SweepStudy(url(path), SPACE).records()
    assert path.read_bytes() == truncated


@pytest.mark.parametrize(
    "damage",
    [
        "update trial_params set distribution_json = '{' where trial_id = 2",
        "update trial_user_attributes set value_json = '{' where trial_id = 2",
        "update trials set datetime_start = '2 26-11-25 09:43:46' where trial_id = 2",
        "update trials set state = 'DONE' where trial_id = 2",
    ],
    ids=["distribution", "attribute", "date", "state"],
)
def test_a_database_with_a_damaged_cell_is_unreadable(damage: str, path: Path, study: SweepStudy) -> None:
    for _ in range(2):
        finish_as_usual(study, study.start_next())
    with sqlite3.connect(path) as database:
        database.execute(damage)
    with pytest.raises(StudyUnreadable):
        SweepStudy(url(path), SPACE).records()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trial_values SET value = value - 1",
        "UPDATE trial_user_attributes SET value_json = '7' WHERE \"key\" = 'episodes'",
        "UPDATE trial_params SET param_value = param_value * 1.0001 WHERE param_name = 'lr'",
        "UPDATE trials SET number = 1 - number",
    ],
)
def test_a_finished_trial_that_reads_back_otherwise_is_unreadable(
    change: str, path: Path, study: SweepStudy, reopen: Open
) -> None:
    for episodes in (60, 70):
        study.complete(study.start_next().number, reached(episodes), wall_s=1)
    assert [record.outcome and record.outcome.episodes for record in reopen().records()] == [60, 70]
    with sqlite3.connect(path) as database:
        assert database.execute(change).rowcount > 0
    with pytest.raises(StudyUnreadable):
        reopen().records()


def test_an_unreadable_study_is_named_with_a_remedy(path: Path) -> None:
    path.write_bytes(b"not a database")
    with pytest.raises(StudyUnreadable, match=r"study\.db cannot be read .*restore it from a copy, or use another"):
        SweepStudy(url(path), SPACE)


def test_a_password_in_the_storages_url_is_not_repeated() -> None:
    with pytest.raises(StudyUnreadable) as refusal:
        SweepStudy("sqlite://user:secret@/nowhere", SPACE)  # pragma: allowlist secret
    assert "secret" not in str(refusal.value)


def rung_decisions(database: str, *, reopens: bool) -> list[tuple[int, int, bool]]:
    """What ASHA decides on nine trials, side by side, whose means differ; each decision by a new driver or by one."""
    study = SweepStudy(database, SPACE, pruner="asha")
    running = [study.start_next().number for _ in range(9)]
    decisions = []
    for episode in (5, 10, 30):
        for number in list(running):
            if reopens:
                study = SweepStudy(database, SPACE, pruner="asha")
            study.report(number, episode, 100.0 - 10 * (number % 4) - number)
            decisions.append((episode, number, study.is_hopeless(number)))
            if decisions[-1][2]:
                study.prune(number, missed(50.0, episode), 1.0)
                running.remove(number)
    return decisions


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, new: bytes) -> list[tuple[int, int, bool]]:
    """What ASHA decides where one driver lives through everything."""
    path = tmp_path_factory.mktemp("asha") / "study.db"
    path.write_bytes(new)
    return rung_decisions(url(path), reopens=False)


def test_ashas_rungs_survive_a_driver_that_dies_after_every_report(
    undisturbed: list[tuple[int, int, bool]], beside: Callable[[str], str]
) -> None:
    assert rung_decisions(beside("disturbed"), reopens=True) == undisturbed


@pytest.mark.parametrize("rung", [10, 30])
def test_asha_ends_some_trials_at_a_rung_and_lets_others_go_on(
    rung: int, undisturbed: list[tuple[int, int, bool]]
) -> None:
    assert {is_hopeless for episode, _, is_hopeless in undisturbed if episode == rung} == {True, False}


def test_asha_ends_no_trial_before_its_first_rung(undisturbed: list[tuple[int, int, bool]]) -> None:
    assert [is_hopeless for episode, _, is_hopeless in undisturbed if episode == 5] == [False] * 9


def test_the_median_pruner_ends_a_trial_that_is_worse_than_most(reopen: Open) -> None:
    study = reopen(pruner="median")
    for _ in range(5):
        number = study.start_next().number
        for episode in range(5, 51, 5):
            study.report(number, episode, 10.0)
        study.complete(number, missed(50.0), 1.0)
    worse = study.start_next().number
    study.report(worse, 10, 90.0)
    assert study.is_hopeless(worse)


def test_without_a_pruner_no_trial_is_hopeless(study: SweepStudy) -> None:
    numbers = [study.start_next().number for _ in range(9)]
    for number in numbers:
        study.report(number, 45, 100.0 * number)
    assert not any(study.is_hopeless(number) for number in numbers)
