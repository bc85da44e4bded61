"""What is refused before anything starts: each with one message, its exit code, and nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FinishedSweep, tree
from tuner import sweep
from tuner.errors import UsageError
from tuner.plan import Plan, SweepOptions

THREE_MISTAKES = """
from tuner.space import Choice, Float, SearchSpace
space = SearchSpace(env="CartPole-v1", window=0, baseline={"minibatch": 32}, params={"gamma": Float(0.99, 0.9)})
"""
UNUSABLE = """
import gymnasium
class Words(gymnasium.Env):
    observation_space = gymnasium.spaces.Text(10)
    action_space = gymnasium.spaces.Discrete(2)
gymnasium.register("Words-v0", entry_point=Words)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


BAD_INPUT = [
    (["cartpol"], 2, ['did you mean "cartpole"']),
    (["nowhere/mine.py"], 2, ["nowhere/mine.py", "no such file"]),
    (["cartpole", "--set", "gama=0.9"], 2, ["--set gama=0.9", 'did you mean "gamma"']),
    (["cartpole", "--set", "gamma=1.5"], 2, ["--set gamma=1.5", "at most 1"]),
    (["cartpole", "--set", "gamma"], 2, ["KEY=VALUE"]),
    (["cartpole", "--set", "fcnet_hiddens=[64,x]"], 2, ["fcnet_hiddens", "layer widths"]),
    (["cartpole", "--set", "lr=__import__('os').system('touch canary')"], 2, ["must be a number"]),
    (["cartpole", "--trials", "0"], 2, ["--trials = 0", "at least 1"]),
    (["cartpole", "--episodes", "-1"], 2, ["--episodes = -1"]),
    (["cartpole", "--window", "0"], 2, ["--window = 0"]),
    (["cartpole", "--seed", "-1"], 2, ["--seed = -1"]),
    (["cartpole", "--threshold", "nan"], 2, ["--threshold = nan"]),
    (["cartpole", "--time", "soon"], 2, ["90s, 10m or 2h"]),
    (["cartpole", "--parallel", "0"], 2, ["--parallel 0"]),
    (["cartpole", "--sampler-seed", "-1"], 2, ["--sampler-seed -1"]),
    (["cartpole", "--sampler", "tp"], 2, ["--sampler"]),
    (["cartpole", "--sampler", "grid"], 2, ["14,745,600 combinations", "10,000", "--set"]),
    (["cartpole", "--race-seeds", "-1"], 2, ["--race-seeds -1", "from 0", "to 1000"]),
    (["cartpole", "--finalists", "0"], 2, ["--finalists 0", "at least 1"]),
    (["cartpole", "--cpus-per-trial", "64"], 2, ["64 CPUs"]),
    (["cartpole", "--name", "../x"], 2, ["--name '../x'"]),
    (["cartpole", "--name", "/etc/x"], 2, ["--name '/etc/x'"]),
    (["cartpole", "--name", "a\0b"], 2, ["--name"]),
    (["cartpole", "--name", "x" * 300], 2, ["1 to 64"]),
    (["cartpole", "--out", "/proc/nowhere"], 2, ["--out /proc/nowhere", "choose a folder you can write"]),
    (["gym:CartPole-v9"], 2, ["CartPole"]),
    (["gym:no_such_module:Env-v0"], 2, ["no_such_module"]),
    (["gym:FrozenLake-v1"], 2, ["Discrete(16)", "PPO needs a Box"]),
    ([], 2, ["which SPACE?", "--list"]),
]


