"""The answer in a few lines, and when a sweep cannot be called done."""

from __future__ import annotations

from typing import Any

import pytest

from tuner.summary import Summary

FINISHED: dict[str, Any] = {
    "number": 0, "state": "COMPLETE", "params": {"lr": 5e-4, "gamma": 0.99}, "seed": 10, "episodes_to_threshold": 431,
    "best_mean": 475.2, "episodes": 431, "attempts": 1, "reason": None,
}  # fmt: skip
BETTER = FINISHED | {"number": 3, "params": {"lr": 2e-3, "gamma": 0.99}, "episodes_to_threshold": 126}
FAILED = FINISHED | {"state": "FAILED", "episodes_to_threshold": None, "best_mean": None, "reason": "non-finite loss"}


def summary(trials: dict[str, int], baseline: dict[str, Any] | None, best: dict[str, Any] | None) -> Summary:
    return Summary(
        "cartpole",
        "CartPole-v1",
        {},
        "rllib",
        475,
        50,
        trials,
        baseline,
        best,
        {"search": 1.0, "race": None, "path": None},
        10,
    )


def test_the_answer_names_what_changed_and_that_one_seed_found_it() -> None:
    text = "\n".join(summary({"COMPLETE": 4}, FINISHED, BETTER).lines())
    assert "baseline  mean reward over 50 episodes reached 475 at episode 431" in text
    assert "best      trial 3: mean reward over 50 episodes reached 475 at episode 126" in text
    assert "lr  0.0005 -> 0.002" in text and "gamma" not in text
    assert "the one seed 10" in text


def test_a_baseline_that_wins_is_called_that() -> None:
    assert "best      the baseline: no trial was better" in summary({"COMPLETE": 4}, FINISHED, FINISHED).lines()


def test_a_run_that_never_reached_the_threshold_shows_its_best_mean() -> None:
    missed = FINISHED | {"episodes_to_threshold": None, "best_mean": 181.34, "episodes": 250}
    assert summary({"COMPLETE": 1}, missed, missed).in_words(missed) == (
        "best mean reward over 50 episodes 181.3 in 250 episodes, 475 not reached"
    )


@pytest.mark.parametrize(
    ("trials", "baseline", "failure"),
    [
        ({"COMPLETE": 3, "FAILED": 3}, FINISHED, None),
        ({"COMPLETE": 3, "FAILED": 4}, FINISHED, "4 of 7 trials FAILED"),
        ({"COMPLETE": 6, "FAILED": 1}, FAILED, "the baseline FAILED: non-finite loss"),
    ],
)
def test_more_than_half_failed_or_the_baseline_is_a_failure(
    trials: dict[str, int], baseline: dict[str, Any], failure: str | None
) -> None:
    assert summary(trials, baseline, None).failure == failure


def test_waiting_and_running_trials_are_not_finished() -> None:
    assert summary({"WAITING": 2, "RUNNING": 1, "COMPLETE": 3, "PRUNED": 1, "FAILED": 1}, FINISHED, None).finished == 5


def test_keys_whose_part_was_not_run_are_null() -> None:
    written = summary({"COMPLETE": 1}, FINISHED, FINISHED).to_json()
    assert [written["race"], written["verdict"], written["cost_s"]["race"], written["cost_s"]["path"]] == [None] * 4
