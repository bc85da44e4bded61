"""Which seed serves for what."""

from __future__ import annotations

import itertools

import pytest

from tuner.errors import SpaceError
from tuner.ledger import MOST_SEEDS, SPACING, ledger_of, seeds_of
from tuner.space import SearchSpace


def test_race_and_test_share_no_seed_at_their_longest() -> None:
    race, test = seeds_of("race", MOST_SEEDS), seeds_of("test", MOST_SEEDS)
    assert len({*race, *test}) == 2 * MOST_SEEDS
    assert {ledger_of(seed) for seed in race} == {"race"}
    assert {ledger_of(seed) for seed in test} == {"test"}


def test_seeds_are_so_far_apart_that_no_two_runs_seed_an_environment_alike() -> None:
    seeds = sorted([*seeds_of("race", MOST_SEEDS), *seeds_of("test", MOST_SEEDS)])
    assert min(later - earlier for earlier, later in itertools.pairwise(seeds)) >= SPACING


def test_more_seeds_begin_with_the_fewer() -> None:
    assert seeds_of("race", 30)[:20] == seeds_of("race", 20)
    assert seeds_of("test", 30)[:20] == seeds_of("test", 20)


def test_every_seed_fits_into_31_bits() -> None:
    assert max(seeds_of("test", MOST_SEEDS)) < 2**31


@pytest.mark.parametrize("seed", [seeds_of("race", 1)[0], seeds_of("test", 1)[0]])
def test_no_search_can_be_given_a_seed_of_the_others(seed: int) -> None:
    with pytest.raises(SpaceError, match=r"the race has those beyond"):
        SearchSpace(env="CartPole-v1", seed=seed)
    assert ledger_of(SearchSpace(env="CartPole-v1", seed=999_999_999).seed) == "search"
