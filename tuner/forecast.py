"""`--dry-run`: what a planned sweep would try, where, and what it would cost. Starts and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

from tuner import cluster, disk
from tuner.answer import race_size
from tuner.answer.parts import PATH
from tuner.episodes import read_rows
from tuner.errors import StateError
from tuner.layout import RunDir
from tuner.ledger import RACE, TEST
from tuner.live import in_time
from tuner.parameters import display
from tuner.plan import Plan, read_sweep

# Measured on CartPole: two checkpoints of 23 files, four files and the events.
_FILES_PER_TRIAL = 50
_FILES_PER_RUN = 3


def describe(plan: Plan) -> str:
    """The space and the plan, line by line.

    Raises:
        UsageError: the machine cannot hold a single trial.
    """
    space = plan.space
    parallel, where = _place(plan)
    goal = f"at most {space.max_episodes} episodes a trial"
    if space.max_steps is not None:
        goal += f" and {space.max_steps:,} environment steps"
    if space.threshold is not None:
        goal = f"mean reward {space.threshold:g} over {space.window} episodes, in as few episodes as possible; {goal}"
    else:
        goal = f"the highest mean reward over {space.window} episodes; {goal}"
    runs = sum(race_size(**plan.race, parameters=len(space.params)).values())
    files = plan.trials * _FILES_PER_TRIAL + runs * _FILES_PER_RUN
    needed_mb, free_mb = disk.bytes_of(space, plan.trials) / 1e6, disk.free_bytes(plan.run_dir.path) / 1e6
    lines = [
        f"space     {plan.source.name} ({plan.source.file})",
        f"env       {space.env}",
        f"goal      {goal}",
        f"seed      {space.seed} for every trial; sampler {plan.options.sampler}, its seed {plan.options.sampler_seed}",
        f"pruner    {space.pruner}",
        f"engine    {plan.engine}",
        *([f"study     {plan.run_dir.path.name} in {plan.options.storage}"] if plan.options.storage else []),
        f"trials    {plan.trials}, the first is the baseline; {parallel or 'as many as the cluster holds'} at once",
        f"cores     {plan.cpus_per_trial} a trial, {where}",
        f"race      {_race(plan)}",
        f"folder    {plan.run_dir.path}: about {files:,} files, {needed_mb:,.0f} MB of the {free_mb:,.0f} MB free",
        f"time      {_time_from_earlier(plan, parallel)}",
        "baseline  and what is searched:",
    ]
    width = max(len(name) for name in space.baseline)
    for name, value in space.baseline.items():
        domain = space.params.get(name)
        lines.append(f"  {name:<{width}}  {display(value):<10}{f'  {domain!r}' if domain else ''}".rstrip())
    return "\n".join(lines)


def _place(plan: Plan) -> tuple[int | None, str]:
    """How many trials run at once, None where only the cluster knows, and what on."""
    if plan.options.address is not None:
        return plan.options.parallel, f"on the cluster at {plan.options.address}, which was not asked"
    machine = cluster.machine()
    holds = cluster.trials_at_once(machine, plan.cpus_per_trial, plan.options.gpus_per_trial)
    return min(plan.options.parallel or holds, holds, plan.trials), f"{machine.cpus} on this machine"


def _race(plan: Plan) -> str:
    """What the answer may cost, in runs."""
    runs = race_size(**plan.race, parameters=len(plan.space.params))
    if not runs:
        return f"none; --race-seeds {plan.space.race_seeds or 20} has the winner proven on unseen seeds"
    parts = f"{runs[RACE]} runs choose the winner, {runs[TEST]} judge it, at most {runs[PATH]} say why"
    judge = f"; {plan.space.judge} compares their policies" if plan.space.judge else ""
    return f"{plan.race['finalists']} finalists on {plan.race['seeds']} unseen seeds: {parts}{judge}"


def _time_from_earlier(plan: Plan, parallel: int | None) -> str:
    """The time of search and answer, from what ran before on this environment and engine."""
    durations = sorted(_earlier_durations(plan))
    if len(durations) < 4 or parallel is None:
        return "unknown"
    last = len(durations) - 1
    bounds = [durations[round(share * last)] * plan.trials / parallel for share in (0.25, 0.75)]
    limit = plan.options.time_s or float("inf")
    if not race_size(**plan.race, parameters=len(plan.space.params)):
        return in_time((min(limit, bounds[0]), min(limit, bounds[1])))
    answers = list(_earlier_answers(plan))
    if not answers:
        return f"{in_time((min(limit, bounds[0]), min(limit, bounds[1])))} for the search, unknown for the rest"
    return in_time((min(limit, bounds[0] + min(answers)), min(limit, bounds[1] + max(answers))))


def _earlier_durations(plan: Plan) -> Iterator[float]:
    for run_dir in _alike(plan):
        for _, trial in run_dir.trial_dirs():
            with suppress(StateError):
                if rows := read_rows(trial.episodes):
                    yield rows[-1].wall_s


def _earlier_answers(plan: Plan) -> Iterator[float]:
    """Seconds that race and path took, scaled to this plan's seeds."""
    for run_dir in _alike(plan):
        with suppress(OSError, ValueError, KeyError, TypeError):
            summary = json.loads(run_dir.summary.read_bytes())
            if summary["verdict"]:
                cost = summary["cost_s"]["race"] + (summary["cost_s"]["path"] or 0.0)
                yield cost * plan.race["seeds"] / len(summary["race"]["seeds"])


def _alike(plan: Plan) -> Iterator[RunDir]:
    """The run folders under OUT of this environment, budget and engine; another folder's damage is not this plan's."""
    out = plan.run_dir.path.parent
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        run_dir = RunDir(path)
        with suppress(StateError, KeyError):
            there = read_sweep(run_dir) if run_dir.sweep.is_file() else None
            definition = there["definition"] if there else {}
            is_alike = there and (definition["env"], definition["max_episodes"], there["engine"]) == (
                plan.space.env, plan.space.max_episodes, plan.engine,
            )  # fmt: skip
            if is_alike:
                yield run_dir
