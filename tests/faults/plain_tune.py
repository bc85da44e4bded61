"""A sweep as a careful user writes it with plain Ray Tune and RLlib: saved, restored and retried as Ray documents it.

It is what `plain_faults` measures, and uses nothing of this project. The same command again goes on from its folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import ray
from ray import tune
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.search.optuna import OptunaSearch

TRIALS, ITERATIONS, CHECKPOINT_EVERY = 4, 12, 3
METRIC = "env_runners/episode_return_mean"


class Faulty(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole-v1 that goes wrong in its step `at`: in one environment of the whole sweep, or in all."""

    def __init__(self, fault: str, claim: str, at: int = 300) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self._fault, self._claim, self._left, self._is_bad = fault, Path(claim), at, False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """CartPole's step, or the fault."""
        self._left -= 1
        if self._left == 0:
            try:
                self._claim.touch(exist_ok=self._fault == "raise")
                self._is_bad = True
            except FileExistsError:
                pass
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._is_bad and self._fault == "raise":
            raise RuntimeError("the environment is broken")
        while self._is_bad and self._fault == "hang":
            time.sleep(1)
        return observation, float("nan") if self._is_bad else reward, terminated, truncated, info


def configuration(args: argparse.Namespace) -> PPOConfig:
    """PPO and its search space."""
    config = PPOConfig().environment("CartPole-v1")
    if args.fault:
        tune.register_env("Faulty", lambda settings: Faulty(**settings))
        config = config.environment("Faulty", env_config={"fault": args.fault, "claim": str(args.folder) + ".claim"})
    config = config.env_runners(num_env_runners=args.runners, num_envs_per_env_runner=4).debugging(seed=10)
    config = config.rl_module(model_config={"fcnet_hiddens": [16], "fcnet_activation": "relu"})
    gammas = [0.9, 0.95, 0.99]
    return config.training(
        lr=tune.loguniform(args.lr_low, 1e-2), gamma=tune.choice(gammas), minibatch_size=128, num_epochs=2,
        train_batch_size_per_learner=256, **({"lambda_": tune.uniform(0.9, 1.0)} if args.more_keys else {}),
    )  # fmt: skip


def tuner_for(args: argparse.Namespace) -> tune.Tuner:
    """The sweep in the folder, restored where there is one."""
    folder: Path = args.folder
    space = configuration(args)
    if tune.Tuner.can_restore(str(folder)):
        again = {} if args.keep_space else {"param_space": space}
        return tune.Tuner.restore(str(folder), "PPO", resume_unfinished=True, resume_errored=True, **again)
    return tune.Tuner(
        "PPO",
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(seed=0), metric=METRIC, mode="max", num_samples=TRIALS, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            stop={"training_iteration": ITERATIONS},
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=2, checkpoint_frequency=CHECKPOINT_EVERY, checkpoint_at_end=True
            ),
            failure_config=tune.FailureConfig(max_failures=3),
        ),
    )


def main() -> int:
    """Run or go on; 1 where a trial ended with an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--temp", required=True, help="Ray's own folder")
    parser.add_argument("--fault", choices=("hang", "raise", "nan"), help="what the environment does wrong")
    parser.add_argument("--runners", type=int, default=0, help="remote environment runners of a trial")
    parser.add_argument("--lr-low", type=float, default=1e-5, help="the lower end of the learning rate")
    parser.add_argument("--more-keys", action="store_true", help="search lambda_ too")
    parser.add_argument("--keep-space", action="store_true", help="do not hand the space to Tuner.restore")
    args = parser.parse_args()
    ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=args.temp)
    results = tuner_for(args).fit()
    print(f"RESULT trials={len(results)} errors={results.num_errors}", flush=True)
    print(f"BEST {results.get_best_result().path}", flush=True)
    return 1 if results.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
