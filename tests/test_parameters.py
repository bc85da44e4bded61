"""PPO's parameters: RLlib's own defaults, values from text, and what is said of values that PPO cannot use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from tuner.parameters import OLDER_NAMES, PARAMETERS, current_names, default_params, display, parse_params

MODEL = ("fcnet_hiddens", "fcnet_activation", "vf_share_layers")
RLLIB_NAMES = {"train_batch_size": "train_batch_size_per_learner"}
OWN = {
    "lr_anneal_steps": "RLlib writes it as a schedule",
    "num_env_runners": "a trial samples in its own process",
}


def rllib_default(name: str) -> Any:
    """What RLlib itself gives a parameter."""
    if name in MODEL:
        return getattr(DefaultModelConfig(), name)
    return getattr(PPOConfig(), RLLIB_NAMES.get(name, name))


def problem_of(name: str, value: Any) -> str:
    """What is said of a value that `name` cannot hold."""
    with pytest.raises(ValueError) as refusal:
        PARAMETERS[name].parse(value)
    return str(refusal.value)


def plain_values() -> st.SearchStrategy[Any]:
    """Whatever YAML, JSON or a command line may hold."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=5,
    )


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name not in OWN])
def test_a_default_is_rllibs_own(name: str) -> None:
    assert PARAMETERS[name].default == rllib_default(name)


def test_a_trial_samples_in_its_own_process_unless_asked_otherwise() -> None:
    assert default_params()["num_env_runners"] == 0


def test_the_learning_rate_is_constant_unless_asked_otherwise() -> None:
    assert default_params()["lr_anneal_steps"] is None


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_default_is_a_valid_value(name: str) -> None:
    assert PARAMETERS[name].problem(PARAMETERS[name].default) is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "5e-4", 5e-4),
        ("lr", " 0.001 ", 0.001),
        ("gamma", "1", 1.0),
        ("vf_clip_param", "1e5", 1e5),
        ("grad_clip", "null", None),
        ("grad_clip", "None", None),
        ("lr_anneal_steps", "60000", 60_000),
        ("lr_anneal_steps", "6e4", 60_000),
        ("lr_anneal_steps", "none", None),
        ("train_batch_size", "128", 128),
        ("rollout_fragment_length", "auto", "auto"),
        ("rollout_fragment_length", "16", 16),
        ("fcnet_hiddens", "[64, 64]", [64, 64]),
        ("fcnet_hiddens", "64,32", [64, 32]),
        ("fcnet_hiddens", "128", [128]),
        ("fcnet_activation", "relu", "relu"),
        ("fcnet_activation", " relu ", "relu"),
        ("use_kl_loss", "false", False),
        ("use_kl_loss", "True", True),
        ("use_gae", "no", False),
    ],
)
def test_text_becomes_what_the_parameter_holds(name: str, text: str, value: Any) -> None:
    parsed = PARAMETERS[name].parse(text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("gamma", 1, 1.0),
        ("train_batch_size", 128.0, 128),
        ("fcnet_hiddens", (64, 64), [64, 64]),
    ],
)
def test_a_value_of_a_kindred_type_becomes_the_parameters_own_type(name: str, value: Any, parsed: Any) -> None:
    found = PARAMETERS[name].parse(value)
    assert (found, type(found)) == (parsed, type(parsed))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("lr", "fast", "must be a number above 0 and at most 10"),
        ("lr", 0, "must be a number above 0 and at most 10"),
        ("lr", "nan", "must be a number above 0 and at most 10"),
        ("lr", None, "must be a number above 0 and at most 10"),
        ("lr", True, "must be a number above 0 and at most 10"),
        ("gamma", "1.5", "must be a number of at least 0 and at most 1"),
        ("gamma", -0.1, "must be a number of at least 0 and at most 1"),
        ("vf_clip_param", "inf", "must be a number above 0"),
        ("grad_clip", -1, "must be a number above 0 or null"),
        ("train_batch_size", "12.5", "must be a whole number of at least 1"),
        ("train_batch_size", 0, "must be a whole number of at least 1"),
        ("train_batch_size", True, "must be a whole number of at least 1"),
        ("lr_anneal_steps", "soon", "must be a whole number of at least 1 or null"),
        ("rollout_fragment_length", "automatic", 'must be a whole number of at least 1 or "auto"'),
        ("use_kl_loss", "maybe", "must be true or false"),
        ("use_kl_loss", 1, "must be true or false"),
        ("fcnet_activation", "gelu", "must be one of relu, tanh, swish, silu, linear"),
        ("fcnet_hiddens", "[64, sixty]", "must be a list of layer widths such as [64, 64]"),
        ("fcnet_hiddens", [64, 0], "must be a list of layer widths such as [64, 64]"),
        ("fcnet_hiddens", [True], "must be a list of layer widths such as [64, 64]"),
        ("fcnet_hiddens", None, "must be a list of layer widths such as [64, 64]"),
    ],
)
def test_a_value_that_ppo_cannot_use_is_refused_with_what_it_could_be(name: str, value: Any, problem: str) -> None:
    assert problem_of(name, value) == problem


