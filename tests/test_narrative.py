"""The story of a run and of two: the sentences that the figures bear out, and no others."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from hypothesis import given, settings

from tests.tables import line, table, tables
from tuner import narrative
from tuner.episodes import Goal, Row
from tuner.narrative import comparison, sentences, stability

GOAL = Goal(threshold=475.0, window=10, max_episodes=1000)
SLOW = [20.0] * 130 + line(20, 200, 80) + [200.0] * 120 + line(200, 500, 80)
FAST = [20.0] * 20 + line(20, 500, 60) + [500.0] * 10


def cartpole(rewards: list[float], goal: Goal = GOAL) -> list[Row]:
    """A run whose rewards are its lengths, ended at its threshold as runs are."""
    lengths = [round(reward) for reward in rewards]
    rows = table([float(length) for length in lengths], goal, lengths)
    ends = [
        row.episode
        for row in rows
        if goal.threshold is not None and row.episode >= goal.window and row.mean_reward >= goal.threshold
    ]
    return rows[: ends[0]] if ends else rows


def is_sentence(text: str) -> bool:
    return text[:1].isupper() and text.endswith(".") and "  " not in text


@settings(deadline=None, max_examples=100)
@given(run=tables())
def test_whatever_a_run_left_is_told_in_whole_sentences(run: tuple[list[Row], Goal]) -> None:
    texts = sentences("the baseline", *run)
    assert texts and all(is_sentence(text) for text in texts)
    assert not re.search(r"\b(nan|inf|None)\b", " ".join(texts))
    assert not re.search(r"(?<![\d,.])1 (episodes|steps|environment steps|windows|stages)\b", " ".join(texts))


@settings(deadline=None, max_examples=100)
@given(first=tables(), second=tables())
def test_any_two_runs_can_be_compared(first: tuple[list[Row], Goal], second: tuple[list[Row], Goal]) -> None:
    texts = comparison(first[0], second[0], first[1], best="trial 7")
    assert 1 <= len(texts) <= 3 and all(is_sentence(text) for text in texts)
    assert not re.search(r"\b(nan|inf|None)\b", " ".join(texts))


def test_a_run_that_reached_its_threshold_is_told_from_beginning_to_end() -> None:
    assert sentences("trial 41", cartpole(FAST), GOAL) == [
        "Trial 41 made 82 episodes in 17,240 environment steps; the mean reward of 10 episodes went from 20 in the "
        "first window to 477.6 in the last.",
        "It reached the threshold of 475 at episode 82, after 17,240 environment steps.",
        "Its reward curve has 2 stages: random in episodes 1 to 30 (mean reward 20 to 64), then rising in episodes 31 "
        "to 82 (mean reward 72 to 477.6).",
        "In each of 82 episodes the reward equals the length, so the two curves are one: the environment pays 1 for "
        "each step, as CartPole does, and to earn more is to last longer.",
        "The run stopped at its threshold, so nothing is known of what comes after it.",
    ]


def test_a_run_that_missed_its_threshold_is_told_its_best_mean_and_when() -> None:
    assert (
        "It did not reach the threshold of 475; the best mean reward was 200, at episode 219."
        in sentences("the baseline", cartpole(SLOW[:300]), GOAL)
    )  # fmt: skip


def test_a_best_mean_that_reads_like_the_threshold_is_said_to_lie_below_it() -> None:
    rows = table([474.999] * 20, GOAL)
    assert "the best mean reward was 475, at episode 10, just below it." in sentences("trial 1", rows, GOAL)[1]


def test_a_run_without_a_threshold_is_told_its_best_mean() -> None:
    text = sentences("trial 1", table(line(0, 9, 90), GOAL), dataclasses.replace(GOAL, threshold=None))[1]
    assert text == "It had no threshold to reach; the best mean reward was 8.55, at episode 90."


def test_a_run_shorter_than_a_window_has_neither_reached_nor_held_anything() -> None:
    texts = sentences("trial 1", cartpole([600.0] * 5), GOAL)
    assert "they fill no window of 10 episodes, and the mean reward of all is 600." in texts[0]
    assert texts[1].startswith("It did not reach the threshold of 475, for which a window must be full;")
    assert texts[-1] == "No window of 10 episodes was filled, so nothing is known of its stability."


def test_a_run_of_one_window_has_one_mean() -> None:
    assert sentences("trial 1", cartpole([20.0] * 10), GOAL)[0] == (
        "Trial 1 made 10 episodes in 200 environment steps; they fill one window of 10 episodes, whose mean reward is "
        "20."
    )


def test_a_run_of_one_episode_is_told_in_the_singular() -> None:
    goal = Goal(None, 1, 10)
    assert sentences("trial 1", table([1.0], goal, [1]), goal)[0] == (
        "Trial 1 made 1 episode in 1 environment step; they fill one window of 1 episode, whose mean reward is 1."
    )


def test_the_stages_of_a_run_that_never_settles_are_counted() -> None:
    waves = (line(0, 400, 40) + line(400, 0, 40)) * 6
    text = sentences("trial 1", table([0.0] * 40 + waves, GOAL), GOAL)[2]
    assert text == (
        "Its reward curve has 13 stages: after a random one, episodes 1 to 48, 6 rises and 6 collapses."
    )  # fmt: skip


def test_a_run_without_an_episode_is_told_in_one_sentence() -> None:
    assert sentences("the baseline", [], GOAL) == ["The baseline ended no episode, so it has no curves."]


def test_what_comes_after_a_reward_that_is_not_finite_is_left_out_and_said_to_be() -> None:
    rows = cartpole(FAST)
    broken = [*rows[:70], *(dataclasses.replace(row, reward=math.nan, mean_reward=math.nan) for row in rows[70:])]
    texts = sentences("trial 9", broken, GOAL)
    assert texts[0] == "After 70 episodes a reward of trial 9 is not a finite number; what follows is about those."
    assert texts[1:] == sentences("trial 9", rows[:70], GOAL)
    assert len(sentences("trial 9", broken[70:], GOAL)) == 1


def test_a_run_that_stopped_at_its_threshold_is_not_said_to_be_stable() -> None:
    assert stability(cartpole(FAST), GOAL) == (
        "The run stopped at its threshold, so nothing is known of what comes after it."
    )


def test_a_run_that_went_on_is_told_how_many_windows_held_the_threshold() -> None:
    rewards = [0.0] * 20 + [500.0] * 30 + [0.0] * 10 + [500.0] * 30
    text = stability(table(rewards, GOAL), dataclasses.replace(GOAL, threshold=500.0))
    assert text == (
        "Of the 60 windows after the first at its threshold, 68% held it. Its curve was at its highest, 500, when the "
        "run ended."
    )


def test_a_fall_is_told_by_its_depth_and_by_its_share_of_what_was_gained() -> None:
    text = stability(table([0.0] * 20 + [400.0] * 20 + [100.0] * 10 + [200.0] * 10, GOAL), GOAL)
    assert text == (
        "From its peak of 400 at episode 40 the curve fell to 100 at episode 50, 75% of what it had gained since its "
        "first full window."
    )


def test_a_fall_below_the_beginning_is_more_than_all_that_was_gained() -> None:
    text = stability(table([0.0] * 20 + [400.0] * 20 + [-100.0] * 10, GOAL), GOAL)
    assert text.endswith("fell to -100 at episode 50, more than all that it had gained since its first full window.")


def test_a_run_that_only_fell_had_gained_nothing() -> None:
    text = stability(table([0.0] * 20 + line(0, -400, 50), GOAL), GOAL)
    assert text == (
        "From its peak of 0 at episode 20 the curve fell to -364 at episode 70; no window was above the first full "
        "one, so nothing had been gained."
    )


def test_the_faster_run_is_set_beside_the_baseline() -> None:
    assert comparison(cartpole(SLOW), cartpole(FAST), GOAL, best="trial 41") == [
        "Trial 41 left the random stage after 30 episodes; the baseline after 154 episodes.",
        "Trial 41 reached the threshold of 475 after 82 episodes and 17,240 environment steps; the baseline after 408 "
        "episodes and 62,644 environment steps.",
        "Trial 41 spent its environment steps 6% in the random stage and 94% rising; the baseline 6% in the random "
        "stage, 53% rising and 41% on a plateau.",
    ]


def test_a_baseline_that_missed_the_threshold_is_said_to() -> None:
    texts = comparison(cartpole(SLOW[:100]), cartpole(FAST), GOAL)
    assert texts[0].endswith("; the baseline never left the random stage in 100 episodes.")
    assert texts[1].endswith(
        "; the baseline did not reach the threshold of 475 in 100 episodes and 2,000 environment steps (best mean "
        "reward 20)."
    )


def test_two_runs_that_missed_the_threshold_are_told_so_once() -> None:
    texts = comparison(cartpole(SLOW[:100]), cartpole(SLOW[:90]), GOAL)
    assert texts[0] == (
        "The best trial never left the random stage in 90 episodes; nor did the baseline in 100 episodes."
    )
    assert "; nor did the baseline in 100 episodes and 2,000 environment steps" in texts[1]
    assert texts[2] == "The best trial, like the baseline, spent its environment steps 100% in the random stage."


def test_the_shares_of_the_stages_are_those_of_their_environment_steps() -> None:
    goal = Goal(None, 1, 1000)
    rows = table([0.0] * 10 + [100.0] * 30, goal, [30] * 10 + [10] * 30)
    text = comparison(cartpole(FAST, goal), rows, goal)[2]
    assert text.startswith("The best trial spent its environment steps 50% in the random stage and 50% on a plateau;")


def test_the_same_episodes_are_said_to_be_the_same() -> None:
    slower = [dataclasses.replace(row, wall_s=99.0) for row in cartpole(FAST)]
    assert comparison(cartpole(FAST), slower, GOAL) == [
        "The best trial and the baseline played the same episodes, one for one."
    ]


@pytest.mark.parametrize(
    ("baseline", "best", "who"),
    [([], FAST, "The baseline"), (FAST, [], "The best trial"), ([], [], "The best trial and the baseline")],
)
def test_a_run_without_an_episode_is_not_compared(baseline: list[float], best: list[float], who: str) -> None:
    assert comparison(cartpole(baseline), cartpole(best), GOAL) == [
        f"{who} ended no episode, so there is nothing to compare."
    ]


def test_the_story_and_its_parts_are_found_in_one_place() -> None:
    assert set(narrative.__all__) == {
        "Stage", "comparison", "reward_against_length", "sentences", "stability", "stages"
    }  # fmt: skip
