"""`SweepResult`: a run folder as Python sees it. Reads only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.episodes import Goal, read_rows
from tuner.errors import SpaceError, StateError, UsageError
from tuner.layout import RunDir, ran_elsewhere
from tuner.mirror import working_copy
from tuner.plan import check_study, read_sweep, study_access
from tuner.space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from tuner.study import SweepStudy


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found, from its run folder."""

    path: Path
    summary: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> SweepResult:
        """The result in a run folder, or in the one that a URL names.

        Raises:
            UsageError: there is no run folder, or no summary in it yet.
            StateError: its summary cannot be read.
        """
        run_dir = RunDir.existing(working_copy(path))
        try:
            return cls(run_dir.path, json.loads(run_dir.summary.read_bytes()))
        except FileNotFoundError:
            raise UsageError(
                f"{path}: no trial has ended yet; run the sweep on, or `python -m tuner.report {path}`"
            ) from None
        except ValueError as error:
            raise StateError(
                f"{run_dir.summary}: cannot be read; `python -m tuner.report {path}` writes it again"
            ) from error

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The race's winner, or the search's best: number, params, seed, episodes_to_threshold, …; or None."""
        found: Mapping[str, Any] | None = self.summary["best"]
        return found

    @property
    def baseline(self) -> Mapping[str, Any]:
        """The baseline, in the same form."""
        found: Mapping[str, Any] = self.summary["baseline"]
        return found

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """What the test seeds say of the winner: decision, interval, seeds, sentence and more; None without a race."""
        found: Mapping[str, Any] | None = self.summary["verdict"]
        return found

    @property
    def curves(self) -> pd.DataFrame:
        """The notebook's `all_metrics`: the trailing means of baseline and best for each episode number.

        Raises:
            UsageError: no trial completed.
        """
        import pandas as pd

        file = RunDir(self.path).best / "curves.csv"
        if not file.is_file():
            raise UsageError(
                f"{file}: not there; no trial completed, or `python -m tuner.report {self.path}` writes it"
            )
        return pd.read_csv(file)

    @property
    def episodes(self) -> pd.DataFrame:
        """Every episode of every trial: the columns of `episodes.csv` behind a column `trial`."""
        import pandas as pd

        frames = []
        for number, folder in RunDir(self.path).trial_dirs():
            frame = pd.DataFrame(read_rows(folder.episodes))
            frame.insert(0, "trial", number)
            frames.append(frame)
        table: pd.DataFrame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        return table

    def plot(self) -> go.Figure:
        """The best trial's reward and length beside the baseline's, as a Plotly figure.

        Raises:
            UsageError: no trial completed.
        """
        from tuner.figures import curves_figure

        if self.best is None:
            raise UsageError(f"{self.path}: no trial completed, so there is nothing to plot")
        for trial in (self.baseline, self.best):
            if "elsewhere" in trial:
                raise UsageError(f"{self.path}: {ran_elsewhere(trial['number'], trial['elsewhere'])}; plot it there")
        run_dir = RunDir(self.path)
        baseline, best = (read_rows(run_dir.trial(number).episodes) for number in (0, self.best["number"]))
        goal = Goal(self.summary["threshold"], self.summary["window"], max_episodes=1)
        title = f"{self.summary['space']}: trial {self.best['number']} and the baseline, seed {self.best['seed']}"
        return curves_figure(baseline, best, goal, title)


def open_study(run_dir: RunDir) -> tuple[SweepStudy, dict[str, Any]]:
    """The study of an existing run folder, and what its `sweep.json` holds.

    Raises:
        StateError: one of the two cannot be read.
        UsageError: the study is in a database that cannot be used.
    """
    from tuner.study import SweepStudy

    space, there = read_space(run_dir)
    check_study(run_dir, there)
    names = {"sampler": there["sampler"], "sampler_seed": there["sampler_seed"], "pruner": space.pruner}
    return SweepStudy(space=space, **names, **study_access(run_dir, there)), there


def read_space(run_dir: RunDir) -> tuple[SearchSpace, dict[str, Any]]:
    """The space of an existing run folder, and what its `sweep.json` holds.

    Raises:
        StateError: it cannot be read, or is not what a sweep wrote.
    """
    there = read_sweep(run_dir)
    try:
        return SearchSpace.from_json(there["definition"] | {"trials": there["trials"]}), there
    except (KeyError, TypeError, AttributeError, SpaceError) as error:
        raise StateError(
            f"{run_dir.sweep}: is not as a sweep wrote it ({type(error).__name__}: {error}); "
            "restore it from a copy, or use another --name"
        ) from error
