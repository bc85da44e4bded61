"""Numbers of several seeds, and what they show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tuner.answer.parts import RunResult
from tuner.episodes import Goal, Outcome
from tuner.inference import (
    EPISODES,
    MEAN_REWARD,
    POINTS,
    SCORE,
    Decision,
    Effect,
    Measure,
    compare,
    estimate,
    iqm,
    proportion,
)
from tuner.judgement import Judgement, MatchRecord

GOAL = Goal(threshold=475, window=50, max_episodes=1000)
BY_EPISODES = Measure(EPISODES, GOAL)
BY_MEANS = Measure(MEAN_REWARD, GOAL)
BY_POINTS = Measure(POINTS, GOAL)
FAILED = RunResult(None, "non-finite loss")


def reached(episodes: int) -> RunResult:
    return RunResult(Outcome(episodes, 100 * episodes, episodes, 475.0))


def missed(best_mean: float) -> RunResult:
    return RunResult(Outcome(1000, 100_000, None, best_mean))


def judged(score: float, *records: MatchRecord) -> RunResult:
    return RunResult(Outcome(1000, 100_000, None, 20.0), judgement=Judgement(score, records))


class TestTheMeasure:
    def test_counts_episodes_as_soon_as_one_run_reached_the_threshold(self) -> None:
        assert Measure.of(GOAL, [missed(20), FAILED, reached(400)]).counts_episodes
        assert not Measure.of(GOAL, [missed(20), FAILED]).counts_episodes

    def test_a_run_that_missed_counts_with_its_whole_budget_and_is_not_dropped(self) -> None:
        assert BY_EPISODES.values([reached(100), missed(300), FAILED]).tolist() == [100, 1000, 1000]

    def test_a_failed_run_is_the_worst_by_mean_reward_too(self) -> None:
        values = BY_MEANS.values([missed(-200), missed(-100), FAILED])
        assert values.tolist() == [200, 100, np.inf]

    def test_is_the_judges_as_soon_as_one_run_was_judged(self) -> None:
        played, scored = judged(0.75, MatchRecord("a", "left", 3, 0, 1)), judged(-3.0)
        assert Measure.of(GOAL, [reached(400), played, FAILED]).name == POINTS
        assert Measure.of(GOAL, [scored, FAILED]).name == SCORE
        assert Measure(SCORE, GOAL).values([played, scored, FAILED]).tolist() == [-0.75, 3.0, np.inf]

    def test_of_a_judge_prefers_more(self) -> None:
        more, less = (BY_POINTS.values([judged(mean + 0.01 * step) for step in range(8)]) for mean in (0.8, 0.4))
        effect = compare(more, less, BY_POINTS)
        assert (effect.kind, effect.decision) == ("difference", Decision.BETTER)
        assert effect.value == pytest.approx(0.4)
        found = estimate(more, BY_POINTS)
        assert found.value == pytest.approx(0.835) and 0.8 <= found.low < found.value < found.high <= 0.87


class TestTheWinRate:
    def test_of_seeds_that_are_alike_has_the_interval_of_all_matches(self) -> None:
        found = proportion([12] * 50, [20] * 50)
        theirs = binomtest(600, 1000).proportion_ci(0.95, method="exact")
        assert (found.value, found.low, found.high) == pytest.approx((0.6, theirs.low, theirs.high), abs=2e-3)

    def test_counts_matches_as_fewer_where_seeds_differ(self) -> None:
        alike, apart = proportion([10] * 10, [20] * 10), proportion([0, 20] * 5, [20] * 10)
        assert alike.value == apart.value == 0.5
        assert apart.high - apart.low > 3 * (alike.high - alike.low)

    def test_of_nothing_but_wins_is_not_certain(self) -> None:
        assert proportion([20] * 10, [20] * 10).high == 1.0
        assert 0.9 < proportion([20] * 10, [20] * 10).low < 0.99
        assert proportion([0] * 10, [20] * 10).low == 0.0

    def test_from_one_seed_says_nothing_of_others(self) -> None:
        assert not np.isfinite(proportion([15], [20]).low)

    @pytest.mark.parametrize("seeds", [5, 20])
    def test_covers_the_truth_where_matches_of_a_seed_are_alike(self, seeds: int) -> None:
        draw = np.random.default_rng(0)
        rates = draw.beta(6, 2, (400, seeds))  # the policies' own, 0.75 on average
        found = [proportion(wins, [20] * seeds) for wins in draw.binomial(20, rates).tolist()]
        covered = np.mean([interval.low <= 0.75 <= interval.high for interval in found])
        naive = np.mean([abs(interval.value - 0.75) < 1.96 * (0.75 * 0.25 / (20 * seeds)) ** 0.5 for interval in found])
        assert covered >= 0.93 and naive < 0.85


class TestTheInterquartileMean:
    def test_is_the_mean_of_the_middle_half(self) -> None:
        assert iqm(np.array([1.0, 10, 20, 30, 40, 50, 60, 1e9])) == pytest.approx(35)

    def test_an_estimate_lies_in_its_interval(self) -> None:
        values = BY_EPISODES.values([reached(episodes) for episodes in range(100, 140, 2)])
        found = estimate(values, BY_EPISODES)
        assert found.value == pytest.approx(119) and found.low < 119 < found.high and not found.is_bound

    def test_says_when_so_many_runs_missed_that_it_is_only_a_lower_bound(self) -> None:
        some = BY_EPISODES.values([reached(100)] * 16 + [missed(300)] * 4)
        many = BY_EPISODES.values([reached(100)] * 12 + [missed(300)] * 8)
        assert not estimate(some, BY_EPISODES).is_bound and estimate(some, BY_EPISODES).value == 100
        assert estimate(many, BY_EPISODES).is_bound

    def test_of_mean_rewards_is_in_their_own_sign(self) -> None:
        found = estimate(BY_MEANS.values([missed(mean) for mean in (-110, -100, -100, -90)]), BY_MEANS)
        assert found.value == pytest.approx(-100) and found.low <= -100 <= found.high

    def test_of_one_seed_alone_shows_nothing(self) -> None:
        assert compare(np.array([50.0]), np.array([1000.0]), BY_EPISODES).decision is Decision.NO_DIFFERENCE


class TestAnEffect:
    def test_of_fewer_episodes_is_better_and_of_more_is_worse(self) -> None:
        ours, theirs = np.arange(100.0, 120), np.arange(300.0, 320)
        better, worse = compare(ours, theirs, BY_EPISODES), compare(theirs, ours, BY_EPISODES)
        assert better.decision is Decision.BETTER and better.high < 1 and better.probability == 1
        assert worse.decision is Decision.WORSE and worse.low > 1 and worse.probability == 0
        assert better.value == pytest.approx(109.5 / 309.5)

    def test_of_a_higher_mean_reward_is_better(self) -> None:
        high, low = (
            BY_MEANS.values([missed(m) for m in range(200, 220)]),
            BY_MEANS.values([missed(m) for m in range(20)]),
        )
        better, worse = compare(high, low, BY_MEANS), compare(low, high, BY_MEANS)
        assert better.decision is Decision.BETTER and better.value == pytest.approx(200)
        assert worse.decision is Decision.WORSE and worse.kind == "difference"

    def test_of_equals_is_none(self) -> None:
        same = np.full(20, 1000.0)
        effect = compare(same, same, BY_EPISODES)
        assert effect == Effect("ratio", 1.0, 1.0, 1.0, 0.5) and effect.decision is Decision.NO_DIFFERENCE

    def test_is_the_same_each_time_it_is_asked_for(self) -> None:
        draw = np.random.default_rng(0)
        ours, theirs = draw.integers(50, 1000, (2, 20)).astype(float)
        assert compare(ours, theirs, BY_EPISODES) == compare(ours, theirs, BY_EPISODES)

    @given(st.lists(st.tuples(st.integers(50, 1000), st.integers(50, 1000)), min_size=1, max_size=12))
    def test_of_any_two_is_finite_and_in_order(self, pairs: list[tuple[int, int]]) -> None:
        ours, theirs = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
        effect = compare(ours, theirs, BY_EPISODES)
        assert np.isfinite(effect.value) and effect.low <= effect.high and 0 <= effect.probability <= 1

    @given(st.lists(st.sampled_from([np.inf, -500.0, 0.0, 20.0]), min_size=2, max_size=8))
    def test_with_failed_runs_is_finite(self, ours: list[float]) -> None:
        effect = compare(np.array(ours), np.array(ours[::-1]), BY_MEANS)
        assert np.isfinite([effect.value, effect.low, effect.high]).all()
