"""The command on the page: done again, it is the same sweep."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tuner import sweep
from tuner.page.repeat import command, space_of
from tuner.plan import Plan, SweepOptions


def asked(space: str, tmp_path: Path, **options: Any) -> tuple[Plan, list[str]]:
    """A plan, and the words of the command that its sweep.json makes."""
    plan = Plan.of(space, SweepOptions(out=str(tmp_path), **options))
    return plan, shlex.split(command(json.loads(json.dumps(plan.to_json())), plan.run_dir.path.name))


def test_a_sweep_with_no_options_names_its_trials_alone(tmp_path: Path) -> None:
    assert asked("cartpole", tmp_path)[1] == ["python", "-m", "tuner.sweep", "cartpole", "--trials", "64"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"trials": 7, "episodes": 300, "steps": 90_000, "threshold": 300.5, "window": 20, "seed": 3, "pruner": "asha"},
        {"sampler": "random", "sampler_seed": 4, "parallel": 2, "gpus_per_trial": 0.5, "cpus_per_trial": 2},
        {"finalists": 5, "race_seeds": 7, "name": "mine"},
        {"engine": "rllib"},
        {"engine": "rllib", "race_seeds": 5},
        {"race_seeds": 0},
        {"set": {"gamma": "0.98", "fcnet_hiddens": "[32, 32]", "grad_clip": "none", "fcnet_activation": "tanh"}},
        {"set": {"fcnet_hiddens": [32, 32], "use_kl_loss": True}},
    ],
)
def test_its_words_make_the_same_plan(options: dict[str, Any], tmp_path: Path) -> None:
    plan, words = asked("cartpole", tmp_path, **options)
    args = sweep.parser().parse_args(words[3:])
    names = SweepOptions.__dataclass_fields__.keys() - {"set", "out"}
    values = {name: getattr(args, name) for name in names}
    again = Plan.of(args.space, SweepOptions(set=dict(args.set), out=str(tmp_path), **values))
    assert again.identity() == plan.identity()
    assert (again.trials, again.race, again.run_dir) == (plan.trials, plan.race, plan.run_dir)
    assert again.options.parallel == plan.options.parallel
    assert again.options.gpus_per_trial == plan.options.gpus_per_trial


@pytest.mark.parametrize("seeds", [None, 5, 20])
def test_a_spaces_own_number_of_race_seeds_is_not_repeated(seeds: int | None, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from tuner.space import SearchSpace\nspace = SearchSpace(env='CartPole-v1', race_seeds=5)\n"
    )
    _, words = asked(str(tmp_path / "mine.py"), tmp_path, race_seeds=seeds)
    assert words[words.index("--trials") + 2 :] == (["--race-seeds", "20"] if seeds == 20 else [])


def test_a_deadline_is_left_out_because_it_ends_a_sweep_early_and_makes_no_other(tmp_path: Path) -> None:
    assert "--time" not in asked("cartpole", tmp_path, time_s=60.0)[1]


def test_an_environment_of_gymnasium_is_named_as_it_was(tmp_path: Path) -> None:
    assert asked("gym:Acrobot-v1", tmp_path)[1][3] == "gym:Acrobot-v1"


def test_a_file_is_named_without_the_folders_above_it(tmp_path: Path) -> None:
    plan, _ = asked(str(ROOT / "tests/small.py"), tmp_path)
    assert space_of(plan.to_json()) == "./small.py"


def test_what_a_shell_would_take_apart_is_quoted(tmp_path: Path) -> None:
    plan, _ = asked("cartpole", tmp_path, set={"fcnet_hiddens": "[32, 32]"})
    assert "'fcnet_hiddens=[32, 32]'" in command(plan.to_json(), "cartpole")
