"""What is wrong with a run folder: its study held against its configurations, tables and checkpoints. Reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from tuner.answer.parts import BASELINE
from tuner.answer.path import digest
from tuner.episodes import outcome_of, read_rows, table_problem
from tuner.errors import StateError
from tuner.files import manifest_problem
from tuner.layout import RunDir, TrialDir, ran_elsewhere
from tuner.parameters import ENV_PREFIX
from tuner.results import open_study
from tuner.space import SearchSpace
from tuner.study import TrialRecord, TrialState
from tuner.training import RunConfig


def run_problems(run_dir: RunDir) -> Iterator[str]:
    """What is wrong with a run folder, each with where it is; nothing for a sound one."""
    try:
        study, there = open_study(run_dir)
        records = {record.number: record for record in study.records()}
    except StateError as error:
        yield str(error)
        return
    for number, folder in run_dir.trial_dirs():
        if number not in records:
            yield f"{folder.path}: the study has no trial {number}"
    lost = there.get("repaired", {}).get("without_checkpoint", [])
    for record in records.values():
        if record.state is not TrialState.COMPLETE or record.elsewhere:
            continue  # it goes on, or nothing of it counts, or it is another run folder's
        folder = run_dir.trial(record.number)
        yield from trial_problems(folder, record, study.space, there["engine"])
        saved = folder.iterations()
        if not saved and record.number not in lost:
            yield f"{folder.checkpoints}: no checkpoint"
        elif saved and (problem := manifest_problem(folder.checkpoint_at(saved[0]))):
            yield f"{folder.checkpoint_at(saved[0])}: does not verify, {problem}"
    params = {number: record.params for number, record in records.items()}
    for folder in run_dir.answer_dirs():
        if folder.result.exists():  # any other is done again
            yield from run_of_answer_problems(folder, params, study.space, there["engine"])


def elsewhere(run_dir: RunDir) -> Iterator[str]:
    """Which of a sound run folder's trials have their files in others' run folders."""
    for record in open_study(run_dir)[0].records():
        if record.elsewhere:
            yield ran_elsewhere(record.number, record.elsewhere)


def trial_problems(folder: TrialDir, record: TrialRecord, space: SearchSpace, engine: str) -> Iterator[str]:
    """What in a COMPLETE trial's configuration and table does not agree with the study."""
    try:
        rows = read_rows(folder.episodes)
    except (OSError, StateError) as error:
        yield f"{folder.path}: {error}"
        return
    yield from config_problems(folder, RunConfig.of(space, engine, space.seed, record.params))
    if problem := table_problem(rows, space.goal):
        yield f"{folder.episodes}: {problem}"
    if outcome_of(rows, space.goal) != record.outcome:
        yield f"{folder.episodes}: its rows do not give the outcome in the study"


def config_problems(folder: TrialDir, run: RunConfig) -> Iterator[str]:
    """What in a folder's `config.json` is not as this run has it."""
    try:
        theirs: dict[str, Any] = json.loads(folder.config.read_bytes())
        names = theirs.keys()
    except (OSError, ValueError, AttributeError) as error:
        yield f"{folder.config}: is not the configuration of a run ({type(error).__name__})"
        return
    ours = json.loads(json.dumps(run.to_json()))
    theirs = {"ledger": ours["ledger"]} | theirs  # older ones had none
    for name in sorted(ours.keys() | names):
        if theirs.get(name) != ours.get(name):
            yield f"{folder.config}: {name} is {theirs.get(name)!r}, the study has {ours.get(name)!r}"


def run_of_answer_problems(
    folder: TrialDir, params: Mapping[int, Mapping[str, Any]], space: SearchSpace, engine: str
) -> Iterator[str]:
    """What is wrong with a finished run of the answer; `params` are those of the search's trials."""
    remedy = f"remove {folder.path}, and the run is done again"
    try:
        outcome = json.loads(folder.result.read_bytes())["outcome"]
        rows = read_rows(folder.episodes)
        run = _run_named(folder, params, space, engine)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StateError) as error:
        yield f"{folder.path}: {type(error).__name__}: {error}; {remedy}"
        return
    yield from (f"{problem}; {remedy}" for problem in config_problems(folder, run))
    if problem := table_problem(rows, space.goal):
        yield f"{folder.episodes}: {problem}; {remedy}"
    if outcome is not None and asdict(outcome_of(rows, space.goal)) != outcome:
        yield f"{folder.episodes}: its rows do not give the outcome in result.json; {remedy}"


def _run_named(folder: TrialDir, params: Mapping[int, Mapping[str, Any]], space: SearchSpace, engine: str) -> RunConfig:
    """What a run of the answer must be, by its folder's name and, for the path's, by what it says that it trained.

    Raises:
        ValueError: the name is not that of such a run.
    """
    label, _, seed = folder.path.name.rpartition("-s")
    if label == BASELINE:
        trained = space.resolve({})
    elif label.startswith("trial-"):
        number = int(label.removeprefix("trial-"))
        if number not in params:
            raise ValueError(f"the study has no parameters of trial {number}")
        trained = dict(params[number])
    else:
        config = json.loads(folder.config.read_bytes())
        values = config | {ENV_PREFIX + key: value for key, value in config["env_config"].items()}
        trained = {name: values[name] for name in space.resolve({})}
        if not label.endswith(f"-{digest(trained)}"):
            raise ValueError("its parameters are not those that its name was made from")
    return RunConfig.of(space, engine, int(seed), trained)
