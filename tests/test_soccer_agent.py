"""Agents for the package's own evaluation: what is in the zip, and that the package plays it."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, FinishedSweep
from tests.soccer_runs import VARIATIONS, run_of, seen
from tuner import play
from tuner.envs.soccer import interpreter
from tuner.envs.soccer.agent import module_name, write_agent
from tuner.envs.soccer.field import Field
from tuner.envs.soccer.policy import Team
from tuner.envs.soccer.trained import arrays_of
from tuner.errors import UsageError

# The package would download its player when it is imported, and prints its results by a Ray that is not there.
LOADED = """
import json, sys, types
def module(name, **names):
    sys.modules[name] = made = types.ModuleType(name)
    vars(made).update(names)
module("soccer_twos.package", check_package=lambda: None, TRAINING_ENV_PATH=sys.argv.pop(1), ROLLOUT_ENV_PATH=None)
for name in ("ray", "ray.tune", "ray.tune.logger"):
    module(name, pretty_print=lambda result: json.dumps(result, default=float))
"""


def test_play_writes_a_package_that_old_pythons_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path / "run", VARIATIONS["single-flat"])
    target = tmp_path / "our_agent.zip"
    assert play.main([str(tmp_path / "run"), "--export", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    with zipfile.ZipFile(target) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if not name.endswith(".npz")}
    assert set(texts) == {f"our_agent/{name}" for name in ("__init__.py", "agent.py", "policy.py", "README.md")}
    for name, text in texts.items():
        if name.endswith(".py"):
            tree = ast.parse(text, feature_version=(3, 8))
            imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
            allowed = {"__future__", "collections.abc", "pathlib", "typing", "numpy.typing", "soccer_twos"}
            assert imported <= allowed
    assert "python -m soccer_twos.evaluate -m1 our_agent" in texts["our_agent/README.md"]


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run_of(tmp_path / "run", VARIATIONS["both"])
    write_agent(tmp_path / "run", tmp_path / "agent.zip")
    (tmp_path / "again").mkdir()
    write_agent(tmp_path / "run", tmp_path / "again/agent.zip")
    assert (tmp_path / "agent.zip").read_bytes() == (tmp_path / "again/agent.zip").read_bytes()


class TestRefused:
    @pytest.mark.parametrize("name", ["a", "agent", "Agent_7", "x" * 64])
    def test_not_a_plain_name(self, name: str) -> None:
        assert module_name(Path(f"some/where/{name}.zip")) == name

    @pytest.mark.parametrize(
        "name",
        ["my-agent.zip", "7.zip", ".zip", "a b.zip", "ägent.zip", "_a.zip", "class.zip", "json.zip", "numpy.zip",
         "soccer_twos.zip", "agent.tar", "agent", "a.b.zip", "x" * 65 + ".zip", "agent\n.zip"],
    )  # fmt: skip
    def test_a_name_that_the_evaluation_cannot_import(self, name: str) -> None:
        with pytest.raises(UsageError, match="--export"):
            module_name(Path(name))

    def test_a_run_that_is_not_of_soccer(
        self, finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert play.main([str(finished.path), "--export", str(tmp_path / "agent.zip")]) == 2
        assert "trained on 'CartPole-v1', not on 'tuner/SoccerTwos-v0'" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_checkpoint_that_does_not_verify(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_of(tmp_path / "run", VARIATIONS["both"])
        next((tmp_path / "run/checkpoint").rglob("module_state.pkl")).write_bytes(b"")
        assert play.main([str(tmp_path / "run"), "--export", str(tmp_path / "agent.zip")]) == 3
        assert "does not verify" in capsys.readouterr().err
        assert not (tmp_path / "agent.zip").exists()

    def test_a_folder_that_is_not_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_of(tmp_path / "run", VARIATIONS["both"])
        assert play.main([str(tmp_path / "run"), "--export", str(tmp_path / "nowhere/agent.zip")]) == 2
        assert "nowhere/agent.zip: No such file or directory" in capsys.readouterr().err


class TestInThePackage:
    """The real soccer-twos under its own old interpreter, where neither this project nor RLlib nor torch is."""

    @pytest.mark.parametrize("variation", VARIATIONS)
    def test_an_agent_does_what_its_policy_did_in_training(
        self, variation: str, soccer_worker: interpreter.WorkerEnvironment, tmp_path: Path
    ) -> None:
        run_of(tmp_path / "run", VARIATIONS[variation], fcnet_activation="silu")
        write_unpacked(tmp_path / "run", tmp_path / "agent.zip")
        observations = seen(50)
        np.save(tmp_path / "seen.npy", observations)
        code = """
