"""`--dry-run`: what a planned sweep would try, where, and what it would cost. Starts and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from tuner import cluster
from tuner.episodes import read_rows
from tuner.errors import StateError
from tuner.layout import RunDir
from tuner.live import in_time
from tuner.parameters import display
from tuner.plan import Plan, read_sweep

# Measured on CartPole: two checkpoints of 23 files, four files and the events, and their sizes.
_FILES_PER_TRIAL = 50
_BYTES_PER_TRIAL = 900_000
# RLlib's checkpoint holds a weight, two moments of Adam and the runner's copy, four bytes each.
_BYTES_PER_WEIGHT = 2 * 16


def describe(plan: Plan) -> str:
    """The space and the plan, line by line.

    Raises:
        UsageError: the machine cannot hold a single trial.
    """
    space, machine = plan.space, cluster.machine()
    holds = cluster.trials_at_once(machine, plan.cpus_per_trial, plan.options.gpus_per_trial)
    parallel = min(plan.options.parallel or holds, holds, plan.trials)
    goal = f"at most {space.max_episodes} episodes a trial"
    if space.max_steps is not None:
        goal += f" and {space.max_steps:,} environment steps"
    if space.threshold is not None:
        goal = f"mean reward {space.threshold:g} over {space.window} episodes, in as few episodes as possible; {goal}"
    else:
        goal = f"the highest mean reward over {space.window} episodes; {goal}"
    disk_mb = plan.trials * (_BYTES_PER_TRIAL + _BYTES_PER_WEIGHT * _largest_network(plan)) / 1e6
    lines = [
        f"space     {plan.source.name} ({plan.source.file})",
        f"env       {space.env}",
        f"goal      {goal}",
        f"seed      {space.seed} for every trial; sampler {plan.options.sampler}, its seed {plan.options.sampler_seed}",
        f"pruner    {space.pruner}",
        f"engine    {plan.engine}",
        f"trials    {plan.trials}, the first is the baseline; {parallel} at once",
        f"cores     {plan.cpus_per_trial} a trial, {machine.cpus} on this machine",
        f"folder    {plan.run_dir.path}: about {plan.trials * _FILES_PER_TRIAL:,} files, {disk_mb:,.0f} MB",
        f"time      {in_time(_time_from_earlier(plan, parallel))}",
        "baseline  and what is searched:",
    ]
    width = max(len(name) for name in space.baseline)
    for name, value in space.baseline.items():
        domain = space.params.get(name)
        lines.append(f"  {name:<{width}}  {display(value):<10}{f'  {domain!r}' if domain else ''}".rstrip())
    return "\n".join(lines)


def _largest_network(plan: Plan) -> int:
    """Weights of the largest network, both its halves, over the layers that the space names."""
    domain = plan.space.params.get("fcnet_hiddens")
    networks: list[Sequence[int]] = [plan.space.baseline["fcnet_hiddens"], *(domain.grid() if domain else [])]
    return max(2 * sum(a * b for a, b in pairwise(layers)) for layers in networks)


def _time_from_earlier(plan: Plan, parallel: int) -> tuple[float, float] | None:
    """Seconds for the sweep, from the middle half of the trials that ran before on this environment and engine."""
    durations = sorted(_earlier_durations(plan))
    if len(durations) < 4:
        return None
    last = len(durations) - 1
    low, high = durations[round(0.25 * last)], durations[round(0.75 * last)]
    limit = plan.options.time_s or float("inf")
    return min(limit, low * plan.trials / parallel), min(limit, high * plan.trials / parallel)


def _earlier_durations(plan: Plan) -> Iterator[float]:
    out = Path(plan.options.out)
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        run_dir = RunDir(path)
        if not run_dir.sweep.is_file():
            continue
        try:
            there = read_sweep(run_dir)
            definition = there["definition"]
            is_alike = (definition["env"], definition["max_episodes"]) == (plan.space.env, plan.space.max_episodes)
            if not is_alike or there["engine"] != plan.engine:
                continue
            for _, trial in run_dir.trial_dirs():
                rows = read_rows(trial.episodes)
                if rows:
                    yield rows[-1].wall_s
        except (StateError, KeyError):
            continue  # another folder's damage is not this plan's
