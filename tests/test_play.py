"""`tuner play`: the best policy on fresh seeds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import FinishedSweep
from tuner import play


def test_it_prints_the_mean_with_its_interval_and_the_seeds(
    finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play.main([str(finished.path), "--episodes", "5", "--seed", "42"]) == 0
    found = re.search(
        r"mean reward ([\d.]+) over 5 episodes, 95 % interval ([\d.]+) to ([\d.]+), lowest ([\d.]+); seeds 42 to 46",
        capsys.readouterr().out,
    )
    assert found
    mean, low, high, lowest = map(float, found.groups())
    assert lowest <= low <= mean <= high <= 500
    assert mean > 60, "a policy whose training mean was 100 is far better than a random one's 20"


def test_the_same_seeds_give_the_same_rewards(finished: FinishedSweep, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for _ in range(2):
        assert play.main([str(finished.path), "--episodes", "3"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


def test_the_gif_shows_an_episode_in_motion(finished: FinishedSweep, tmp_path: Path) -> None:
    assert play.main([str(finished.path), "--episodes", "1", "--gif", str(tmp_path / "best.gif")]) == 0
    with Image.open(tmp_path / "best.gif") as picture:
        frames = picture.n_frames
        assert picture.format == "GIF" and frames > 20
        first = picture.convert("RGB").tobytes()
        picture.seek(frames - 1)
        assert picture.convert("RGB").tobytes() != first


def test_a_single_trial_can_be_played(finished: FinishedSweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert play.main([str(finished.path / "trials/0000"), "--episodes", "1"]) == 0
    assert "mean reward" in capsys.readouterr().out


def test_a_checkpoint_that_does_not_verify_is_not_read(
    finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished.path / "best", tmp_path / "run/best")
    state = next((tmp_path / "run/best/checkpoint").rglob("module_state.pkl"))
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(bytes(data))
    assert play.main([str(tmp_path / "run")]) == 3
    assert "does not verify" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: has neither best/ nor config.json"),
        (["RUN", "--episodes", "0"], "--episodes 0"),
        (["RUN", "--seed", "-1"], "--seed -1"),
        (["RUN", "--gif", "/no/such/folder/a.gif"], "no such folder"),
    ],
)
def test_bad_input_ends_with_2(
    words: list[str], message: str, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play.main([str(finished.path) if word == "RUN" else word for word in words]) == 2
    assert message in capsys.readouterr().err
