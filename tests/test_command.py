"""What all commands share: the values of their options, their last line on stderr, and their exit codes."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import command
from tuner.errors import Interrupted, SpaceError, StateError, UsageError


def run_raising(error: BaseException) -> int:
    """The exit code of a command whose work ends with `error`."""

    def main(args: argparse.Namespace) -> int:
        raise error

    return command.run(main, argparse.ArgumentParser(), [])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        ("45", 45),
        ("0.5h", 1800),
        (" 10m ", 600),
    ],
)
def test_a_time_is_read_in_the_unit_it_is_written_in(text: str, seconds: float) -> None:
    assert command.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "-5s", "+5s", "1h30m", "10 m", "1e3", "nan", "inf", "ten minutes"])
def test_what_is_not_a_time_is_refused_with_the_value_and_examples(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refusal:
        command.seconds(text)
    assert str(refusal.value) == f"{text!r}: write a time such as 90s, 10m or 2h"


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_sixty_of_a_unit_are_one_of_the_next(amount: int) -> None:
    assert command.seconds(f"{60 * amount}m") == command.seconds(f"{amount}h")


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("gamma=0.98", ("gamma", "0.98")),
        ("fcnet_hiddens=[64, 64]", ("fcnet_hiddens", "[64, 64]")),
        (" lr =5e-4", ("lr", "5e-4")),
        ("grad_clip=", ("grad_clip", "")),
        ("name=a=b", ("name", "a=b")),
    ],
)
def test_key_and_value_are_split_at_the_first_equals_sign(text: str, pair: tuple[str, str]) -> None:
    assert command.key_value(text) == pair


@pytest.mark.parametrize("text", ["gamma", "", "=0.98", "  =1"])
def test_what_has_no_key_or_no_equals_sign_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"write KEY=VALUE, such as gamma=0\.98"):
        command.key_value(text)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UsageError("--trials 0: must be at least 1"), 2),
        (StateError("runs/a: was written for another sweep"), 3),
        (Interrupted("stopped by SIGTERM"), 75),
        (KeyboardInterrupt(), 75),
    ],
)
def test_an_error_ends_a_command_with_its_exit_code(error: BaseException, exit_code: int) -> None:
    assert run_raising(error) == exit_code


def test_the_last_line_on_stderr_is_what_was_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    run_raising(UsageError("--trials 0: must be at least 1"))
    assert capsys.readouterr().err.splitlines()[-1] == "error: --trials 0: must be at least 1"


def test_the_last_line_on_stderr_names_the_file_of_a_bad_space(capsys: pytest.CaptureFixture[str]) -> None:
    run_raising(SpaceError(["window = 0: must be at least 1", "seed = -1: must be at least 0"], "mine.py"))
    assert capsys.readouterr().err.splitlines()[-1].strip() == "mine.py: seed = -1: must be at least 0"


def test_an_interrupted_command_says_that_the_same_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    run_raising(KeyboardInterrupt())
    assert "the same command goes on" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("text", ["\x1b]0;taken\a", "\x1b[31m", "over\rwritten", "\x9b31m", "\u202egnp.exe", "\0"])
def test_no_message_commands_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_raising(UsageError(f"a{text}b"))
    command.say(f"one{text}\ntwo")
    captured = capsys.readouterr()
    assert captured.err.strip().isprintable() and captured.out.count("\n") == 2
    assert captured.out.replace("\n", "").isprintable()


def test_a_defect_of_our_own_is_not_passed_off_as_bad_input() -> None:
    with pytest.raises(ZeroDivisionError):
        run_raising(ZeroDivisionError())


def test_what_a_command_returns_is_its_exit_code() -> None:
    assert command.run(lambda args: 1, argparse.ArgumentParser(), []) == 1


def test_a_parser_describes_its_command_by_the_first_line_of_its_module() -> None:
    assert command.parser("sweep", "`tuner sweep`: run a sweep.\n\nMore.").description == "Run a sweep."


def test_options_are_not_guessed_from_their_first_letters() -> None:
    parser = command.parser("sweep", "`tuner sweep`: run a sweep.")
    parser.add_argument("--trials", type=int)
    with pytest.raises(SystemExit) as refusal:
        parser.parse_args(["--tri", "5"])
    assert refusal.value.code == 2
