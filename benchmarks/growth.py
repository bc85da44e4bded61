"""How a sweep grows: 10,000 trials through the real command, study, searcher and watchers, without any training.

Prints what a trial costs the driver as the study grows, and ends with 1 beyond the limits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from tuner import checkpoint, cluster, driver, environment, sweep
from tuner.checkpoint import Counters
from tuner.episodes import EpisodeTable, score
from tuner.files import write_json
from tuner.layout import TrialDir
from tuner.training import RunConfig

RESULTS = Path(__file__).parent / "results" / "growth.json"
EPISODES = 100
LENGTH = 20  # environment steps an episode
WINDOW = 100  # trials that a figure is taken over
PARALLEL = 2

# Issue: the driver's processor time for a trial, beside the first ones'; seconds; seconds; MB; files.
LIMITS = {"ratio": 2.0, "tpe_s": 0.5, "resume_s": 10.0, "peak_mb": 1000.0, "files_a_trial": 10.0}


class Simulated:
    """What a trial leaves behind and reports: two results, a table, a checkpoint; nothing is trained."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._run = RunConfig.from_json(config["run"])
        self._folder = TrialDir(Path(config["folder"])).make()
        write_json(self._folder.config, config["run"])
        self._table = EpisodeTable(self._folder.episodes, self._run.goal)
        self._table.start()
        self._chance = random.Random(str(config["run"]))  # noqa: S311 no secret
        self._iteration = 0

    def step(self) -> dict[str, Any]:
        """The next half of the episodes."""
        self._iteration += 1
        level, reports = 100 + 20 * self._chance.random(), []
        for _ in range(EPISODES // 2):
            episodes = self._table.outcome.episodes + 1
            self._table.append(self._chance.gauss(level, 5), LENGTH, LENGTH * episodes, self._iteration, 0.0)
            if episodes % self._run.goal.window == 0:
                reports.append([episodes, score(self._table.outcome, self._run.goal)])
        self._table.flush()
        outcome = self._table.outcome
        is_done = self._table.stopped_by is not None
        if is_done:
            counters = Counters(self._iteration, outcome.env_steps, outcome.episodes, 0.0)
            checkpoint.save(self._folder, counters, lambda folder: write_json(folder / "policy.json", 0))
            self._table.close()
        last = self._table.last
        return {
            **asdict(outcome), "path": "compiled", "iteration": self._iteration, "wall_s": 0.1 * self._iteration,
            "mean_reward": last.mean_reward if last else None, "mean_length": float(LENGTH),
            "env_steps_total": outcome.env_steps, "stopped_by": self._table.stopped_by,
            "statistics": {"entropy": 1.0, "policy_loss": 0.1}, "reports": reports, "failed": None, "done": is_done,
        }  # fmt: skip


class Clock:
    """The driver's own processor seconds for each trial, what the simulated trials take left out."""

    def __init__(self) -> None:
        self.trials_s: list[float] = []
        self.first_after_s: float | None = None  # wall-clock, from the start of the process
        self._outside_s = 0.0
        self._since = time.process_time()

    def outside(self, call: Callable[[], Any]) -> Any:
        """Call something whose time is not the driver's."""
        started = time.process_time()
        try:
            return call()
        finally:
            self._outside_s += time.process_time() - started

    def started(self) -> None:
        """A trial was handed out."""
        if self.first_after_s is None:
            self.first_after_s = time.monotonic() - STARTED
            self._since, self._outside_s = time.process_time(), 0.0

    def ended(self) -> None:
        """A trial was told of."""
        now = time.process_time()
        self.trials_s.append(now - self._since - self._outside_s)
        self._since, self._outside_s = now, 0.0


def simulate(clock: Clock, relay: Any) -> None:
    """What Tune does with what is a searcher and a stopper."""
    live: dict[str, Simulated] = {}
    number = 0
    while True:
        config = relay.suggest(f"trial-{number}")
        if isinstance(config, dict):
            clock.started()
            live[f"trial-{number}"] = clock.outside(lambda config=config: Simulated(config))
            number += 1
            continue
        if not live:
            return
        for key, trial in list(live.items()):
            result = clock.outside(trial.step)
            if relay(key, result) or result["done"]:
                del live[key]
                relay.on_trial_complete(key, result)
                clock.ended()


def run(folder: Path, trials: int, sampler: str) -> dict[str, Any]:
    """`tuner sweep cartpole` to so many trials, and what it cost this process."""
    clock = Clock()
    with contextlib.ExitStack() as stack:
        patch = lambda owner, name, value: stack.enter_context(mock.patch.object(owner, name, value))  # noqa: E731
        patch(cluster, "private_ray", lambda machine: contextlib.nullcontext(Path("/nowhere")))
        patch(cluster, "trials_at_once", lambda *_: PARALLEL)
        patch(environment, "check", lambda env, env_config: None)
        patch(driver, "_tune", lambda work, relay: simulate(clock, relay))
        patch(os, "fsync", lambda descriptor: None)  # the disk's time, not ours; nobody pulls the plug here
        stack.enter_context(mock.patch("tuner.export.write_policy"))  # there is none
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # the lines of the live view are part of it
        options = ["--sampler", sampler, "--episodes", str(EPISODES), "--race-seeds", "0", "--out", str(folder)]
        code = sweep.main(["cartpole", "--name", "run", "--trials", str(trials), *options])
    return {
        "code": code, "trials_s": clock.trials_s, "first_after_s": clock.first_after_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "wall_s": time.monotonic() - STARTED,
    }  # fmt: skip


def in_process(folder: Path, trials: int, sampler: str) -> dict[str, Any]:
    """`run` in a process of its own, whose memory and start are its own."""
    words = [sys.executable, "-m", "benchmarks.growth", "--one", sampler, "--trials", str(trials), "--in", str(folder)]
    with (folder / f"{sampler}.log").open("w") as log:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 ours
    if done.returncode:
        raise SystemExit((folder / f"{sampler}.log").read_text()[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, trials: int) -> dict[str, Any]:
    """Random trials from the first to the last, then the same study gone on with by TPE."""
    found = in_process(folder, trials, "random")
    path = folder / "run"
    files = sum(file.is_file() for file in (path / "trials").rglob("*"))
    times = found["trials_s"]
    early, late = (statistics.mean(part) for part in (times[WINDOW // 2 : 3 * WINDOW // 2], times[-WINDOW:]))
    sweep_json = json.loads((path / "sweep.json").read_text())
    write_json(path / "sweep.json", sweep_json | {"sampler": "tpe"})  # a study that TPE had grown would be no other
    tpe = in_process(folder, trials + WINDOW // 5, "tpe")
    return {
        "trials": trials, "early_s": early, "late_s": late, "ratio": late / early,
        "tpe_s": statistics.mean(tpe["trials_s"]), "resume_s": tpe["first_after_s"],
        "peak_mb": max(found["peak_mb"], tpe["peak_mb"]), "files_a_trial": files / trials,
        "study_mb": (path / "study.db").stat().st_size / 1e6, "wall_s": found["wall_s"],
        "every_500th_s": [statistics.mean(times[i : i + WINDOW]) for i in range(0, trials - WINDOW + 1, 500)],
    }  # fmt: skip


def main() -> None:
    """Measure, write, print, and fail beyond the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, metavar="N", help="how many (10,000)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="folder", type=Path, metavar="FOLDER", help="where the run folder goes, and stays")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run(args.folder, args.trials, args.one)))
        return
    folder = args.folder or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        found = measure(folder, args.trials)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    if args.trials >= 10_000:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"a trial: {1e3 * found['early_s']:.0f} ms of the driver at the 100th, {1e3 * found['late_s']:.0f} at the last"
    )
    for name, limit in LIMITS.items():
        print(f"{name:<14} {found[name]:10.2f}   at most {limit:g}{'' if found[name] <= limit else '   BEYOND'}")
    print(f"study.db {found['study_mb']:.0f} MB; {found['wall_s']:.0f} s in all")
    sys.exit(any(found[name] > limit for name, limit in LIMITS.items()))


STARTED = time.monotonic()

if __name__ == "__main__":
    main()