@pytest.mark.parametrize(("words", "code", "parts"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_gets_one_clear_message_and_nothing_is_written(
    words: list[str], code: int, parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = sweep.main(words)
    except SystemExit as error:  # argparse's own way
        found = int(str(error.code))
    printed = capsys.readouterr()
    assert found == code
    assert all(part in printed.err for part in parts), printed.err
    assert "error: " in printed.err.splitlines()[-1] and "Traceback" not in printed.err
    assert not list(here.iterdir())


def test_a_file_with_three_mistakes_lists_all_three(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.py").write_text(THREE_MISTAKES)
    assert sweep.main(["./mine.py"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: mine.py: 3 problems"
    assert ["window" in lines[1], "minibatch_size" in lines[2], 'params["gamma"]' in lines[3]] == [True] * 3
    assert all(line.startswith("  mine.py: ") for line in lines[1:])


def test_observations_that_ppo_cannot_use_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "words.py").write_text(UNUSABLE)
    monkeypatch.syspath_prepend(here)
    assert sweep.main(["gym:words:Words-v0"]) == 2
    assert "Text(" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_ray_starts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs").write_text("a file, not a folder")
    assert sweep.main(["cartpole"]) == 2
    assert "--out runs" in capsys.readouterr().err


def test_a_folder_with_other_things_in_it_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "runs/cartpole").mkdir(parents=True)
    (here / "runs/cartpole/thesis.tex").write_text("years of work")
    assert sweep.main(["cartpole"]) == 3
    assert "is not a run folder" in capsys.readouterr().err
    assert [path.name for path in (here / "runs/cartpole").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (["--episodes", "151"], "--episodes is 150 there, 151 here"),
        (["--sampler", "random"], '--sampler is "tpe" there, "random" here'),
        (["--sampler-seed", "1"], "--sampler-seed is 0 there, 1 here"),
        (["--set", "gamma=0.9"], "baseline.gamma is 0.99 there, 0.9 here"),
        (["--pruner", "asha"], '--pruner is "none" there, "asha" here'),
    ],
)
def test_a_run_folder_of_another_sweep_is_refused_with_the_difference(
    words: list[str], difference: str, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(finished.path)
    assert sweep.main([*finished.words, *words]) == 3
    assert difference in capsys.readouterr().err
    assert tree(finished.path) == before


def test_a_run_folder_of_another_space_is_refused(finished: FinishedSweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["gym:Acrobot-v1", "--name", "cartpole", "--out", str(finished.path.parent)]) == 3
    assert 'env is "CartPole-v1" there, "Acrobot-v1" here' in capsys.readouterr().err


def test_a_run_folder_from_before_there_were_judges_is_gone_on_with(
    finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True))
    there = json.loads((run / "sweep.json").read_text())
    for name in ("judge", "race_seeds"):
        del there["definition"][name]
    (run / "sweep.json").write_text(json.dumps(there))
    words = [*finished.words[:-1], str(tmp_path)]
    assert sweep.main(words) == 0
    judged = {**there["definition"], "judge": "mine:judge"}
    (run / "sweep.json").write_text(json.dumps(there | {"definition": judged}))
    assert sweep.main(words) == 3
    assert 'judge is "mine:judge" there, None here' in capsys.readouterr().err


def test_a_spaces_own_number_of_race_seeds_is_the_default_and_may_change(tmp_path: Path) -> None:
    def plan(own: int, **options: Any) -> Plan:
        (tmp_path / "mine.py").write_text(
            f"from tuner.space import SearchSpace\nspace = SearchSpace(env='CartPole-v1', race_seeds={own})\n"
        )
        return Plan.of(str(tmp_path / "mine.py"), SweepOptions(out=str(tmp_path), **options))

    first = plan(5)
    assert first.race["seeds"] == 5
    assert plan(5, race_seeds=7).race["seeds"] == 7 and plan(5, engine="rllib").race["seeds"] == 0
    first.run_dir.make().sweep.write_text(json.dumps(first.to_json()))
    assert plan(6).race["seeds"] == 6


def test_a_judge_that_is_not_there_is_refused_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.py").write_text(
        "from tuner.space import SearchSpace\nspace = SearchSpace(env='CartPole-v1', judge='no_such_module:judge')\n"
    )
    assert sweep.main(["./mine.py"]) == 2
    assert "judge 'no_such_module:judge': cannot be imported" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_auto_goes_on_with_the_engine_that_a_folder_was_begun_with(
    finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True))
    there = json.loads((run / "sweep.json").read_text())
    (run / "sweep.json").write_text(json.dumps(there | {"engine": "rllib"}))
    words = [*finished.words[:-1], str(tmp_path)]
    assert sweep.main([*words, "--dry-run"]) == 0
    assert sweep.main([*words, "--engine", "fused"]) == 3
    assert '--engine is "rllib" there, "fused" here' in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["emptied", "missing"])
def test_a_finished_sweep_whose_study_is_lost_is_never_begun_anew(
    damage: str, finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished.path, tmp_path / "cartpole", symlinks=True))
    (run / "study.db").unlink()
    if damage == "emptied":
        (run / "study.db").touch()
    before = tree(run)
    assert sweep.main([*finished.words[:-1], str(tmp_path)]) == 3
    assert "study.db" in capsys.readouterr().err
    assert tree(run) == before


def test_a_sweep_json_of_a_newer_format_is_refused(
    finished: FinishedSweep, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = json.loads((finished.path / "sweep.json").read_text())
    (here / "runs/cartpole").mkdir(parents=True)
    (here / "runs/cartpole/sweep.json").write_text(json.dumps(there | {"format": 99}))
    assert sweep.main(["cartpole"]) == 3
    assert "format 99" in capsys.readouterr().err


def test_a_grid_runs_no_more_trials_than_it_has_combinations(here: Path) -> None:
    (here / "mine.py").write_text(
        "from tuner.space import Choice, SearchSpace\n"
        'space = SearchSpace(env="CartPole-v1", params={"gamma": Choice(0.9, 0.99), "num_epochs": Choice(10, 30)})\n'
    )
    assert Plan.of("./mine.py", SweepOptions(sampler="grid")).trials == 5


def test_the_options_of_python_are_checked_like_those_of_the_command() -> None:
    with pytest.raises(UsageError, match="--sampler foo: must be one of tpe"):
        Plan.of("cartpole", SweepOptions(sampler="foo"))


def test_the_cpus_of_a_trial_hold_its_remote_environment_runners() -> None:
    assert Plan.of("cartpole", SweepOptions(set={"num_env_runners": "3"})).cpus_per_trial == 4
