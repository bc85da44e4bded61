"""The answer on simulated sweeps whose truth is known: a table of runs in place of training."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.verdict import SEEDS, SPACE, called_better, finds_the_one, judged_better, reliable_wins, simulated
from search_spaces.cartpole import space as cartpole
from tuner.answer import can_be_asked, race_size, so_far, stages
from tuner.answer.parts import Answer, Question, Run, RunResult
from tuner.answer.path import changed, path_seeds, path_size
from tuner.answer.race import entrants
from tuner.episodes import Outcome, score
from tuner.files import plain
from tuner.inference import Decision
from tuner.judgement import Judgement, MatchRecord
from tuner.ledger import ledger_of
from tuner.parameters import PARAMETERS
from tuner.space import SearchSpace
from tuner.study import TrialRecord, TrialState

BETTER = {"lr": 2e-3, "num_epochs": 20, "lambda_": 0.8}


def outcome_of(episodes: int) -> Outcome:
    reached = episodes if episodes < 1000 else None
    return Outcome(episodes, 100 * episodes, reached, 475.0 if reached else 300.0)


def question(*trials: tuple[Mapping[str, Any], int], seeds: int = 8, finalists: int = 3, **more: Any) -> Question:
    """A search whose trials, the baseline first, have these changes and reached the threshold at these episodes."""
    asked = Question(more.pop("space", cartpole), [], seeds, finalists, **more)
    records = [
        TrialRecord(
            number, TrialState.COMPLETE, asked.space.resolve(changes), changes, 1,
            score(outcome_of(episodes), asked.goal), outcome_of(episodes), None, 1.0,
        )
        for number, (changes, episodes) in enumerate(trials)
    ]  # fmt: skip
    return replace(asked, records=records)


def looking_up(episodes: Callable[[Run], int], asked: list[Run] | None = None) -> Callable[[Run], RunResult]:
    def lookup(run: Run) -> RunResult:
        if asked is not None:
            asked.append(run)
        return RunResult(outcome_of(episodes(run)))

    return lookup


def judging(truth: Callable[[Run], float]) -> Callable[[Run], RunResult]:
    """Runs that all learn as fast, with a judge who finds the truth, spread over seeds by a few matches of 100."""

    def lookup(run: Run) -> RunResult:
        wins = round(100 * truth(run)) + (0, 2, -1, -2, 1)[run.seed // 10_000 % 5]
        records = [MatchRecord(name, side, wins, 0, 100 - wins) for name in ("still", "chaser")
                   for side in ("blue", "orange")]  # fmt: skip
        return RunResult(outcome_of(300), judgement=Judgement.of_matches(records))

    return lookup


def noisy(truth: Callable[[Run], float]) -> Callable[[Run], int]:
    """The truth, spread over seeds by a few percent."""
    return lambda run: min(1000, max(50, round(truth(run) * (0.95 + 0.1 * (run.seed // 10_000 % 7) / 6))))


def by_lr(run: Run) -> float:
    return 100.0 if run.params["lr"] == BETTER["lr"] else 300.0


class TestTheRace:
    def test_is_between_the_baseline_the_best_of_the_search_and_the_best_that_was_drawn_at_random(self) -> None:
        asked = question(
            ({}, 400), ({"gamma": 0.98}, 390), ({"gamma": 0.95}, 380), ({"lr": 1e-3}, 100), ({"lr": 2e-3}, 90),
            ({"lr": 3e-3}, 80), ({"lr": 4e-3}, 110), random_trials=3,
        )  # fmt: skip
        assert [(entrant.label, entrant.roles) for entrant in entrants(asked)] == [
            ("baseline", ("baseline",)), ("trial-0005", ("finalist",)), ("trial-0004", ("finalist",)),
            ("trial-0003", ("finalist",)), ("trial-0002", ("random control",)),
        ]  # fmt: skip

    def test_has_a_trial_once_whatever_its_roles_and_no_copy_of_another(self) -> None:
        asked = question(({}, 400), ({"lr": 1e-3}, 90), ({"lr": 1e-3}, 91), ({}, 80), random_trials=10)
        assert [(e.label, e.roles) for e in entrants(asked)][1:] == [("trial-0001", ("finalist", "random control"))]

    def test_names_the_winner_by_its_seeds_and_not_by_the_searchs(self) -> None:
        asked = question(({}, 400), ({"lr": 1e-3}, 60), (BETTER, 120))
        answer = so_far(asked, looking_up(noisy(by_lr)))
        assert answer.is_complete and answer.race and answer.verdict
        assert answer.race.winner.number == 2 == answer.verdict.number
        assert answer.verdict.decision is Decision.BETTER
        assert answer.verdict.search_value == 120
        assert "Better than the baseline: trial 2 needs 100 episodes" in answer.verdict.sentence

    def test_is_not_won_by_what_is_fast_on_most_seeds_and_fails_on_a_quarter_of_them(self) -> None:
        asked = question(({}, 400), ({"lr": 1e-3}, 60), (BETTER, 120))

        def episodes(run: Run) -> int:
            if run.params["lr"] == 1e-3:
                return 1000 if run.seed // 10_000 % 4 == 1 else 90
            return noisy(by_lr)(run)

        answer = so_far(asked, looking_up(episodes))
        assert answer.race and answer.verdict
        estimates = {entry.number: entry.estimate for entry in answer.race.entries}
        assert answer.race.winner.number == 2 and estimates[1].value == 90 < estimates[2].value
        assert answer.verdict.decision is Decision.BETTER

    def test_that_is_won_by_the_reliable_ends_with_better_far_more_often(self) -> None:
        wins, better = reliable_wins(100, 0.3)  # 1,000 in benchmarks.verdict
        assert wins >= 0.8 and better >= 0.8  # by the interquartile mean 0.37 and 0.44

    def test_trains_on_its_own_seeds_and_the_verdict_on_others_with_two_configurations_alone(self) -> None:
        runs: list[Run] = []
        asked = question(({}, 400), ({"lr": 1e-3}, 60), (BETTER, 120), random_trials=2)
        so_far(asked, looking_up(noisy(by_lr), runs))
        by_ledger: dict[str, set[str]] = {}
        for run in runs:
            by_ledger.setdefault(ledger_of(run.seed), set()).add(run.label)
        assert by_ledger["test"] == {"baseline", "trial-0002"}
        assert by_ledger["race"] > {"baseline", "trial-0001", "trial-0002"}
        assert "search" not in by_ledger

    def test_that_the_baseline_wins_ends_without_a_test(self) -> None:
        runs: list[Run] = []
        asked = question(({}, 400), ({"lr": 1e-3}, 60))
        answer = so_far(asked, looking_up(noisy(lambda run: 200 if run.label == "baseline" else 300), runs))
        assert answer.is_complete and answer.verdict and answer.path is None
        assert answer.verdict.decision is Decision.NO_DIFFERENCE and answer.verdict.winner == "baseline"
        assert {ledger_of(run.seed) for run in runs} == {"race"}

    def test_that_nobody_finishes_is_judged_by_the_mean_reward(self) -> None:
        def lookup(run: Run) -> RunResult:
            mean = (300.0 if run.params["lr"] == BETTER["lr"] else 100.0) + run.seed // 10_000 % 7
            return RunResult(Outcome(1000, 10_000, None, mean))

        answer = so_far(question(({}, 1000), (BETTER, 1000)), lookup)
        assert answer.race and answer.race.measure == "best mean reward"
        assert answer.verdict and answer.verdict.decision is Decision.BETTER
        assert "more" in answer.verdict.sentence and answer.verdict.effect
        assert answer.verdict.effect.value == pytest.approx(200, abs=1)

    def test_that_is_judged_follows_the_judge_and_not_the_reward(self) -> None:
        asked = question(({}, 400), ({"lr": 1e-3}, 60), (BETTER, 390), seeds=5)
        answer = so_far(asked, judging(lambda run: 0.8 if run.params["lr"] == BETTER["lr"] else 0.5))
        assert answer.is_complete and answer.race and answer.verdict and answer.verdict.effect and answer.path
        assert answer.race.measure == "share of points in matches"
        assert [entry.number for entry in answer.race.entries] == [2, 0, 1]
        assert answer.verdict.decision is Decision.BETTER and answer.verdict.search_value is None
        assert answer.verdict.effect.kind == "difference" and answer.verdict.effect.value == pytest.approx(
            0.3, abs=0.03
        )
        assert re.fullmatch(
            r"Better than the baseline: trial 2 takes \d\d % of the points in its matches \(interquartile mean, 95 % "
            r"interval \d\d to \d\d\) on 5 unseen seeds, the baseline \d\d % \(\d\d to \d\d\): \d\d percentage points "
            r"more \(\d\d to \d\d\)\.",
            answer.verdict.sentence,
        )
        assert list(answer.path.steps[0].changes) == ["lr"]
        assert answer.path.steps[0].effect.value == pytest.approx(0.3, abs=0.03)

    def test_that_is_judged_counts_the_matches_of_each_opponent_and_side(self) -> None:
        answer = so_far(question(({}, 400), (BETTER, 390), seeds=5), judging(lambda run: 0.8))
        assert answer.race and answer.verdict and answer.verdict.decision is Decision.NO_DIFFERENCE
        for entry in answer.race.entries:
            assert [(found.opponent, found.side) for found in entry.matches] == [
                ("still", "blue"), ("still", "orange"), ("chaser", "blue"), ("chaser", "orange"),
            ]  # fmt: skip
            for found in entry.matches:
                assert (found.wins, found.draws, found.losses) == (5 * 80, 0, 5 * 20)
                assert found.win_rate.value == pytest.approx(0.8)
        json.dumps(plain(answer.race) | plain(answer.verdict), allow_nan=False)

    def test_that_is_judged_without_matches_tells_of_scores(self) -> None:
        def lookup(run: Run) -> RunResult:
            score = (2.5 if run.params["lr"] == BETTER["lr"] else -1.25) + run.seed // 10_000 % 3 / 8
            return RunResult(outcome_of(300), judgement=Judgement(score))

        answer = so_far(question(({}, 400), (BETTER, 390), seeds=6), lookup)
        assert answer.race and answer.race.measure == "score of the judge" and answer.race.winner.matches == ()
        assert answer.verdict and answer.verdict.sentence == (
            "Better than the baseline: trial 1 gets a score of 2.62 (interquartile mean, 95 % interval 2.53 to 2.72) "
            "on 6 unseen seeds, the baseline -1.12 (-1.22 to -1.03): 3.75 more (3.75 to 3.75)."
        )

    def test_that_is_judged_counts_a_run_whose_judge_failed_as_the_worst(self) -> None:
        def lookup(run: Run) -> RunResult:
            failed = run.label == "baseline" and run.seed % 20_000
            return RunResult(None, "judge a:b: no") if failed else judging(lambda run: 0.5)(run)

        answer = so_far(question(({}, 400), (BETTER, 390), seeds=4), lookup)
        assert answer.race and answer.race.winner.number == 1
        assert answer.race.entries[1].values[1] == -float("inf") and answer.race.entries[1].reached == 2

    def test_on_one_seed_shows_no_difference_and_no_interval(self) -> None:
        answer = so_far(question(({}, 400), (BETTER, 100), seeds=1), looking_up(noisy(by_lr)))
        assert answer.verdict and answer.verdict.decision is Decision.NO_DIFFERENCE
        assert "unknown from one seed" in answer.verdict.sentence and "inf" not in answer.verdict.sentence

    def test_that_every_run_fails_in_is_not_won_by_luck(self) -> None:
        answer = so_far(question(({}, 400), (BETTER, 100)), lambda run: RunResult(None, "non-finite"))
        assert answer.verdict and answer.verdict.decision is Decision.NO_DIFFERENCE
        json.dumps(plain(answer.race), allow_nan=False)

    def test_of_a_search_that_found_nothing_but_the_baseline_is_not_run(self) -> None:
        for asked in (
            question(({}, 400)),
            question(),
            question(({}, 400), ({}, 400)),
            question(({}, 4), ({}, 5), seeds=0),
        ):
            answer = so_far(asked, lambda run: None)
            assert answer.is_complete and answer.race is None and answer.verdict is None

    def test_of_a_baseline_that_failed_is_not_run(self) -> None:
        asked = question(({}, 400), (BETTER, 100))
        failed = replace(asked.records[0], state=TrialState.FAILED, value=None, outcome=None)
        assert not can_be_asked(replace(asked, records=[failed, *asked.records[1:]]))

    def test_a_worse_winner_is_called_worse(self) -> None:
        def truth(run: Run) -> float:
            is_test = ledger_of(run.seed) == "test"
            return 300 if (run.label == "baseline") != is_test else 200

        answer = so_far(question(({}, 400), (BETTER, 100)), looking_up(noisy(truth)))
        assert answer.verdict and answer.verdict.decision is Decision.WORSE
        assert "more" in answer.verdict.sentence

    def test_calls_equals_better_in_at_most_5_of_100_sweeps_and_a_true_30_percent_in_at_least_80(self) -> None:
        assert called_better(300, 1.0) <= 0.05  # 1,000 in benchmarks.verdict
        assert called_better(100, 0.7) >= 0.80

    def test_that_is_judged_calls_equals_better_in_at_most_5_of_100_sweeps_and_finds_20_points(self) -> None:
        assert judged_better(200, 8, 0.0) <= 0.05
        assert judged_better(50, 8, 0.2) >= 0.80


class TestInterrupted:
    def test_it_goes_on_to_the_same_answer_and_runs_nothing_twice(self) -> None:
        asked = question(({}, 400), ({"lr": 1e-3}, 60), (BETTER, 120))
        whole = so_far(asked, looking_up(noisy(by_lr)))
        done: dict[str, RunResult] = {}
        seen: Counter[str] = Counter()
        while True:  # killed before each single run in turn
            answer = so_far(asked, lambda run: done.get(f"{run.folder}/{run.name}"))
            if answer.is_complete:
                break
            todo = stages(asked, Answer(), lambda run: done.get(f"{run.folder}/{run.name}"))
            stage, run = next((s, r) for s in todo for r in s.runs if f"{r.folder}/{r.name}" not in done)
            done[f"{run.folder}/{run.name}"] = looking_up(noisy(by_lr))(run)
            seen[stage.name] += 1
        assert answer == whole
        assert seen["race"] == 3 * 8 and seen["test"] == 2 * 8 and answer.path and seen["path"] == answer.path.runs

    def test_what_is_known_so_far_is_shown(self) -> None:
        asked = question(({}, 400), (BETTER, 120))
        lookup = looking_up(noisy(by_lr))
        answer = so_far(asked, lambda run: lookup(run) if ledger_of(run.seed) == "race" else None)
        assert answer.race and answer.verdict is None and not answer.is_complete

    def test_a_stage_that_was_not_run_cannot_be_passed(self) -> None:
        todo = stages(question(({}, 400), (BETTER, 120)), Answer(), lambda run: None)
        next(todo)
        with pytest.raises(RuntimeError, match="was not run"):
            next(todo)


class TestThePath:
    def path(self, truth: Callable[[Run], float], changes: Mapping[str, Any] = BETTER, **more: Any) -> Any:
        asked = question(({}, 400), (changes, 100), seeds=20, **more)
        answer = so_far(asked, looking_up(noisy(truth)))
        assert answer.path is not None
        return answer.path

    def test_begins_with_the_change_that_helps_most_and_ends_at_the_winner(self) -> None:
        def truth(run: Run) -> float:
            return 400 * (0.5 if run.params["lambda_"] == 0.8 else 1) * (0.8 if run.params["num_epochs"] == 20 else 1)

        steps = self.path(truth).steps
        assert [list(step.changes) for step in steps] == [["lambda_"], ["num_epochs"], ["lr"]]
        assert [step.effect.decision for step in steps] == [
            Decision.BETTER, Decision.BETTER, Decision.NO_DIFFERENCE,
        ]  # fmt: skip
        assert steps[0].changes["lambda_"] == (0.95, 0.8)
        assert steps[0].effect.value == pytest.approx(0.5, abs=0.05)
        assert steps[-1].label == "trial-0001"

    def test_measures_on_other_seeds_than_it_chooses_on(self) -> None:
        path = self.path(by_lr)
        assert not set(path.choosing_seeds) & set(path.measuring_seeds)
        assert len(path.choosing_seeds) + len(path.measuring_seeds) == 15

    def test_steps_the_least_important_together(self) -> None:
        changes = {**BETTER, "gamma": 0.98, "clip_param": 0.2, "entropy_coeff": 0.01, "vf_loss_coeff": 1.0,
                   "fcnet_activation": "tanh", "num_envs_per_env_runner": 1}  # fmt: skip
        path = self.path(by_lr, changes)
        assert list(path.steps[0].changes) == ["lr"]
        assert [len(step.changes) for step in path.steps] == [1, 1, 1, 1, 5]
        assert Counter(name for step in path.steps for name in step.changes) == Counter(changes.keys())

    def test_only_trains_configurations_that_ppo_accepts(self) -> None:
        runs: list[Run] = []
        changes = {"train_batch_size": 64, "minibatch_size": 64, "num_envs_per_env_runner": 1}
        so_far(
            question(({}, 400), (changes, 100)),
            looking_up(noisy(lambda run: 100 if run.label != "baseline" else 300), runs),
        )
        assert any(run.folder == "path" for run in runs)
        for run in runs:
            envs, fragment = run.params["num_envs_per_env_runner"], run.params["rollout_fragment_length"]
            assert run.params["minibatch_size"] <= run.params["train_batch_size"] == envs * fragment

    def test_a_configuration_has_one_folder_and_a_folder_one_configuration(self) -> None:
        runs: list[Run] = []
        so_far(question(({}, 400), (BETTER, 100), seeds=20), looking_up(noisy(by_lr), runs))
        configurations: dict[str, set[str]] = {}
        for run in runs:
            configurations.setdefault(f"{run.folder}/{run.label}", set()).add(json.dumps(run.params, sort_keys=True))
        assert all(len(found) == 1 for found in configurations.values())
        assert len(set.union(*configurations.values())) == len(configurations)

    @pytest.mark.parametrize("seeds", [1, 2, 5, 20, 50, 1000])
    @pytest.mark.parametrize("changes", [1, 2, 5, 6, 13, len(PARAMETERS)])
    def test_never_takes_more_than_300_runs(self, changes: int, seeds: int) -> None:
        choosing, measuring = path_seeds(seeds)
        assert choosing >= 1 and measuring >= 1 and choosing + measuring <= max(2, min(seeds, 15))
        assert path_size(changes, seeds) <= 300

    def test_takes_what_was_said_before(self) -> None:
        space = SPACE
        runs: set[tuple[str, str]] = set()

        def lookup(run: Run) -> RunResult:
            runs.add((run.folder, run.name))
            return RunResult(outcome_of(noisy(lambda run: 300 if run.label == "baseline" else 200)(run)))

        asked = question(({}, 400), ({name: 0.1 for name in space.params}, 100), seeds=20, space=space)
        answer = so_far(asked, lookup)
        assert answer.path is not None
        assert answer.path.runs == sum(folder == "path" for folder, _ in runs) == race_size(20, 3, 10)["path"]

    def test_finds_the_one_parameter_that_matters_in_95_of_100_sweeps(self) -> None:
        assert sum(finds_the_one(sweep, 0.5) for sweep in range(100)) >= 95


def test_changes_that_the_batch_made_void_are_none() -> None:
    space = SearchSpace(env="CartPole-v1", baseline=cartpole.baseline, params=cartpole.params)
    used = space.resolve({"train_batch_size": 64, "minibatch_size": 256})
    assert changed(space, used) == {"train_batch_size": (128, 64), "minibatch_size": (32, 64)}
    assert changed(space, space.resolve({})) == {}


def test_a_simulated_sweep_races_on_as_many_seeds_as_a_real_one() -> None:
    race = simulated(0, lambda params: 1.0, with_path=False).race
    assert race is not None and len(race.seeds) == SEEDS == 20
