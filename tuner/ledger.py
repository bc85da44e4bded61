"""Which training seed serves for what: search, race and test have seeds of their own, apart by construction."""

from __future__ import annotations

SEARCH, RACE, TEST = "search", "race", "test"
MOST_SEEDS = 1000

# A run with seed s also seeds its environments, with s, s + 1 and so on: seeds that are far apart share none of them.
SPACING = 10_000
RACE_FROM = 1_000_000_000
TEST_FROM = RACE_FROM + MOST_SEEDS * SPACING


def ledger_of(seed: int) -> str:
    """What a seed may serve for: `search` below 1,000,000,000, `race` or `test` from there on."""
    if seed < RACE_FROM:
        return SEARCH
    return RACE if seed < TEST_FROM else TEST


def seeds_of(ledger: str, count: int) -> tuple[int, ...]:
    """The first seeds of `race`, which choose the winner, or of `test`, which judge it; fewer begin more."""
    first = {RACE: RACE_FROM, TEST: TEST_FROM}[ledger]
    return tuple(range(first, first + count * SPACING, SPACING))
