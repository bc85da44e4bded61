"""The run folder: every path in it and every name it may have. Joins names nowhere else; holds no data."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import StateError, UsageError
from tuner.files import lock

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TRIAL = re.compile(r"\d{4,}")
_ITERATION = re.compile(r"iter-(\d+)")
_IN_RUN = re.compile(r"(trials/\d{4,}|(race|path)/[A-Za-z0-9][A-Za-z0-9._-]*)")
_CHECKPOINT = re.compile(r"checkpoints/iter-\d+")
_VERIFIED = re.compile(r"iter-\d+|checkpoint")  # the folders whose manifest lists every file and allows no link


def safe_name(text: str) -> str:
    """`text` with every character outside [A-Za-z0-9._-] as `-`, for a default name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip(".-_")[:64] or "sweep"


def ran_elsewhere(number: int, folder: str) -> str:
    """Where to look for the files of a trial that the driver of another run folder, HOST:PATH, ran."""
    return f"trial {number} ran elsewhere: its files are in the run folder of {folder}"


def inside(folder: Path, name: str) -> Path:
    """The file that `name`, which somebody else wrote, names inside of `folder`: its parts joined by slashes.

    Raises:
        ValueError: it leads out, or no file can have that name.
    """
    parts = name.split("/")
    if len(name) > 1024 or not name.isprintable() or "\\" in name or any(len(part) > 255 for part in parts):
        raise ValueError(f"{name[:300]!r} is no name of a file")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError(f"{name!r} leads out of the run folder")
    return folder.joinpath(*parts)


def link_inside(folder: Path, name: str, target: str) -> Path:
    """The same for a link, of which a run folder has one kind: a run's `checkpoint`, to one beside it.

    Raises:
        ValueError: it is another.
    """
    path = inside(folder, name)
    if path.name != "checkpoint" or not _CHECKPOINT.fullmatch(target):
        raise ValueError(f"{name!r} to {target!r} is no link in a run folder")
    return path


def is_file(path: Path) -> bool:
    """Whether `path` is a file; no path that cannot exist raises."""
    try:
        return path.is_file()
    except OSError:
        return False


