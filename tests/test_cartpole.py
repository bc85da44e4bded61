"""The compiled CartPole-v1 against Gymnasium's own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from tuner.envs.cartpole import CompiledCartPole


def balance(observations: Any, generator: np.random.Generator) -> Any:
    """Actions that keep poles up for a while, so that episodes end in both ways."""
    noise = generator.normal(0, 0.1, len(observations))
    return (observations[:, 2] + 0.5 * observations[:, 3] + noise > 0).astype(np.int64)


@pytest.mark.parametrize("settings", [{}, {"sutton_barto_reward": True}, {"max_episode_steps": 60}])
@pytest.mark.parametrize("number", [1, 8])
def test_every_number_is_gymnasiums_own(number: int, settings: dict[str, Any]) -> None:
    """Bit for bit, on machines where NumPy's sine rounds as libm's does; elsewhere float32's last digit may differ."""
    theirs = gymnasium.make_vec("CartPole-v1", number, vectorization_mode="vector_entry_point", **settings)
    ours = CompiledCartPole(number, **({"max_episode_steps": 500} | settings))
    generator = np.random.default_rng(0)
    ended = np.zeros(2)
    for seed in (3, None):
        observations, _ = ours.reset(seed=seed)
        assert (observations == theirs.reset(seed=seed)[0]).all()
        for step in range(4000):
            actions = balance(observations, generator) if step % 9 else generator.integers(0, 2, number)
            observations, *rest, _ = ours.step(actions)
            expected = theirs.step(actions)
            for mine, other in zip((observations, *rest), expected[:4], strict=True):
                assert mine.dtype == other.dtype and (mine == other).all()
            ended += [rest[1].sum(), rest[2].sum()]
    assert ended[1 if "max_episode_steps" in settings else 0] > 0


def test_a_saved_state_goes_on_with_the_same_numbers() -> None:
    first, second = CompiledCartPole(4), CompiledCartPole(4)
    generator = np.random.default_rng(0)
    first.reset(seed=5)
    for _ in range(100):
        first.step(generator.integers(0, 2, 4))
    second.set_state(first.get_state())
    for _ in range(300):
        actions = generator.integers(0, 2, 4)
        for mine, other in zip(second.step(actions)[:4], first.step(actions)[:4], strict=True):
            assert (mine == other).all()


def test_gymnasiums_registration_is_left_alone() -> None:
    spec = gymnasium.spec("CartPole-v1")
    assert "tuner" not in str(spec.entry_point) + str(spec.vector_entry_point)
