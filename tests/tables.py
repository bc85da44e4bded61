"""Episode tables as a run leaves them, from rewards and lengths alone."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from hypothesis import strategies as st

from tuner.episodes import Goal, Row


def table(rewards: Sequence[float], goal: Goal, lengths: Sequence[int] | None = None) -> list[Row]:
    """The rows of a run with these rewards; each episode lasts 10 steps unless told otherwise."""
    lengths = [10] * len(rewards) if lengths is None else lengths
    steps = itertools.accumulate(lengths)
    return [
        Row(
            index + 1, float(reward), length, mean(rewards, index, goal), mean(lengths, index, goal), so_far, index, 0.1
        )
        for index, (reward, length, so_far) in enumerate(zip(rewards, lengths, steps, strict=True))
    ]


def mean(values: Sequence[float], index: int, goal: Goal) -> float:
    """The trailing mean, also of numbers whose sum overflows."""
    window = values[max(0, index + 1 - goal.window) : index + 1]
    return math.fsum(value / len(window) for value in window)


def line(first: float, last: float, episodes: int) -> list[float]:
    """Rewards in even steps after `first` up to `last`."""
    return [first + (last - first) * (index + 1) / episodes for index in range(episodes)]


def noise(episodes: int, seed: int) -> list[float]:
    """Rewards of a run that learns nothing."""
    generator = random.Random(seed)  # noqa: S311
    return [generator.gauss(0.0, 1.0) for _ in range(episodes)]


goals = st.builds(
    Goal,
    threshold=st.none() | st.floats(-100, 100) | st.floats(allow_nan=False, allow_infinity=False),
    window=st.integers(1, 30),
    max_episodes=st.just(1000),
)
any_rewards = st.floats(-1e308, 1e308) | st.integers(-3, 3).map(float) | st.floats(-500, 500)
any_lengths = st.integers(0, 5) | st.integers(1, 10**9)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], Goal]:
    """Whatever a run can leave: any finite rewards and lengths, more or fewer than a window, or none."""
    goal = draw(goals)
    episodes = draw(st.lists(st.tuples(any_rewards, any_lengths), max_size=80))
    rewards, lengths = [reward for reward, _ in episodes], [length for _, length in episodes]
    related = draw(st.sampled_from(["free", "equal", "opposite", "flat"]))
    if related in ("equal", "opposite"):
        rewards = [float(length if related == "equal" else -length) for length in lengths]
    elif related == "flat":
        lengths = [7] * len(rewards)
    return table(rewards, goal, lengths), goal
