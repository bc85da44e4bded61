"""Samples batches from any Gymnasium vector environment into arrays. Knows nothing of how actions are chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from tuner.episodes import Episode
from tuner.ppo import kernels, sampling_kernels
from tuner.ppo.actor_critic import ActionSpace, ActorCritic, Array, Batch, NotOnArrays
from tuner.ppo.sampling_kernels import CALL_STEPS, CHUNKS, COUNTERS, ENV_STEPS, EPISODES


class ArraySampler:
    """Steps a vector environment and lays its steps out as RLlib's batches.

    As RLlib's SingleAgentEnvRunner does, it steps until `fragment` times environments steps are experience (the step in
    which an environment resets is none), cuts the episodes in flight there, and repeats that until the batch is full.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], space: ActionSpace, *, fragment: int, batch_size: int,
        gamma: float, lambda_: float, seed: int | None, normalize_actions: bool, clip_actions: bool,
    ) -> None:  # fmt: skip
        """Reset the environment.

        Raises:
            NotOnArrays: it resets in the very step that ends an episode, and so hides the last observation.
        """
        if env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP) is not AutoresetMode.NEXT_STEP:
            raise NotOnArrays("the vector environment does not reset in the step after an episode's end")
        self.env = env
        self._space = space
        self._gamma, self._lambda = gamma, lambda_
        self._call = fragment * env.num_envs
        self._batch_size = batch_size
        self._action_space: Any = env.single_action_space
        self._normalizes, self._clips = normalize_actions, clip_actions
        calls = -(-batch_size // self._call)
        # An environment whose episodes last one step makes experience in every other step.
        steps, environments = calls * (2 * fragment + 2), env.num_envs
        shape = (steps + 1, environments)
        self._observations = np.zeros((*shape, *env.single_observation_space.shape), np.float32)  # type: ignore[misc]
        self._actions = np.zeros((*shape, space.dimensions), np.float32)
        self._logps = np.zeros(shape, np.float32)
        self._inputs = np.zeros((*shape, space.outputs), np.float32)
        self._rewards = np.zeros(shape, np.float32)
        self._steps = list(
            zip(self._observations[:-1], self._actions, self._logps, self._inputs, self._observations[1:], strict=False)
        )
        self._is_done = np.zeros(environments, np.bool_)
        self._returns = np.zeros(environments)
        self._lengths = np.zeros(environments, np.int64)
        self._starts = np.zeros(environments, np.int64)
        most = steps * environments
        self._chunks = np.zeros((most + environments * calls, 5), np.int64)
        self._episodes = np.zeros((most, 3))
        self._counters = np.zeros(COUNTERS, np.int64)
        rows = 2 * most + environments * calls
        self._rows = np.zeros(rows, np.int64)
        self._is_real, self._terminateds, self._truncateds = (np.zeros(rows, np.bool_) for _ in range(3))
        self._row_rewards, self._advantages, self._targets = (np.zeros(rows, np.float32) for _ in range(3))
        self._slots = {
            "observations": self._observations.reshape(-1, *env.single_observation_space.shape),  # type: ignore[misc]
            "actions": self._actions.reshape(-1, space.dimensions),
            "logps": self._logps.reshape(-1),
            "inputs": self._inputs.reshape(-1, space.outputs),
        }
        self.reset(seed)

    @property
    def env_steps(self) -> int:
        """Environment steps of experience since the start."""
        return int(self._counters[ENV_STEPS])

    @env_steps.setter
    def env_steps(self, steps: int) -> None:
        self._counters[ENV_STEPS] = steps

    def reset(self, seed: int | None) -> None:
        """Begin new episodes everywhere; what was in flight is dropped."""
        self._end = 0
        self._observations[0], _ = self.env.reset(seed=seed)
        for array in (self._is_done, self._returns, self._lengths, self._starts):
            array[:] = 0

    def sample(self, policy: ActorCritic) -> tuple[Batch, list[Episode]]:
        """A batch with its advantages, and the episodes that ended in it, in order."""
        self._observations[0] = self._observations[self._end]  # not sooner: until now they were the last batch's
        self._starts[:] = 0
        t = 0
        sampled = before = int(self._counters[ENV_STEPS])
        self._counters[EPISODES] = self._counters[CHUNKS] = self._counters[CALL_STEPS] = 0
        while sampled - before < self._batch_size:
            while self._counters[CALL_STEPS] < self._call:
                self._step(t, policy)
                t += 1
            sampling_kernels.cut(t, self._is_done, self._starts, self._chunks, self._counters)
            sampled = int(self._counters[ENV_STEPS])
        self._end = t
        batch = self._batch(policy)
        ended = self._episodes[: self._counters[EPISODES]].tolist()
        return batch, [Episode(reward, int(length), int(steps)) for reward, length, steps in ended]

    def _step(self, t: int, policy: ActorCritic) -> None:
        observations, actions, logps, inputs, following = self._steps[t]
        policy.act(observations, actions, logps, inputs)
        observed, rewards, terminateds, truncateds, _ = self.env.step(self._for_env(actions))
        following[...] = observed
        sampling_kernels.record(
            t, rewards, terminateds, truncateds, self._rewards, self._is_done, self._returns, self._lengths,
            self._starts, self._chunks, self._episodes, self._counters,
        )  # fmt: skip

    def _batch(self, policy: ActorCritic) -> Batch:
        size = sampling_kernels.lay_out(
            self._chunks, self._counters[CHUNKS], self._rewards,
            self._rows, self._is_real, self._row_rewards, self._terminateds, self._truncateds,
        )  # fmt: skip
        rows, advantages, targets = self._rows[:size], self._advantages[:size], self._targets[:size]
        values = policy.values(self._slots["observations"], rows)
        kernels.advantages_of(
            values, self._row_rewards[:size], self._terminateds[:size], self._truncateds[:size],
            self._gamma, self._lambda, advantages, targets,
        )  # fmt: skip
        return Batch(**self._slots, rows=rows, is_real=self._is_real[:size], advantages=advantages, targets=targets)

    def _for_env(self, actions: Array) -> Array:
        """Actions in the environment's form; a Box's are scaled or clipped as RLlib's NormalizeAndClipActions does."""
        space = self._action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return actions[:, 0].astype(np.int64)
        if isinstance(space, gymnasium.spaces.MultiDiscrete):
            return actions.astype(np.int64)
        shaped = actions.reshape(-1, *space.shape)
        is_bounded = bool(np.all(space.bounded_below) and np.all(space.bounded_above))
        if self._normalizes and is_bounded:
            shaped = space.low + (shaped + 1.0) * (space.high - space.low) / 2.0
        elif self._normalizes or not self._clips:
            return shaped
        clipped: Array = np.clip(shaped, space.low, space.high)
        return clipped

    def get_state(self) -> dict[str, Any]:
        """Counters, and where the environment can be saved, everything that is in flight."""
        state: dict[str, Any] = {"env_steps": self.env_steps}
        in_env = self.env.unwrapped.get_state() if hasattr(self.env.unwrapped, "get_state") else None
        if in_env is not None:
            arrays = (self._observations[self._end], self._is_done, self._returns, self._lengths)
            state |= {"env": in_env, "in_flight": [array.copy() for array in arrays]}
        return state

    def set_state(self, state: Mapping[str, Any], seed: int) -> None:
        """Go on where `get_state` was; where the environment cannot be saved, with new episodes from `seed`."""
        self.env_steps = state["env_steps"]
        if "env" in state and hasattr(self.env.unwrapped, "set_state"):
            self.env.unwrapped.set_state(state["env"])
            self._end = 0
            arrays = (self._observations[0], self._is_done, self._returns, self._lengths)
            for ours, theirs in zip(arrays, state["in_flight"], strict=True):
                ours[:] = theirs
        else:
            self.reset(seed)


def seconds_a_step(env: VectorEnv[Any, Any, Any], steps: int = 5) -> float:
    """How long one step of all environments takes, from a few with random actions; the environment needs a reset."""
    env.reset(seed=0)
    env.step(env.action_space.sample())
    started = time.perf_counter()
    for _ in range(steps):
        env.step(env.action_space.sample())
    return (time.perf_counter() - started) / steps
