"""Teams from earlier runs: as opponents, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.conftest import Command
from tests.soccer_runs import VARIATIONS, run_of
from tests.test_export import Branching
from tuner.envs.soccer.env import SoccerTwosVector
from tuner.envs.soccer.policy import Team
from tuner.envs.soccer.trained import Trained, arrays_of
from tuner.errors import StateError, UsageError
from tuner.files import write_manifest


def test_an_opponent_plays_orange_by_what_orange_sees(tmp_path: Path) -> None:
    run_of(tmp_path / "theirs", VARIATIONS["both"])
    envs = SoccerTwosVector(5, flatten_branched=True, opponent=str(tmp_path / "theirs"))
    envs.reset(seed=3)
    team = Team(arrays_of(tmp_path / "theirs"))
    played = []
    step = envs.matches.step
    envs.matches.step = lambda actions: (played.append(actions.copy()), step(actions))[1]  # type: ignore[method-assign]
    for _ in range(20):
        expected = team.act(envs.matches.observations[:, 2:].copy())
        envs.step(envs.action_space.sample())
        np.testing.assert_array_equal(played[-1][:, 2:], expected)
    assert len(np.unique(np.concatenate(played)[:, 2:].reshape(-1, 3), axis=0)) > 1
    envs.close()


def test_it_can_play_blue_too(tmp_path: Path) -> None:
    run_of(tmp_path, VARIATIONS["player"])
    envs = SoccerTwosVector(3)
    envs.reset(seed=1)
    matches = envs.matches
    expected = Team(arrays_of(tmp_path)).act(matches.observations[:, :2])
    np.testing.assert_array_equal(Trained(tmp_path, 3).act(matches, team=0), expected)


def test_a_run_folders_best_trial_is_taken(tmp_path: Path) -> None:
    run_of(tmp_path / "best", VARIATIONS["single-flat"], seed=1)
    (tmp_path / "best/config.json").rename(tmp_path / "best/config.yaml")
    arrays = arrays_of(tmp_path)
    assert arrays["single_player"] and tuple(arrays["choices"]) == (27,)


@pytest.mark.ray
def test_a_sweeps_trials_find_an_opponent_from_where_the_command_was_given(command: Command, tmp_path: Path) -> None:
    run_of(tmp_path / "runs/earlier", VARIATIONS["both-flat"])
    (tmp_path / "mine.py").write_text(
        "from tuner.space import Float, SearchSpace\n"
        "space = SearchSpace(env='tuner/SoccerTwos-v0', env_config={'opponent': 'runs/earlier'}, threshold=2.0,\n"
        "    max_episodes=4, max_steps=2000, seed=1, trials=1, baseline={'train_batch_size': 256},\n"
        "    params={'lr': Float(1e-5, 1e-3)})\n"
    )
    done = command("sweep", "./mine.py", "--trials", 1, "--race-seeds", 0, "--trust", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 COMPLETE" in done.stdout


class TestRefused:
    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"env": "CartPole-v1"}, "trained on 'CartPole-v1', not on 'tuner/SoccerTwos-v0'"),
            ({"observations": gymnasium.spaces.Box(0, 1, (340,), np.float32)}, "it sees 340 numbers"),
            ({"actions": gymnasium.spaces.Discrete(26)}, r"chooses among \(26,\) actions"),
            ({"actions": gymnasium.spaces.Box(-1, 1, (3,), np.float32)}, r"its actions are Box\(-1.0, 1.0"),
            (
                {
                    "observations": gymnasium.spaces.Box(0, 1, (84, 84, 3), np.float32),
                    "conv_filters": [[8, 8, 4], [8, 4, 4]],
                },
                "it has a TorchCNN",
            ),
            ({"use_lstm": True}, "it keeps a state from step to step"),
            ({"kind": Branching}, "it is a Branching"),
        ],
        ids=["environment", "width", "choices", "box", "image", "recurrent", "other"],
    )
    def test_a_run_of_another_shape(self, changed: dict[str, Any], reason: str, tmp_path: Path) -> None:
        run_of(tmp_path, VARIATIONS["single-flat"], **changed)
        with pytest.raises(UsageError, match=reason) as caught:
            arrays_of(tmp_path)
        assert str(caught.value).startswith(str(tmp_path)) and "name a run of" in str(caught.value)

    def test_a_folder_that_is_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="has neither best/ nor config"):
            arrays_of(tmp_path)
        with pytest.raises(UsageError, match="has neither best/ nor config"):
            SoccerTwosVector(1, opponent=str(tmp_path))

    def test_a_run_without_the_module_of_a_single_policy(self, tmp_path: Path) -> None:
        run_of(tmp_path, VARIATIONS["player"])
        shutil.rmtree(tmp_path / "checkpoint")
        (tmp_path / "checkpoint").mkdir()
        write_manifest(tmp_path / "checkpoint", {})
        with pytest.raises(UsageError, match="its policy cannot play in a team"):
            arrays_of(tmp_path)

    def test_a_checkpoint_that_does_not_verify_is_not_read(self, tmp_path: Path) -> None:
        run_of(tmp_path, VARIATIONS["both"])
        state = next((tmp_path / "checkpoint").rglob("module_state.pkl"))
        state.write_bytes(state.read_bytes()[:-1])
        with pytest.raises(StateError, match="does not verify"):
            arrays_of(tmp_path)
