"""The worker environment: which interpreters do, and that a broken installation is never used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tuner import doctor
from tuner.envs.soccer import interpreter
from tuner.envs.soccer.interpreter import WorkerEnvironment
from tuner.errors import UsageError


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with no interpreter, no environment and an empty cache; where `bin` is in PATH."""
    for name, folder in (("XDG_CACHE_HOME", "cache"), ("PYENV_ROOT", "pyenv"), ("UV_PYTHON_INSTALL_DIR", "uv")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def fake(path: Path, says: str) -> Path:
    """An interpreter that answers every question so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


def test_without_an_interpreter_it_says_which_are_needed_and_where_to_get_one(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert interpreter.find() is None
    assert doctor.main(["--install-soccer"]) == 2
    said = capsys.readouterr().err
    assert "no Python 3.8 to 3.10" in said and "uv python install 3.10" in said
    assert not interpreter.location().exists()


@pytest.mark.parametrize(
    "place", ["bin/python3.9", "bin/python3", "pyenv/versions/3.9.1/bin/python", "uv/cpython-3.9.1-linux/bin/python3.9"]
)
def test_it_is_found_in_the_path_with_pyenv_and_with_uv(place: str, bare: Path) -> None:
    path = fake(bare / place, "echo 3.9")
    assert interpreter.find() == path


def test_pyenvs_folder_is_known_from_its_command(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYENV_ROOT")
    fake(bare / "elsewhere/libexec/pyenv", "exit 1")
    (bare / "bin/pyenv").symlink_to(bare / "elsewhere/libexec/pyenv")
    path = fake(bare / "elsewhere/versions/3.9.1/bin/python", "echo 3.9")
    assert interpreter.find() == path


def test_what_does_not_do_is_passed_over_and_the_newest_is_taken(bare: Path) -> None:
    fake(bare / "bin/python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 127")
    fake(bare / "bin/python3.9", "echo \"No module named 'ensurepip'\" >&2; exit 1")
    fake(bare / "bin/python3", "echo 3.12")
    (bare / "bin/python3.8").write_text("not executable")
    assert interpreter.find() is None
    older = fake(bare / "pyenv/versions/3.8.18/bin/python", "echo 3.8")
    assert interpreter.find() == older
    newer = fake(bare / "uv/cpython-3.10.2-linux/bin/python3.10", "echo 3.10")
    assert interpreter.find() == newer


def test_a_failed_installation_leaves_nothing_and_says_why(
    soccer_worker: WorkerEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    if interpreter.find() is None:
        pytest.skip("no Python 3.8 to 3.10 on this machine")
    with pytest.raises(UsageError, match=r"not built: ERROR: .*setuptools==65\.7\.0"):
        interpreter.install()
    assert [path.name for path in interpreter.location().parent.iterdir()] == ["soccer-worker.lock"]


def test_a_cache_that_cannot_be_written_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare / "file"))
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME"):
        interpreter.install()


def test_only_what_was_installed_to_the_end_and_from_todays_list_is_sound(
    soccer_worker: WorkerEnvironment, bare: Path
) -> None:
    path = interpreter.location()
    assert "no worker environment" in str(interpreter.problem())
    path.mkdir(parents=True)
    assert "no worker environment" in str(interpreter.problem())
    (path / "complete.json").write_text("{")
    assert "cannot be read" in str(interpreter.problem())
    mark = json.loads((soccer_worker.path / "complete.json").read_bytes())
    (path / "complete.json").write_text(json.dumps(mark | {"packages": "older"}))
    assert "another version" in str(interpreter.problem())
    shutil.copy(soccer_worker.path / "complete.json", path)
    assert "does not start" in str(interpreter.problem())
    fake(path / "bin/python", "echo 3.10")
    assert interpreter.problem() is None
    assert interpreter.install() == WorkerEnvironment(path)  # as it is: there is nothing to build it with


def test_the_doctor_says_what_soccer_can_be_played_with(
    soccer_worker: WorkerEnvironment, capsys: pytest.CaptureFixture[str], bare: Path
) -> None:
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    assert "soccer    field:" in said and f"no worker environment at {interpreter.location()}" in said
    os.environ["XDG_CACHE_HOME"] = str(soccer_worker.path.parent.parent)
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    assert f"stand-in: soccer-twos 0.1.14 under Python {soccer_worker.version} at {soccer_worker.path}" in said
    assert "unity: " in said


def test_a_player_that_the_package_cannot_download_is_an_error(soccer_worker: WorkerEnvironment, bare: Path) -> None:
    path = interpreter.location()
    path.mkdir(parents=True)
    shutil.copy(soccer_worker.path / "complete.json", path)
    fake(path / "bin/python", "case $3 in *soccer*) echo ConnectionError: no network >&2; exit 1;; *) echo 3.10;; esac")
    with pytest.raises(UsageError, match=r"could not download .*ConnectionError: no network; .* env_path"):
        interpreter.unity_player(None)
    python = f"lib/python{soccer_worker.version}/site-packages"
    binary = fake(path / python / "soccer_twos/bin/v2/linux-x86_64/soccer-twos/soccer-twos.x86_64", "exit 0")
    assert interpreter.unity_player(None) == binary
