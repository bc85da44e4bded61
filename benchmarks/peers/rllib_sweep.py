"""Wall-clock time of the sweep with stock Ray Tune and RLlib's PPO, two trials at a time."""

from __future__ import annotations

import logging
import tempfile

import ray
from ray import tune
from ray.rllib.algorithms.ppo import PPO
from ray.tune.search.basic_variant import BasicVariantGenerator

from benchmarks.configurations import PARALLEL, SWEEP
from benchmarks.measuring import actor_memory, report, sweep_arguments
from benchmarks.peers.rllib_ppo import ppo_01

# By the names that RLlib's own dictionary of a configuration has.
NAMES = {"batch": "_train_batch_size_per_learner", "minibatch": "minibatch_size", "epochs": "num_epochs", "lr": "lr"}


def main() -> None:
    """Run the sweep and print what it took; `trials_s` is the trials' own training time, shared by the workers."""
    args = sweep_arguments(__doc__).parse_args()
    ray.init(address="local", num_cpus=PARALLEL, include_dashboard=False, log_to_driver=False,
             logging_level=logging.ERROR)  # fmt: skip
    points = [{NAMES[name]: value for name, value in configuration.items()} for configuration in SWEEP]
    space = ppo_01("CartPole-v1").to_dict()
    space |= {name: tune.choice(sorted({point[name] for point in points})) for name in NAMES.values()}
    with tempfile.TemporaryDirectory() as folder, actor_memory("ray::PPO", PARALLEL) as memory:
        results = tune.Tuner(
            PPO,
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=BasicVariantGenerator(points_to_evaluate=points, max_concurrent=PARALLEL),
                num_samples=len(points),
            ),
            run_config=tune.RunConfig(
                storage_path=folder, verbose=0, stop={"env_runners/num_episodes_lifetime": args.episodes}
            ),
        ).fit()
        found = [result.metrics or {} for result in results]
        for point, metrics in zip(points, found, strict=True):
            if any(metrics["config"][name] != value for name, value in point.items()):
                raise SystemExit(f"error: Tune ran {metrics['config']} in place of {point}")
    ray.shutdown()
    report(
        trials_s=sum(metrics["time_total_s"] for metrics in found) / PARALLEL,
        episodes=[int(metrics["env_runners"]["num_episodes_lifetime"]) for metrics in found],
        **memory,
    )


if __name__ == "__main__":
    main()
