"""Growth: what a trial costs the driver does not grow with the study. In seconds: `python -m benchmarks.growth`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from optuna.distributions import CategoricalDistribution
from sqlalchemy import event
from sqlalchemy.engine import Engine

from benchmarks import growth
from tests.faults import IS_LONG
from tuner.study import SweepStudy

TRIALS = 1000 if IS_LONG else 100
FIRST, WINDOW = 20, 20  # by then no random start-up trial is left


def test_a_late_trial_takes_no_more_statements_records_or_comparisons_than_an_early_one(tmp_path: Path) -> None:
    done: Counter[str] = Counter()
    at_end: list[Counter[str]] = []

    def counted(what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any) -> Any:
            done[what] += 1
            return call(*args)

        return count

    def statement(*_: Any) -> None:
        done["statements"] += 1

    event.listen(Engine, "before_cursor_execute", statement)
    try:
        with (
            mock.patch.object(growth.Clock, "ended", lambda clock: at_end.append(done.copy())),
            mock.patch.object(SweepStudy, "_record", counted("records", SweepStudy._record)),
            mock.patch.object(
                CategoricalDistribution, "__eq__", counted("comparisons", CategoricalDistribution.__eq__)
            ),
        ):
            assert growth.run(tmp_path, TRIALS, "tpe")["code"] == 0
    finally:
        event.remove(Engine, "before_cursor_execute", statement)

    assert len(at_end) == TRIALS
    early, late = at_end[FIRST + WINDOW] - at_end[FIRST], at_end[-1] - at_end[-1 - WINDOW]
    for what in ("statements", "records", "comparisons"):
        assert 0 < late[what] <= 1.1 * early[what], f"{what}: {early[what]} early, {late[what]} late"


def test_a_study_has_few_files_a_trial(tmp_path: Path) -> None:
    files = []
    for trials in (5, 10):
        assert growth.run(tmp_path, trials, "random")["code"] == 0
        files.append(sum(path.is_file() for path in tmp_path.rglob("*")))
    assert files[1] - files[0] <= 5 * growth.LIMITS["files_a_trial"]
