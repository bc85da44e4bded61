"""The run folder for trials on other machines: an actor beside the driver gives out and takes in their folders.

A trial on another machine works in a folder of its own there, filled from home, and delivers what it saved. So nothing
but its network joins two machines, and no trial that outlived its driver can write where the next driver's trials do.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tuner import checkpoint
from tuner.checkpoint import Counters
from tuner.errors import AlreadyRunning, StateError
from tuner.files import MANIFEST, manifest_problem, write_atomic
from tuner.layout import RunDir, TrialDir

_SEAL = re.compile(rf"checkpoints/iter-\d+/{re.escape(MANIFEST)}")
Parcel = Mapping[str, bytes]  # files of a trial's folder: paths relative to it, and contents

PREDECESSOR_ENDS_S = 30.0
_ANSWER_S = 30.0
_NAME = "home"  # in Ray's namespace of the job


class Home:
    """The end at the run folder, and the one process that writes trials' folders there."""

    def __init__(self, run_dir: Path) -> None:
        """Own the trials' folders, once the home of a driver that was killed is gone.

        Raises:
            AlreadyRunning: it is not, after 30 s.
        """
        self._run_dir = RunDir(run_dir)
        self._places: dict[str, tuple[str, str]] = {}
        self._owning = ExitStack()
        deadline = time.monotonic() + PREDECESSOR_ENDS_S
        while True:
            try:
                self._owning.enter_context(self._run_dir.home_lock())
                return
            except AlreadyRunning:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def fetch(self, name: str, node: str, folder: str) -> Parcel:
        """What a trial or a run of the answer goes on from, in a `folder` of a `node`; nothing where it begins."""
        self._places[name] = (node, folder)
        return _pack(self._run_dir.work_dir(name), with_checkpoint=True)

    def place_of(self, name: str) -> tuple[str, str] | None:
        """The node and the folder there where a trial was at work last."""
        return self._places.get(name)

    def keep(self, name: str, parcel: Parcel) -> None:
        """Have a folder hold what was delivered: the table, then the checkpoint that it goes with.

        Raises:
            StateError: a file is not as its manifest has it.
        """
        trial = self._run_dir.work_dir(name).make()
        for path in (trial.config, trial.episodes):
            if (content := parcel.get(path.name)) is not None:
                write_atomic(path, content)
        folder = next((Path(path).parent for path in parcel if _SEAL.fullmatch(path)), None)
        if folder is None:
            trial.remove_checkpoints()
        elif not (trial.path / folder / MANIFEST).exists():
            counters = Counters(**json.loads(parcel[f"{folder.as_posix()}/{MANIFEST}"])["counters"])
            files = {path: content for path, content in parcel.items() if Path(path).is_relative_to(folder)}
            checkpoint.save(trial, counters, lambda tmp: _unpack_checkpoint(files, folder, tmp))


class Workplace(Protocol):
    """Where a trial's process works."""

    folder: TrialDir

    def deliver(self, *, with_checkpoint: bool) -> None:
        """Have what is in the folder reach the run folder."""

    def close(self) -> None:
        """Leave nothing behind that is not the run folder's."""


class Here:
    """The run folder itself, on whose machine the trial runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = TrialDir(folder)

    def deliver(self, *, with_checkpoint: bool) -> None:
        """Nothing: it is there."""

    def close(self) -> None:
        """Nothing: it stays."""


class Away:
    """A folder of this machine, filled from home."""

    def __init__(self, name: str) -> None:
        """Fetch what the trial goes on from, from the job's one home.

        Args:
            name: the trial's folder, relative to the run folder.
        """
        import ray

        self._home = home = ray.get_actor(_NAME)
        self._name = name
        # Ray's folder: what a killed process leaves there goes with the cluster.
        session = ray._private.worker.global_worker.node.get_session_dir_path()
        self.folder = TrialDir(Path(tempfile.mkdtemp(prefix="tuner-trial-", dir=session)))
        node = ray.get_runtime_context().get_node_id()
        _unpack(ray.get(home.fetch.remote(name, node, str(self.folder.path))), self.folder.path)

    def deliver(self, *, with_checkpoint: bool) -> None:
        """Have the table, and the newest checkpoint, replace what is at home; returns when they are on its disk."""
        import ray

        ray.get(self._home.keep.remote(self._name, _pack(self.folder, with_checkpoint=with_checkpoint)))

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder.path, ignore_errors=True)


def workplace(folder: str, is_away: bool) -> Workplace:
    """Where to work for a trial's folder: there or, when that is relative to a run folder elsewhere, away from it."""
    return Away(folder) if is_away else Here(Path(folder))


@contextmanager
def home_at(run_dir: RunDir) -> Iterator[Path]:
    """Have a `Home` of this job on this machine, whose process ends with the driver; yields a temporary folder."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    home = ray.remote(Home).options(name=_NAME, num_cpus=0, scheduling_strategy=here).remote(run_dir.path.absolute())
    ray.get(home.__ray_ready__.remote())
    with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
        yield Path(folder)


def bring_stalled(name: str, trial: TrialDir) -> None:
    """Bring home what a trial's process that died left of a stall, and remove its folder where it was at work."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    with suppress(RayError, ValueError):  # that machine is lost as well, or the home is
        place = ray.get(ray.get_actor(_NAME).place_of.remote(name))
        if place is not None:
            there = NodeAffinitySchedulingStrategy(place[0], soft=False)
            clear = ray.remote(_clear).options(num_cpus=0, scheduling_strategy=there)
            trial.make().stalled.write_text(ray.get(clear.remote(place[1]), timeout=_ANSWER_S))


def _clear(folder: str) -> str:
    trial = TrialDir(Path(folder))
    said = trial.stalled.read_text(errors="replace") if trial.stalled.exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    return said


def _pack(trial: TrialDir, *, with_checkpoint: bool) -> dict[str, bytes]:
    files = [trial.config, trial.episodes]
    if with_checkpoint and (newest := checkpoint.newest_valid(trial)) is not None:
        files += [path for path in newest[0].rglob("*") if path.is_file()]
    return {path.relative_to(trial.path).as_posix(): path.read_bytes() for path in files if path.exists()}


def _unpack(parcel: Parcel, folder: Path) -> None:
    for name, content in parcel.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _unpack_checkpoint(files: Parcel, folder: Path, tmp: Path) -> None:
    _unpack({Path(path).relative_to(folder).as_posix(): content for path, content in files.items()}, tmp)
    if problem := manifest_problem(tmp):
        raise StateError(f"{folder}: a checkpoint did not arrive as it was sent: {problem}")
