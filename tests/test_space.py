"""The search space: every trial of it is valid, all its problems are said at once, and it survives JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.cartpole import space as cartpole
from tuner.errors import SpaceError
from tuner.parameters import PARAMETERS
from tuner.ppo.config import ppo_config
from tuner.space import Choice, Domain, Float, Int, SearchSpace

SHAPE = ("minibatch_size", "num_envs_per_env_runner", "rollout_fragment_length")


def space_of(**changes: Any) -> SearchSpace:
    """A small valid space with `changes`."""
    values: dict[str, Any] = {"env": "CartPole-v1", "baseline": {"train_batch_size": 128, "minibatch_size": 32}}
    return SearchSpace(**(values | changes))


def problems_of(**changes: Any) -> list[str]:
    """What is said of a space with `changes`."""
    with pytest.raises(SpaceError) as refusal:
        space_of(**changes)
    return refusal.value.problems


@st.composite
def whole_numbers(draw: st.DrawFn, low: int, high: int, top: int) -> tuple[int, Domain | None]:
    """A baseline value and, where it is searched, a domain that holds it; their smallest value is in [low, high]."""
    smallest = draw(st.integers(low, high))
    kind = draw(st.sampled_from(["fixed", "choice", "range", "log"]))
    if kind == "choice":
        values = draw(st.lists(st.integers(smallest, top), max_size=4, unique=True))
        choices = draw(st.permutations(sorted({smallest, *values})))
        return draw(st.sampled_from(choices)), Choice(*choices)
    if kind == "range" and smallest < top:
        domain = Int(smallest, draw(st.integers(smallest + 1, top)), step=draw(st.integers(1, 64)))
        return draw(inside(domain)), domain
    if kind == "log" and smallest < top:
        domain = Int(smallest, draw(st.integers(smallest + 1, top)), log=True)
        return draw(inside(domain)), domain
    return smallest, None


@st.composite
def reals(draw: st.DrawFn, low: float, high: float) -> tuple[float, Domain | None]:
    """A baseline value and, where it is searched, a domain that holds it, all in [low, high]."""
    bounds = sorted(draw(st.lists(st.floats(low, high), min_size=2, max_size=2, unique=True)))
    domain = draw(st.sampled_from([None, Float(*bounds), Float(*bounds, log=bounds[0] > 0), Choice(*bounds)]))
    return (bounds[0] if domain is None else draw(inside(domain))), domain


def inside(domain: Domain) -> st.SearchStrategy[Any]:
    """A value that the domain holds."""
    if isinstance(domain, Choice):
        return st.sampled_from(domain.values)
    if isinstance(domain, Int):
        return st.integers(0, (domain.high - domain.low) // domain.step).map(lambda n: domain.low + n * domain.step)
    return st.floats(domain.low, domain.high)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Any valid space, its batch, minibatch, environments and fragment above all."""
    drawn: dict[str, tuple[Any, Domain | None]] = {"train_batch_size": draw(whole_numbers(1, 600, top=4096))}
    batch = smallest(drawn["train_batch_size"])
    drawn["minibatch_size"] = draw(whole_numbers(1, batch, top=4096))
    runners = draw(st.lists(st.integers(0, min(4, batch)), min_size=1, max_size=3, unique=True))
    drawn["num_env_runners"] = runners[0], draw(st.sampled_from([Choice(*runners), None]))
    drawn["num_envs_per_env_runner"] = draw(whole_numbers(1, min(64, batch // max(1, *runners)), top=64))
    fragment = draw(st.sampled_from([("auto", None), ("auto", Choice("auto", 8, 16)), (16, None), (16, Int(1, 64))]))
    drawn["rollout_fragment_length"] = fragment
    drawn["lr"] = draw(reals(1e-6, 1.0))
    drawn["gamma"] = draw(reals(0.0, 1.0))
    hiddens = Choice([64], [64, 32], [])
    drawn["fcnet_hiddens"] = [64, 32], draw(st.sampled_from([hiddens, None]))
    return SearchSpace(
        env=draw(st.text(min_size=1, max_size=8)),
        baseline={name: value for name, (value, _) in drawn.items()},
        params={name: domain for name, (_, domain) in drawn.items() if domain is not None},
        threshold=draw(st.none() | st.floats(-1e6, 1e6) | st.integers(-1000, 1000)),
        window=draw(st.integers(1, 200)),
        max_episodes=draw(st.integers(1, 10_000)),
        max_steps=draw(st.none() | st.integers(1, 10**9)),
        seed=draw(st.integers(0, 999_999_999)),
        trials=draw(st.integers(1, 1000)),
        pruner=draw(st.sampled_from(["none", "asha", "median"])),
        env_config=draw(st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | st.integers(), max_size=2)),
    )


def smallest(drawn: tuple[Any, Domain | None]) -> int:
    """The smallest whole number that a drawn parameter may take."""
    value, domain = drawn
    if domain is None:
        return value
    return min(domain.values) if isinstance(domain, Choice) else int(domain.low)


@st.composite
def suggestions(draw: st.DrawFn, of: st.SearchStrategy[SearchSpace]) -> tuple[SearchSpace, dict[str, Any]]:
    """A space and what a sampler may suggest in it."""
    space = draw(of)
    return space, {name: draw(inside(domain)) for name, domain in space.params.items()}


any_suggestion = suggestions(spaces() | st.just(cartpole))
any_domain = (reals(1e-6, 1e3) | whole_numbers(1, 1000, top=100_000)).map(lambda drawn: drawn[1]).filter(bool)


@settings(deadline=None, max_examples=50)
@given(any_suggestion)
def test_a_minibatch_always_fits_its_batch(drawn: tuple[SearchSpace, dict[str, Any]]) -> None:
    params = drawn[0].resolve(drawn[1])
    assert params["minibatch_size"] <= params["train_batch_size"]


@settings(deadline=None, max_examples=50)
@given(any_suggestion)
def test_the_environments_of_all_runners_never_outnumber_the_steps_of_a_batch(
    drawn: tuple[SearchSpace, dict[str, Any]],
) -> None:
    params = drawn[0].resolve(drawn[1])
    assert params["num_envs_per_env_runner"] * max(1, params["num_env_runners"]) <= params["train_batch_size"]


@settings(deadline=None, max_examples=50)
@given(any_suggestion)
def test_a_fragment_length_is_rllibs_own_or_divides_the_batch(drawn: tuple[SearchSpace, dict[str, Any]]) -> None:
    params = drawn[0].resolve(drawn[1])
    fragment = params["rollout_fragment_length"]
    environments = params["num_envs_per_env_runner"] * max(1, params["num_env_runners"])
    assert fragment == "auto" or params["train_batch_size"] % (environments * fragment) == 0


@settings(deadline=None, max_examples=50)
@given(any_suggestion)
def test_every_parameter_of_a_trial_is_valid_on_its_own(drawn: tuple[SearchSpace, dict[str, Any]]) -> None:
    params = drawn[0].resolve(drawn[1])
    assert {name: PARAMETERS[name].problem(value) for name, value in params.items()} == dict.fromkeys(PARAMETERS)


@settings(deadline=None, max_examples=50)
@given(any_suggestion)
def test_rllib_itself_accepts_every_trial(drawn: tuple[SearchSpace, dict[str, Any]]) -> None:
    config = ppo_config("CartPole-v1", drawn[0].resolve(drawn[1]), seed=0)
    config.validate()
    assert config.total_train_batch_size == drawn[0].resolve(drawn[1])["train_batch_size"]


@settings(deadline=None, max_examples=50)
@given(any_suggestion)
def test_what_was_suggested_is_used_as_it_is_but_for_the_shape_of_the_batch(
    drawn: tuple[SearchSpace, dict[str, Any]],
) -> None:
    space, suggested = drawn
    expected = {name: value for name, value in {**space.baseline, **suggested}.items() if name not in SHAPE}
    assert {name: value for name, value in space.resolve(suggested).items() if name not in SHAPE} == expected


@settings(deadline=None, max_examples=50)
@given(any_suggestion)
def test_a_minibatch_that_fits_is_not_lowered(drawn: tuple[SearchSpace, dict[str, Any]]) -> None:
    space, suggested = drawn
    asked = {**space.baseline, **suggested}
    used = space.resolve(suggested)
    assert used["minibatch_size"] == asked["minibatch_size"] or asked["minibatch_size"] > asked["train_batch_size"]


@settings(deadline=None, max_examples=50)
@given(suggestions(spaces()))
def test_a_trial_that_is_resolved_again_stays_as_it_is(drawn: tuple[SearchSpace, dict[str, Any]]) -> None:
    space, suggested = drawn
    used = space.resolve(suggested)
    assert space.resolve({**suggested, **{name: used[name] for name in SHAPE[:2]}}) == used


@pytest.mark.parametrize(("minibatch", "batch", "used"), [(256, 64, 64), (256, 128, 128), (128, 64, 64), (64, 64, 64)])
def test_a_minibatch_is_lowered_to_its_largest_choice_that_fits(minibatch: int, batch: int, used: int) -> None:
    params = cartpole.resolve({"minibatch_size": minibatch, "train_batch_size": batch})
    assert params["minibatch_size"] == used


def test_a_minibatch_between_two_choices_is_lowered_to_the_smaller_one() -> None:
    params = {"train_batch_size": Choice(100, 400), "minibatch_size": Choice(32, 64, 256)}
    space = space_of(baseline={"train_batch_size": 400, "minibatch_size": 64}, params=params)
    assert space.resolve({"train_batch_size": 100, "minibatch_size": 256})["minibatch_size"] == 64


def test_a_minibatch_from_a_range_is_lowered_to_a_value_on_its_steps() -> None:
    params = {"train_batch_size": Choice(100, 400), "minibatch_size": Int(16, 256, step=16)}
    space = space_of(baseline={"train_batch_size": 400, "minibatch_size": 64}, params=params)
    assert space.resolve({"train_batch_size": 100, "minibatch_size": 256})["minibatch_size"] == 96


def test_environments_are_lowered_to_their_largest_choice_that_fits() -> None:
    params = {"train_batch_size": Choice(4, 128), "num_envs_per_env_runner": Choice(1, 3, 8)}
    space = space_of(baseline={"train_batch_size": 128, "minibatch_size": 4}, params=params)
    assert space.resolve({"train_batch_size": 4, "num_envs_per_env_runner": 8})["num_envs_per_env_runner"] == 3


def test_the_baseline_is_used_exactly_as_the_space_gives_it() -> None:
    assert cartpole.resolve({}) == cartpole.baseline


def test_a_fragment_length_that_is_not_searched_follows_from_batch_and_environments() -> None:
    params = cartpole.resolve({"train_batch_size": 512, "num_envs_per_env_runner": 4})
    assert params["rollout_fragment_length"] == 128


def test_a_fragment_length_that_cannot_come_out_even_is_left_to_rllib() -> None:
    params = {"num_envs_per_env_runner": Choice(1, 3)}
    assert space_of(params=params).resolve({"num_envs_per_env_runner": 3})["rollout_fragment_length"] == "auto"


def test_a_fragment_length_that_is_searched_is_used_where_it_fits() -> None:
    baseline = {"train_batch_size": 128, "minibatch_size": 32, "rollout_fragment_length": 16}
    space = space_of(baseline=baseline, params={"rollout_fragment_length": Choice(16, 32)})
    assert space.resolve({"rollout_fragment_length": 32})["rollout_fragment_length"] == 32


@settings(deadline=None, max_examples=50)
@given(spaces())
def test_a_space_survives_json(space: SearchSpace) -> None:
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


@settings(deadline=None, max_examples=50)
@given(suggestions(spaces()))
def test_a_space_from_json_makes_the_same_trials(drawn: tuple[SearchSpace, dict[str, Any]]) -> None:
    space, suggested = drawn
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))).resolve(suggested) == space.resolve(suggested)


