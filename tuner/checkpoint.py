"""Verified checkpoints of one trial: written beside, sealed by a manifest, renamed, and read only when they verify."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tuner.files import MANIFEST, fsync_dir, manifest_problem, replace_link, write_manifest
from tuner.layout import TrialDir

logger = logging.getLogger(__name__)

FORMAT = 1
KEEP = 2

_told: set[tuple[Path, str]] = set()


@dataclass(frozen=True)
class Counters:
    """Where a run stood when its checkpoint was written; RLlib's own counters are wrong after a restore."""

    iteration: int
    env_steps: int
    episodes: int
    wall_s: float


def save(trial: TrialDir, counters: Counters, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a folder, seal it, and make it the trial's newest; the newest two that verify are kept."""
    for left in trial.checkpoints.glob(".*"):  # by a crash: half written, or half removed
        shutil.rmtree(left)
    tmp = trial.checkpoints / f".tmp-{counters.iteration}"
    tmp.mkdir(parents=True)
    write(tmp)
    write_manifest(tmp, {"format": FORMAT, "counters": asdict(counters), "versions": _versions()})
    final = trial.checkpoint_at(counters.iteration)
    _remove(final)  # only ever one that does not verify: a trial never repeats a good one
    tmp.rename(final)
    fsync_dir(trial.checkpoints)
    replace_link(trial.checkpoint, final)
    kept = 0
    for iteration in trial.iterations():
        folder = trial.checkpoint_at(iteration)
        if folder != final and (kept >= KEEP or manifest_problem(folder)):
            _remove(folder)
        else:
            kept += 1
    return final


def _remove(folder: Path) -> None:
    """Remove a checkpoint that may be there; half of one is never seen under its name."""
    removed = folder.with_name(f".removed-{folder.name}")
    with suppress(FileNotFoundError):
        folder.rename(removed)
        shutil.rmtree(removed)


@cache
def _versions() -> dict[str, str]:
    """The versions that a checkpoint depends on; reading them takes longer than writing a small one."""
    return {name: version(name) for name in ("ray", "torch")}


def newest_valid(trial: TrialDir) -> tuple[Path, Counters] | None:
    """The newest checkpoint whose every byte is as it was written, and its counters; nothing is unpickled."""
    for iteration in trial.iterations():
        folder = trial.checkpoint_at(iteration)
        problem = manifest_problem(folder)
        if problem is None:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
            try:
                return folder, Counters(**manifest["counters"])
            except (KeyError, TypeError):
                problem = f"{MANIFEST}: has no counters"
        if (folder, problem) not in _told:  # several look for it: whoever draws the curves, whoever trains on
            _told.add((folder, problem))
            logger.warning("%s: not used, %s", folder, problem)
    return None
