"""Iterations a second of Stable-Baselines3's PPO on one thread."""

from __future__ import annotations

import time

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.measuring import rate, rate_arguments, report

ENDLESS = 10**9


def ppo_01(env: str, *, batch: int = 128, minibatch: int = 32, epochs: int = 6, lr: float = 5e-4) -> PPO:
    """The course notebook's PPO_01 on one thread, or with another batch, minibatch, epochs or learning rate."""
    torch.set_num_threads(1)
    return PPO(
        "MlpPolicy", make_vec_env(env, n_envs=8, seed=10), seed=10, device="cpu",
        learning_rate=lr, n_steps=batch // 8, batch_size=minibatch, n_epochs=epochs, gamma=0.99, gae_lambda=0.95,
        clip_range=0.5, vf_coef=0.5, ent_coef=0.0, max_grad_norm=float("inf"),
        policy_kwargs={"net_arch": {"pi": [64, 32], "vf": [64, 32]}, "activation_fn": torch.nn.ReLU},
    )  # fmt: skip


class Marks(BaseCallback):
    """Notes when each iteration begins, and ends the training after some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.marks: list[float] = []
        self._seconds = seconds

    def _on_rollout_start(self) -> None:
        self.marks.append(time.perf_counter())

    def _on_step(self) -> bool:
        return self.marks[-1] - self.marks[0] < self._seconds


def main() -> None:
    """Measure and print."""
    args = rate_arguments(__doc__).parse_args()
    clock = Marks(args.warm_up + args.seconds)
    ppo_01(args.env).learn(ENDLESS, callback=clock)
    report(iterations_per_s=rate(clock.marks, args.warm_up))


if __name__ == "__main__":
    main()
