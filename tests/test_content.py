"""The bands over seeds: what counts where runs have ended."""

from __future__ import annotations

import pytest

from tests.tables import table
from tuner.episodes import Goal
from tuner.page.content import Band, band

GOAL = Goal(threshold=None, window=1, max_episodes=100)


def of(*runs: list[float]) -> Band:
    """The band of runs with these rewards."""
    return band("the baseline", [table(rewards, GOAL) for rewards in runs])


def test_it_has_the_median_and_the_quartiles_of_each_episode() -> None:
    found = of([0, 10], [1, 20], [2, 30], [3, 40], [4, 50])
    assert (found.low, found.median, found.high) == ((1, 20), (2, 30), (3, 40))
    assert (found.runs, found.going) == (5, (5, 5))


def test_a_run_that_has_ended_counts_with_its_last_mean() -> None:
    assert of([5, 9], [5, 6, 7, 8], [5, 6, 7, 8]).high == (5, 7.5, 8, 8.5)


@pytest.mark.parametrize(
    ("lengths", "until"), [([4], 4), ([2, 8], 8), ([2, 4, 8], 4), ([2, 4, 6, 8], 6), ([3, 3, 3, 9], 3)]
)
def test_it_ends_where_fewer_than_half_of_the_runs_go_on(lengths: list[int], until: int) -> None:
    found = of(*([1.0] * length for length in lengths))
    assert len(found.median) == until
    assert found.going[until - 1] >= len(lengths) / 2
    assert len(found.going) == max(lengths) and all(2 * going < len(lengths) for going in found.going[until:])


def test_how_many_go_on_is_told_until_the_last_one_ends() -> None:
    assert of([1], [1, 2], [1, 2, 3, 4]).going == (3, 2, 1, 1)
