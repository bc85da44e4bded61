"""The answer's training runs on disk: their folders under `race/` and `path/`, and what became of each."""

from __future__ import annotations

import json
from dataclasses import asdict

from tuner.answer.parts import Run, RunResult
from tuner.episodes import Outcome
from tuner.errors import StateError
from tuner.files import write_json
from tuner.judgement import Judgement
from tuner.layout import RunDir, TrialDir
from tuner.space import SearchSpace
from tuner.training import RunConfig


class RunFolders:
    """What became of each run, as its folder says: a lookup for `tuner.answer`."""

    def __init__(self, run_dir: RunDir, space: SearchSpace, engine: str) -> None:
        self._run_dir = run_dir
        self._space = space
        self._engine = engine
        self._known: dict[tuple[str, str], RunResult] = {}

    def __call__(self, run: Run) -> RunResult | None:
        """The result of a finished run, None for any other.

        Raises:
            StateError: the folder holds another run, or its result cannot be read.
        """
        key = run.folder, run.name
        if key not in self._known:
            folder = self.folder(run)
            if not folder.result.exists():
                return None
            try:
                values = json.loads(folder.result.read_bytes())
                config = json.loads(folder.config.read_bytes())
                outcome = values["outcome"] and Outcome(**values["outcome"])
                judged = values.get("judgement")  # older ones have none
                judgement = judged and Judgement.from_json(judged)
                result = RunResult(outcome, values["reason"], values["wall_s"], judgement)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StateError(
                    f"{folder.path}: cannot be read ({type(error).__name__}); remove it, and the run is done again"
                ) from error
            if config != json.loads(json.dumps(self.config_of(run).to_json())):
                raise StateError(f"{folder.config}: is of another run; remove that folder, and the run is done again")
            self._known[key] = result
        return self._known[key]

    def config_of(self, run: Run) -> RunConfig:
        """Everything that determines a run; its seed is not the search's."""
        return RunConfig.of(self._space, self._engine, run.seed, run.params)

    def folder(self, run: Run) -> TrialDir:
        """Where a run is kept."""
        return self._run_dir.answer_run(run.folder, run.name)

    def finish(self, run: Run, result: RunResult) -> None:
        """Record what became of a run."""
        folder = self.folder(run)
        if not folder.config.exists():  # it failed before it began
            write_json(folder.make().config, self.config_of(run).to_json())
        outcome = asdict(result.outcome) if result.outcome else None
        judgement = result.judgement.to_json() if result.judgement else None
        wall_s = round(result.wall_s, 3)
        values = {"outcome": outcome, "judgement": judgement, "reason": result.reason, "wall_s": wall_s}
        write_json(folder.result, values)
        self._known[run.folder, run.name] = result
