"""Judgements, and what is said of a judge that cannot be asked or gives no usable answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.judged import space
from tuner.errors import TrialFailed, UsageError
from tuner.judgement import Judgement, MatchRecord, judge, load
from tuner.training import RunConfig

RUN = RunConfig.of(space, "fused", 1_000_000_000, space.resolve({}))


def always(action: int) -> Any:
    return lambda observations: np.full(len(observations), action)


def test_the_share_of_points_is_the_mean_over_opponents_whatever_they_played() -> None:
    records = [MatchRecord("a", "left", 3, 1, 0), MatchRecord("a", "right", 0, 0, 4), MatchRecord("b", "left", 0, 2, 0)]
    assert Judgement.of_matches(records) == Judgement((3.5 / 8 + 1 / 2) / 2, tuple(records))


def test_a_judgement_survives_json() -> None:
    found = Judgement(0.625, (MatchRecord("a", "left", 3, 1, 0), MatchRecord("a", "right", 1, 1, 2)))
    assert Judgement.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert Judgement.from_json(json.loads(json.dumps(Judgement(-2.5).to_json()))) == Judgement(-2.5)


def test_a_judge_gets_the_policy_and_the_runs_own_seed() -> None:
    assert judge(always(0), RUN).score == 1.0
    assert judge(always(1), RUN).score == 0.5
    with pytest.raises(TrialFailed, match=r"judge tests\.judged:by_low_actions: ZeroDivisionError: nothing to judge"):
        judge(always(0), replace(RUN, seed=1_000_010_000))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "returned NoneType, must return a Judgement"),
        ("without_end", "its score is nan, must be finite"),
        ("more_than_all", "its score is 1.5, must be from 0 to 1 beside match records"),
        ("nobody", "UsageError: judge 'tests.judged:nobody': cannot be imported: AttributeError"),
    ],
)
def test_a_judge_without_a_usable_answer_fails_the_run_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(TrialFailed, match=f"judge tests.judged:{name}: ") as failure:
        judge(always(0), replace(RUN, judge=f"tests.judged:{name}"))
    assert reason in str(failure.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tests.nowhere:judge", "cannot be imported: ModuleNotFoundError"),
        ("tests.judged:nobody", "cannot be imported: AttributeError"),
        ("tests.judged:NO_FUNCTION", "is int, no function"),
    ],
)
def test_a_judge_that_is_not_there_is_bad_input(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"judge '{name}': {reason}"):
        load(name)
