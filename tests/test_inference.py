"""Numbers of several seeds, and what they show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.episodes import Goal, Outcome
from tuner.inference import Decision, Effect, Measure, compare, estimate, iqm

GOAL = Goal(threshold=475, window=50, max_episodes=1000)
EPISODES = Measure(counts_episodes=True, goal=GOAL)
MEANS = Measure(counts_episodes=False, goal=GOAL)


def reached(episodes: int) -> Outcome:
    return Outcome(episodes, 100 * episodes, episodes, 475.0)


def missed(best_mean: float) -> Outcome:
    return Outcome(1000, 100_000, None, best_mean)


class TestTheMeasure:
    def test_counts_episodes_as_soon_as_one_run_reached_the_threshold(self) -> None:
        assert Measure.of(GOAL, [missed(20), None, reached(400)]).counts_episodes
        assert not Measure.of(GOAL, [missed(20), None]).counts_episodes

    def test_a_run_that_missed_counts_with_its_whole_budget_and_is_not_dropped(self) -> None:
        assert EPISODES.values([reached(100), missed(300), None]).tolist() == [100, 1000, 1000]

    def test_a_failed_run_is_the_worst_by_mean_reward_too(self) -> None:
        values = MEANS.values([missed(-200), missed(-100), None])
        assert values.tolist() == [200, 100, np.inf]


class TestTheInterquartileMean:
    def test_is_the_mean_of_the_middle_half(self) -> None:
        assert iqm(np.array([1.0, 10, 20, 30, 40, 50, 60, 1e9])) == pytest.approx(35)

    def test_an_estimate_lies_in_its_interval(self) -> None:
        values = EPISODES.values([reached(episodes) for episodes in range(100, 140, 2)])
        found = estimate(values, EPISODES)
        assert found.value == pytest.approx(119) and found.low < 119 < found.high and not found.is_bound

    def test_says_when_so_many_runs_missed_that_it_is_only_a_lower_bound(self) -> None:
        some = EPISODES.values([reached(100)] * 16 + [missed(300)] * 4)
        many = EPISODES.values([reached(100)] * 12 + [missed(300)] * 8)
        assert not estimate(some, EPISODES).is_bound and estimate(some, EPISODES).value == 100
        assert estimate(many, EPISODES).is_bound

    def test_of_mean_rewards_is_in_their_own_sign(self) -> None:
        found = estimate(MEANS.values([missed(mean) for mean in (-110, -100, -100, -90)]), MEANS)
        assert found.value == pytest.approx(-100) and found.low <= -100 <= found.high

    def test_of_one_seed_alone_shows_nothing(self) -> None:
        assert compare(np.array([50.0]), np.array([1000.0]), EPISODES).decision is Decision.NO_DIFFERENCE


class TestAnEffect:
    def test_of_fewer_episodes_is_better_and_of_more_is_worse(self) -> None:
        ours, theirs = np.arange(100.0, 120), np.arange(300.0, 320)
        better, worse = compare(ours, theirs, EPISODES), compare(theirs, ours, EPISODES)
        assert better.decision is Decision.BETTER and better.high < 1 and better.probability == 1
        assert worse.decision is Decision.WORSE and worse.low > 1 and worse.probability == 0
        assert better.value == pytest.approx(109.5 / 309.5)

    def test_of_a_higher_mean_reward_is_better(self) -> None:
        high, low = MEANS.values([missed(m) for m in range(200, 220)]), MEANS.values([missed(m) for m in range(20)])
        better, worse = compare(high, low, MEANS), compare(low, high, MEANS)
        assert better.decision is Decision.BETTER and better.value == pytest.approx(200)
        assert worse.decision is Decision.WORSE and worse.kind == "difference"

    def test_of_equals_is_none(self) -> None:
        same = np.full(20, 1000.0)
        effect = compare(same, same, EPISODES)
        assert effect == Effect("ratio", 1.0, 1.0, 1.0, 0.5) and effect.decision is Decision.NO_DIFFERENCE

    def test_is_the_same_each_time_it_is_asked_for(self) -> None:
        draw = np.random.default_rng(0)
        ours, theirs = draw.integers(50, 1000, (2, 20)).astype(float)
        assert compare(ours, theirs, EPISODES) == compare(ours, theirs, EPISODES)

    @given(st.lists(st.tuples(st.integers(50, 1000), st.integers(50, 1000)), min_size=1, max_size=12))
    def test_of_any_two_is_finite_and_in_order(self, pairs: list[tuple[int, int]]) -> None:
        ours, theirs = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
        effect = compare(ours, theirs, EPISODES)
        assert np.isfinite(effect.value) and effect.low <= effect.high and 0 <= effect.probability <= 1

    @given(st.lists(st.sampled_from([np.inf, -500.0, 0.0, 20.0]), min_size=2, max_size=8))
    def test_with_failed_runs_is_finite(self, ours: list[float]) -> None:
        effect = compare(np.array(ours), np.array(ours[::-1]), MEANS)
        assert np.isfinite([effect.value, effect.low, effect.high]).all()
