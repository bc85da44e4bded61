"""Wall-clock time of the sweep with this project's trials, run by Tune as its driver runs them.

The driver's study, figures and TensorBoard files are left out: its sampler cannot be told eight fixed configurations.
"""

from __future__ import annotations

from benchmarks.configurations import PARALLEL, SWEEP
from benchmarks.measuring import actor_memory, report, sweep_arguments
from tuner import catalog, cluster
from tuner.deaths import iteration_timeout_s
from tuner.episodes import Goal
from tuner.training import RunConfig

NAMES = {"batch": "train_batch_size", "minibatch": "minibatch_size", "epochs": "num_epochs", "lr": "lr"}


def runs(episodes: int) -> list[dict[str, object]]:
    """Every configuration as a trial of the sweep would get it."""
    space = catalog.load("cartpole").space
    goal = Goal(threshold=None, window=space.window, max_episodes=episodes, max_steps=None)
    changes = [{NAMES[name]: value for name, value in configuration.items()} for configuration in SWEEP]
    return [RunConfig(space.env, "fused", 10, goal, {**space.baseline, **change}).to_json() for change in changes]


def main() -> None:
    """Run the sweep and print what it took; `trials_s` is the trials' own training time, shared by the workers."""
    args = sweep_arguments(__doc__).parse_args()
    machine = cluster.Machine(cpus=PARALLEL, gpus=0)
    with cluster.private_ray(machine) as folder, actor_memory("ray::PPOTrial", PARALLEL) as memory:
        from ray import tune

        from tuner.trial import PPOTrial

        trials = [
            {"folder": str(folder / "trials" / str(number)), "run": run, "cpus": 1, "gpus": 0}
            for number, run in enumerate(runs(args.episodes))
        ]
        results = tune.Tuner(
            PPOTrial,
            param_space={
                "number": tune.grid_search(list(range(len(trials)))),
                **{name: tune.sample_from(lambda config, name=name: trials[config["number"]][name])
                   for name in ("folder", "run")},
                "cpus": 1,
                "gpus": 0,
                "timeout_s": iteration_timeout_s(),
                "parallel": PARALLEL,
            },
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=str(folder / "tune"), name="sweep", verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()  # fmt: skip
        found = [result.metrics or {} for result in results]
        if failures := [metrics["failed"] for metrics in found if metrics["failed"]]:
            raise SystemExit(f"error: {failures[0]}")
    report(
        trials_s=sum(metrics["wall_s"] for metrics in found) / PARALLEL,
        episodes=[metrics["episodes"] for metrics in found],
        **memory,
    )


if __name__ == "__main__":
    main()
