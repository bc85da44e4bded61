"""What comes home from trials on other machines, and what may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tuner import checkpoint, home
from tuner.checkpoint import Counters
from tuner.errors import AlreadyRunning, StateError
from tuner.home import Home
from tuner.layout import RunDir, TrialDir

NAME = "trials/0003"


def away(folder: Path, iteration: int, rows: str) -> dict[str, bytes]:
    """What a trial on another machine delivers after an iteration."""
    trial = TrialDir(folder).make()
    trial.config.write_text('{"seed": 1}')
    trial.episodes.write_text(rows)

    def write(tmp: Path) -> None:
        (tmp / "deep").mkdir()
        (tmp / "deep" / "weights").write_bytes(bytes([iteration]) * 1000)

    if iteration:
        checkpoint.save(trial, Counters(iteration, 128 * iteration, len(rows), 0.5), write)
    return home._pack(trial, with_checkpoint=True)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run").make()


@pytest.fixture
def at_home(run_dir: RunDir) -> Home:
    return Home(run_dir.path)


def test_what_is_delivered_is_what_the_next_attempt_goes_on_from(
    at_home: Home, run_dir: RunDir, tmp_path: Path
) -> None:
    parcel = away(tmp_path / "away", 7, "a\nb\n")
    at_home.keep(NAME, parcel)
    path, counters = checkpoint.newest_valid(run_dir.trial(3)) or pytest.fail("nothing was kept")
    assert (path.name, counters.iteration, counters.env_steps) == ("iter-7", 7, 896)
    assert run_dir.trial(3).checkpoint.resolve() == path.resolve()
    home._unpack(at_home.fetch(NAME, "node", "folder"), tmp_path / "next")
    again = checkpoint.newest_valid(TrialDir(tmp_path / "next")) or pytest.fail("nothing arrived")
    assert again[1] == counters
    assert {name: (tmp_path / "next" / name).read_bytes() for name in parcel if "manifest" not in name} == {
        name: content for name, content in parcel.items() if "manifest" not in name
    }
    assert at_home.place_of(NAME) == ("node", "folder")


def test_the_newest_two_checkpoints_are_kept_at_home(at_home: Home, run_dir: RunDir, tmp_path: Path) -> None:
    for iteration in (1, 2, 3):
        at_home.keep(NAME, away(tmp_path / "away", iteration, "a\n" * iteration))
        at_home.keep(NAME, away(tmp_path / "away", iteration, "a\n" * iteration))  # once more, as after a retry
    assert run_dir.trial(3).iterations() == [3, 2]
    assert run_dir.trial(3).episodes.read_text() == "a\na\na\n"


def test_a_run_whose_policy_nobody_wants_leaves_no_checkpoint_at_home(
    at_home: Home, run_dir: RunDir, tmp_path: Path
) -> None:
    parcel = away(tmp_path / "away", 2, "a\n")
    at_home.keep("race/baseline-s1000000000", parcel)
    at_home.keep("race/baseline-s1000000000", {name: parcel[name] for name in ("config.json", "episodes.csv")})
    run = run_dir.answer_run("race", "baseline-s1000000000")
    assert (run.iterations(), run.checkpoint.is_symlink()) == ([], False)
    assert run.episodes.read_text() == "a\n"


def test_a_checkpoint_that_was_damaged_on_its_way_is_not_kept_and_the_one_before_is(
    at_home: Home, run_dir: RunDir, tmp_path: Path
) -> None:
    at_home.keep(NAME, away(tmp_path / "away", 1, "a\n"))
    parcel = away(tmp_path / "away", 2, "a\nb\n")
    weights = next(name for name in parcel if name.endswith("weights"))
    parcel[weights] = b"!" + parcel[weights][1:]
    with pytest.raises(StateError, match="did not arrive as it was sent: deep/weights: changed"):
        at_home.keep(NAME, parcel)
    path, _ = checkpoint.newest_valid(run_dir.trial(3)) or pytest.fail("the one before is gone")
    assert path.name == "iter-1"


@pytest.mark.parametrize(
    "name", ["..", "../x", "trials/../../x", "/etc", "trials/3", "race/.hidden", "best", "trials/0003/x"]
)
def test_only_folders_of_trials_and_runs_are_written(name: str, at_home: Home, tmp_path: Path) -> None:
    parcel = away(tmp_path / "away", 1, "a\n")
    with pytest.raises(StateError, match="is not the folder of a trial or a run"):
        at_home.keep(name, parcel)


def test_a_home_waits_for_the_one_of_a_driver_that_was_killed(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tuner.home import Home; "
        "home = Home(Path(sys.argv[1])); print('owns', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", script, str(run_dir.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as former:
        assert former.stdout is not None
        assert former.stdout.readline() == "owns\n"
        monkeypatch.setattr(home, "PREDECESSOR_ENDS_S", 0.5)
        with pytest.raises(AlreadyRunning):
            Home(run_dir.path)
        former.kill()
    assert isinstance(Home(run_dir.path), Home)
