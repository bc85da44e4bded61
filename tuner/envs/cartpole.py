"""CartPole-v1, compiled: Gymnasium's own vector environment, number for number, without its time in Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from tuner.compiled import compiled_exactly


@compiled_exactly
def _step(
    state, steps, is_done, actions, fresh, limits, max_steps, is_sparse, observations, rewards, terminateds, truncateds
):
    """One step of all carts; those that were done take their column of `fresh` in place of it.

    The order of the operations is Gymnasium's, because each one rounds. Returns how many are done now.
    """
    gravity, pole_mass, total_mass, length, tau = 9.8, 0.1, 0.1 + 1.0, 0.5, 0.02
    pole_mass_length = pole_mass * length
    done = taken = 0
    for cart in range(state.shape[1]):
        if is_done[cart]:
            for i in range(4):
                state[i, cart] = fresh[i, taken]
            taken += 1
            steps[cart] = 0
            rewards[cart] = 0
            terminateds[cart] = truncateds[cart] = is_done[cart] = False
        else:
            x, x_dot, theta, theta_dot = state[0, cart], state[1, cart], state[2, cart], state[3, cart]
            force = 10.0 if actions[cart] > 0 else -10.0
            cosine, sine = math.cos(theta), math.sin(theta)
            temp = (force + pole_mass_length * (theta_dot * theta_dot) * sine) / total_mass
            theta_acc = (gravity * sine - cosine * temp) / (
                length * (4.0 / 3.0 - pole_mass * (cosine * cosine) / total_mass)
            )
            x_acc = temp - pole_mass_length * theta_acc * cosine / total_mass
            state[0, cart] = x = x + tau * x_dot
            state[1, cart] = x_dot + tau * x_acc
            state[2, cart] = theta = theta + tau * theta_dot
            state[3, cart] = theta_dot + tau * theta_acc
            steps[cart] += 1
            terminated = x < -limits[0] or x > limits[0] or theta < -limits[1] or theta > limits[1]
            terminateds[cart], truncateds[cart] = terminated, steps[cart] >= max_steps
            rewards[cart] = (-1.0 if terminated else 0.0) if is_sparse else 1.0
            is_done[cart] = terminateds[cart] or truncateds[cart]
            done += is_done[cart]
        for i in range(4):
            observations[cart, i] = state[i, cart]
    return done


class CompiledCartPole(CartPoleVectorEnv):
    """Gymnasium's CartPoleVectorEnv with a compiled step, and a state that can be saved."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes everywhere."""
        observations, info = super().reset(seed=seed, options=options)
        self._allocate()
        return observations, info

    state: Any  # (4, carts) float64

    def _allocate(self) -> None:
        self._limits = np.array([self.x_threshold, self.theta_threshold_radians])
        self._results = (
            np.zeros((self.num_envs, 4), np.float32), np.zeros(self.num_envs, np.float32),
            np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_),
        )  # fmt: skip
        self._done = int(self.prev_done.sum())

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of all carts; the arrays it returns are written over by the next one."""
        fresh = self._no_fresh
        if self._done:
            fresh = self.np_random.uniform(low=self.low, high=self.high, size=(4, self._done))
        self._done = _step(
            self.state, self.steps, self.prev_done, action, fresh, self._limits, self.max_episode_steps,
            self._sutton_barto_reward, *self._results,
        )  # fmt: skip
        return *self._results, {}

    _no_fresh = np.zeros((4, 0))

    def get_state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "state": self.state.copy(), "steps": self.steps.copy(), "done": self.prev_done.copy(),
            "bounds": (self.low, self.high), "generator": self.np_random.bit_generator.state,
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was."""
        self.state, self.steps, self.prev_done = (state[name].copy() for name in ("state", "steps", "done"))
        self.low, self.high = state["bounds"]
        self.np_random.bit_generator.state = state["generator"]
        self._allocate()
