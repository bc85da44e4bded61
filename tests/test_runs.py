"""The answer's runs on disk, and the Searcher that has Tune do them; driven here by a stand-in for Tune."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from tuner.answer.parts import Run, RunResult, Stage
from tuner.deaths import Death
from tuner.episodes import Outcome
from tuner.errors import StateError
from tuner.hooks import MAX_DEATHS, ErrorStopper, RunsSearcher
from tuner.judgement import Judgement, MatchRecord
from tuner.layout import RunDir
from tuner.ledger import seeds_of
from tuner.runs import RunFolders
from tuner.space import SearchSpace

SPACE = SearchSpace(env="CartPole-v1", threshold=100, window=5, max_episodes=50)
OUTCOME = Outcome(20, 900, 20, 101.5)
RUNS = [Run("race", "baseline", seed, SPACE.resolve({})) for seed in seeds_of("race", 4)]


@pytest.fixture
def folders(tmp_path: Path) -> RunFolders:
    return RunFolders(RunDir(tmp_path), SPACE, "fused")


class Notes:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.runs: list[str] = []

    def on_stage(self, stage: Stage, done: int) -> None:
        self.stages.append((stage.name, len(stage.runs), done))

    def on_run(self, run: Run, result: RunResult) -> None:
        self.runs.append(run.name)


class FakeTune:
    """Asks for runs and hands results on as Tune does."""

    def __init__(self, folders: RunFolders, *stages: Stage, parallel: int = 2, watcher: Any = None) -> None:
        self.searcher = RunsSearcher(
            iter(stages), folders, parallel=lambda: parallel, to_config=lambda run: {"name": run.name},
            watchers=[watcher] if watcher else [],
        )  # fmt: skip
        self._ids = map(str, itertools.count())
        self.live: dict[str, str] = {}

    def start(self) -> Any:
        """Start all that may start now; what the searcher said last."""
        while isinstance(config := self.searcher.suggest(tune_id := next(self._ids)), dict):
            self.live[config["name"]] = tune_id
        return config

    def end(self, name: str, error: bool = False, **result: Any) -> None:
        last = {"failed": None, "done": True, "wall_s": 1.5, **asdict(OUTCOME)} | result
        self.searcher.on_trial_complete(self.live.pop(name), None if error else last, error=error)


def test_a_finished_run_is_read_back_by_a_new_driver(folders: RunFolders, tmp_path: Path) -> None:
    assert folders(RUNS[0]) is None
    folders.finish(RUNS[0], RunResult(OUTCOME, None, 1.5))
    assert RunFolders(RunDir(tmp_path), SPACE, "fused")(RUNS[0]) == RunResult(OUTCOME, None, 1.5)
    config = json.loads((tmp_path / f"race/baseline-s{RUNS[0].seed}/config.json").read_text())
    assert (config["seed"], config["ledger"], config["lr"]) == (RUNS[0].seed, "race", RUNS[0].params["lr"])


def test_a_judgement_is_kept_and_older_results_have_none(tmp_path: Path) -> None:
    space = replace(SPACE, judge="tests.judged:by_low_actions")
    found = RunResult(OUTCOME, None, 1.5, Judgement(0.75, (MatchRecord("noise", "left", 1, 1, 0),)))
    RunFolders(RunDir(tmp_path), space, "fused").finish(RUNS[0], found)
    assert RunFolders(RunDir(tmp_path), space, "fused")(RUNS[0]) == found
    with pytest.raises(StateError, match="is of another run"):  # it was judged, and is not to be any more
        RunFolders(RunDir(tmp_path), SPACE, "fused")(RUNS[0])
    older = RunFolders(RunDir(tmp_path), SPACE, "fused").folder(RUNS[1])
    RunFolders(RunDir(tmp_path), SPACE, "fused").finish(RUNS[1], RunResult(OUTCOME))
    values = json.loads(older.result.read_text())
    del values["judgement"]
    older.result.write_text(json.dumps(values))
    assert RunFolders(RunDir(tmp_path), SPACE, "fused")(RUNS[1]) == RunResult(OUTCOME)


def test_a_folder_of_another_configuration_is_refused(folders: RunFolders, tmp_path: Path) -> None:
    folders.finish(RUNS[0], RunResult(OUTCOME))
    other = Run("race", "baseline", RUNS[0].seed, SPACE.resolve({"gamma": 0.5}))
    with pytest.raises(StateError, match=r"is of another run; remove that folder"):
        RunFolders(RunDir(tmp_path), SPACE, "fused")(other)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"outcome": {"x": 1}, "reason": null, "wall_s": 1}'])
def test_a_result_that_cannot_be_read_is_refused_with_its_folder(
    folders: RunFolders, tmp_path: Path, text: str
) -> None:
    folders.finish(RUNS[0], RunResult(OUTCOME))
    folders.folder(RUNS[0]).result.write_text(text)
    with pytest.raises(StateError, match=rf"race/baseline-s{RUNS[0].seed}: cannot be read"):
        RunFolders(RunDir(tmp_path), SPACE, "fused")(RUNS[0])


def test_runs_that_are_there_are_not_done_again(folders: RunFolders) -> None:
    folders.finish(RUNS[0], RunResult(OUTCOME))
    notes = Notes()
    tune = FakeTune(folders, Stage("race", RUNS), parallel=8, watcher=notes)
    assert tune.start() is None
    assert list(tune.live) == [run.name for run in RUNS[1:]]
    assert notes.stages == [("race", 4, 1)]


def test_no_more_run_at_once_than_the_machine_holds(folders: RunFolders) -> None:
    tune = FakeTune(folders, Stage("race", RUNS), parallel=2)
    tune.start()
    assert len(tune.live) == 2


def test_a_stage_waits_for_the_one_before_and_the_last_one_ends_it(folders: RunFolders) -> None:
    def stages() -> Iterator[Stage]:
        yield Stage("race", RUNS[:2])
        assert all(folders(run) for run in RUNS[:2])  # what a stage is decided from is on disk
        yield Stage("test", RUNS[2:3])

    tune = FakeTune(folders, parallel=8)
    tune.searcher = RunsSearcher(stages(), folders, parallel=lambda: 8, to_config=lambda run: {"name": run.name})
    assert tune.start() is None
    tune.end(RUNS[0].name)
    assert tune.start() is None and list(tune.live) == [RUNS[1].name]
    tune.end(RUNS[1].name)
    assert tune.start() is None and list(tune.live) == [RUNS[2].name]
    tune.end(RUNS[2].name)
    assert tune.start() == Searcher.FINISHED


def test_a_run_that_was_ended_early_is_done_again_by_the_next_driver(folders: RunFolders, tmp_path: Path) -> None:
    tune = FakeTune(folders, Stage("race", RUNS[:1]))
    tune.start()
    tune.end(RUNS[0].name, done=False)
    assert RunFolders(RunDir(tmp_path), SPACE, "fused")(RUNS[0]) is None


def test_what_the_judge_said_of_a_run_is_recorded(folders: RunFolders) -> None:
    found = Judgement(0.75, (MatchRecord("noise", "left", 1, 1, 0),))
    tune = FakeTune(folders, Stage("race", RUNS[:1]))
    tune.start()
    tune.end(RUNS[0].name, judgement=found)
    assert folders(RUNS[0]) == RunResult(OUTCOME, None, 1.5, found)


def test_a_run_that_fails_is_recorded_with_its_reason(folders: RunFolders) -> None:
    notes = Notes()
    tune = FakeTune(folders, Stage("race", RUNS[:1]), watcher=notes)
    tune.start()
    tune.end(RUNS[0].name, failed="non-finite loss in iteration 3")
    assert folders(RUNS[0]) == RunResult(None, "non-finite loss in iteration 3", 1.5)
    assert notes.runs == [RUNS[0].name]


def test_a_run_whose_process_dies_is_tried_again_and_not_for_ever(folders: RunFolders) -> None:
    tune = FakeTune(folders, Stage("race", RUNS[:1]))
    for _ in range(MAX_DEATHS):
        tune.start()
        tune.end(RUNS[0].name, error=True)
    found = folders(RUNS[0])
    assert found is not None and found.outcome is None and "died 4 times" in str(found.reason)
    assert tune.start() == Searcher.FINISHED


def test_an_error_of_ours_stops_everything_and_is_raised(folders: RunFolders) -> None:
    def stages() -> Iterator[Stage]:
        yield Stage("race", RUNS[:1])
        raise ZeroDivisionError

    searcher = RunsSearcher(stages(), folders, parallel=lambda: 1, to_config=lambda run: {"name": run.name})
    stopper = ErrorStopper(searcher)
    searcher.suggest("0")
    assert not stopper.stop_all()
    searcher.on_trial_complete("0", {"failed": None, "done": True, "wall_s": 1.0, **asdict(OUTCOME)})
    with pytest.raises(ZeroDivisionError):
        searcher.suggest("1")
    assert stopper.stop_all()
    with pytest.raises(ZeroDivisionError):
        searcher.close()


def test_a_run_that_would_end_its_process_again_is_recorded_at_once_with_the_cause(folders: RunFolders) -> None:
    searcher = RunsSearcher(
        iter([Stage("race", RUNS[:1])]), folders, parallel=lambda: 1, to_config=lambda run: {"name": run.name},
        death_of=lambda trial_id, run: Death("no iteration within 5 s", is_final=True),
    )  # fmt: skip
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    assert folders(RUNS[0]) == RunResult(None, "no iteration within 5 s")


def test_a_run_that_dies_or_fails_while_a_sweep_is_stopping_is_done_again(folders: RunFolders) -> None:
    is_stopping = False
    searcher = RunsSearcher(
        iter([Stage("race", RUNS[:2])]), folders, parallel=lambda: 2, to_config=lambda run: {"name": run.name},
        is_stopping=lambda: is_stopping,
    )  # fmt: skip
    searcher.suggest("a")
    searcher.suggest("b")
    is_stopping = True
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("b", {"failed": "BrokenPipeError", "done": True, "wall_s": 1.0})
    assert folders(RUNS[0]) is None and folders(RUNS[1]) is None
