"""Fault 24: pickles, YAML and values that are code: the canary, a file that any of them would make, never appears."""

from __future__ import annotations

import ast
import json
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults import in_process
from tests.faults.in_process import SMALL, wait
from tests.soccer_runs import VARIATIONS, run_of
from tests.test_study import GRID, finish_as_usual
from tuner import doctor, play, report, sweep, train
from tuner.files import MANIFEST, sha256, write_manifest
from tuner.study import STARTUP_TRIALS, SweepStudy


class Bomb:
    """What makes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def bomb(canary: Path) -> bytes:
    """A pickle that makes the canary."""
    data = pickle.dumps(Bomb(canary))
    pickle.loads(data)  # noqa: S301 it works
    canary.unlink()
    return data


def planted(folder: Path, data: bytes, *, listed: bool, sealed: bool) -> Path:
    """A soccer run in `folder` whose policy's pickle is `data`, or beside whose policy it lies; its manifest forged."""
    run_of(folder, VARIATIONS["single-flat"])
    checkpoint = folder / "checkpoint"
    before = json.loads((checkpoint / MANIFEST).read_bytes())
    state = next(checkpoint.rglob("module_state.pkl"))
    target = state if listed else state.with_name("planted.pkl")
    target.write_bytes(data)
    if listed:
        (checkpoint / MANIFEST).unlink()
        write_manifest(checkpoint, {})
        if not sealed:
            forged = json.loads((checkpoint / MANIFEST).read_bytes())
            (checkpoint / MANIFEST).write_text(json.dumps(forged | {"seal": before["seal"]}))
    return folder


@pytest.mark.parametrize("listed", [False, True], ids=["not in the manifest", "in a manifest without its seal"])
def test_play_reads_no_pickle_that_does_not_verify(listed: bool, bomb: bytes, canary: Path, tmp_path: Path) -> None:
    folder = planted(tmp_path / "run", bomb, listed=listed, sealed=False)
    assert play.main([str(folder), "--episodes", "1"]) == 3
    assert play.main([str(folder), "--export", str(tmp_path / "agent.zip")]) == 3
    assert not canary.exists()


