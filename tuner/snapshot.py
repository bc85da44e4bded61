"""One state of a run folder, read while trials write, in an order in which what belongs together is whole."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import StudyUnreadable
from tuner.files import MANIFEST
from tuner.layout import RunDir, TrialDir


@dataclass(frozen=True)
class Content:
    """What a file holds, in short."""

    sha256: str
    size: int


@dataclass
class Part:
    """Files that were read together, by their names in the run folder, with the bytes of those that are new."""

    files: dict[str, Content] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    new: dict[str, bytes] = field(default_factory=dict)  # by their hash


class Snapshots:
    """Reads a run folder again and again; what has not changed since is not read again."""

    def __init__(self, run_dir: RunDir, is_stored: Callable[[str], bool]) -> None:
        """Read `run_dir`; `is_stored` tells of a hash whether nobody needs the bytes any more."""
        self._run_dir = run_dir
        self._is_stored = is_stored
        self._known: dict[Path, tuple[tuple[int, int, int], Content]] = {}

    def parts(self) -> Iterator[Part]:
        """The whole folder, part by part.

        The study comes first: what it says has ended has written its last file. The summary comes before `best/`, as
        it is written after it. Names that begin with a dot are somebody's scratch.

        Raises:
            StudyUnreadable: the study's database is damaged.
        """
        yield self._study()
        path = self._run_dir.path
        names = _names(path)
        top = Part()
        for name in names:
            if not name.startswith(self._run_dir.study.name):
                self._add(top, path / name)
        yield top
        for name in names:
            folder = path / name
            if not folder.is_dir() or folder.is_symlink():
                continue
            if folder == self._run_dir.best:
                yield self._exchanged(folder)
                continue
            for child in _names(folder):
                yield self._run(TrialDir(folder / child))

    def _study(self) -> Part:
        """The study by SQLite's own backup. Reading the file would, once closed, drop this process's locks on it."""
        part = Part()
        if not self._run_dir.study.is_file():
            return part
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self._run_dir.study.name
            with closing(sqlite3.connect(self._run_dir.study)) as study, closing(sqlite3.connect(copy)) as target:
                study.backup(target)
                problem = target.execute("PRAGMA quick_check").fetchone()[0]
            if problem != "ok":
                raise StudyUnreadable(f"{self._run_dir.study}: is damaged ({problem}) and was not copied to the store")
            self._put(part, self._run_dir.study.name, copy.read_bytes())
        return part

    def _run(self, run: TrialDir) -> Part:
        """One run's folder. Its table is read after the checkpoints: it has the rows that they count.

        A result is there only where it was listed, and its table, which is read later, was whole by then.
        """
        part = Part()
        if not run.path.is_dir():
            self._add(part, run.path)
            return part
        for iteration in run.iterations():
            self._add_whole(part, run.checkpoint_at(iteration))
        with suppress(OSError):
            target = str(run.checkpoint.readlink())
            if f"{self._name(run.path)}/{target}/{MANIFEST}" in part.files:
                part.links[self._name(run.checkpoint)] = target
        for name in _names(run.path):
            path = run.path / name
            if path == run.checkpoints:
                continue
            if path.is_dir() and not path.is_symlink():
                self._add_tree(part, path)
            else:
                self._add(part, path)
        return part

    def _exchanged(self, folder: Path) -> Part:
        """A folder that is only ever exchanged whole; one that was exchanged meanwhile is read again."""
        part = Part()
        for _ in range(5):
            with suppress(FileNotFoundError):
                before = folder.stat().st_ino
                part = Part()
                self._add_tree(part, folder)
                if folder.stat().st_ino == before:
                    return part
        return Part()  # it comes with the next copy

    def _add_whole(self, part: Part, folder: Path) -> None:
        """A checkpoint, unless it was removed meanwhile."""
        whole = Part()
        with suppress(FileNotFoundError):
            if self._add_tree(whole, folder):
                part.files |= whole.files
                part.new |= whole.new

    def _add_tree(self, part: Part, folder: Path) -> bool:
        """Everything below a folder; whether nothing of it had gone when it was read."""
        found = sorted(path for path in folder.rglob("*") if not path.is_dir())
        return all([self._add(part, path) for path in found]) and folder.is_dir()

    def _add(self, part: Part, path: Path) -> bool:
        """A file; False where it has gone. What is none is left out."""
        try:
            now = path.lstat()
            if not stat.S_ISREG(now.st_mode):
                return True
            state = now.st_ino, now.st_mtime_ns, now.st_size
            known = self._known.get(path)
            if known and known[0] == state and self._is_stored(known[1].sha256):
                part.files[self._name(path)] = known[1]
                return True
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        self._known[path] = state, self._put(part, self._name(path), data)
        return True

    def _put(self, part: Part, name: str, data: bytes) -> Content:
        content = part.files[name] = Content(hashlib.sha256(data).hexdigest(), len(data))
        if not self._is_stored(content.sha256):
            part.new[content.sha256] = data
        return content

    def _name(self, path: Path) -> str:
        return path.relative_to(self._run_dir.path).as_posix()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208 names are wanted
    except (FileNotFoundError, NotADirectoryError):
        return []
