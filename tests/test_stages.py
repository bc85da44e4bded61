"""The stages of a run: each episode in exactly one, in order, and the names that a person would give them."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings

from tests.tables import line, noise, table, tables
from tuner.episodes import Goal, Row
from tuner.narrative.stages import COLLAPSE, PLATEAU, RANDOM, RISING, Stage, finite, stages

GOAL = Goal(threshold=475.0, window=10, max_episodes=1000)
RISE = [20.0] * 100 + line(20, 500, 100)
# Up to 400, there for 150 episodes, down to 100, and up to 500 again.
TURNS = [20.0] * 100 + line(20, 400, 100) + [400.0] * 150 + line(400, 100, 40) + line(100, 500, 110)


def found(rewards: list[float], goal: Goal = GOAL) -> list[Stage]:
    return stages(table(rewards, goal), goal)


def names(rewards: list[float], goal: Goal = GOAL) -> list[str]:
    return [stage.name for stage in found(rewards, goal)]


@settings(deadline=None, max_examples=100)
@given(run=tables())
def test_the_stages_hold_each_episode_once_and_in_order(run: tuple[list[Row], Goal]) -> None:
    rows, goal = run
    there = stages(rows, goal)
    assert [episode for stage in there for episode in range(stage.first, stage.last + 1)] == [
        row.episode for row in rows
    ]
    assert [stage.episodes for stage in there if stage.episodes < 1] == []


@settings(deadline=None, max_examples=100)
@given(run=tables())
def test_a_run_begins_random_and_no_two_neighbours_have_one_name(run: tuple[list[Row], Goal]) -> None:
    there = [stage.name for stage in stages(*run)]
    assert there[:1] == [RANDOM] * bool(there)
    assert all(name != after for name, after in itertools.pairwise(there))
    assert set(there) <= {RANDOM, RISING, PLATEAU, COLLAPSE}


@settings(deadline=None, max_examples=100)
@given(run=tables())
def test_a_stage_gives_the_tables_own_means(run: tuple[list[Row], Goal]) -> None:
    rows, goal = run
    for stage in stages(rows, goal):
        assert stage.mean_reward_first == rows[stage.first - 1].mean_reward
        assert stage.mean_reward_last == rows[stage.last - 1].mean_reward


def test_an_empty_table_has_no_stages() -> None:
    assert stages([], GOAL) == []


def test_one_episode_is_one_random_stage() -> None:
    assert found([7.0]) == [Stage(RANDOM, 1, 1, 7.0, 7.0)]


@pytest.mark.parametrize("reward", [0.0, 500.0, -200.0, 1e300])
def test_a_constant_curve_is_one_random_stage(reward: float) -> None:
    assert found([reward] * 200) == [Stage(RANDOM, 1, 200, reward, reward)]


def test_a_run_that_learns_nothing_is_one_random_stage() -> None:
    goal = Goal(None, 50, 1000)
    assert sum(names(noise(1000, seed), goal) == [RANDOM] for seed in range(40)) >= 38


def test_a_rise_that_stops_at_its_threshold_is_random_and_rising() -> None:
    assert names(RISE) == [RANDOM, RISING]


def test_the_random_stage_ends_with_the_last_episode_within_a_tenth_of_the_range() -> None:
    first, second = found(RISE)
    means = [row.mean_reward for row in table(RISE, GOAL)]
    edge = means[0] + (max(means) - means[0]) / 10
    assert means[first.last - 1] < edge <= means[second.first - 1]


def test_in_a_noisy_run_a_material_change_is_two_standard_errors() -> None:
    # Neighbours 2 apart: a window of 50 has a standard error of 0.2, and no noise at all.
    rewards = [trend + (-1) ** index for index, trend in enumerate([0.0] * 100 + line(0, 2, 200) + [2.0] * 50)]
    goal = Goal(None, 50, 1000)
    second = found(rewards, goal)[1]
    assert table(rewards, goal)[second.first - 1].mean_reward == pytest.approx(0.4, abs=0.02)


def test_a_steady_rise_has_no_plateau() -> None:
    assert names(line(0, 500, 1000)) == [RANDOM, RISING]


def test_a_rise_that_halts_has_a_plateau() -> None:
    rewards = [20.0] * 50 + line(20, 200, 80) + [200.0] * 120 + line(200, 500, 80)
    stage = found(rewards)[2]
    assert names(rewards) == [RANDOM, RISING, PLATEAU, RISING]
    assert 115 <= stage.first <= 140 and 245 <= stage.last <= 265


def test_a_small_step_within_a_plateau_does_not_divide_it() -> None:
    halt = [200.0] * 120 + line(200, 235, 10) + [235.0] * 120
    assert names([20.0] * 50 + line(20, 200, 80) + halt + line(235, 500, 80)) == [RANDOM, RISING, PLATEAU, RISING]


def test_a_large_step_divides_a_plateau() -> None:
    halt = [150.0] * 120 + line(150, 350, 10) + [350.0] * 120
    assert names([20.0] * 50 + line(20, 150, 80) + halt) == [RANDOM, RISING, PLATEAU, RISING, PLATEAU]


def test_a_rise_that_ends_in_a_plateau_stays_there() -> None:
    assert names([20.0] * 50 + line(20, 300, 100) + [300.0] * 400) == [RANDOM, RISING, PLATEAU]


def test_rise_plateau_collapse_and_recovery_are_told_apart() -> None:
    assert names(TURNS) == [RANDOM, RISING, PLATEAU, COLLAPSE, RISING]


def test_a_collapse_goes_from_below_the_peak_to_above_the_trough() -> None:
    collapse = found(TURNS)[3]
    assert 350 <= collapse.first <= 365 and 385 <= collapse.last <= 400
    assert 340 < collapse.mean_reward_first < 400 and 100 < collapse.mean_reward_last < 160


def test_a_collapse_that_is_not_made_good_leads_to_a_plateau() -> None:
    rewards = [20.0] * 50 + line(20, 400, 100) + line(400, 100, 40) + [100.0] * 300
    assert names(rewards) == [RANDOM, RISING, COLLAPSE, PLATEAU]


def test_a_second_collapse_is_told_from_the_first() -> None:
    again = line(100, 500, 100) + line(500, 200, 40) + [200.0] * 200
    rewards = [20.0] * 50 + line(20, 400, 100) + line(400, 100, 40) + again
    assert names(rewards) == [RANDOM, RISING, COLLAPSE, RISING, COLLAPSE, PLATEAU]


def test_a_run_that_ends_in_its_fall_ends_in_a_collapse() -> None:
    assert names([20.0] * 50 + line(20, 400, 100) + line(400, 100, 30)) == [RANDOM, RISING, COLLAPSE]


def test_a_fall_that_the_end_of_the_run_cuts_short_counts() -> None:
    assert names([20.0] * 50 + line(20, 400, 100) + [0.0] * 6) == [RANDOM, RISING, COLLAPSE]


def test_a_run_that_only_gets_worse_collapses_from_its_beginning() -> None:
    assert names([-200.0] * 50 + line(-200, -900, 60) + [-900.0] * 100) == [RANDOM, COLLAPSE, PLATEAU]


@pytest.mark.parametrize(("low", "is_collapse"), [(310.0, False), (290.0, True)])
def test_a_fall_is_a_collapse_from_a_quarter_of_the_range_on(low: float, is_collapse: bool) -> None:
    rewards = [0.0] * 50 + line(0, 400, 100) + [400.0] * 100 + [low] * 200
    assert (COLLAPSE in names(rewards)) == is_collapse


@pytest.mark.parametrize(("episodes", "is_collapse"), [(5, False), (40, True)])
def test_a_dip_that_does_not_outlast_a_window_is_no_collapse(episodes: int, is_collapse: bool) -> None:
    rewards = [0.0] * 50 + line(0, 400, 100) + [400.0] * 60 + [0.0] * episodes + [400.0] * 100
    assert (COLLAPSE in names(rewards)) == is_collapse


def test_one_disastrous_episode_is_no_collapse() -> None:
    rewards = [0.0] * 50 + line(0, 400, 100) + [400.0] * 60 + [-3000.0] + [400.0] * 100
    assert COLLAPSE not in names(rewards)


def test_a_run_without_a_full_window_can_rise() -> None:
    goal = Goal(None, 100, 1000)
    assert names([20.0] * 30 + [500.0] * 40, goal) == [RANDOM, RISING]


@pytest.mark.parametrize("shift", [-1000.0, -500.0, 512.0])
def test_the_stages_do_not_depend_on_where_zero_is(shift: float) -> None:
    there = [(stage.name, stage.first, stage.last) for stage in found([reward + shift for reward in TURNS])]
    assert there == [(stage.name, stage.first, stage.last) for stage in found(TURNS)]


@pytest.mark.parametrize("factor", [2.0**-1000, 2.0**-10, 2.0**10, 2.0**1014])
def test_the_stages_do_not_depend_on_the_unit_of_reward(factor: float) -> None:
    there = [(stage.name, stage.first, stage.last) for stage in found([reward * factor for reward in TURNS])]
    assert there == [(stage.name, stage.first, stage.last) for stage in found(TURNS)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_stages_end_before_a_reward_that_is_not_finite(value: float) -> None:
    rows = table(RISE, GOAL)
    broken = [*rows[:150], dataclasses.replace(rows[150], mean_reward=value), *rows[151:]]
    assert finite(broken) == rows[:150]
    assert stages(broken, GOAL) == stages(rows[:150], GOAL)
