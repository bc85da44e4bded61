"""Iterations a second of stock RLlib's PPO, set up by hand as its documentation shows."""

from __future__ import annotations

import logging

import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from benchmarks.measuring import iterate_for, rate, rate_arguments, report


def ppo_01(env: str) -> PPOConfig:
    """The course notebook's PPO_01, all in this process."""
    return (
        PPOConfig()
        .environment(env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=16)
        .training(
            lr=5e-4, train_batch_size_per_learner=128, minibatch_size=32, num_epochs=6, gamma=0.99, lambda_=0.95,
            clip_param=0.5, vf_clip_param=1e5, vf_loss_coeff=0.5, entropy_coeff=0.0, use_kl_loss=False, grad_clip=None,
        )
        .rl_module(
            model_config=DefaultModelConfig(fcnet_hiddens=[64, 32], fcnet_activation="relu", vf_share_layers=False)
        )
        .debugging(seed=10, log_level="ERROR")
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = rate_arguments(__doc__)
    parser.add_argument("--threads", type=int, help="torch's threads (as many as torch takes)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    algorithm = ppo_01(args.env).build_algo()
    marks = iterate_for(args.warm_up + args.seconds, algorithm.train)
    report(iterations_per_s=rate(marks, args.warm_up), threads=torch.get_num_threads())
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
