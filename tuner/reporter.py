"""`best/` and `summary.json`: kept current while a sweep runs, and made again from the study and the trials."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from typing import Any

import yaml

from tuner import checkpoint, figures
from tuner.episodes import read_rows
from tuner.files import replace_folder, write_atomic, write_json
from tuner.layout import RunDir
from tuner.study import SweepStudy, TrialRecord
from tuner.summary import Summary, summarize

logger = logging.getLogger(__name__)

BEST_EVERY_S = 30.0  # drawing the curves takes longer than many a trial


class Reporter:
    """Writes `best/` soon after a finished trial is better than all before it, and with `summary.json` at the end."""

    def __init__(self, run_dir: RunDir, study: SweepStudy, space: str, engine: str) -> None:
        self._run_dir = run_dir
        self._study = study
        self._space = space
        self._engine = engine
        self._best_number: int | None = None
        self._written_at = -BEST_EVERY_S

    def on_start(self, record: TrialRecord) -> None:
        """Nothing: what has not finished is not best."""

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Nothing: what has not finished is not best."""

    def on_finish(self, record: TrialRecord) -> None:
        """Write `best/` when this trial is the new best, and the summary."""
        best = self._study.best()
        is_due = time.monotonic() - self._written_at > BEST_EVERY_S
        if best is not None and best.number != self._best_number and is_due:
            self.write_best()
            self._written_at = time.monotonic()
        self.write_summary()

    def write(self) -> Summary:
        """Write everything as it stands."""
        self.write_best()
        return self.write_summary()

    def write_summary(self) -> Summary:
        """Write `summary.json`."""
        summary = summarize(self._study, self._space, self._engine)
        write_json(self._run_dir.summary, summary.to_json())
        return summary

    def write_best(self) -> None:
        """Write `best/` whole, in one exchange; leave it out while there is no best trial."""
        best = self._study.best()
        if best is None:
            return
        trial, baseline = self._run_dir.trial(best.number), self._run_dir.trial(0)
        goal = self._study.goal
        rows = read_rows(baseline.episodes), read_rows(trial.episodes)
        title = f"{self._space}: trial {best.number} and the baseline, seed {self._study.space.seed}"
        tmp = self._run_dir.path / ".best.tmp"
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir()
        config = json.loads(trial.config.read_bytes())
        write_atomic(tmp / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        write_atomic(tmp / "curves.csv", figures.curves_csv(*rows, goal))
        write_atomic(tmp / "curves.png", figures.curves_png(*rows, goal, title))
        write_atomic(tmp / "curves.html", figures.curves_html(figures.curves_figure(*rows, goal, title)))
        saved = checkpoint.newest_valid(trial)
        if saved is not None:
            shutil.copytree(saved[0], tmp / "checkpoint")
        else:
            logger.warning("%s: has no checkpoint that verifies; best/checkpoint is left out", trial.path)
        replace_folder(tmp, self._run_dir.best)
        self._best_number = best.number
