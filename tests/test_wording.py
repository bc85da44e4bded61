"""Numbers in sentences: as many digits as are read, the right number of the noun, never a rounded nothing."""

from __future__ import annotations

import pytest

from tuner.narrative.wording import capital, coefficient, count, listed, number, share


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1234, "1,234"), (-1234567, "-1,234,567"), (0.0, "0"), (-0.0, "0"), (475.0, "475"),
        (474.96, "474.96"), (61.5, "61.5"), (0.12, "0.12"), (-0.12345, "-0.123"), (1234.5, "1,234.5"),
        (12345.67, "12,346"), (10.0, "10"),
        (100.0, "100"), (1e-7, "1e-07"), (1e308, "1e+308"), (-1e15, "-1e+15"), (0.9999, "1"), (9999.999, "10,000"),
    ],
)  # fmt: skip
def test_a_number_has_the_digits_that_are_read(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("amount", "text"), [(0, "0 episodes"), (1, "1 episode"), (1000, "1,000 episodes")])
def test_one_of_a_thing_is_singular(amount: int, text: str) -> None:
    assert count(amount, "episode") == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(0.0, "0%"), (0.004, "under 1%"), (0.01, "1%"), (0.5, "50%"), (0.996, "over 99%"), (1.0, "100%")],
)
def test_a_share_is_nothing_or_all_only_where_it_is(part: float, text: str) -> None:
    assert share(part) == text


@pytest.mark.parametrize(("value", "text"), [(-0.001, "0.00"), (-0.5, "-0.50"), (1.0, "1.00")])
def test_a_coefficient_is_never_minus_zero(value: float, text: str) -> None:
    assert coefficient(value) == text


@pytest.mark.parametrize(
    ("parts", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")]
)
def test_a_list_is_read_as_a_person_says_it(parts: list[str], text: str) -> None:
    assert listed(parts) == text


@pytest.mark.parametrize(("text", "begun"), [("trial 41", "Trial 41"), ("", ""), ("PPO_01", "PPO_01")])
def test_a_sentence_begins_with_a_capital(text: str, begun: str) -> None:
    assert capital(text) == begun
