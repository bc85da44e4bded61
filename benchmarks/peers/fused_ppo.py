"""Iterations a second of this project's fused engine on one thread, and the environment's share of that time."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import gymnasium
import torch

from benchmarks.measuring import iterate_for, rate, rate_arguments, report
from tuner import catalog, cluster
from tuner.envs.cartpole import CompiledCartPole
from tuner.ppo import engine

ENVIRONMENTS = 8
# The engine steps CartPole-v1 in its own compiled form; under this name it finds Gymnasium's own vector environment.
GYM_CARTPOLE = "GymCartPole-v1"


def step_s(env: str, steps: int = 2000) -> float:
    """Seconds that one step of the engine's vector environment takes alone, with random actions."""
    spec = gymnasium.spec(env)
    if env == "CartPole-v1":
        vector: Any = CompiledCartPole(ENVIRONMENTS, max_episode_steps=spec.max_episode_steps or 500)
    elif spec.vector_entry_point is not None:
        vector = gymnasium.make_vec(env, ENVIRONMENTS, vectorization_mode="vector_entry_point")
    else:
        vector = gymnasium.make_vec(env, ENVIRONMENTS, vectorization_mode="sync")
    vector.reset(seed=10)
    actions = [vector.action_space.sample() for _ in range(steps)]
    started = time.perf_counter()
    for action in actions:
        vector.step(action)
    return (time.perf_counter() - started) / steps


def main() -> None:
    """Measure and print; an environment's share is its steps alone over the time of the iterations with them."""
    args = rate_arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    spec = gymnasium.spec("CartPole-v1")
    gymnasium.registry[GYM_CARTPOLE] = dataclasses.replace(spec, id=GYM_CARTPOLE)
    params = catalog.load("cartpole").space.baseline
    with cluster.private_ray(cluster.Machine(cpus=1, gpus=0)):
        ours = engine.build("fused", args.env, params, seed=10, env_config={}, gpus=0)
        ended = 0

        def iterate() -> None:
            nonlocal ended
            ended += len(ours.iterate()[0])

        marks = iterate_for(args.warm_up + args.seconds, iterate)
        # An environment's reset takes a step of its own, which is no experience.
        steps_per_iteration = (ours.env_steps + ended) / ENVIRONMENTS / ours.iteration
        found = rate(marks, args.warm_up)
        report(
            iterations_per_s=found,
            env_share=step_s(args.env) * steps_per_iteration * found,
            path=ours.path,
        )
        ours.close()


if __name__ == "__main__":
    main()
