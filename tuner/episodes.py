"""The episode table: one row an episode, its trailing means, the goal, and the score that the study minimises."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from tuner.errors import StateError

COLUMNS = ("episode", "reward", "length", "mean_reward", "mean_length", "env_steps", "iteration", "wall_s")


@dataclass(frozen=True)
class Goal:
    """When a run has reached what it is for, and when it must stop.

    A run stops at the first episode number >= `window` whose trailing mean reward is >= `threshold`, at
    `max_episodes`, or at the last episode that ended within `max_steps` environment steps.
    """

    threshold: float | None
    window: int
    max_episodes: int
    max_steps: int | None = None


@dataclass(frozen=True)
class Episode:
    """One episode that ended: its undiscounted return, its length and the environment steps made until then."""

    reward: float
    length: int
    env_steps: int


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    episode: int
    reward: float
    length: int
    mean_reward: float
    mean_length: float
    env_steps: int
    iteration: int
    wall_s: float

    def to_csv(self) -> list[str]:
        """The row's cells; floats in the shortest form that reads back equal."""
        return [f"{self.wall_s:.3f}" if name == "wall_s" else repr(value) for name, value in asdict(self).items()]

    @classmethod
    def from_csv(cls, cells: list[str]) -> Row:
        """The row that `to_csv` wrote.

        Raises:
            ValueError: torn or foreign cells.
        """
        if len(cells) != len(COLUMNS):
            raise ValueError(f"{len(cells)} cells in place of {len(COLUMNS)}")
        kinds = (int, float, int, float, float, int, int, float)
        return cls(*(kind(cell) for kind, cell in zip(kinds, cells, strict=True)))


@dataclass(frozen=True)
class Outcome:
    """What a run's rows amount to."""

    episodes: int = 0
    env_steps: int = 0
    episodes_to_threshold: int | None = None
    best_mean: float | None = None

    @property
    def is_reached(self) -> bool:
        """Whether the mean reward reached the threshold."""
        return self.episodes_to_threshold is not None


def score(outcome: Outcome, goal: Goal) -> float:
    """The finite number that the study minimises.

    Reached before not reached; earlier before later; if not reached, the higher best mean first; between equals,
    the run of fewer environment steps.

    Raises:
        ValueError: a run without an episode, or with a mean that is not finite, has no score.
    """
    if outcome.best_mean is None:
        raise ValueError(f"no episode ended within {outcome.env_steps} environment steps")
    if not math.isfinite(outcome.best_mean):
        raise ValueError(f"non-finite mean reward ({outcome.best_mean})")
    cost = outcome.env_steps / (outcome.env_steps + 1e6)  # in [0, 1), so that it only breaks ties
    if outcome.episodes_to_threshold is not None:
        return outcome.episodes_to_threshold + 0.5 * cost
    if goal.threshold is None:
        return -outcome.best_mean + 1e-7 * cost
    missing = goal.threshold - outcome.best_mean
    if missing < 0:  # it ended before its window was full; in (-0.4, 0), behind every run that reached the threshold
        missing = 0.4 * missing / (1 - missing)
    return goal.max_episodes + 1 + missing + 1e-7 * cost