@pytest.mark.parametrize("listed", [False, True], ids=["not in the manifest", "in a manifest without its seal"])
def test_a_sweep_goes_on_without_a_checkpoint_that_does_not_verify(
    listed: bool, bomb: bytes, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine here unpickles whatever is in the folder that it is given."""

    class Gullible(in_process.ToyEngine):
        def restore(self, folder: Path, iteration: int, env_steps: int) -> None:
            for file in folder.rglob("*.pkl"):
                pickle.loads(file.read_bytes())  # noqa: S301 that is the test
            super().restore(folder, iteration, env_steps)

    monkeypatch.setattr(in_process, "ToyEngine", Gullible)
    assert wait(in_process.in_child(lambda: in_process.run(tmp_path, *SMALL))) == 0
    run_dir = tmp_path / "run"
    with sqlite3.connect(run_dir / "study.db") as database:  # as if it had been interrupted
        database.execute("UPDATE trials SET state = 'WAITING' WHERE number = 1")
    for folder in (run_dir / "trials/0001/checkpoints").iterdir():
        (folder / "planted.pkl").write_bytes(bomb)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if listed:
            manifest["files"]["planted.pkl"] = {"size": len(bomb), "sha256": sha256(folder / "planted.pkl")}
            (folder / MANIFEST).write_text(json.dumps(manifest))
    assert wait(in_process.in_child(lambda: in_process.run(tmp_path, *SMALL))) == 0
    assert not canary.exists()


def test_an_opponent_from_an_earlier_run_is_read_with_trust_alone(
    bomb: bytes, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = planted(tmp_path / "theirs", bomb, listed=True, sealed=True)
    mine = tmp_path / "mine"
    run_of(mine, VARIATIONS["single-flat"] | {"opponent": str(folder)})
    (tmp_path / "searched.py").write_text(
        "from dataclasses import replace\n"
        "from search_spaces.soccer import space as soccer\n"
        "from tuner.space import Choice\n"
        "space = replace(soccer, env_config={**soccer.env_config, 'opponent': 'random'},\n"
        f"    params={{'env_config.opponent': Choice('random', {str(folder)!r})}})\n"
    )
    opponent = ("--set", f"env_config.opponent={folder}", "--out", str(tmp_path / "runs"))
    for refused in (
        lambda: sweep.main(["soccer", *opponent]),
        lambda: sweep.main([str(tmp_path / "searched.py"), "--out", str(tmp_path / "runs")]),
        lambda: train.main(["soccer", *opponent]),
        lambda: play.main([str(mine), "--episodes", "1"]),
    ):
        assert refused() == 2
        assert "add --trust" in capsys.readouterr().err.splitlines()[-1]
    assert not canary.exists() and not (tmp_path / "runs").exists()
    assert play.main([str(mine), "--episodes", "1", "--trust"]) == 2  # what was read is no policy
    assert canary.exists(), "with trust it is read: the bomb is a live one"


def test_no_command_that_only_looks_reads_a_pickle(bomb: bytes, canary: Path, tmp_path: Path) -> None:
    """Sealed anew, as anybody can: `doctor` and `sweep --dry-run` read tables and the study alone."""
    assert wait(in_process.in_child(lambda: in_process.run(tmp_path, *SMALL))) == 0
    for folder in (tmp_path / "run").rglob("iter-*"):
        counters = json.loads((folder / MANIFEST).read_bytes())["counters"]
        (folder / MANIFEST).unlink()
        (folder / "algorithm_state.pkl").write_bytes(bomb)
        write_manifest(folder, {"counters": counters})
    assert wait(in_process.in_child(lambda: doctor.main([str(tmp_path / "run")]))) == 0
    assert wait(in_process.in_child(lambda: in_process.run(tmp_path, *SMALL, "--dry-run"))) == 0
    assert not canary.exists()


def test_a_study_whose_sampler_state_is_another_pickle_is_refused(
    bomb: bytes, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = SweepStudy(url, GRID, sampler="cmaes")
    for _ in range(STARTUP_TRIALS + 1):
        finish_as_usual(study, study.start_next())
    with sqlite3.connect(tmp_path / "study.db") as database:
        (last,) = database.execute("SELECT max(trial_id) FROM trials").fetchone()
        database.execute(
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (?, 'cma:optimizer:0', ?)",
            (last, json.dumps(bomb.hex())),
        )
    with pytest.raises(Exception, match="is not CMA-ES's own"):
        SweepStudy(url, GRID, sampler="cmaes").start_next()
    assert not canary.exists()


def test_cma_es_goes_on_from_its_own_state() -> None:
    study = SweepStudy("sqlite://", GRID, sampler="cmaes")
    for _ in range(STARTUP_TRIALS + 20):
        finish_as_usual(study, study.start_next())
    states = [trial for trial in study._study.get_trials() if "cma:optimizer:0" in trial.system_attrs]
    assert len(states) >= 2, "the second was made from the first"


TAGS = ("!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['CANARY']]",
        "lr: !!python/object/apply:os.system ['touch CANARY']",
        "lr: !!python/object/new:os.system ['touch CANARY']")  # fmt: skip
CODE = "__import__('pathlib').Path('CANARY').touch()"


@pytest.mark.parametrize("text", [*TAGS, f'lr: "{CODE}"', f'fcnet_activation: "{CODE}"', f'{{"env_config": "{CODE}"}}'])
def test_a_settings_file_is_data(text: str, canary: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text.replace("CANARY", str(canary)))
    words = ["cartpole", "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "runs")]
    assert train.main(words) == 2
    assert not canary.exists()


@pytest.mark.parametrize("name", ["best/config.yaml", "sweep.json", "trials/0000/config.json", "race"])
def test_a_run_folders_own_files_are_data(name: str, canary: Path, tmp_path: Path) -> None:
    assert wait(in_process.in_child(lambda: in_process.run(tmp_path, *SMALL))) == 0
    for file in [
        path for path in (tmp_path / "run" / name, *(tmp_path / "run" / name).rglob("*.json")) if path.is_file()
    ]:
        file.write_text(TAGS[0].replace("CANARY", str(canary)))
    for call in (
        lambda: in_process.run(tmp_path, *SMALL),
        lambda: report.main([str(tmp_path / "run")]),
        lambda: doctor.main([str(tmp_path / "run")]),
        lambda: play.main([str(tmp_path / "run")]),
    ):
        wait(in_process.in_child(call))
    assert not canary.exists()


def test_the_script_in_best_holds_hostile_values_as_text(tmp_path: Path) -> None:
    note = f'"); {CODE}; ("\\'.replace("CANARY", str(canary))
    options = (*SMALL, "--set", f"env_config.note={note}", "--set", f'env_config.triple="""{note}')
    assert wait(in_process.in_child(lambda: in_process.run(tmp_path, *options))) == 0
    script = ast.parse((tmp_path / "run/best/rllib.py").read_text())
    assert {note, f'"""{note}'} <= {node.value for node in ast.walk(script) if isinstance(node, ast.Constant)}
    assert "__import__" not in {node.id for node in ast.walk(script) if isinstance(node, ast.Name)}


def test_every_use_of_what_can_run_code_is_known() -> None:
    """`exec` for a space, which is a file that the user chose to run; no eval, no pickle.load, no yaml.load."""
    words = [sys.executable, "-m", "ruff", "check", "--ignore-noqa", "--select", "S102,S301,S302,S307,S506",
             "--output-format", "concise", "tuner", "search_spaces"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    found = [line.split(":")[0] for line in done.stdout.splitlines() if ".py:" in line]
    assert found == ["tuner/catalog.py"], done.stdout
