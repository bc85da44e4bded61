"""Everything that a sweep's page shows, as plain values, gathered from the run folder, the study and the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tuner.answer.parts import BASELINE, Answer, Entry, Race, Run, RunResult
from tuner.episodes import Goal, Row, read_rows
from tuner.errors import StateError
from tuner.importance import Importances, importances
from tuner.inference import Measure
from tuner.layout import RunDir, TrialDir, ran_elsewhere
from tuner.ledger import RACE
from tuner.runs import RunFolders
from tuner.space import SearchSpace
from tuner.study import SweepStudy, TrialRecord, TrialState
from tuner.summary import Summary

BEST_FILES = ("config.yaml", "rllib.py", "policy.pt")  # what `best/` may hold for those who go on from here


@dataclass(frozen=True)
class Band:
    """The trailing means of one configuration's runs over the race's and the test's seeds, one number an episode.

    A run that has ended counts with its last mean: left out, the slow runs alone would make the later numbers. The
    band ends where fewer than half of the runs go on.
    """

    label: str
    median: tuple[float, ...]
    low: tuple[float, ...]  # quartiles
    high: tuple[float, ...]
    going: tuple[int, ...]  # runs that have not ended before this episode, for as long as there is one
    runs: int


@dataclass(frozen=True)
class Report:
    """What there is to show of a sweep."""

    name: str  # the run folder's
    sweep: Mapping[str, Any]  # what `sweep.json` holds
    space: SearchSpace
    summary: Summary
    records: tuple[TrialRecord, ...]
    importances: Importances
    baseline_rows: tuple[Row, ...]
    best_rows: tuple[Row, ...]  # none where no trial completed
    bands: tuple[Band, ...]
    failures: tuple[str, ...]  # runs of the race and its test that FAILED, in words
    best_files: tuple[str, ...]  # of BEST_FILES, those that there are
    notes: tuple[str, ...]  # what could not be read, and is left out

    @property
    def answer(self) -> Answer:
        """As much of the answer as there is."""
        return self.summary.answer

    @property
    def goal(self) -> Goal:
        """What every run is for."""
        return self.space.goal

    @cached_property
    def measure(self) -> Measure:
        """What the race compared by; without a race, what the search's trials can be compared by."""
        race = self.answer.race
        if race:
            return Measure(race.measure, self.goal)
        return Measure.of(self.goal, [RunResult(record.outcome) for record in self.records])

    @cached_property
    def search_measure(self) -> Measure:
        """What the search's trials can be compared by: the race's measure, but no judge saw them."""
        if self.measure.is_judged:
            return Measure.of(self.goal, [RunResult(record.outcome) for record in self.records])
        return self.measure

    @property
    def scored(self) -> list[TrialRecord]:
        """The trials that have a score."""
        return [record for record in self.records if record.state is TrialState.COMPLETE]

    @property
    def is_baseline_elsewhere(self) -> bool:
        """Whether another run folder has the baseline's files."""
        return "elsewhere" in (self.summary.baseline or {})

    @property
    def best_number(self) -> int | None:
        """The trial that the page calls the best: the race's winner, or while there is no race the search's best."""
        return self.summary.best["number"] if self.summary.best else None

    @property
    def best_name(self) -> str:
        """What the page calls that trial."""
        return name_of(self.best_number)

    def number_of(self, record: TrialRecord) -> float | None:
        """How a trial did, in the search's unit: its score, which puts what missed the threshold beyond the budget."""
        if record.value is None or record.outcome is None:
            return None
        return record.value if self.search_measure.counts_episodes else record.outcome.best_mean


def name_of(number: int | None) -> str:
    """What the page calls a trial."""
    return "the best trial" if number is None else f"trial {number}" if number else "the baseline"


