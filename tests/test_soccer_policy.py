"""Policies as arrays: RLlib's own numbers, and the players that they move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.soccer_runs import VARIATIONS, run_of, seen
from tuner.envs.soccer.policy import ACTIVATIONS, ArrayPolicy, Team
from tuner.envs.soccer.settings import Settings
from tuner.envs.soccer.trained import arrays_of
from tuner.policy import greedy

LAYERS = ([1], [64, 32], [600, 17], [300, 7, 128, 5])


@pytest.mark.parametrize("shares", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "swish", "silu", "elu", "linear"])
def test_the_logits_are_torchs(activation: str, shares: bool, tmp_path: Path) -> None:
    for seed, (hiddens, variation) in enumerate(zip(LAYERS, VARIATIONS.values(), strict=False)):
        folder = tmp_path / str(seed)
        network = {"fcnet_hiddens": hiddens, "fcnet_activation": activation, "vf_share_layers": shares}
        module = run_of(folder, variation, seed=seed, **network)
        policy = ArrayPolicy(arrays_of(folder))
        observations = seen(50, seed).reshape(-1, policy.width)
        ours = policy.logits(observations)
        with torch.no_grad():
            theirs = module.forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"].numpy()
        assert ours.dtype == np.float32 and ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.filterwarnings("error")
def test_no_signal_is_too_large_for_an_activation(activation: str) -> None:
    signals = ACTIVATIONS[activation](np.array([-1e30, -200.0, 0.0, 200.0, 1e30], np.float32))
    assert np.isfinite(signals).all() and signals.dtype == np.float32


@pytest.mark.parametrize("variation", VARIATIONS)
def test_a_team_does_what_its_policy_did_in_training(variation: str, tmp_path: Path) -> None:
    """RLlib's greedy actions, written by the environment, agent after agent."""
    module = run_of(tmp_path, VARIATIONS[variation])
    matches = 40
    observations = np.concatenate([seen(matches, 1), seen(matches, 2)], axis=1)
    expected = np.zeros((matches, 4, 3), np.int64)
    for seat in Settings.of(VARIATIONS[variation]).seats:
        views = seat.observe(observations)
        seat.write(greedy(module, seat.action_space)(views), expected)
    branches = Team(arrays_of(tmp_path)).act(observations[:, :2])
    assert branches.shape == (matches, 2, 3)
    np.testing.assert_array_equal(branches, expected[:, :2])
    assert len(np.unique(branches[:, 0], axis=0)) > 1, "a policy that does the same always would show nothing"
    assert branches[:, 1].any() != variation.startswith("single")


def test_a_team_comes_back_from_a_file(tmp_path: Path) -> None:
    run_of(tmp_path / "run", VARIATIONS["both-flat"])
    arrays = arrays_of(tmp_path / "run")
    np.savez(tmp_path / "policy.npz", **arrays)
    with np.load(tmp_path / "policy.npz", allow_pickle=False) as stored:
        team = Team(stored)
    np.testing.assert_array_equal(team.act(seen(9)), Team(arrays).act(seen(9)))


@pytest.mark.parametrize(
    ("width", "choices"), [(4, (2,)), (336, (729,)), (336, (3,)), (672, (27,)), (672, (3, 3, 3)), (1008, (27,))]
)
def test_a_policy_of_another_shape_moves_no_team(width: int, choices: tuple[int, ...]) -> None:
    arrays: dict[str, Any] = {
        "weight_0": np.zeros((sum(choices), width), np.float32), "bias_0": np.zeros(sum(choices), np.float32),
        "activation_0": np.array("linear"), "choices": np.array(choices), "single_player": np.array(False),
    }  # fmt: skip
    with pytest.raises(ValueError, match=rf"it sees {width} numbers and chooses among \({choices[0]}"):
        Team(arrays)
