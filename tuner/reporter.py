"""`best/`, `summary.json` and at the end the report: made from the study and the trials, and made again from them."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from tuner import checkpoint, export, figures
from tuner.answer import so_far
from tuner.answer.parts import Answer, Question
from tuner.episodes import Row, read_rows
from tuner.errors import ExportFailed
from tuner.files import copy_folder, replace_folder, write_atomic, write_json
from tuner.layout import RunDir, ran_elsewhere
from tuner.plan import read_sweep
from tuner.runs import RunFolders
from tuner.study import SweepStudy, TrialRecord
from tuner.summary import Summary, best_of, summarize
from tuner.training import RunConfig

logger = logging.getLogger(__name__)

BEST_EVERY_S = 30.0  # drawing the curves takes longer than many a trial


class Reporter:
    """Writes `best/` soon after a finished trial is better than all before it, and everything at the end."""

    def __init__(self, run_dir: RunDir, study: SweepStudy, space: str, engine: str, race: Mapping[str, int]) -> None:
        self._run_dir = run_dir
        self._study = study
        self._space = space
        self._engine = engine
        self._race = race
        self.folders = RunFolders(run_dir, study.space, engine)
        self._best_number: int | None = None
        self._told: set[str] = set()
        self._written_at = -BEST_EVERY_S

    def on_start(self, record: TrialRecord) -> None:
        """Nothing: what has not finished is not best."""

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Nothing: what has not finished is not best."""

    def on_finish(self, record: TrialRecord) -> None:
        """Write `best/` when this trial is the new best, and the summary."""
        summary = summarize(self._study, self._space, self._engine)
        is_due = time.monotonic() - self._written_at > BEST_EVERY_S
        if summary.best is not None and summary.best["number"] != self._best_number and is_due:
            self.write_best()
            self._written_at = time.monotonic()
        write_json(self._run_dir.summary, summary.to_json())

    def on_loss(self, record: TrialRecord) -> None:
        """Nothing: what has not finished is not best."""

    def question(self) -> Question:
        """What the finished search is to be asked."""
        return Question(
            self._study.space, self._study.records(), self._race["seeds"], self._race["finalists"],
            random_trials=self._study.random_trials,
        )  # fmt: skip

    def answer(self) -> Answer:
        """The answer, as far as the runs that there are can give it."""
        question = self.question()
        is_over = all(record.is_finished or record.elsewhere for record in question.records)
        return so_far(question, self.folders) if is_over else Answer()

    def write_missing(self, answer: Answer) -> Summary:
        """Write everything, unless it is written already: a finished sweep's folder is left as it is."""
        summary = summarize(self._study, self._space, self._engine, answer)
        return summary if self._is_written(summary) else self.write(answer)

    def write(self, answer: Answer, *, with_policy: bool = True) -> Summary:
        """Write everything as it stands."""
        self.write_best(answer, with_policy=with_policy)
        self.write_report(summarize(self._study, self._space, self._engine, answer))
        return self.write_summary(answer)  # last: while it is of another answer, so may the rest be

    def _is_written(self, summary: Summary) -> bool:
        try:
            there = json.loads(self._run_dir.summary.read_bytes())
        except (OSError, ValueError):
            return False
        if there != json.loads(json.dumps(summary.to_json())) or self._run_dir.best.is_dir() != bool(summary.best):
            return False
        return self._run_dir.report.is_file() and self._run_dir.report_md.is_file()

    def write_summary(self, answer: Answer | None = None) -> Summary:
        """Write `summary.json`."""
        summary = summarize(self._study, self._space, self._engine, answer)
        write_json(self._run_dir.summary, summary.to_json())
        return summary

    def write_report(self, summary: Summary) -> None:
        """Write `report.html` and `report.md`."""
        from tuner.page.content import gather
        from tuner.page.render import report_html, report_md

        sweep = read_sweep(self._run_dir)
        report = gather(self._run_dir, self._study, summary, sweep, self.folders)
        for note in filter(lambda note: note not in self._told, report.notes):
            logger.warning("%s: %s", self._run_dir.path, note)
        write_atomic(self._run_dir.report, report_html(report))
        write_atomic(self._run_dir.report_md, report_md(report))

    def write_best(self, answer: Answer | None = None, *, with_policy: bool = False) -> None:
        """Write `best/` whole, in one exchange; leave it out while there is no best trial.

        The policy alone, as TorchScript, is left to the end: it takes torch and RLlib, which a driver does without and
        a stop has no time for.
        """
        best = best_of(self._study, answer or Answer())
        if best is None:
            return
        trial = self._run_dir.trial(best.number)
        goal = self._study.goal
        first = self._study.record(0)
        self._tell_what_is_missing(first, best)
        rows = self._rows(first), self._rows(best)
        title = f"{self._space}: trial {best.number} and the baseline, seed {self._study.space.seed}"
        tmp = self._run_dir.path / ".best.tmp"
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir()
        config = self._config(best)
        write_atomic(tmp / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        with _left_out("best/rllib.py"):
            write_atomic(tmp / "rllib.py", export.rllib_script(config))
        write_atomic(tmp / "curves.csv", figures.curves_csv(*rows, goal))
        write_atomic(tmp / "curves.png", figures.curves_png(*rows, goal, title))
        write_atomic(tmp / "curves.html", figures.curves_html(figures.curves_figure(*rows, goal, title)))
        saved = None if best.elsewhere else checkpoint.newest_valid(trial)
        if saved is not None:
            copy_folder(saved[0], tmp / "checkpoint")
            if with_policy:
                with _left_out("best/policy.pt"):
                    export.write_policy(tmp / "checkpoint", tmp / "policy.pt")
        elif not best.elsewhere:
            logger.warning("%s: has no checkpoint that verifies; best/checkpoint is left out", trial.path)
        replace_folder(tmp, self._run_dir.best)
        self._best_number = best.number

    def _tell_what_is_missing(self, first: TrialRecord, best: TrialRecord) -> None:
        """Say once of each trial that ran elsewhere what `best/` lacks of it."""
        missing = {first.number: "curves"} | {best.number: "curves and checkpoint"}
        for record in (first, best):
            if record.elsewhere and (where := ran_elsewhere(record.number, record.elsewhere)) not in self._told:
                self._told.add(where)
                logger.warning("%s; best/ lacks its %s", where, missing[record.number])

    def _rows(self, record: TrialRecord) -> list[Row]:
        """A trial's episodes; what is here of one that ended elsewhere was an attempt that does not count."""
        return [] if record.elsewhere else read_rows(self._run_dir.trial(record.number).episodes)

    def _config(self, record: TrialRecord) -> dict[str, Any]:
        """What a trial's `config.json` holds, or where that is elsewhere must hold."""
        if record.elsewhere:
            space = self._study.space
            return RunConfig.of(space, self._engine, space.seed, record.params).to_json()
        config: dict[str, Any] = json.loads(self._run_dir.trial(record.number).config.read_bytes())
        return config


@contextmanager
def _left_out(name: str) -> Iterator[None]:
    """What cannot be written as a file of its own is left out, and said so."""
    try:
        yield
    except ExportFailed as error:
        logger.warning("%s is left out: %s", name, error)
