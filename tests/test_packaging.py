"""The wheel, built from this checkout and installed in a clean environment, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the scripts of a fresh environment that holds this wheel."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # Ray and torch are not installed a second time: a plain path line brings this environment's packages without
    # their own .pth files, so without the checkout that may be installed here for editing.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield folder / "bin"


def run(words: list[str], folder: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_the_spaces_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"tuner/sweep.py", "tuner/ppo/rllib.py", "tuner/py.typed", "search_spaces/cartpole.py"} <= set(names)
    assert {"tuner/page/report.html.j2", "tuner/page/report.css", "tuner/page/report.js"} <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"tuner", "search_spaces"}
    assert "search_spaces/__init__.py" not in names


def test_the_script_and_python_m_run_the_wheels_own_code(scripts: Path, tmp_path: Path) -> None:
    where = run([str(scripts / "python"), "-c", "import tuner; print(tuner.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(scripts.parent)
    ways = [str(scripts / "tuner"), "sweep"], [str(scripts / "python"), "-m", "tuner.sweep"]
    said = [run([*way, "cartpole", "--dry-run"], tmp_path) for way in ways]
    by_script, by_module = (re.sub("[0-9,]+ MB free", "", text) for text in said)  # others write to the disk, too
    assert "CartPole-v1" in by_script and by_script == by_module
    assert str(scripts.parent) in by_script
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


def test_a_users_own_space_in_the_current_folder_adds_to_ours(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces/mine.py").write_text(
        '"""Mine."""\nfrom tuner.space import SearchSpace\nspace = SearchSpace(env="Acrobot-v1", trials=3)\n'
    )
    assert "Acrobot-v1" in run([str(scripts / "tuner"), "sweep", "mine", "--dry-run"], tmp_path)
    assert "Acrobot-v1" in run([str(scripts / "python"), "-m", "tuner.sweep", "mine", "--dry-run"], tmp_path)
    listed = run([str(scripts / "tuner"), "sweep", "--list"], tmp_path)
    assert "cartpole" in listed and "mine" in listed


def test_every_command_explains_itself(scripts: Path, tmp_path: Path) -> None:
    for name in ("sweep", "train", "report", "board", "play", "doctor"):
        assert run([str(scripts / "tuner"), name, "--help"], tmp_path).startswith(f"usage: tuner {name}")


def test_an_unknown_command_ends_with_2_and_the_nearest(scripts: Path, tmp_path: Path) -> None:
    done = subprocess.run([scripts / "tuner", "swep"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and 'did you mean "sweep"' in done.stderr.splitlines()[-1]
