"""The errors a command ends with, their exit codes, and the hints in their messages."""

from __future__ import annotations

import pytest

from tuner import errors
from tuner.errors import SpaceError, SweepError, nearest


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.UsageError, 2),
        (errors.StateError, 3),
        (errors.StoreError, 2),
        (errors.StudyUnreadable, 3),
        (errors.SpaceChanged, 3),
        (errors.AlreadyRunning, 3),
        (errors.Interrupted, 75),
    ],
)
def test_every_error_has_the_exit_code_that_the_interface_promises(error: type[SweepError], exit_code: int) -> None:
    assert error("why").exit_code == exit_code


def test_a_bad_space_is_bad_input() -> None:
    assert SpaceError(["window = 0: must be at least 1"]).exit_code == 2


def test_one_trials_failure_is_no_error_that_ends_a_command() -> None:
    assert not issubclass(errors.TrialFailed, SweepError)


def test_a_space_error_counts_its_problems_and_lists_each_on_a_line_of_its_own() -> None:
    assert str(SpaceError(["first", "second"])).splitlines() == ["search space: 2 problems", "  first", "  second"]


def test_a_single_problem_is_not_called_problems() -> None:
    assert str(SpaceError(["first"])).splitlines()[0] == "search space: 1 problem"


def test_a_space_error_at_a_file_names_the_file_in_every_line() -> None:
    lines = str(SpaceError(["first", "second"]).at("mine.py")).splitlines()
    assert [line.strip().startswith("mine.py: ") for line in lines] == [True, True, True]


def test_a_space_error_keeps_its_problems_when_it_is_told_its_file() -> None:
    assert SpaceError(["first", "second"]).at("mine.py").problems == ["first", "second"]


def test_nearest_names_the_known_word_that_was_meant() -> None:
    assert nearest("minibatch", ["minibatch_size", "gamma"]) == '; did you mean "minibatch_size"?'


def test_nearest_offers_every_close_word_the_closest_first() -> None:
    assert nearest("clip_para", ["vf_clip_param", "clip_param"]) == '; did you mean "clip_param" or "vf_clip_param"?'


def test_nearest_says_nothing_where_nothing_is_close() -> None:
    assert nearest("zebra", ["minibatch_size", "gamma"]) == ""


def test_nearest_offers_at_most_three_words() -> None:
    assert nearest("lr", ["lr1", "lr2", "lr3", "lr4"]).count('"') == 6
