"""The greedy policy of a run that is going on, on arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.toy  # noqa: F401 registers tests/Toy-v0
from tests.test_ppo import SMALL
from tests.toy import ACTIONS
from tuner.policy import greedy, load_policy
from tuner.ppo import engine


@pytest.fixture(autouse=True)
def _ray(local_ray: None) -> None:
    """Every test here builds an algorithm, and that needs Ray."""


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("kind", ["fused", "rllib"])
def test_it_acts_as_the_policy_of_the_engines_checkpoint(kind: str, actions: str, tmp_path: Path) -> None:
    running = engine.build(kind, "tests/Toy-v0", SMALL | {"lr": 1e-2}, seed=3, env_config={"actions": actions}, gpus=0)
    observations = np.random.default_rng(0).normal(size=(50, 5))
    before = running.greedy_policy()(observations)
    for _ in range(3):
        running.iterate()
    found = running.greedy_policy()(observations)
    running.save(tmp_path)
    running.close()
    space: Any = ACTIONS[actions]
    assert found.shape == (50, *space.shape) and all(space.contains(space.dtype.type(action)) for action in found)
    np.testing.assert_array_equal(found, greedy(load_policy(tmp_path), space)(observations))
    np.testing.assert_allclose(found[7], greedy(load_policy(tmp_path), space)(observations[7:8])[0], atol=1e-6)
    assert not np.array_equal(before, found), "it is the policy of now"
