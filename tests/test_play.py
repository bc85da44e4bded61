"""`tuner play`: the best policy on fresh seeds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.conftest import FinishedSweep
from tests.soccer_runs import VARIATIONS, run_of
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
        assert picture.format == "GIF" and picture.n_frames > 20
        pictures = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(picture)]
    assert pictures[0] != pictures[-1]


def test_the_gif_keeps_the_environments_pace_and_then_its_end_for_a_second(
    finished: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play.main([str(finished.path), "--episodes", "1", "--gif", str(tmp_path / "best.gif")]) == 0
    steps = float(capsys.readouterr().out.split()[2])
    with Image.open(tmp_path / "best.gif") as picture:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert sum(durations[:-1]) == pytest.approx(steps * 1000 / 50, abs=80), "CartPole-v1 has 50 pictures a second"
    assert durations[-1] in (1000, 1040, 1080)


def test_the_gif_of_a_match_shows_it_from_above_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path / "run", VARIATIONS["single-flat"] | {"opponent": "chaser"})
    words = [str(tmp_path / "run"), "--episodes", "1", "--gif", str(tmp_path / "match.gif")]
    assert play.main(words) == 0
    assert "mean reward -2.0" in capsys.readouterr().out, "the chasers scored"
    with Image.open(tmp_path / "match.gif") as picture:
        assert picture.size == (620, 330) and picture.info["duration"] == 80
        first = np.asarray(picture.convert("RGB"))
        picture.seek(picture.n_frames - 1)
        last = np.asarray(picture.convert("RGB"))
    goal = slice(120, 250), slice(20, 60)  # blue's, where only the ball is white
    assert (last[goal].min(axis=2) > 230).sum() > (first[goal].min(axis=2) > 230).sum() + 50


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
        (["RUN", "--export", "agent.zip"], "trained on 'CartPole-v1'"),
    ],
)
def test_bad_input_ends_with_2(
    words: list[str], message: str, finished: FinishedSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play.main([str(finished.path) if word == "RUN" else word for word in words]) == 2
    assert message in capsys.readouterr().err
