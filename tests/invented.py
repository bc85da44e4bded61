"""Sweeps that were never trained: real run folders and real studies, with learning curves made up from a formula."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner.answer import can_be_asked, stages
from tuner.answer.parts import Answer, Run, RunResult
from tuner.episodes import EpisodeTable, Outcome
from tuner.files import write_json
from tuner.judgement import Judgement, MatchRecord
from tuner.layout import TrialDir
from tuner.plan import Plan, SweepOptions
from tuner.reporter import Reporter
from tuner.study import SweepStudy, TrialRecord
from tuner.summary import Summary
from tuner.training import RunConfig

MOST = 500.0  # reward of an episode, CartPole-v1's


def episodes_needed(params: Mapping[str, Any]) -> float:
    """What is true of a configuration: its episodes to the middle of its rise."""
    away = math.log10(params["lr"] / 2e-3)
    epochs = {4: 1.3, 6: 1.0, 10: 0.8, 20: 0.6, 30: 0.55}.get(params["num_epochs"], 1.0)
    return 190 * math.exp(0.9 * away * away) * epochs * (0.75 if params["lambda_"] <= 0.9 else 1.0)


def matches_of(run: Run) -> Judgement:
    """Matches that a configuration takes the more of, the less it trains: the other way round than its curve."""
    random = np.random.default_rng([run.seed, run.params["num_epochs"]])
    share = float(np.clip(1.1 - 0.06 * run.params["num_epochs"] + random.normal(0, 0.05), 0.05, 0.95))
    records = []
    for opponent, ease in (("still", 1.0), ("random", 0.8), ("chaser", 0.4)):
        for side in ("blue", "orange"):
            wins, draws, losses = random.multinomial(20, [share * ease, 0.05, 0.95 - share * ease]).tolist()
            records.append(MatchRecord(opponent, side, wins, draws, losses))
    return Judgement.of_matches(records)


class InventedSweep:
    """One sweep's run folder, filled by hand; `fate` says how a trial ends: None, or the reason for which it fails."""

    def __init__(self, out: Path, space: str = "cartpole", needed: Callable[..., float] = episodes_needed,
                 **options: Any) -> None:  # fmt: skip
        self.plan = Plan.of(space, SweepOptions(out=str(out), **options))
        self.run_dir = self.plan.run_dir.make()
        self._needed = needed
        write_json(self.run_dir.sweep, self.plan.to_json())
        self.study = SweepStudy(
            f"sqlite:///{self.run_dir.study}", self.plan.space, sampler=self.plan.options.sampler,
            sampler_seed=self.plan.options.sampler_seed, pruner=self.plan.space.pruner,
        )  # fmt: skip
        self.reporter = Reporter(self.run_dir, self.study, self.plan.source.name, self.plan.engine, self.plan.race)

    def search(
        self, fate: Callable[[TrialRecord], str | None] = lambda record: None, trials: int | None = None
    ) -> InventedSweep:
        """Do every trial of the budget, or as many."""
        for _ in range(self.plan.trials if trials is None else trials):
            record = self.study.start_next()
            self.study.add_attempt(record.number)
            self.study.set_path(record.number, "compiled")
            folder = self.run_dir.trial(record.number)
            outcome = self._train(folder, self.plan.space.seed, record.params)
            reason = fate(record)
            if reason is None:
                self.study.complete(record.number, outcome, wall_s=0.004 * outcome.episodes)
            else:
                self.study.fail(record.number, reason, wall_s=0.2)
        self.study.add_cost("search", 41.5)
        return self

    def race(
        self, most_runs: int = 10_000, fate: Callable[[Run], str | None] = lambda run: None,
        judge: Callable[[Run], Judgement | None] = lambda run: None,
    ) -> InventedSweep:  # fmt: skip
        """Do the runs of the answer, one stage after the other, or as many of them."""
        question, folders = self.reporter.question(), self.reporter.folders
        for stage in stages(question, Answer(), folders) if can_be_asked(question) else ():
            for run in stage.runs:
                if folders(run) is None:
                    if not most_runs:
                        return self
                    most_runs -= 1
                    outcome = self._train(folders.folder(run), run.seed, run.params)
                    reason = fate(run)
                    folders.finish(
                        run, RunResult(None, reason) if reason else RunResult(outcome, None, 1.5, judge(run))
                    )
            self.study.add_cost("path" if stage.name == "path" else "race", 12.25)
        return self

    def write(self) -> Summary:
        """Everything that a sweep writes at its end."""
        return self.reporter.write(self.reporter.answer())

    def _train(self, folder: TrialDir, seed: int, params: Mapping[str, Any]) -> Outcome:
        goal = self.plan.space.goal
        config = RunConfig.of(self.plan.space, self.plan.engine, seed, params)
        write_json(folder.make().config, config.to_json())
        random = np.random.default_rng([seed, *repr(sorted(params.items())).encode()])
        middle = self._needed(params) * math.exp(random.normal(0, 0.16))
        table, steps = EpisodeTable(folder.episodes, goal), 0
        table.start()
        for episode in range(1, goal.max_episodes + 1):
            mean = 22 + (MOST + 60 - 22) / (1 + math.exp(-(episode - middle) / (0.16 * middle)))
            reward = float(np.clip(round(random.normal(mean, 0.25 * mean)), 9, MOST))
            steps += int(reward)
            if not table.append(reward, int(reward), steps, steps // 128, 0.004 * episode):
                break
        table.close()
        return table.outcome


def multiply(study: Path, times: int) -> None:
    """Put copies of a study's trials, the first left out, behind them, each with another learning rate.

    They have no seals, as trials of a version before there were any.
    """
    with sqlite3.connect(study) as database:
        first, last = database.execute("select min(trial_id) + 1, max(trial_id) from trials").fetchone()
        tables = [name for (name,) in database.execute("select name from sqlite_master where name like 'trial%'")]
        for copy in range(1, times):
            shift = copy * (last - first + 1)
            for table in tables:
                columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
                names = columns if table == "trials" else columns[1:]  # the others count their rows themselves
                moved = {"trial_id": f"trial_id + {shift}", "number": f"number + {shift}"}
                if table == "trial_params":
                    other = f"1e-4 * pow(10, 2.0 * (((trial_id + {shift}) * 7919) % 1000) / 1000)"
                    moved["param_value"] = f"case when param_name = 'lr' then {other} else param_value end"
                chosen = ", ".join(moved.get(name, f'"{name}"') for name in names)
                sealed = "and key <> 'seal'" if table == "trial_user_attributes" else ""
                listed = ", ".join(f'"{name}"' for name in names)
                database.execute(
                    f"insert into {table} ({listed}) select {chosen} from {table} "  # noqa: S608
                    f"where trial_id between ? and ? {sealed}",
                    (first, last),
                )