def check_possible(path: Path, word: str) -> None:
    """Refuse a path that no file can have; `word` is the option or the argument that named it.

    Raises:
        UsageError: there is a NUL in it, or a name in it is too long.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{word} {str(path)!r}: {getattr(error, 'strerror', error)}; choose another path") from error


def strangers(folder: Path) -> Iterator[str]:
    """What in a run folder, or a trial's, leads out of it or belongs to another user, each with where it is.

    A folder that is somebody else's can be filled with pickles that run his code; one with links in it can have
    files written and removed in other places. Root's files are nobody's trick: root needs none.
    """
    root = folder.resolve()
    mine = (os.geteuid(), 0)

    def look_into(path: Path) -> Iterator[str]:
        with os.scandir(path) as entries:
            for entry in entries:
                owner = entry.stat(follow_symlinks=False).st_uid
                if owner not in mine:
                    yield f"{entry.path}: belongs to user {owner}"
                elif entry.is_symlink():
                    if not Path(entry.path).resolve().is_relative_to(root):
                        yield f"{entry.path}: is a link out of {folder}"
                elif entry.is_dir() and not _VERIFIED.fullmatch(entry.name):
                    yield from look_into(Path(entry.path))

    if root.is_dir():
        if root.stat().st_uid not in mine:
            yield f"{folder}: belongs to user {root.stat().st_uid}"
        else:
            yield from look_into(root)


def check_trust(folder: Path, trust: bool) -> None:
    """Refuse a run folder that leads elsewhere or is another user's, unless the user trusts it.

    Raises:
        StateError: it is; nothing of it was read.
    """
    found = None if trust else next(strangers(folder), None)
    if found:
        raise StateError(
            f"{found}, so that what is read there may run another's code and what is written may land elsewhere; "
            "look at it, and add --trust if you trust whoever made it"
        )


@dataclass(frozen=True)
class TrialDir:
    """One trial's folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def episodes(self) -> Path:
        return self.path / "episodes.csv"

    @property
    def result(self) -> Path:
        """What became of a run of the answer; a trial's outcome is in the study."""
        return self.path / "result.json"

    @property
    def stalled(self) -> Path:
        """Where a run that is under way would leave what it was doing when its time ran out."""
        return self.path / ".stalled"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def checkpoint(self) -> Path:
        """The relative link to the newest checkpoint."""
        return self.path / "checkpoint"

    def checkpoint_at(self, iteration: int) -> Path:
        """The checkpoint that was written after `iteration`."""
        return self.checkpoints / f"iter-{iteration}"

    def iterations(self) -> list[int]:
        """The iterations that have a checkpoint, newest first."""
        names = (path.name for path in self.checkpoints.iterdir()) if self.checkpoints.is_dir() else ()
        return sorted((int(match[1]) for name in names if (match := _ITERATION.fullmatch(name))), reverse=True)

    def make(self) -> TrialDir:
        """Create the folder where it is missing."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        return self

    def remove_checkpoints(self) -> None:
        """Remove what nobody goes on from."""
        self.checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


@dataclass(frozen=True)
class RunDir:
    """One sweep's folder."""

    path: Path

    @classmethod
    def named(cls, out: str | Path, name: str) -> RunDir:
        """The run folder OUT/NAME, which need not exist.

        Raises:
            UsageError: a name that is not a plain folder name.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"--name {name!r}: must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a "
                f"letter or digit; try --name {safe_name(name)}"
            )
        if "://" in str(out):
            raise UsageError(f"--out {out}: only `sweep` writes to a store; name a folder")
        check_possible(Path(out), "--out")
        path = Path(out) / name
        if path.is_symlink() and not path.resolve().is_relative_to(Path(out).resolve()):
            raise UsageError(f"{path}: is a link out of {out}; remove the link or use another --name")
        return cls(path)

    @classmethod
    def existing(cls, path: str | Path) -> RunDir:
        """The run folder at `path`.

        Raises:
            UsageError: there is none.
        """
        run_dir = cls(Path(path))
        if not is_file(run_dir.sweep):
            if not os.path.isdir(path):  # noqa: PTH112 never raises, unlike Path.is_dir
                raise UsageError(f"{path}: no such run folder; `ls {Path(path).parent}` shows what there is")
            raise UsageError(f"{path}: not a run folder, it has no sweep.json; name one that `sweep` wrote")
        return run_dir

    def beside(self, what: str) -> Path:
        """What belongs to the folder and must not be in it."""
        return self.path.with_name(f".{self.path.name}.{what}")

    def make(self) -> RunDir:
        """Create the folder where it is missing.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            (self.path / "trials").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {self.path.parent}: {error.strerror}; choose a folder you can write") from error
        for path in (self.path, self.trials, self.sweep, self.study):
            if path.exists() and not os.access(path, os.W_OK):
                raise UsageError(f"{path}: cannot be written; mend that, or choose another --out")
        return self

    @property
    def sweep(self) -> Path:
        return self.path / "sweep.json"

    @property
    def study(self) -> Path:
        return self.path / "study.db"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def report_md(self) -> Path:
        return self.path / "report.md"

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    def trial(self, number: int) -> TrialDir:
        """The folder of the trial with this number in the study."""
        return TrialDir(self.trials / f"{number:04d}")

    def answer_run(self, folder: str, name: str) -> TrialDir:
        """The folder of one run of the answer: `race/<label>-s<seed>` or `path/<step>-s<seed>`."""
        return TrialDir(self.path / folder / name)

    def work_dir(self, name: str) -> TrialDir:
        """The folder of a trial or of a run of the answer by its path in the run folder, `trials/0003` for example.

        Raises:
            StateError: it is not the name of one.
        """
        if not _IN_RUN.fullmatch(name):
            raise StateError(f"{self.path}: {name!r} is not the folder of a trial or a run")
        return TrialDir(self.path / name)

    def trial_dirs(self) -> Iterator[tuple[int, TrialDir]]:
        """Every trial folder that exists, by number."""
        names = [path.name for path in self.trials.iterdir()] if self.trials.is_dir() else []
        for name in sorted(filter(_TRIAL.fullmatch, names), key=int):
            yield int(name), TrialDir(self.trials / name)

    def answer_dirs(self) -> Iterator[TrialDir]:
        """Every folder of a run of the answer that exists."""
        for parent in (self.path / "race", self.path / "path"):
            yield from map(TrialDir, sorted(parent.iterdir()) if parent.is_dir() else ())

    def lock(self) -> AbstractContextManager[None]:
        """Own the folder while the context lasts; a dead owner's lock is free.

        Raises:
            AlreadyRunning: a live process owns it.
        """
        if not self.path.is_dir():
            raise StateError(f"{self.path}: vanished while it was opened; run the same command again")
        busy = f"{self.path}: is in use by another command"
        return lock(self.path / ".lock", busy, "wait for it, end it, or use another --name")

    def home_lock(self) -> AbstractContextManager[None]:
        """Own the trials' folders in it while the context lasts, beside the driver who owns the rest.

        Raises:
            AlreadyRunning: a live process owns them.
        """
        return lock(self.path / ".home.lock", f"{self.trials}: is being written", "wait for it, or end it")