def gather(
    run_dir: RunDir, study: SweepStudy, summary: Summary, sweep: Mapping[str, Any], folders: RunFolders
) -> Report:
    """Read what the page needs; a table of episodes that cannot be read is left out, and noted."""
    notes: list[str] = []
    race, runs = summary.answer.race, _race_runs(summary.answer)
    return Report(
        name=run_dir.path.name,
        sweep=sweep,
        space=study.space,
        summary=summary,
        records=tuple(study.records()),
        importances=importances(study),
        baseline_rows=_rows_of(summary.baseline, run_dir, notes),
        best_rows=_rows_of(summary.best, run_dir, notes),
        bands=tuple(_bands(race, runs, folders, notes)) if race else (),
        failures=tuple(_failures(race, runs, folders)) if race else (),
        best_files=tuple(name for name in BEST_FILES if (run_dir.best / name).is_file()),
        notes=tuple(dict.fromkeys(notes)),
    )


def band(label: str, runs: Sequence[Sequence[Row]]) -> Band:
    """The band of runs that have at least one episode each."""
    lengths = np.array([len(rows) for rows in runs])
    until = int(np.sort(lengths)[::-1][(len(runs) - 1) // 2])  # the longest that at least half of the runs are
    means = np.array([_held([row.mean_reward for row in rows[:until]], until) for rows in runs])
    low, median, high = np.quantile(means, (0.25, 0.5, 0.75), axis=0)
    going = (lengths[:, None] > np.arange(lengths.max())[None]).sum(axis=0)
    return Band(
        label, median=tuple(map(float, median)), low=tuple(map(float, low)), high=tuple(map(float, high)),
        going=tuple(map(int, going)), runs=len(runs),
    )  # fmt: skip


def _held(means: Sequence[float], until: int) -> list[float]:
    return [*means, *[means[-1]] * (until - len(means))]


def _race_runs(answer: Answer) -> dict[str, list[Run]]:
    """The runs of each entry of the race, those of the test included."""
    if answer.race is None:
        return {}
    tested = (BASELINE, answer.verdict.winner) if answer.verdict else ()
    tests = answer.verdict.seeds if answer.verdict else ()
    return {
        entry.label: [
            Run(RACE, entry.label, seed, entry.params)
            for seed in (*answer.race.seeds, *(tests if entry.label in tested else ()))
        ]
        for entry in answer.race.entries
    }


def _bands(race: Race, runs: Mapping[str, Sequence[Run]], folders: RunFolders, notes: list[str]) -> Iterator[Band]:
    for entry in compared(race.entries):
        ended = [run for run in runs[entry.label] if (result := folders(run)) and result.outcome]
        tables = [rows for run in ended if (rows := _rows(folders.folder(run), notes))]
        if tables:
            yield band(name_of(entry.number), tables)


def _failures(race: Race, runs: Mapping[str, Sequence[Run]], folders: RunFolders) -> Iterator[str]:
    for entry in race.entries:
        results = [folders(run) for run in runs[entry.label]]
        reasons = Counter(str(result.reason) for result in results if result and result.outcome is None)
        for reason, count in reasons.most_common():
            yield f"{count} of {len(results)} runs of {name_of(entry.number)} FAILED: {reason}"


def compared(entries: Sequence[Entry]) -> list[Entry]:
    """The baseline, and the best that is not the baseline."""
    baseline = next(entry for entry in entries if entry.label == BASELINE)
    return [baseline, *[entry for entry in entries if entry is not baseline][:1]]


def _rows_of(trial: Mapping[str, Any] | None, run_dir: RunDir, notes: list[str]) -> tuple[Row, ...]:
    if trial is None:
        return ()
    if "elsewhere" in trial:
        notes.append(ran_elsewhere(trial["number"], trial["elsewhere"]))
        return ()
    return _rows(run_dir.trial(trial["number"]), notes)


def _rows(folder: TrialDir, notes: list[str]) -> tuple[Row, ...]:
    try:
        return tuple(read_rows(folder.episodes))
    except (StateError, OSError) as error:
        # Named by its place in the run folder: the page goes to others, who have no use for this machine's paths.
        place = f"{folder.path.parent.name}/{folder.path.name}/{folder.episodes.name}"
        what = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{folder.episodes}: ")
        notes.append(f"{place} is left out: {what}")
        return ()