def test_a_space_with_another_range_is_another_space() -> None:
    assert space_of(params={"gamma": Float(0.9, 0.99)}) != space_of(params={"gamma": Float(0.9, 0.999)})


@pytest.mark.parametrize(
    ("domain", "grid"),
    [
        (Choice(3, 1, 2), [3, 1, 2]),
        (Choice([64, 32], [64, 64]), [[64, 32], [64, 64]]),
        (Float(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Int(10, 30), [10, 15, 20, 25, 30]),
        (Int(1, 3), [1, 2, 3]),
        (Int(0, 100, step=30), [0, 30, 60, 90]),
    ],
)
def test_a_grid_takes_choices_as_given_and_ranges_in_at_most_five_points(domain: Domain, grid: list[Any]) -> None:
    assert domain.grid() == grid


def test_a_logarithmic_range_has_its_points_at_equal_ratios() -> None:
    assert Float(1e-5, 1e-1, log=True).grid() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])


@settings(deadline=None, max_examples=50)
@given(any_domain)
def test_every_point_of_a_grid_lies_in_its_domain(domain: Domain) -> None:
    assert all(domain.contains(point) for point in domain.grid())


@settings(deadline=None, max_examples=50)
@given(any_domain)
def test_no_point_of_a_grid_comes_twice(domain: Domain) -> None:
    points = domain.grid()
    assert len(set(points)) == len(points)