def test_code_in_a_value_is_text_that_is_refused() -> None:
    assert problem_of("lr", "__import__('os').getpid()") == "must be a number above 0 and at most 10"


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(PARAMETERS)), plain_values())
def test_whatever_is_given_is_either_made_valid_or_refused(name: str, value: Any) -> None:
    try:
        parsed = PARAMETERS[name].parse(value)
    except ValueError as error:
        assert str(error).startswith("must be ")
    else:
        assert PARAMETERS[name].problem(parsed) is None


def test_a_number_too_large_for_the_machine_is_refused_like_any_other() -> None:
    assert problem_of("vf_clip_param", 10**400) == "must be a number above 0"


@pytest.mark.parametrize("name", [name for name, parameter in PARAMETERS.items() if parameter.kind != "str"])
def test_a_default_survives_being_shown_and_typed_in_again(name: str) -> None:
    default = PARAMETERS[name].default
    text = default if isinstance(default, str) else display(default)
    assert PARAMETERS[name].parse(text) == default


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-12, 10))
def test_a_number_survives_being_shown_and_typed_in_again(rate: float) -> None:
    assert PARAMETERS["lr"].parse(display(rate)) == rate


@pytest.mark.parametrize(("older", "current"), OLDER_NAMES.items())
def test_an_older_name_is_understood_and_said_so(older: str, current: str) -> None:
    values, notes = current_names({older: 4})
    assert (values, notes) == ({current: 4}, [f'"{older}" is called "{current}" in today\'s PPOConfig'])


@pytest.mark.parametrize("older", ["sgd_minibatch_size", "num_sgd_iter", "num_rollout_workers", "num_envs_per_worker"])
def test_the_notebooks_names_are_among_the_older_ones(older: str) -> None:
    assert OLDER_NAMES[older] in PARAMETERS


def test_a_nested_model_becomes_parameters_of_their_own() -> None:
    values, _ = current_names({"lr": 0.1, "model": {"fcnet_hiddens": [64], "fcnet_activation": "relu"}})
    assert values == {"lr": 0.1, "fcnet_hiddens": [64], "fcnet_activation": "relu"}


def test_a_nested_model_is_noted() -> None:
    assert len(current_names({"model": {"fcnet_hiddens": [64]}})[1]) == 1


def test_todays_names_need_no_note() -> None:
    assert current_names({"lr": 0.1}) == ({"lr": 0.1}, [])


def test_every_problem_is_listed_beside_what_could_be_parsed() -> None:
    parsed, problems = parse_params({"lr": "fast", "gamma": "0.9", "minibatch": 32}, "{name}={text}")
    assert (parsed, len(problems)) == ({"gamma": 0.9}, 2)


def test_a_problem_shows_key_and_value_in_the_form_they_were_written() -> None:
    _, problems = parse_params({"lr": "fast"}, "--set {name}={text}")
    assert problems == ["--set lr=fast: must be a number above 0 and at most 10"]


def test_an_unknown_parameter_is_told_the_nearest_known_one() -> None:
    _, problems = parse_params({"minibatch": 32}, "{name}={text}")
    assert problems[0].startswith('minibatch=32: unknown PPO parameter; did you mean "minibatch_size"')


def test_a_misspelt_older_name_is_told_the_nearest_known_one() -> None:
    _, problems = parse_params({"num_sgd_iters": 6}, "{name}={text}")
    assert '"num_sgd_iter"' in problems[0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("relu", '"relu"'),
        ([64, 32], "[64, 32]"),
        (5e-4, "0.0005"),
        (None, "None"),
        (True, "True"),
    ],
)
def test_a_value_is_shown_as_a_person_would_write_it(value: Any, shown: str) -> None:
    assert display(value) == shown
