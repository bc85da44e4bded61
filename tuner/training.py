"""One PPO run in one trial folder: an engine, its episode table and its checkpoints, stopped exactly at its goal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tuner import checkpoint
from tuner.checkpoint import Counters
from tuner.episodes import EpisodeTable, Goal, Outcome
from tuner.errors import StateError, TrialFailed
from tuner.files import write_json
from tuner.judgement import Judgement, judge
from tuner.layout import TrialDir
from tuner.ledger import SEARCH, ledger_of
from tuner.parameters import split
from tuner.ppo import engine as engines
from tuner.space import SearchSpace

CHECKPOINT_EVERY_S = 5.0
CHECKPOINTS_SHARE = 0.02  # of a run's time, at most: a large network's are written less often


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run; `config.json` and `best/config.yaml` hold it."""

    env: str
    engine: str
    seed: int
    goal: Goal
    params: Mapping[str, Any]
    env_config: Mapping[str, Any] = field(default_factory=dict)
    judge: str | None = None  # of the final policy, as `module:function`

    @classmethod
    def of(cls, space: SearchSpace, engine: str, seed: int, params: Mapping[str, Any]) -> RunConfig:
        """A run of one of a space's configurations; the search's own are not judged."""
        ppo, of_env = split(params)
        judged_by = None if ledger_of(seed) == SEARCH else space.judge
        return cls(space.env, engine, seed, space.goal, ppo, {**space.env_config, **of_env}, judged_by)

    def to_json(self) -> dict[str, Any]:
        """One flat mapping: PPO's parameters by PPOConfig's names, and beside them what else the run needs."""
        goal = self.goal
        return {
            "env": self.env, "env_config": dict(self.env_config), "engine": self.engine,
            "seed": self.seed, "ledger": ledger_of(self.seed),
            "threshold": goal.threshold, "window": goal.window,
            "max_episodes": goal.max_episodes, "max_steps": goal.max_steps,
            **({"judge": self.judge} if self.judge else {}),
            **self.params,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunConfig:
        """The configuration that `to_json` described."""
        rest = {name: value for name, value in values.items() if name != "ledger"}  # it follows from the seed
        goal = Goal(*(rest.pop(name) for name in ("threshold", "window", "max_episodes", "max_steps")))
        own = {name: rest.pop(name) for name in ("env", "env_config", "engine", "seed")}
        own["judge"] = rest.pop("judge", None)
        return cls(goal=goal, params=rest, **own)


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    outcome: Outcome
    path: str  # what does the work: see Engine.path
    iteration: int
    env_steps: int
    mean_reward: float | None
    mean_length: float | None
    wall_s: float
    stopped_by: str | None  # threshold, episodes, steps, or None while it goes on
    statistics: Mapping[str, float]
    reports: tuple[tuple[int, float], ...]  # the score at every multiple of the window since the last progress


class Training:
    """One PPO run. Goes on from the folder's newest verified checkpoint where there is one."""

    def __init__(self, config: RunConfig, folder: TrialDir, *, gpus: float = 0, keeps_policy: bool = True) -> None:
        """Begin or go on with the run; without `keeps_policy` a finished one leaves no checkpoint behind."""
        self.config = config
        self._keeps_policy = keeps_policy
        self._folder = folder.make()
        self._table = EpisodeTable(folder.episodes, config.goal)
        saved = checkpoint.newest_valid(folder)
        self._check_config()
        self._engine = engines.build(
            config.engine, config.env, config.params, seed=config.seed, env_config=config.env_config, gpus=gpus
        )
        self._wall_before = 0.0
        self.saved_iteration = 0
        if saved is None:
            self._table.start()
        else:
            path, counters = saved
            self._engine.restore(path, counters.iteration, counters.env_steps)
            self._table.cut(counters.episodes)
            self._wall_before = counters.wall_s
            self.saved_iteration = counters.iteration
        self._started = time.monotonic()
        self._next_save = self._started + CHECKPOINT_EVERY_S

    @property
    def wall_s(self) -> float:
        """Seconds of training over all attempts, lost iterations left out."""
        return self._wall_before + time.monotonic() - self._started

    @property
    def is_finished(self) -> bool:
        """Whether the run reached its goal or its budget."""
        return self._table.stopped_by is not None

    @property
    def outcome(self) -> Outcome:
        """What the run amounts to so far."""
        return self._table.outcome

    def advance(self, seconds: float) -> Progress:
        """Train whole iterations for about `seconds`, at least one, or until the run is finished.

        Raises:
            TrialFailed: the environment or the configuration failed; the message is the reason.
        """
        statistics: Mapping[str, float] = {}
        deadline = time.monotonic() + seconds
        while not self.is_finished:
            try:
                episodes, statistics = self._engine.iterate()
            except FloatingPointError as error:
                raise TrialFailed(str(error)) from error
            for episode in episodes:
                if not episode.reward - episode.reward == 0:  # NaN and infinities
                    raise TrialFailed(f"non-finite reward ({episode.reward}) in iteration {self._engine.iteration}")
                row = (episode.reward, episode.length, episode.env_steps, self._engine.iteration, self.wall_s)
                self._table.append(*row)
            self._table.note_steps(self._engine.env_steps)
            self._table.flush()
            if time.monotonic() >= deadline:
                break
        is_last = self.is_finished and self._keeps_policy
        if is_last or (not self.is_finished and time.monotonic() > self._next_save):
            self.save()
        # After a restart these are all of the table's: the one whose result nobody took may be among them.
        reports, self._table.reports = tuple(self._table.reports), []
        return self._progress(statistics, reports)

    def judgement(self) -> Judgement | None:
        """What the run's judge says of its policy; None where the run has no judge.

        Raises:
            TrialFailed: the judge failed; the message is the reason.
        """
        return judge(self._engine.greedy_policy(), self.config) if self.config.judge else None

    def save(self) -> None:
        """Write a verified checkpoint, unless the last one is of this very iteration."""
        if self._engine.iteration == self.saved_iteration:
            return
        began = time.monotonic()
        self._table.flush(durable=True)
        counters = Counters(self._engine.iteration, self._engine.env_steps, self._table.outcome.episodes, self.wall_s)
        checkpoint.save(self._folder, counters, self._engine.save)
        self.saved_iteration = self._engine.iteration
        ended = time.monotonic()
        self._next_save = ended + max(CHECKPOINT_EVERY_S, (ended - began) / CHECKPOINTS_SHARE)

    def close(self) -> None:
        """Free the engine and the table's file, and the checkpoints of a finished run whose policy nobody wants."""
        self._engine.close()
        with suppress(OSError):  # rows that a full disk did not take are after the checkpoint, and come again
            self._table.close()
        if self.is_finished and not self._keeps_policy:
            self._folder.remove_checkpoints()

    def _check_config(self) -> None:
        """Write the configuration, or hold it against the one that is there.

        Raises:
            StateError: the folder holds another run.
        """
        ours = json.loads(json.dumps(self.config.to_json()))
        if not self._folder.config.exists():
            write_json(self._folder.config, ours)
            return
        theirs = {"ledger": ours["ledger"]} | json.loads(self._folder.config.read_bytes())  # older ones had none
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise StateError(
                    f"{self._folder.config}: {name} is {theirs.get(name)!r}, this run has {ours.get(name)!r}; "
                    "use another --name"
                )

    def _progress(self, statistics: Mapping[str, float], reports: tuple[tuple[int, float], ...]) -> Progress:
        last = self._table.last
        return Progress(
            outcome=self._table.outcome,
            path=self._engine.path,
            iteration=self._engine.iteration,
            env_steps=self._engine.env_steps,
            mean_reward=last.mean_reward if last else None,
            mean_length=last.mean_length if last else None,
            wall_s=self.wall_s,
            stopped_by=self._table.stopped_by,
            statistics=statistics,
            reports=reports,
        )