@settings(deadline=None, max_examples=50)
@given(any_domain.filter(lambda domain: not isinstance(domain, Choice)))
def test_the_grid_of_a_range_goes_from_its_lowest_value_to_its_highest(domain: Float | Int) -> None:
    highest = domain.high if isinstance(domain, Float) else max(range(domain.low, domain.high + 1, domain.step))
    assert (domain.grid()[0], domain.grid()[-1]) == (domain.low, highest)


def test_the_size_of_a_grid_is_the_number_of_combinations() -> None:
    params = {"gamma": Choice(0.9, 0.95, 0.99), "lr": Float(1e-5, 1e-3, log=True), "num_epochs": Int(29, 30)}
    assert space_of(params=params).grid_size() == 3 * 5 * 2


def test_a_space_without_searched_parameters_has_one_combination() -> None:
    assert space_of().grid_size() == 1


def test_a_space_without_problems_is_accepted() -> None:
    assert space_of(params={"gamma": Choice(0.98, 0.99)}).params["gamma"] == Choice(0.98, 0.99)


def test_all_problems_of_a_space_are_listed_at_once() -> None:
    problems = problems_of(
        env="", threshold=math.nan, window=0, max_episodes=1.5, max_steps=0, seed=-1, trials=True, pruner="hyperband",
        baseline={"gamma": 2, "minibatch": 32}, params={"lr": Float(1e-2, 1e-5), "epochs": Int(1, 2)},
    )  # fmt: skip
    assert len(problems) == 12


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("env", "", 'must be a Gymnasium id such as "CartPole-v1"'),
        ("threshold", math.inf, "must be a finite number or None"),
        ("threshold", "475", "must be a finite number or None"),
        ("window", 0, "must be a whole number of at least 1"),
        ("max_episodes", 1.5, "must be a whole number of at least 1"),
        ("trials", True, "must be a whole number of at least 1"),
        ("max_steps", 0, "must be a whole number of at least 1, or None for no limit"),
        ("max_steps", True, "must be a whole number of at least 1, or None for no limit"),
        ("seed", 1_000_000_000, "must be a whole number from 0 to 999999999; the race has those beyond"),
        ("pruner", "hyperband", "must be one of none, asha, median"),
        ("baseline", None, "must be a mapping such as {...}"),
        ("params", ["lr"], "must be a mapping such as {...}"),
        ("env_config", 3, "must be a mapping such as {...}"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_remedy(key: str, value: Any, remedy: str) -> None:
    values = {"env": "CartPole-v1", key: value}
    with pytest.raises(SpaceError) as refusal:
        SearchSpace(**values)
    assert refusal.value.problems == [f"{key} = {value!r}: {remedy}"]


@pytest.mark.parametrize(
    ("name", "domain", "remedy"),
    [
        ("lr", Float(0.01, 1e-05), "low must be below high"),
        ("lr", Float(0.0, 1.0, log=True), "a logarithmic range must start above 0"),
        ("lr", Float(1e-5, 20.0), "20.0 must be a number above 0 and at most 10"),
        ("gamma", Float("0.9", 1.0), "low and high must be numbers"),
        ("num_epochs", Float(1.0, 30.0), "takes a whole number of at least 1; use Int or Choice"),
        ("num_epochs", Int(1, 30, step=0), "step must be at least 1"),
        ("num_epochs", Int(1, 30.5), "low, high and step must be whole numbers"),
        ("num_epochs", Int(1, 30, log=True, step=2), "a logarithmic range has no step; leave one of the two out"),
        ("use_gae", Int(0, 1), "takes true or false; use Choice"),
        ("gamma", Choice(), "needs at least one value"),
        ("gamma", Choice(0.99, 0.99), "holds the same value twice; remove one"),
        ("gamma", Choice(0.99, 1.5), "1.5 must be a number of at least 0 and at most 1"),
        ("gamma", 0.98, "must be a Float, Int or Choice; to fix a parameter, put it into baseline"),
        ("gamma", Choice(0.9, 0.95), 'does not hold the baseline\'s value 0.99; widen it, or change baseline["gamma"]'),
    ],
)
def test_a_bad_domain_is_named_with_its_value_and_remedy(name: str, domain: Any, remedy: str) -> None:
    baseline = {"train_batch_size": 128, "minibatch_size": 32, "lr": 5e-5}
    assert f'params["{name}"] = {domain!r}: {remedy}' in problems_of(baseline=baseline, params={name: domain})


def test_an_unknown_parameter_is_named_with_its_domain_and_the_nearest_name() -> None:
    problem = problems_of(params={"minibatch": Choice(32, 64)})[0]
    assert problem.startswith('params["minibatch"] = Choice(32, 64): unknown PPO parameter; did you mean "minibatch_si')


def test_one_mistake_in_the_baseline_is_one_problem() -> None:
    problems = problems_of(baseline={"lr": "fast", "minibatch_size": 32}, params={"lr": Float(1e-4, 1e-2)})
    assert [problem.split(" = ")[0] for problem in problems] == ['baseline["lr"]']


def test_a_minibatch_that_never_fits_is_a_problem_of_the_space() -> None:
    problems = problems_of(params={"train_batch_size": Choice(16, 128)})
    assert problems == [
        "minibatch_size = 32: is larger than the smallest train_batch_size, 16; "
        "allow a smaller minibatch_size or only larger batches"
    ]


def test_environments_that_never_fit_are_a_problem_of_the_space() -> None:
    baseline = {"train_batch_size": 32, "minibatch_size": 32, "num_envs_per_env_runner": 16, "num_env_runners": 4}
    assert problems_of(baseline=baseline) == [
        "num_envs_per_env_runner x num_env_runners = 64: is more than the smallest train_batch_size, 32; "
        "allow fewer environments or only larger batches"
    ]


def test_older_names_are_understood_in_baseline_and_params() -> None:
    params = {"sgd_minibatch_size": Choice(32, 64)}
    space = space_of(baseline={"sgd_minibatch_size": 32, "train_batch_size": 128, "num_sgd_iter": 6}, params=params)
    assert (space.baseline["num_epochs"], space.params) == (6, {"minibatch_size": Choice(32, 64)})


def test_an_older_name_is_noted_once_wherever_it_is_used() -> None:
    params = {"sgd_minibatch_size": Choice(32, 64)}
    space = space_of(baseline={"sgd_minibatch_size": 32, "train_batch_size": 128}, params=params)
    fixed = space.fixing({"sgd_minibatch_size": 64})
    assert fixed.notes == ('"sgd_minibatch_size" is called "minibatch_size" in today\'s PPOConfig',)


def test_a_space_under_older_names_equals_the_one_under_todays() -> None:
    older = space_of(baseline={"num_sgd_iter": 6, "sgd_minibatch_size": 32})
    assert older == space_of(baseline={"num_epochs": 6, "minibatch_size": 32})


def test_a_fixed_parameter_is_no_longer_searched() -> None:
    assert "gamma" not in cartpole.fixing({"gamma": "0.98"}).params


def test_a_fixed_parameter_holds_for_every_trial_the_baseline_included() -> None:
    space = cartpole.fixing({"gamma": "0.98"})
    assert space.resolve({})["gamma"] == 0.98


def test_fixing_leaves_the_rest_of_the_space_as_it_was() -> None:
    space = cartpole.fixing({"gamma": "0.98"})
    others = {name: domain for name, domain in cartpole.params.items() if name != "gamma"}
    assert (space.params, space.threshold, space.seed) == (others, cartpole.threshold, cartpole.seed)


def test_fixing_does_not_change_the_space_it_starts_from() -> None:
    before = json.dumps(cartpole.to_json())
    cartpole.fixing({"gamma": "0.98"})
    assert json.dumps(cartpole.to_json()) == before


@pytest.mark.parametrize(
    ("fixed", "problem"),
    [
        ({"gama": "0.9"}, 'gama = 0.9: unknown PPO parameter; did you mean "gamma"'),
        ({"gamma": "high"}, "gamma = high: must be a number of at least 0 and at most 1"),
    ],
)
def test_what_cannot_be_fixed_is_refused_with_key_value_and_remedy(fixed: Mapping[str, str], problem: str) -> None:
    with pytest.raises(SpaceError) as refusal:
        cartpole.fixing(fixed)
    assert refusal.value.problems[0].startswith(problem)


def test_all_problems_of_what_is_fixed_are_listed_at_once() -> None:
    with pytest.raises(SpaceError) as refusal:
        cartpole.fixing({"gama": "0.9", "lr": "fast", "num_epochs": "0"})
    assert len(refusal.value.problems) == 3


def test_a_fixed_batch_too_small_for_the_rest_of_the_space_is_refused() -> None:
    with pytest.raises(SpaceError, match="is larger than the smallest train_batch_size, 16"):
        cartpole.fixing({"train_batch_size": "16"})


def of_the_environment(**changes: Any) -> SearchSpace:
    settings: dict[str, Any] = {
        "env": "CartPole-v1", "env_config": {"sutton_barto_reward": False, "other": 1},
        "params": {"env_config.sutton_barto_reward": Choice(False, True)},
    }  # fmt: skip
    return SearchSpace(**(settings | changes))


def test_a_parameter_of_the_environment_has_its_baseline_in_env_config() -> None:
    space = of_the_environment()
    assert space.resolve({})["env_config.sutton_barto_reward"] is False
    assert space.resolve({"env_config.sutton_barto_reward": True})["env_config.sutton_barto_reward"] is True
    assert "env_config.other" not in space.resolve({})
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_a_parameter_of_the_environment_without_its_baseline_is_a_problem() -> None:
    with pytest.raises(SpaceError, match=r'widen it, or change env_config\["sutton_barto_reward"\]'):
        of_the_environment(env_config={})


def test_a_parameter_of_the_environment_can_be_fixed_from_text() -> None:
    fixed = of_the_environment().fixing({"env_config.sutton_barto_reward": "true", "env_config.new": "a name"})
    assert fixed.env_config == {"sutton_barto_reward": True, "other": 1, "new": "a name"}
    assert not fixed.params and not any(name.startswith("env_config.") for name in fixed.resolve({}))


def test_a_parameter_of_the_environment_holds_plain_values_only() -> None:
    with pytest.raises(SpaceError, match="must be a number, a text, true or false"):
        of_the_environment().fixing({"env_config.other": [1, 2]})


@pytest.mark.parametrize("judge", ["", "judges", "judges:", ":judge", "my judges:judge", "a:b:c", "a.b:c()", 3, print])
def test_a_judge_is_named_and_never_imported(judge: Any) -> None:
    assert space_of(judge="no.such_module:judge").judge == "no.such_module:judge"
    (problem,) = problems_of(judge=judge)
    assert problem.startswith(f"judge = {judge!r}: must be the name of a function") and "module:function" in problem


@pytest.mark.parametrize("seeds", [-1, 1001, 2.0, True, None])
def test_race_seeds_are_as_many_as_there_are(seeds: Any) -> None:
    assert space_of(race_seeds=0).race_seeds == 0 and space_of(race_seeds=1000).race_seeds == 1000
    assert problems_of(race_seeds=seeds) == [
        f"race_seeds = {seeds!r}: must be a whole number from 0, which leaves the race out, to 1000"
    ]


def test_a_space_from_before_there_were_judges_has_none() -> None:
    older = {name: value for name, value in cartpole.to_json().items() if name not in ("judge", "race_seeds")}
    assert SearchSpace.from_json(older) == cartpole
