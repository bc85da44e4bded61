"""From what a user typed to a search space, and what is said of a file that has mistakes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from tuner import catalog
from tuner.errors import SpaceError, UsageError
from tuner.layout import RunDir
from tuner.parameters import default_params
from tuner.plan import Plan, SweepOptions
from tuner.space import Choice, SearchSpace

PPO_01 = {
    "lr": 5e-4, "lr_anneal_steps": None, "train_batch_size": 128, "minibatch_size": 32, "num_epochs": 6, "gamma": 0.99,
    "lambda_": 0.95, "clip_param": 0.5, "vf_clip_param": 1e5, "vf_loss_coeff": 0.5, "entropy_coeff": 0.0,
    "use_kl_loss": False, "grad_clip": None, "num_env_runners": 0, "num_envs_per_env_runner": 8,
    "rollout_fragment_length": 16, "fcnet_hiddens": [64, 32], "fcnet_activation": "relu", "vf_share_layers": False,
}  # fmt: skip

MINE = '''"""Mine: a space of my own."""
from tuner.space import Choice, SearchSpace

space = SearchSpace(env="CartPole-v1", params={"gamma": Choice(0.98, 0.99)})
'''

# What importing a space must not bring with it.
HEAVY = ("ray", "torch", "optuna", "gymnasium", "numpy", "pandas")


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    """A space file that holds `text`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems_of(path: Path) -> list[str]:
    """The lines that loading a file with mistakes ends with, its heading first."""
    with pytest.raises(SpaceError) as refusal:
        catalog.load(str(path))
    return str(refusal.value).splitlines()


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python process of its own in the folder `cwd`."""
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The `module:Env-v0` of a module that registers an environment when it is imported."""
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        'gymnasium.register("Mine-v0", entry_point=CartPoleEnv, reward_threshold=12.5)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_envs:Mine-v0"
    gymnasium.registry.pop("Mine-v0", None)
    sys.modules.pop("my_envs", None)


@pytest.mark.parametrize(("name", "value"), PPO_01.items())
def test_cartpoles_baseline_is_the_notebooks_ppo_01(name: str, value: object) -> None:
    assert catalog.load("cartpole").space.baseline[name] == value


def test_what_the_notebook_leaves_open_is_rllibs_own_in_cartpoles_baseline() -> None:
    assert catalog.load("cartpole").space.baseline == default_params() | PPO_01


def test_cartpoles_goal_is_the_notebooks() -> None:
    space = catalog.load("cartpole").space
    assert (space.env, space.threshold, space.window, space.max_episodes, space.seed) == (
        "CartPole-v1", 475, 50, 1000, 10,
    )  # fmt: skip


def test_a_named_space_comes_with_its_file_and_first_line() -> None:
    source = catalog.load("cartpole")
    assert (source.name, Path(source.file).name, source.doc.startswith("CartPole-v1: ")) == (
        "cartpole", "cartpole.py", True,
    )  # fmt: skip


def test_a_file_comes_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, MINE)
    assert catalog.load(str(path)).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_space_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    source = catalog.load(str(written(tmp_path, MINE)))
    assert (source.name, source.doc, source.space.params) == (
        "mine", "Mine: a space of my own.", {"gamma": Choice(0.98, 0.99)},
    )  # fmt: skip


def test_a_path_means_that_file_even_where_a_space_has_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, MINE, "cartpole.py")
    assert catalog.load(str(path)).file == str(path)


def test_a_relative_path_is_looked_for_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, MINE)
    monkeypatch.chdir(tmp_path)
    assert catalog.load("mine.py").name == "mine"


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    catalog.load(str(written(tmp_path, MINE)))
    assert catalog.load(str(written(tmp_path, MINE.replace("0.98", "0.97")))).space.params["gamma"].values[0] == 0.97


