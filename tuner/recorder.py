"""`EpisodeRecorder`: an RLlibCallback that counts episodes exactly, for our engines and for anybody's RLlib run."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback

from tuner.episodes import Episode


class EpisodeRecorder(RLlibCallback):
    """Exact episode metrics at the top level of every result of an RLlib run.

    RLlib hands a callback the last chunk of an episode only, and its own means are NaN in an iteration in which no
    episode ended; this callback adds the chunks up and keeps the last `window` episodes. Each result gets:

    - `episodes_total`: episodes that ended since the start;
    - `mean_reward`, `mean_length`: means over the last `window` episodes, fewer at the start, NaN before the first.

    An episode's reward is the sum over its agents, as in RLlib's own metrics.

    Use it as `config.callbacks(EpisodeRecorder)`; with remote environment runners the order is that of the runners.
    """

    window = 50

    def __init__(self) -> None:
        super().__init__()
        self.env_steps = 0
        self._episodes: list[Episode] = []
        self._returns: dict[str, float] = {}
        self._total = 0
        self._rewards: deque[float] = deque(maxlen=self.window)
        self._lengths: deque[int] = deque(maxlen=self.window)

    def on_episode_step(self, *, episode: Any, **kwargs: Any) -> None:
        """Count one environment step."""
        self.env_steps += 1
        rewards = episode.get_rewards(-1)
        if isinstance(rewards, dict):  # several agents
            rewards = sum(rewards.values())
        self._returns[episode.id_] = self._returns.get(episode.id_, 0.0) + float(rewards)

    def on_episode_end(self, *, episode: Any, **kwargs: Any) -> None:
        """Keep the episode; its length is over all chunks."""
        reward = self._returns.pop(episode.id_, 0.0)
        length = episode.env_t if hasattr(episode, "env_t") else episode.t  # MultiAgentEpisode calls it so
        self._episodes.append(Episode(reward, int(length), self.env_steps))

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Write the exact metrics into the result."""
        for episode in take_episodes(algorithm):
            self._total += 1
            self._rewards.append(episode.reward)
            self._lengths.append(episode.length)
        result["episodes_total"] = self._total
        result["mean_reward"] = math.fsum(self._rewards) / len(self._rewards) if self._rewards else math.nan
        result["mean_length"] = math.fsum(self._lengths) / len(self._lengths) if self._lengths else math.nan

    def take(self) -> tuple[list[Episode], int]:
        """The episodes and the environment steps since the last call; each episode's steps count from there, too."""
        taken = self._episodes, self.env_steps
        self._episodes, self.env_steps = [], 0
        return taken


class _OnRecreatedRunners(RLlibCallback):
    """Has an algorithm record on the environment runners that replace dead ones."""

    def on_env_runners_recreated(self, *, env_runner_group: Any, env_runner_indices: list[int], **kwargs: Any) -> None:
        """Attach to them."""
        env_runner_group.foreach_env_runner(_attach_to_runner, remote_worker_ids=env_runner_indices)


def take_episodes(algorithm: Any) -> list[Episode]:
    """The episodes that ended on any environment runner of `algorithm` since the last call, runner by runner."""
    return [episode for episodes, _ in _taken(algorithm) for episode in episodes]


def attach(algorithm: Any) -> None:
    """Record the episodes of a built algorithm without naming this class in its configuration.

    RLlib pickles the configuration into every checkpoint, and a callback named there would keep the checkpoint from
    loading where this project is not installed.
    """
    algorithm.env_runner_group.foreach_env_runner(_attach_to_runner)
    ours = _OnRecreatedRunners()
    theirs = algorithm.callbacks
    algorithm.callbacks = [*theirs, ours] if isinstance(theirs, list) else [theirs, ours]


def take_from(algorithm: Any, env_steps_before: int) -> tuple[list[Episode], int]:
    """The episodes since the last call, and the steps in all, over all runners, after `env_steps_before`.

    With n remote runners, which sample side by side, an episode's `env_steps` counts n steps for each of its runner's.
    What a runner that died had not handed over is lost.
    """
    taken = _taken(algorithm)
    total = env_steps_before + sum(steps for _, steps in taken)
    episodes = []
    for runner_episodes, _ in taken:
        for episode in runner_episodes:
            made = env_steps_before + episode.env_steps * len(taken)
            episodes.append(Episode(episode.reward, episode.length, min(made, total)))
    return episodes, total


def _attach_to_runner(runner: Any) -> None:
    if runner.env is not None:
        runner._callbacks.append(EpisodeRecorder())


def _taken(algorithm: Any) -> list[tuple[list[Episode], int]]:
    results = algorithm.env_runner_group.foreach_env_runner(_take_from_runner)
    return [result for result in results if result is not None]


def _take_from_runner(runner: Any) -> tuple[list[Episode], int] | None:
    recorders = [callback for callback in runner._callbacks if isinstance(callback, EpisodeRecorder)]
    return recorders[-1].take() if recorders and runner.env is not None else None