import numpy as np, agent
from soccer_twos.utils import get_agent_class
ours = get_agent_class(agent)(None)
played = [ours.act({0: first, 1: second}) for first, second in np.load("seen.npy")]
print(json.dumps([[actions[0].tolist(), actions[1].tolist()] for actions in played]))
"""
        done = in_the_package(soccer_worker, code, tmp_path, "")
        np.testing.assert_array_equal(json.loads(done.stdout), Team(arrays_of(tmp_path / "run")).act(observations))

    def test_the_evaluation_plays_the_very_matches_of_the_field(
        self, soccer_worker: interpreter.WorkerEnvironment, tmp_path: Path
    ) -> None:
        teams = []
        for name, variation in (("ours", "single-flat"), ("theirs", "both")):
            run_of(tmp_path / name, VARIATIONS[variation], seed=5)
            write_unpacked(tmp_path / name, tmp_path / f"{name}_agent.zip")
            teams.append(Team(arrays_of(tmp_path / name)))
        player = tmp_path / "player"
        stand_in = f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m tuner.envs.soccer.stand_in "$@"'
        player.write_text(f"#!/bin/sh\n{stand_in}\n")
        player.chmod(0o755)
        words = ["-m1", "ours_agent", "-m2", "theirs_agent", "-e", "4", "-p", str(free_port())]
        code = 'import runpy\nrunpy.run_module("soccer_twos.evaluate", run_name="__main__")\n'
        done = in_the_package(soccer_worker, code, tmp_path, str(player), *words)
        found = json.loads(done.stdout.splitlines()[-1])
        lengths, rewards = matches_on_the_field(teams, 4)
        assert min(lengths) < 1000, "without a goal this would show little"
        assert found["hist_stats"]["episode_lengths"] == lengths
        assert found["hist_stats"]["ours_agent"]["rewards"] == pytest.approx([blue for blue, _ in rewards])
        assert found["hist_stats"]["theirs_agent"]["rewards"] == pytest.approx([orange for _, orange in rewards])


def write_unpacked(run: Path, target: Path) -> None:
    """Export a run's agent and unpack it beside the zip, as its README says."""
    write_agent(run, target)
    with zipfile.ZipFile(target) as archive:
        archive.extractall(target.parent)


def in_the_package(
    worker: interpreter.WorkerEnvironment, code: str, folder: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run code in the worker environment, with the package but without its download; the first word is the player."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [worker.python, "-c", LOADED + code, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def matches_on_the_field(teams: list[Team], number: int) -> tuple[list[int], list[tuple[float, float]]]:
    """The lengths of the package's first matches, whose seed is 0, and each one's rewards of the first and other team.

    The teams change sides after each match, as in the package's evaluation.
    """
    field = Field(1)
    field.reset([0])
    lengths, rewards = [], []
    for match in range(number):
        blue, orange = teams if match % 2 == 0 else teams[::-1]
        length = 0
        is_over = False
        while not is_over:
            seen = field.observations
            field.step(np.concatenate([blue.act(seen[:, :2]), orange.act(seen[:, 2:])], axis=1))
            is_over = bool(field.terminateds[0] or field.truncateds[0])
            length += 1
        of_team: Any = field.rewards[0].reshape(2, 2).sum(axis=1)
        lengths.append(length)
        rewards.append((float(of_team[match % 2]), float(of_team[1 - match % 2])))
        field.step(np.zeros((1, 4, 3), np.int64))
    return lengths, rewards


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
