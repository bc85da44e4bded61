"""What must hold after every fault (A to F), said of a run folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tuner.episodes import read_rows
from tuner.files import manifest_problem
from tuner.layout import RunDir
from tuner.results import open_study
from tuner.soundness import run_problems
from tuner.study import TrialRecord, TrialState


@dataclass(frozen=True)
class Finished:
    """What a run folder said was finished at some moment."""

    trials: dict[int, TrialRecord]
    runs: dict[str, bytes]

    @classmethod
    def of(cls, path: Path) -> Finished:
        """What is finished there now; nothing where no study has been made yet."""
        run_dir = RunDir(path)
        runs = {
            folder.path.name: folder.result.read_bytes() for folder in run_dir.answer_dirs() if folder.result.exists()
        }
        if not run_dir.sweep.exists() or not run_dir.study.exists():
            return cls({}, runs)
        with tempfile.TemporaryDirectory() as copy:  # opening a study may write to it
            for file in (run_dir.sweep, *path.glob("study.db*")):
                shutil.copy(file, copy)
            study, _ = open_study(RunDir(Path(copy)))
            return cls({record.number: record for record in study.records() if record.is_finished}, runs)


def assert_kept(before: Finished, after: Finished) -> None:
    """A and B: what was finished still is, with the same parameters, value and reports, and was not run again."""
    for number, record in before.trials.items():
        assert after.trials.get(number) == record, f"trial {number} was finished and is another one now"
    for name, result in before.runs.items():
        assert after.runs.get(name) == result, f"{name} was finished and is another one now"


def assert_sound(path: Path, trials: int) -> None:
    """B to F of a sweep that has ended: the budget, no ghost, whole tables, checkpoints that verify, no half file."""
    run_dir = RunDir(path)
    study, _ = open_study(run_dir)
    records = study.records()
    assert [record.number for record in records] == list(range(trials))
    assert all(record.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED) for record in records)
    assert list(run_problems(run_dir)) == []
    for folder in [*(folder for _, folder in run_dir.trial_dirs()), *run_dir.answer_dirs()]:
        rows = read_rows(folder.episodes)
        assert [row.episode for row in rows] == list(range(1, len(rows) + 1))
        assert all(a.iteration <= b.iteration and a.env_steps < b.env_steps for a, b in pairwise(rows))
        for iteration in folder.iterations():
            saved = folder.checkpoint_at(iteration)
            assert manifest_problem(saved) is None, f"{saved}: {manifest_problem(saved)}"
    assert json.loads(run_dir.summary.read_bytes())["trials"] == {"COMPLETE": trials}