@pytest.mark.parametrize(("file", "folder"), [("my space.py", "my-space"), ("año+1.py", "a-o-1"), ("ok.py", "ok")])
def test_a_files_run_folder_has_dashes_for_what_its_name_may_not_hold(file: str, folder: str, tmp_path: Path) -> None:
    plan = Plan.of(str(written(tmp_path, MINE, file)), SweepOptions(out=str(tmp_path / "runs")))
    assert plan.run_dir.path == tmp_path / "runs" / folder


def test_an_unknown_name_is_told_the_nearest_ones() -> None:
    with pytest.raises(UsageError, match="space 'cartpol': unknown; did you mean \"cartpole\""):
        catalog.load("cartpol")


def test_a_name_like_no_other_is_told_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"known: .*cartpole.*; or a path to a \.py file, or gym:ENV_ID"):
        catalog.load("zebra")


@pytest.mark.parametrize("text", ["none.py", "./none.py", "none/none", "x" * 300 + ".py", "a\0b.py"])
def test_a_file_that_does_not_exist_is_bad_input(text: str) -> None:
    with pytest.raises(UsageError, match="no such file"):
        catalog.load(text)


def test_three_mistakes_in_a_file_are_three_problems(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "from tuner.space import Float, SearchSpace\n"
        'space = SearchSpace(env="CartPole-v1", window=0, baseline={"gamma": 2}, params={"lr": Float(0.01, 1e-05)})\n',
    )
    assert problems_of(path) == [
        f"{path}: 3 problems",
        f"  {path}: window = 0: must be a whole number of at least 1",
        f'  {path}: baseline["gamma"] = 2: must be a number of at least 0 and at most 1',
        f'  {path}: params["lr"] = Float(low=0.01, high=1e-05, log=False): low must be below high',
    ]


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, '"""Mine."""\nfrom tuner.space import SearchSpace\nspace = SearchSpace(env=\n')
    assert problems_of(path)[1].startswith(f"  {path}: line 3: ")


def test_an_error_that_the_file_raises_names_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "from tuner.space import SearchSpace\n\nepisodes = 1 / 0\n")
    assert problems_of(path)[1] == f"  {path}: line 3: ZeroDivisionError: division by zero"


def test_an_error_inside_a_function_of_the_file_names_the_line_it_was_raised_in(tmp_path: Path) -> None:
    path = written(tmp_path, "def episodes():\n    return 1 / 0\n\nepisodes()\n")
    assert problems_of(path)[1] == f"  {path}: line 2: ZeroDivisionError: division by zero"


def test_a_file_that_ends_the_process_is_bad_input_and_ends_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, "import sys\nsys.exit()\n")
    assert problems_of(path)[1].startswith(f"  {path}: line 2: SystemExit")


def test_an_unknown_argument_is_told_the_nearest_one(tmp_path: Path) -> None:
    text = 'from tuner.space import SearchSpace\nspace = SearchSpace(env="CartPole-v1", treshold=475)\n'
    assert 'did you mean "threshold"?' in problems_of(written(tmp_path, text))[1]


@pytest.mark.parametrize("text", ["", "space = 3\n", "search_space = None\n"])
def test_a_file_without_a_space_is_told_how_to_write_one(text: str, tmp_path: Path) -> None:
    assert "write `space = SearchSpace(env=..., ...)`" in problems_of(written(tmp_path, text))[1]


def test_a_file_that_is_not_text_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert problems_of(path)[0] == f"{path}: 1 problem"


def test_older_names_in_a_file_are_noted(tmp_path: Path) -> None:
    path = written(tmp_path, MINE.replace('"CartPole-v1"', '"CartPole-v1", baseline={"num_sgd_iter": 6}'))
    assert catalog.load(str(path)).space.notes == ('"num_sgd_iter" is called "num_epochs" in today\'s PPOConfig',)


@pytest.mark.parametrize(
    ("env", "threshold"), [("CartPole-v1", 475.0), ("MountainCar-v0", -110.0), ("Pendulum-v1", None)]
)
def test_a_gym_spaces_threshold_is_its_environments_own(env: str, threshold: float | None) -> None:
    assert catalog.load(f"gym:{env}").space.threshold == threshold