class EpisodeTable:
    """A run's episodes, appended to `path` as they end; refuses rows beyond the goal."""

    def __init__(self, path: Path, goal: Goal) -> None:
        self.path = path
        self.goal = goal
        self._file: TextIO | None = None
        self._forget()

    def _forget(self) -> None:
        self.last: Row | None = None
        self.outcome = Outcome()
        self.stopped_by: str | None = None
        self.reports: list[tuple[int, float]] = []  # the score at every multiple of the window, until somebody takes it
        self._rewards: deque[float] = deque(maxlen=self.goal.window)
        self._lengths: deque[int] = deque(maxlen=self.goal.window)

    def start(self) -> None:
        """Begin an empty table, replacing any earlier one."""
        self.cut(0)

    def cut(self, episodes: int) -> None:
        """Keep the first `episodes` rows of the file and go on after them.

        Raises:
            StateError: the file holds fewer whole rows.
        """
        kept = read_rows(self.path)[:episodes] if episodes else []
        if len(kept) < episodes:
            raise StateError(f"{self.path}: holds {len(kept)} whole rows, its checkpoint says {episodes}")
        self.close()
        tmp = self.path.with_name(f".{self.path.name}.tmp")
        tmp.write_text(_lines([COLUMNS, *(row.to_csv() for row in kept)]))
        tmp.replace(self.path)
        self._file = self.path.open("a")
        self._forget()
        for row in kept:
            self._account(row)

    def append(self, reward: float, length: int, env_steps: int, iteration: int, wall_s: float) -> bool:
        """Add one episode; False, and no row, when the run had already reached its goal or its budget."""
        if self._file is None:
            raise RuntimeError("the table is not open: start() or cut() first")
        if self.stopped_by is None and self.goal.max_steps is not None and env_steps > self.goal.max_steps:
            self.stopped_by = "steps"
        if self.stopped_by is not None:
            return False
        reward, length = float(reward), int(length)  # NumPy's would be written with their type
        rewards, lengths = [*self._rewards, reward][-self.goal.window :], [*self._lengths, length][-self.goal.window :]
        means = math.fsum(rewards) / len(rewards), math.fsum(lengths) / len(lengths)
        row = Row(self.outcome.episodes + 1, reward, length, *means, env_steps, iteration, wall_s)
        self._file.write(_lines([row.to_csv()]))
        self._account(row)
        return True

    def note_steps(self, env_steps: int) -> None:
        """Tell how many environment steps were made, so that a run whose episodes never end stops as well."""
        if self.stopped_by is None and self.goal.max_steps is not None and env_steps >= self.goal.max_steps:
            self.stopped_by = "steps"

    def flush(self, durable: bool = False) -> None:
        """Hand the rows to the system, and where `durable` to the disk."""
        if self._file is not None:
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; `cut` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _account(self, row: Row) -> None:
        self._rewards.append(row.reward)
        self._lengths.append(row.length)
        self.last = row
        self.outcome = _extended(self.outcome, row, self.goal)
        if row.episode % self.goal.window == 0:
            self.reports.append((row.episode, score(self.outcome, self.goal)))
        if self.outcome.is_reached:
            self.stopped_by = "threshold"
        elif row.episode >= self.goal.max_episodes:
            self.stopped_by = "episodes"


def outcome_of(rows: Iterable[Row], goal: Goal) -> Outcome:
    """The outcome of a finished table."""
    outcome = Outcome()
    for row in rows:
        outcome = _extended(outcome, row, goal)
    return outcome


def table_problem(rows: Sequence[Row], goal: Goal) -> str | None:
    """What in a table cannot be; None where its means follow from its rows and its counts go up to one end."""
    outcome, before = Outcome(), None
    for number, row in enumerate(rows, start=1):
        recent = rows[max(0, number - goal.window) : number]
        means = (
            math.fsum(values) / len(recent) for values in zip(*((r.reward, r.length) for r in recent), strict=True)
        )
        if outcome.is_reached or outcome.episodes >= goal.max_episodes:
            return f"it goes on after episode {number - 1}, its last"
        if row.episode != number:
            return f"row {number} is of episode {row.episode}"
        if (row.mean_reward, row.mean_length) != tuple(means):
            return f"the means of episode {number} are not those of its rewards and lengths"
        if before and (row.env_steps < before.env_steps or row.iteration < before.iteration):
            return f"the counts of episode {number} are below those of the one before"
        outcome, before = _extended(outcome, row, goal), row
    return None


def read_rows(path: Path, after: int = 0) -> list[Row]:
    """The whole rows of an episode table beyond its first `after`; a torn last line is left out.

    Raises:
        StateError: the file is not an episode table.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise StateError(f"{path}: not an episode table ({error.reason})") from error
    if "\n" not in text and not _lines([COLUMNS]).startswith(text):
        raise StateError(f"{path}: not an episode table")
    whole = text[: text.rfind("\n") + 1]
    lines = list(csv.reader(io.StringIO(whole)))
    if lines and tuple(lines[0]) != COLUMNS:
        raise StateError(f"{path}: its first line is not {','.join(COLUMNS)}")
    try:
        return [Row.from_csv(cells) for cells in lines[1 + after :]]
    except ValueError as error:
        raise StateError(f"{path}: not an episode table ({error})") from error


def _extended(outcome: Outcome, row: Row, goal: Goal) -> Outcome:
    is_full = row.episode >= goal.window
    # Before the first full window the mean so far stands in, so that a short run can be compared at all.
    best = row.mean_reward
    if is_full and outcome.episodes >= goal.window and outcome.best_mean is not None:
        best = max(outcome.best_mean, best)
    reached = outcome.episodes_to_threshold
    if reached is None and is_full and goal.threshold is not None and row.mean_reward >= goal.threshold:
        reached = row.episode
    return Outcome(row.episode, row.env_steps, reached, best)


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
