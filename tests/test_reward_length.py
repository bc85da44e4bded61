"""Reward against length: the same, opposite or different, with the figures that a statistician would find."""

from __future__ import annotations

import re

import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.tables import line, noise, table, tables
from tuner.episodes import Goal, Row
from tuner.narrative.reward_length import reward_against_length

GOAL = Goal(None, 10, 1000)


def told(rewards: list[float], lengths: list[int]) -> str:
    return reward_against_length(table(rewards, GOAL, lengths))


@settings(deadline=None, max_examples=100)
@given(run=tables())
def test_whatever_a_run_left_is_told_in_numbers(run: tuple[list[Row], Goal]) -> None:
    text = reward_against_length(run[0])
    assert text.endswith(".")
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert not re.search(r"(?<![\d,.])1 (episodes|steps)\b", text)


def test_a_reward_that_counts_steps_is_the_length() -> None:
    assert told([22.0, 300.0, 500.0], [22, 300, 500]) == (
        "In each of 3 episodes the reward equals the length, so the two curves are one: the environment pays 1 for "
        "each step, as CartPole does, and to earn more is to last longer."
    )


def test_one_episode_is_one_episode() -> None:
    assert told([1.0], [1]).startswith("In its only episode the reward equals the length")
    assert told([1.0], [1]).endswith("Every one lasted 1 step, so both are flat.")


def test_a_reward_that_costs_one_a_step_is_the_length_upside_down() -> None:
    text = told([-200.0, -150.0], [200, 150])
    assert "the reward is minus the length, so one curve is the other upside down: each step costs 1" in text


def test_where_the_step_into_the_goal_is_free_the_curves_are_opposite_but_for_one() -> None:
    text = told([-500.0, -500.0, -120.0, -87.0], [500, 500, 121, 88])
    assert "the reward is minus the length, or up to 1 more" in text and "as in Acrobot" in text


@pytest.mark.parametrize(
    ("rewards", "relation"),
    [
        ([-19.0, -39.0, -9.0], "minus the length plus 1,"),
        ([-30.0, -50.0, -20.0], "minus the length less 10,"),
        ([30.0, 50.0, 20.0], "the length plus 10,"),
        ([-80.0, -60.0, -90.0], "the length less 100,"),
    ],
)
def test_a_constant_beside_the_length_is_named(rewards: list[float], relation: str) -> None:
    assert relation in told(rewards, [20, 40, 10])


def test_rewards_that_only_happen_to_lie_near_are_not_said_to_be_opposite() -> None:
    assert told([-1.0, -1.5, -2.2, -3.0], [1, 2, 3, 4]).startswith("Reward and length are not the same here")


def test_episodes_of_one_length_have_no_correlation() -> None:
    rewards = [reward + wobble for reward, wobble in zip(line(-1200, -200, 100), noise(100, 1), strict=True)]
    text = told(rewards, [200] * 100)
    assert text.startswith("Every episode lasted 200 steps, as Pendulum's do, so the length curve is flat, there is no")
    assert text.endswith(
        "A step earned -5.73 in the first 10 episodes and -1.23 in the last, so a step came to earn more."
    )


def test_a_step_that_earns_no_more_than_chance_is_not_said_to_earn_more() -> None:
    assert told(noise(100, 1), [200] * 100).endswith("in the last, which may be chance.")


def test_one_reward_for_all_has_no_correlation() -> None:
    assert told([1.0] * 20, list(range(210, 10, -10))) == (
        "Every episode earned 1, whatever its length, so the reward curve is flat and there is no correlation. "
        "The mean length was 205 in the first 2 episodes and 25 in the last."
    )


def test_two_flat_curves_are_said_to_be_flat() -> None:
    assert told([-3.5] * 4, [200] * 4) == (
        "In each of 4 episodes the reward was -3.5 and the length 200 steps: both curves are flat, so there is no "
        "correlation between them."
    )


def test_two_episodes_show_no_correlation() -> None:
    assert "2 such episodes cannot show a correlation" in told([1.0, 5.0], [10, 12])


@pytest.mark.parametrize(
    ("rewards", "meaning"),
    [
        ([1.0, 7.0, 5.0, 20.0, 30.0, 21.0], "the curves go together: longer episodes earn more"),
        ([30.0, 22.0, 18.0, 6.0, 5.0, 1.0], "the curves go against each other: shorter episodes earn more"),
        ([10.0, 1.0, 12.0, 2.0, 30.0, 11.0], "longer episodes tend to earn more, but the length is only a part"),
        ([11.0, 30.0, 2.0, 12.0, 1.0, 10.0], "shorter episodes tend to earn more, but the length is only a part"),
        ([5.0, 9.0, 1.0, 8.0, 2.0, 6.0], "the length says little of the reward"),
    ],
)
def test_a_correlation_is_given_its_meaning(rewards: list[float], meaning: str) -> None:
    assert meaning in told(rewards, [10, 20, 30, 40, 50, 60])


def test_a_relation_that_bends_is_said_to() -> None:
    assert ", though not in proportion" in told([1.0, 2.0, 3.0, 4.0, 5.0, 6000.0], [10, 20, 30, 40, 50, 60])


@settings(deadline=None, max_examples=100)
@given(
    episodes=st.lists(
        st.tuples(st.integers(-50, 50).map(lambda reward: reward / 4), st.integers(1, 9)), min_size=3, max_size=40
    )
)
def test_the_correlations_are_those_of_scipy(episodes: list[tuple[float, int]]) -> None:
    rewards, lengths = [reward for reward, _ in episodes], [length for _, length in episodes]
    text = told(rewards, lengths)
    assume("Pearson" in text)
    match = re.search(r"is (-?\d\.\d\d) \(Pearson; (-?\d\.\d\d) by", text)
    assert match is not None
    assert float(match[1]) == pytest.approx(scipy.stats.pearsonr(rewards, lengths)[0], abs=0.0051)
    assert float(match[2]) == pytest.approx(scipy.stats.spearmanr(rewards, lengths)[0], abs=0.0051)


@pytest.mark.parametrize("factor", [1e-310, 1e306])
def test_the_correlation_does_not_depend_on_the_unit_of_reward(factor: float) -> None:
    rewards, lengths = [1.0, 5.0, 7.0, 20.0, 21.0, 30.0], [10, 20, 30, 60, 50, 40]
    expected = told(rewards, lengths).partition("(Pearson")[0]
    assert told([reward * factor for reward in rewards], lengths).partition("(Pearson")[0] == expected