def test_a_gym_space_is_for_the_environment_that_was_named() -> None:
    assert catalog.load("gym:Acrobot-v1").space.env == "Acrobot-v1"


@pytest.mark.parametrize("text", ["gym:CartPole-v1", "gym:phys2d/CartPole-v1"])
def test_a_gym_space_has_a_name_that_a_run_folder_may_have(text: str, tmp_path: Path) -> None:
    assert RunDir.named(tmp_path, catalog.load(text).name).path.parent == tmp_path


def test_an_environment_of_a_module_is_found_by_importing_it(registered: str) -> None:
    source = catalog.load(f"gym:{registered}")
    assert (source.space.env, source.space.threshold) == (registered, 12.5)


def test_an_unknown_gym_id_is_told_the_nearest_ones() -> None:
    with pytest.raises(UsageError, match=r'Gymnasium has no such environment.*did you mean .*"CartPole-v1"'):
        catalog.load("gym:CartPol-v1")


@pytest.mark.parametrize("text", ["gym:", "gym:CartPole-v99", "gym:no_such_module:Mine-v0", "gym:not an id"])
def test_a_gym_id_that_cannot_be_made_is_bad_input(text: str) -> None:
    with pytest.raises(UsageError, match="Gymnasium has no such environment"):
        catalog.load(text)


def test_the_generic_space_is_valid_without_a_threshold() -> None:
    assert isinstance(catalog.generic_space("Pendulum-v1"), SearchSpace)


def test_the_list_shows_name_environment_first_line_and_file() -> None:
    rows = {name: rest for name, *rest in catalog.listing()}
    env, doc, file = rows["cartpole"]
    assert (env, doc.split(":")[0], Path(file).name) == ("CartPole-v1", "CartPole-v1", "cartpole.py")


def test_a_users_own_space_is_added_to_ours(tmp_path: Path) -> None:
    written(tmp_path, MINE, "search_spaces/mine.py")
    listed = run("-m", "tuner.sweep", "--list", cwd=tmp_path).stdout
    assert [line.split()[0] for line in listed.splitlines() if not line.startswith(" ")] == [
        "cartpole",
        "mine",
        "soccer",
    ]


def test_a_users_own_space_wins_over_ours_of_the_same_name(tmp_path: Path) -> None:
    path = written(tmp_path, MINE, "search_spaces/cartpole.py")
    assert str(path) in run("-m", "tuner.sweep", "--list", cwd=tmp_path).stdout


def test_a_broken_space_says_so_in_the_list_and_hides_no_other(tmp_path: Path) -> None:
    written(tmp_path, "space = (\n", "search_spaces/broken.py")
    listed = run("-m", "tuner.sweep", "--list", cwd=tmp_path).stdout
    assert ("broken.py: 1 problem" in listed, "CartPole-v1: reach" in listed) == (True, True)


def test_a_users_init_file_that_hides_our_spaces_is_pointed_out(tmp_path: Path) -> None:
    written(tmp_path, MINE, "search_spaces/mine.py")
    init = written(tmp_path, "", "search_spaces/__init__.py")
    done = run("-m", "tuner.sweep", "cartpole", "--dry-run", cwd=tmp_path)
    assert (done.returncode, f"{init} hides the installed spaces: remove that file" in done.stderr) == (2, True)


def test_importing_a_space_brings_nothing_heavy_with_it(tmp_path: Path) -> None:
    script = f"import sys, search_spaces.cartpole; print([name for name in {HEAVY} if name in sys.modules])"
    assert run("-c", script, cwd=tmp_path).stdout.strip() == "[]"


def test_loading_a_named_space_brings_nothing_heavy_with_it(tmp_path: Path) -> None:
    script = (
        f"import sys; from tuner import catalog; catalog.load('cartpole'); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run("-c", script, cwd=tmp_path).stdout.strip() == "[]"
