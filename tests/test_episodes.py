"""The episode table: its trailing means, where a run stops, the score that orders runs, and what survives a crash."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tuner.episodes import COLUMNS, EpisodeTable, Goal, Outcome, Row, outcome_of, read_rows, score
from tuner.errors import StateError

GOAL = Goal(threshold=10.0, window=3, max_episodes=20)


class Played(NamedTuple):
    """An episode as an engine hands it over."""

    reward: float
    length: int
    env_steps: int


# Whole rewards: their sums are exact, so that a mean either is the threshold or is not.
whole_rewards = st.integers(-5, 20).map(float)
any_rewards = st.floats(-1e9, 1e9)


@st.composite
def plays(draw: st.DrawFn, rewards: st.SearchStrategy[float] = whole_rewards) -> list[Played]:
    """Episodes in the order of ending, one environment or several at once."""
    episodes, env_steps = [], 0
    for reward in draw(st.lists(rewards, min_size=1, max_size=40)):
        env_steps += draw(st.integers(0, 9))
        episodes.append(Played(reward, draw(st.integers(1, 30)), env_steps))
    return episodes


goals = st.builds(
    Goal,
    threshold=st.none() | st.integers(-5, 20).map(float),
    window=st.integers(1, 8),
    max_episodes=st.integers(1, 30),
    max_steps=st.none() | st.integers(1, 200),
)


def filled(path: Path, goal: Goal, episodes: Sequence[Played], wall_s: float = 0.0) -> EpisodeTable:
    """A new table with `episodes`, in iterations of four."""
    table = EpisodeTable(path, goal)
    table.start()
    append(table, episodes, wall_s=wall_s)
    return table


def append(table: EpisodeTable, episodes: Sequence[Played], first: int = 0, wall_s: float = 0.0) -> None:
    """Add episodes to an open table; `first` is the number of those before them."""
    for index, episode in enumerate(episodes, start=first):
        table.append(*episode, index // 4, wall_s + index)
    table.flush()


def rows_of(goal: Goal, episodes: Sequence[Played], folder: Path) -> list[Row]:
    """The rows that a run of these episodes leaves."""
    table = filled(folder / "episodes.csv", goal, episodes)
    table.close()
    return read_rows(table.path)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def reaches_at(goal: Goal, episodes: Sequence[Played]) -> int | None:
    """The first episode number that reaches the goal, found the slow way."""
    for number in range(goal.window, len(episodes) + 1):
        last = [episode.reward for episode in episodes[number - goal.window : number]]
        if goal.threshold is not None and mean(last) >= goal.threshold:
            return number
    return None


def allowed(goal: Goal, episodes: Sequence[Played]) -> Sequence[Played]:
    """The episodes that a run may use before it has reached its goal."""
    in_steps = [e for e in episodes if goal.max_steps is None or e.env_steps <= goal.max_steps]
    return in_steps[: goal.max_episodes]


def reached(at: int, env_steps: int = 1000, best_mean: float = 12.0) -> Outcome:
    """A run that reached the threshold."""
    return Outcome(at, env_steps, at, best_mean)


def missed(best_mean: float, env_steps: int = 1000, episodes: int = 20) -> Outcome:
    """A run that did not."""
    return Outcome(episodes, env_steps, None, best_mean)


def without_wall_s(path: Path) -> list[str]:
    """The lines of a table without their last cell, which is the clock's."""
    return [line.rpartition(",")[0] for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "episodes.csv"


@settings(deadline=None, max_examples=50)
@given(goal=goals, episodes=plays(any_rewards))
def test_means_are_over_the_last_window_of_episodes_and_fewer_at_the_start(
    goal: Goal, episodes: list[Played], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = rows_of(goal, episodes, tmp_path_factory.mktemp("means"))
    windows = [episodes[max(0, row.episode - goal.window) : row.episode] for row in rows]
    assert [row.mean_reward for row in rows] == pytest.approx([mean([e.reward for e in w]) for w in windows], abs=1e-6)
    assert [row.mean_length for row in rows] == pytest.approx([mean([e.length for e in w]) for w in windows])


@settings(deadline=None, max_examples=50)
@given(goal=goals, episodes=plays())
def test_a_run_stops_at_the_first_full_window_that_reaches_the_threshold_or_at_its_budget(
    goal: Goal, episodes: list[Played], tmp_path_factory: pytest.TempPathFactory
) -> None:
    budget = allowed(goal, episodes)
    rows = rows_of(goal, episodes, tmp_path_factory.mktemp("stop"))
    assert len(rows) == (reaches_at(goal, budget) or len(budget))


@settings(deadline=None, max_examples=50)
@given(goal=goals, episodes=plays())
def test_episodes_to_threshold_are_those_that_a_recount_finds(
    goal: Goal, episodes: list[Played], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = filled(tmp_path_factory.mktemp("recount") / "episodes.csv", goal, episodes)
    table.close()
    assert table.outcome.episodes_to_threshold == reaches_at(goal, allowed(goal, episodes))


@settings(deadline=None, max_examples=50)
@given(goal=goals, episodes=plays())
def test_the_threshold_is_never_reached_before_the_window_is_full(
    goal: Goal, episodes: list[Played], tmp_path_factory: pytest.TempPathFactory
) -> None:
    outcome = outcome_of(rows_of(goal, episodes, tmp_path_factory.mktemp("window")), goal)
    assert outcome.episodes_to_threshold is None or outcome.episodes_to_threshold >= goal.window


@settings(deadline=None, max_examples=50)
@given(goal=goals, episodes=plays())
def test_no_row_lies_beyond_the_threshold_the_episodes_or_the_steps(
    goal: Goal, episodes: list[Played], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = rows_of(goal, episodes, tmp_path_factory.mktemp("beyond"))
    at = outcome_of(rows, goal).episodes_to_threshold or goal.max_episodes
    assert [row.episode for row in rows if row.episode > at or row.env_steps > (goal.max_steps or math.inf)] == []


@settings(deadline=None, max_examples=50)
@given(goal=goals, episodes=plays())
def test_the_best_mean_is_the_highest_of_the_full_windows_or_the_last_where_none_is_full(
    goal: Goal, episodes: list[Played], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = rows_of(goal, episodes, tmp_path_factory.mktemp("best"))
    assume(rows)
    means = [row.mean_reward for row in rows]
    assert outcome_of(rows, goal).best_mean == max(means[goal.window - 1 :], default=means[-1])


@settings(deadline=None, max_examples=50)
@given(goal=goals, episodes=plays())
def test_the_outcome_of_the_file_is_the_outcome_of_the_run(
    goal: Goal, episodes: list[Played], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = filled(tmp_path_factory.mktemp("outcome") / "episodes.csv", goal, episodes)
    table.close()
    assert outcome_of(read_rows(table.path), goal) == table.outcome


@pytest.mark.parametrize(
    ("goal", "stopped_by"),
    [
        (Goal(10.0, 3, 20), "threshold"),
        (Goal(11.0, 3, 5), "episodes"),
        (Goal(11.0, 3, 20, max_steps=25), "steps"),
        (Goal(11.0, 3, 20), None),
        (Goal(10.0, 3, 3), "threshold"),
    ],
)
def test_a_run_says_what_it_was_stopped_by(goal: Goal, stopped_by: str | None, path: Path) -> None:
    assert filled(path, goal, [Played(10.0, 10, 10 * n) for n in range(1, 8)]).stopped_by == stopped_by


def test_an_episode_beyond_the_goal_is_refused(path: Path) -> None:
    table = filled(path, GOAL, [Played(10.0, 5, 5), Played(10.0, 5, 10), Played(10.0, 5, 15)])
    assert table.append(10.0, 5, 20, 1, 0.0) is False


def test_an_episode_that_ends_at_the_very_last_step_counts(path: Path) -> None:
    table = filled(path, Goal(None, 3, 20, max_steps=20), [Played(1.0, 10, 10), Played(1.0, 10, 20)])
    assert table.outcome.episodes == 2


def test_a_run_whose_episodes_never_end_stops_at_its_last_step(path: Path) -> None:
    table = filled(path, Goal(None, 3, 20, max_steps=1000), [])
    table.note_steps(999)
    assert table.stopped_by is None
    table.note_steps(1000)
    assert table.stopped_by == "steps"


def test_a_table_that_was_not_started_takes_no_episode(path: Path) -> None:
    with pytest.raises(RuntimeError, match="start"):
        EpisodeTable(path, GOAL).append(1.0, 1, 1, 1, 0.0)


@settings(deadline=None, max_examples=50)
@given(first=st.integers(1, 20), second=st.integers(1, 20), steps=st.tuples(*[st.integers(0, 10**9)] * 2))
@example(first=10, second=11, steps=(10**9, 0))
def test_an_earlier_threshold_is_better_whatever_it_cost(first: int, second: int, steps: tuple[int, int]) -> None:
    assume(first != second)
    scores = score(reached(first, steps[0]), GOAL), score(reached(second, steps[1]), GOAL)
    assert (scores[0] < scores[1]) == (first < second)


@settings(deadline=None, max_examples=50)
@given(at=st.integers(1, 20), best_mean=st.floats(-1e9, 10.0), steps=st.tuples(*[st.integers(0, 10**9)] * 2))
@example(at=20, best_mean=9.999, steps=(10**9, 0))
def test_a_run_that_reached_the_threshold_is_better_than_any_that_did_not(
    at: int, best_mean: float, steps: tuple[int, int]
) -> None:
    assert score(reached(at, steps[0]), GOAL) < score(missed(best_mean, steps[1]), GOAL)


thousandths = st.integers(-1_000_000, 9_999).map(lambda number: number / 1000)


@settings(deadline=None, max_examples=50)
@given(
    means=st.lists(thousandths, min_size=2, max_size=2, unique=True),
    steps=st.tuples(*[st.integers(0, 10**9)] * 2),
    threshold=st.sampled_from([None, 10.0]),
)
def test_the_higher_best_mean_is_better_where_the_threshold_was_not_reached(
    means: list[float], steps: tuple[int, int], threshold: float | None
) -> None:
    goal = Goal(threshold, 3, 20)
    scores = score(missed(means[0], steps[0]), goal), score(missed(means[1], steps[1]), goal)
    assert (scores[0] < scores[1]) == (means[0] > means[1])


def test_the_higher_best_mean_is_better_where_a_run_ended_above_the_threshold_before_its_window_was_full() -> None:
    assert score(missed(14.0, episodes=2), GOAL) < score(missed(12.0, episodes=2), GOAL)


@settings(deadline=None, max_examples=50)
@given(outcome=st.builds(reached, st.integers(1, 20)) | st.builds(missed, thousandths), steps=st.integers(0, 10**6))
def test_of_two_equal_runs_the_one_of_fewer_steps_is_better(outcome: Outcome, steps: int) -> None:
    cheap, dear = (Outcome(outcome.episodes, n, outcome.episodes_to_threshold, outcome.best_mean) for n in
                   (steps, steps + 128))  # fmt: skip
    assert score(cheap, GOAL) < score(dear, GOAL)


@settings(deadline=None, max_examples=50)
@given(
    outcome=st.builds(reached, st.integers(1, 10**6), st.integers(0, 10**12))
    | st.builds(missed, st.floats(-1e15, 1e15), st.integers(0, 10**12)),
    threshold=st.none() | st.floats(-1e15, 1e15),
)
def test_a_score_is_always_finite(outcome: Outcome, threshold: float | None) -> None:
    assert math.isfinite(score(outcome, Goal(threshold, 3, 20)))


@pytest.mark.parametrize("best_mean", [None, math.nan, math.inf, -math.inf])
def test_a_run_without_a_finite_mean_has_no_score(best_mean: float | None) -> None:
    with pytest.raises(ValueError):
        score(Outcome(20, 1000, None, best_mean), GOAL)


def test_an_empty_table_is_its_header(path: Path) -> None:
    filled(path, GOAL, []).close()
    assert path.read_text() == "episode,reward,length,mean_reward,mean_length,env_steps,iteration,wall_s\n"


@settings(deadline=None, max_examples=50)
@given(
    row=st.builds(
        Row,
        episode=st.integers(1, 10**6),
        reward=st.floats(allow_nan=False, allow_infinity=False),
        length=st.integers(1, 10**6),
        mean_reward=st.floats(allow_nan=False, allow_infinity=False),
        mean_length=st.floats(1, 1e6),
        env_steps=st.integers(0, 10**12),
        iteration=st.integers(0, 10**6),
        wall_s=st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
    )
)
def test_a_row_survives_csv(row: Row) -> None:
    assert Row.from_csv(row.to_csv()) == row


def test_a_numpy_reward_is_written_as_a_number(path: Path) -> None:
    filled(path, GOAL, [Played(np.float64(1.5), 3, 3)]).close()
    assert read_rows(path)[0].reward == 1.5


@pytest.mark.parametrize("cells", [[], ["1"] * 7, ["1"] * 9, ["x"] * 8, ["1.5"] * 8])
def test_foreign_cells_are_no_row(cells: list[str]) -> None:
    with pytest.raises(ValueError):
        Row.from_csv(cells)


@settings(deadline=None, max_examples=50)
@given(
    episodes=plays(any_rewards),
    kept=st.integers(0, 40),
    window=st.integers(1, 8),
    lost_wall_s=st.floats(0, 100),
)
def test_a_table_that_was_cut_goes_on_as_if_nothing_had_happened(
    episodes: list[Played], kept: int, window: int, lost_wall_s: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, goal, kept = tmp_path_factory.mktemp("cut"), Goal(None, window, 1000), min(kept, len(episodes))
    undisturbed = filled(folder / "undisturbed.csv", goal, episodes)
    filled(folder / "killed.csv", goal, episodes).close()
    resumed = EpisodeTable(folder / "killed.csv", goal)
    resumed.cut(kept)
    append(resumed, episodes[kept:], first=kept, wall_s=lost_wall_s)
    assert without_wall_s(resumed.path) == without_wall_s(undisturbed.path)
    assert resumed.outcome == undisturbed.outcome


def test_what_was_kept_is_kept_byte_for_byte(path: Path) -> None:
    filled(path, GOAL, [Played(1 / 3, 3, 3), Played(0.1 + 0.2, 4, 7), Played(1e-17, 5, 12)], wall_s=1 / 3).close()
    before = path.read_bytes()
    EpisodeTable(path, GOAL).cut(3)
    assert path.read_bytes() == before


def test_a_cut_at_nothing_begins_an_empty_table(path: Path) -> None:
    filled(path, GOAL, [Played(1.0, 3, 3)]).close()
    EpisodeTable(path, GOAL).start()
    assert read_rows(path) == []


def test_a_finished_run_is_still_finished_after_a_cut_at_its_end(path: Path) -> None:
    filled(path, GOAL, [Played(10.0, 5, 5 * n) for n in range(1, 4)]).close()
    table = EpisodeTable(path, GOAL)
    table.cut(3)
    assert table.stopped_by == "threshold"


def test_a_table_that_is_closed_and_cut_forgets_the_rows_that_were_cut(path: Path) -> None:
    table = filled(path, GOAL, [Played(9.0, 5, 5 * n) for n in range(1, 21)])
    table.close()
    table.cut(2)
    assert (table.outcome, table.stopped_by) == (Outcome(2, 10, None, 9.0), None)


def test_a_file_with_fewer_rows_than_its_checkpoint_says_is_refused(path: Path) -> None:
    filled(path, GOAL, [Played(1.0, 3, 3), Played(1.0, 3, 6)]).close()
    with pytest.raises(StateError, match="holds 2 whole rows, its checkpoint says 3"):
        EpisodeTable(path, GOAL).cut(3)


def test_a_refused_file_is_left_as_it_was(path: Path) -> None:
    filled(path, GOAL, [Played(1.0, 3, 3)]).close()
    before = path.read_bytes()
    with pytest.raises(StateError):
        EpisodeTable(path, GOAL).cut(2)
    assert path.read_bytes() == before


@settings(deadline=None, max_examples=50)
@given(episodes=plays(any_rewards), share=st.floats(0, 1))
def test_a_torn_last_line_is_left_out(
    episodes: list[Played], share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    rows = rows_of(Goal(None, 3, 1000), episodes, folder)
    data = (folder / "episodes.csv").read_bytes()
    torn = data[: round(share * len(data))]
    (folder / "episodes.csv").write_bytes(torn)
    assert read_rows(folder / "episodes.csv") == rows[: max(0, torn.count(b"\n") - 1)]


def test_rows_are_read_beyond_those_already_seen(path: Path) -> None:
    filled(path, GOAL, [Played(float(n), 3, 3 * n) for n in range(1, 6)]).close()
    assert [row.episode for row in read_rows(path, after=3)] == [4, 5]


def test_a_file_that_is_not_there_yet_has_no_rows(path: Path) -> None:
    assert read_rows(path) == []


@pytest.mark.parametrize(
    "data",
    [
        b"time,reward\n1,2\n",
        b"hello\n",
        b"hello",
        b"\xff\xfe\x00\n",
        b"\0" * 100,
        ",".join(COLUMNS).encode() + b"\n1,2\n",
        ",".join(COLUMNS).encode() + b"\none,1.0,1,1.0,1.0,1,0,0.0\n",
    ],
    ids=["other columns", "text", "text without an end", "binary", "zeros", "short row", "words"],
)
def test_a_foreign_file_is_refused(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(StateError):
        read_rows(path)


def test_what_is_flushed_can_be_read_while_the_run_goes_on(path: Path) -> None:
    table = filled(path, GOAL, [])
    table.append(1.0, 3, 3, 0, 0.0)
    table.flush(durable=True)
    assert len(read_rows(path)) == 1
