"""What the README says is run here, made smaller, but otherwise as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_board import fetch
from tuner import catalog

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
PYTHON = [block for kind, block in BLOCKS if kind == "python"]

# What makes a command end in seconds; an option given twice holds as it was given last.
SMALLER = {
    "python -m tuner.sweep cartpole --trials": "--trials 2 --episodes 60 --race-seeds 2 --parallel 1",
    "python -m tuner.sweep cartpole --dry-run": "--episodes 60",
    "python -m tuner.sweep gym:": "--trials 1 --episodes 4",
    "python -m tuner.sweep soccer": "--trials 1 --episodes 2 --race-seeds 0",
    "python -m tuner.play runs/soccer": "--episodes 2",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder that the README's commands share, as a reader's would."""
    return tmp_path_factory.mktemp("readme")


def smaller(command: str) -> list[str]:
    more = next((words for start, words in SMALLER.items() if command.startswith(start)), "")
    return [sys.executable if word == "python" else word for word in shlex.split(f"{command} {more}")]


def test_the_first_commands_of_the_readme_are_the_two_that_set_everything_up() -> None:
    assert COMMANDS[:2] == ["make cartpole", "make test"]


@pytest.mark.ray
def test_make_cartpole_sweeps(folder: Path) -> None:
    # This interpreter's environment in place of .venv, taken as installed: CI makes the real one.
    venv = Path(sys.prefix)
    words = ["make", "cartpole", f"VENV={venv}", f"--old-file={venv}/installed"]
    arguments = f"ARGS=--trials 1 --episodes 50 --name made --out {folder}"
    done = subprocess.run([*words, arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (folder / "made/best/curves.png").is_file()


def test_make_test_runs_this_suite_in_two_parts() -> None:
    done = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    _, apart, rest = done.stdout.split("python -m pytest ")
    named = re.findall(r"tests/\S+", apart)
    assert "tests/faults" in named and all((ROOT / path).exists() for path in named)
    assert re.findall(r"--ignore=([^\s;]+)", rest) == named
    assert "exit $((rest ? rest : code))" in done.stdout, "either part's failure is the whole's"


def test_make_soccer_prepares_the_package_and_sweeps() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "soccer"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    prepares, sweeps = done.stdout.splitlines()[-2:]
    assert "tuner.doctor --install-soccer ||" in prepares, "without an old Python it goes on"
    assert sweeps.split()[1:] == ["-m", "tuner.sweep", "soccer"]


@pytest.mark.ray
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("python")])
def test_a_command_of_the_readme_does_what_it_says(command: str, folder: Path, request: pytest.FixtureRequest) -> None:
    if "--install-soccer" in command or "stand-in" in command:
        request.getfixturevalue("soccer_worker")  # skips where there is no old Python
    if "tuner.board" in command:
        with subprocess.Popen(smaller(command), cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert address and fetch(f"{address[0]}/data/runs")
            process.terminate()
            assert process.wait(timeout=30) == 0
        return
    done = subprocess.run(smaller(command), cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_readmes_space_loads(tmp_path: Path) -> None:
    block = next(block for block in PYTHON if "SearchSpace(" in block)
    (tmp_path / "mine.py").write_text(block)
    space = catalog.load(str(tmp_path / "mine.py")).space
    assert (space.env, space.threshold, space.trials) == ("Acrobot-v1", -100, 16)


@pytest.mark.ray
def test_the_readmes_tune_script_stops_at_its_limit(tmp_path: Path) -> None:
    block = next(block for block in PYTHON if "EpisodesTotalStopper" in block)
    assert "EpisodesTotalStopper(1000)" in block
    script = block.replace("EpisodesTotalStopper(1000)", "EpisodesTotalStopper(150)").replace(
        "tune.Tuner(", "results = tune.Tuner("
    )
    script += 'print("episodes", results[0].metrics["episodes_total"], results[0].metrics["training_iteration"])\n'
    printed = run_python(script, tmp_path)
    found = re.search(r"episodes (\d+) (\d+)", printed)
    # An iteration of 4,000 steps holds about 180 episodes of a policy that has not learned anything.
    assert found and int(found[1]) >= 150 and int(found[2]) == 1


@pytest.mark.ray
def test_the_readmes_fused_script_trains_and_saves_what_rllib_alone_loads(tmp_path: Path) -> None:
    block = next(block for block in PYTHON if "FusedPPO" in block)
    script = block.replace("/tmp/checkpoint", str(tmp_path / "checkpoint"))  # noqa: S108 replaced
    script += 'import sys; print("torch\'s compiler:", "torch._dynamo" in sys.modules)\n'
    printed = run_python(script, tmp_path)
    assert re.search(r"^compiled \d+\.\d+", printed, re.MULTILINE)
    # Importing it takes two seconds and 65 MB in each process; a newer torch may find another way to it.
    assert "torch's compiler: False" in printed
    named = [file for file in (tmp_path / "checkpoint").rglob("*") if file.is_file() and b"tuner" in file.read_bytes()]
    assert not named


def test_links_lead_to_files_that_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "DESIGN.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def run_python(script: str, folder: Path) -> str:
    env = {**os.environ, "HOME": str(folder), "RAY_AIR_NEW_OUTPUT": "0"}
    env.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # what is compiled need not be again
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
