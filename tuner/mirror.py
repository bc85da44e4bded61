"""A remote `--out`: the run folder's copy in a store, pulled before a sweep goes on and pushed while it does.

In the store, `objects/HASH` hold the bytes of files and `manifests/GENERATION` say which file has which. A push writes
the objects that are new and then the next manifest, in one piece and only if nobody else has written that generation:
whoever follows a manifest finds a whole run folder, and of two drivers the slower one is stopped. The two newest
manifests and their objects are kept. What people open in a bucket lies beside them under its own name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.disk import told_when_full
from tuner.errors import AlreadyRunning, Interrupted, StateError, StoreError, SweepError, UsageError
from tuner.files import lock, sha256, write_json
from tuner.generations import NOTHING, Head, Manifest, manifest_name, object_name
from tuner.layout import RunDir, inside, link_inside, safe_name
from tuner.owner import Owner
from tuner.snapshot import Content, Part, Snapshots
from tuner.store import ANSWER_S, Store, check_url, is_url, within

logger = logging.getLogger(__name__)

PUSH_EVERY_S = 30.0
_AT_ONCE_BYTES = 16_000_000
_READERS_PATIENCE = 5
_FOR_PEOPLE = ("report.html", "report.md", "summary.json", "best")


@dataclass(frozen=True)
class CopyState:
    """What is noted beside a working copy: its id, and what it has of the store."""

    copy: str
    head: Head = NOTHING  # the copy is made from this, which may never have arrived in the store
    stored: Head = NOTHING  # and this was there


class Mirror:
    """One run folder's working copy on this machine, and its store."""

    def __init__(self, url: str, run_dir: RunDir) -> None:
        """Connect the working copy `run_dir` with the store at `url`.

        Raises:
            UsageError: the URL cannot be used.
        """
        self.run_dir = run_dir
        self._store = Store(url)
        self.url = self._store.url
        self._driver = secrets.token_hex(8)
        self._owner: Owner | None = None
        self._snapshots = Snapshots(run_dir, lambda sha256: object_name(sha256) in self._stored)
        self._stored: set[str] = set()  # objects that are known to be there
        self._generations: set[int] = set()
        self._newest, self._former = Manifest(), Manifest()
        self._leftovers: set[str] | None = None  # objects that may be of no manifest
        self._wake = threading.Event()
        self._error: SweepError | None = None
        self._is_failing = False

    @classmethod
    def of_run(cls, url: str) -> Mirror:
        """The mirror of the run folder at `url`, which is OUT/NAME.

        Raises:
            UsageError: the URL cannot be used.
        """
        out, _, name = check_url(url).rpartition("/")
        return cls.named(out, name)

    @classmethod
    def named(cls, out: str, name: str) -> Mirror:
        """The mirror of OUT/NAME. Its working copy is in the user's cache, or in the folder TUNER_WORKING_COPIES.

        Raises:
            UsageError: the name or the URL cannot be used.
        """
        out = check_url(out)
        copies = os.environ.get("TUNER_WORKING_COPIES")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = f"{safe_name(out)[:40]}-{hashlib.sha256(out.encode()).hexdigest()[:10]}"
        run_dir = RunDir.named((Path(copies) if copies else cache / "rllib-ppo-tuner" / "out") / folder, name)
        return cls(f"{out}/{name}", run_dir)

    def pull(self) -> None:
        """Bring the working copy to the store's state, where that is ahead; a sweep that runs here keeps its copy.

        Raises:
            StoreError: the store cannot be read.
            StateError: store and working copy have gone on apart, or what is stored is damaged.
            DiskFull: the working copy's disk is full.
        """
        with suppress(AlreadyRunning), self._lock():
            self._pull()

    @contextmanager
    def kept(self, is_stopping: Callable[[], bool]) -> Iterator[None]:
        """Own the store and its working copy while the context lasts, push in the background, and once more at the end.

        Args:
            is_stopping: whether somebody asked to stop; asked while it waits for a former owner's claim to run out.

        Raises:
            StoreError: the store cannot be used; nothing was changed.
            StateError: another driver owns it, or what `pull` says; nothing was changed.
            Interrupted: the last push failed: the working copy has everything, and the same command uploads it.
        """
        with self._lock():
            state = self._state()
            self._owner = Owner(self._store, self._driver, state.copy)
            with self._owner.claiming(is_stopping):
                self._pull()
                ended = threading.Event()
                pushing = threading.Thread(target=self._keep_pushing, args=(ended,), daemon=True, name="store-push")
                pushing.start()

                def end() -> None:
                    ended.set()
                    self._wake.set()
                    pushing.join()

                try:
                    yield
                except (UsageError, StateError):  # there is nothing new, or nothing that may replace what is there
                    end()
                    raise
                except Exception:
                    end()
                    if problem := self._last_push():
                        logger.warning("%s", problem)
                    raise
                end()
                problem = self._last_push()
        if problem:
            raise Interrupted(problem)

    def check(self) -> None:
        """Look whether the store is still ours.

        Raises:
            StateError: another driver has taken it over.
        """
        error = self._error or (self._owner and self._owner.lost)
        if error:
            raise error

    def on_start(self, record: Any) -> None:
        """Nothing: the next push is soon enough."""

    def on_progress(self, record: Any, result: Mapping[str, Any]) -> None:
        """Nothing: the next push is soon enough."""

    def on_finish(self, record: Any) -> None:
        """Push soon: a trial has ended."""
        self._wake.set()

    def on_loss(self, record: Any) -> None:
        """Nothing: the trial is another driver's."""

    def on_stage(self, stage: Any, done: int) -> None:
        """Nothing: the next push is soon enough."""

    def on_run(self, run: Any, result: Any) -> None:
        """Push soon: a run has ended."""
        self._wake.set()

    def push(self) -> None:
        """Write what is new into the store, and then the manifest that makes it count.

        Raises:
            StoreError: the store cannot be written; what it has stays whole.
            StateError: another driver has written to it, or the study is damaged.
        """
        self.check()
        found = self._upload()
        if (found.files, found.links) != (self._newest.files, self._newest.links):
            if self._leftovers is None:  # of drivers that were killed; looked for while nobody else can have written
                self._leftovers = {object_name(name) for name in self._store.names("objects")}
            for generation in sorted(self._generations_there() - self._generations):
                if generation > self._newest.head.generation:
                    self._find_out_whose(generation)
            self._show(found)
            self._commit(found)
            self._tidy()
        if self._is_failing:
            logger.info("%s: everything is uploaded again", self.url)
        self._is_failing = False

    def _pull(self) -> None:
        self._newest, self._former = within(ANSWER_S, self.url, self._read_manifests)
        self._stored = self._newest.objects | self._former.objects
        there, state = self._newest.head, self._state()
        path = self.run_dir.path
        if path.is_dir():
            if there.leads_to(state.head):
                if not there.lineage and state.stored.lineage:
                    raise StateError(
                        f"{self.url}: is empty, and {path} had been uploaded there; remove that folder to begin anew, "
                        f"or {self._state_file} to upload it again"
                    )
                return
            if not state.stored.leads_to(there):
                raise StateError(
                    f"{self.url} and its working copy {path} have gone on apart from each other; remove the working "
                    "copy to go on from the store, or use another --name for one of the two"
                )
        elif not there.lineage:
            write_json(self._state_file, _to_json(CopyState(state.copy)))
            return
        with told_when_full(path):
            self._fetch()
        write_json(self._state_file, _to_json(CopyState(state.copy, there, there)))

    def _read_manifests(self) -> tuple[Manifest, Manifest]:
        """The newest manifest that is whole, and the one before; empty ones where there are none.

        Raises:
            StateError: there are manifests, and none is whole.
        """
        self._generations = self._generations_there()
        found: list[Manifest] = []
        problem = "was written to while it was read; run the same command again"
        for generation in sorted(self._generations, reverse=True)[:2]:
            data = self._store.read(manifest_name(generation))
            try:
                found += [Manifest.from_bytes(data)] if data is not None else []
            except ValueError as error:
                problem = f"{manifest_name(generation)} cannot be used: {error}; restore it, or use another --name"
                logger.warning("%s: %s", self.url, problem)
        if self._generations and not found:
            raise StateError(f"{self.url}: {problem}")
        newest, former, *_ = [*found, Manifest(), Manifest()]
        return newest, former

    def _generations_there(self) -> set[int]:
        return {int(name) for name in self._store.names("manifests") if name.isdecimal()}

    def _fetch(self) -> None:
        """Put the store's newest state in the place of the working copy, which is kept beside it."""
        tmp, replaced = self.run_dir.beside("pulled"), self.run_dir.beside("replaced")
        for attempt in range(_READERS_PATIENCE):
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir(parents=True)
            if self._fetch_into(tmp):
                break
            # A driver that goes on has removed what only older manifests need.
            self._newest, self._former = self._read_manifests()
            logger.info("%s: was written to meanwhile; attempt %d", self.url, attempt + 2)
        else:
            raise StateError(
                f"{self.url}: lacks objects that its newest manifest names; restore it, or use another --name"
            )
        os.sync()
        path = self.run_dir.path
        if path.is_dir():
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
            logger.info("%s: went on elsewhere; its copy here is replaced, and kept in %s", self.url, replaced)
        tmp.rename(path)

    def _fetch_into(self, folder: Path) -> bool:
        """Write the newest manifest's files; False where an object is missing.

        Raises:
            StateError: an object is not what the manifest says.
        """
        wanted: dict[str, list[Path]] = {}
        size = 0

        def fetch() -> bool:
            found = self._store.read_all(wanted)
            for name, data in found.items():
                if data is None:
                    return False
                if object_name(hashlib.sha256(data).hexdigest()) != name:
                    raise StateError(f"{self.url}/{name}: is damaged; restore it from a copy, or use another --name")
                for path in wanted[name]:
                    path.write_bytes(data)
            wanted.clear()
            return True

        for name, content in self._newest.files.items():
            path, there = inside(folder, name), inside(self.run_dir.path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if _holds(there, content):
                shutil.copyfile(there, path)
                continue
            wanted.setdefault(object_name(content.sha256), []).append(path)
            size += content.size
            if size >= _AT_ONCE_BYTES:
                if not fetch():
                    return False
                size = 0
        if not fetch():
            return False
        for name, target in self._newest.links.items():
            link_inside(folder, name, target).symlink_to(target, target_is_directory=True)
        return True

    def _keep_pushing(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._wake.wait(PUSH_EVERY_S)
            self._wake.clear()
            if ended.is_set():
                return
            began = time.monotonic()
            try:
                self.push()
            except (StoreError, OSError, sqlite3.Error) as error:
                if not self._is_failing:
                    logger.warning("not uploaded: %s; training goes on, and the upload is tried again", error)
                self._is_failing = True
            except SweepError as error:
                self._error = error
                return
            ended.wait(min(PUSH_EVERY_S, 4 * (time.monotonic() - began)))  # a fifth of the time at most

    def _last_push(self) -> str | None:
        """Push; what went wrong, and what to do.

        Raises:
            StateError: another driver has taken the store over.
        """
        try:
            self.push()
        except (StoreError, OSError, sqlite3.Error) as error:
            return (
                f"not uploaded: {error}; the working copy {self.run_dir.path} has everything; "
                "the same command uploads it"
            )
        return None

    def _upload(self) -> Manifest:
        """The working copy's state, once all of its bytes are stored."""
        whole = Part()

        def put() -> None:
            self._store.put({object_name(sha256): data for sha256, data in whole.new.items()})
            self._stored |= {object_name(sha256) for sha256 in whole.new}
            whole.new.clear()

        for part in self._snapshots.parts():
            whole.files |= part.files
            whole.links |= part.links
            whole.new |= part.new
            if sum(map(len, whole.new.values())) >= _AT_ONCE_BYTES:
                put()
        put()
        return Manifest(files=whole.files, links=whole.links)

    def _commit(self, found: Manifest) -> None:
        """Write the next manifest."""
        state = self._state()
        generation = max(self._generations, default=0) + 1
        head = max(state.head, self._newest.head, key=lambda head: head.generation).next(self._driver, generation)
        manifest = Manifest(head, found.files, found.links)
        # Noted before it is written: who dies in between has a working copy that holds what the store then has.
        write_json(self._state_file, _to_json(CopyState(state.copy, head, self._newest.head)))
        if not self._store.create(manifest_name(generation), manifest.to_bytes()):
            self._find_out_whose(generation)
            return self._commit(found)
        self._generations = self._generations_there()
        if max(self._generations) > generation:  # that number was free again, as who went on has tidied up
            raise self._overtaken()
        self._former, self._newest = self._newest, manifest

    def _find_out_whose(self, generation: int) -> None:
        """A manifest of this number is there: ours, when the store wrote it and its answer was lost.

        Raises:
            StateError: another driver wrote it.
        """
        with suppress(ValueError):
            there = Manifest.from_bytes(self._store.read(manifest_name(generation)) or b"")
            if there.head.lineage[-1] == (self._driver, generation):
                self._generations.add(generation)
                self._former, self._newest = self._newest, there
                return
        raise self._overtaken()

    def _overtaken(self) -> AlreadyRunning:
        return AlreadyRunning(
            f"{self.url}: another driver has written to it; end one of the two, then the same command goes on from "
            "what is there"
        )

    def _show(self, manifest: Manifest) -> None:
        """Have what people open in a bucket there under its own name, as the newest manifest's is already."""
        before, now = (
            {name: content for name, content in of.files.items() if name.partition("/")[0] in _FOR_PEOPLE}
            for of in (self._newest, manifest)
        )
        for name, content in now.items():
            file = self.run_dir.path / name
            if before.get(name) != content and file.is_file():  # else it is being written anew, and comes next time
                self._store.put_file(name, str(file))
        self._store.remove(before.keys() - now.keys())

    def _tidy(self) -> None:
        """Remove what neither the newest manifest nor the one before needs."""
        kept = {self._newest.head.generation, self._former.head.generation}
        garbage = (self._stored | (self._leftovers or set())) - self._newest.objects - self._former.objects
        self._store.remove([*garbage, *(manifest_name(generation) for generation in self._generations - kept)])
        self._stored -= garbage
        self._leftovers = set()
        self._generations &= kept

    @property
    def _state_file(self) -> Path:
        return self.run_dir.beside("mirror.json")

    def _state(self) -> CopyState:
        """What is noted of the working copy; a new id where nothing is."""
        try:
            said = json.loads(self._state_file.read_bytes())
            head, stored = (Head(tuple((str(d), int(g)) for d, g in said[name])) for name in ("head", "stored"))
            return CopyState(str(said["copy"]), head, stored)
        except (OSError, ValueError, KeyError, TypeError):
            state = CopyState(secrets.token_hex(8))
            write_json(self._state_file, _to_json(state))
            return state

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Own the working copy.

        Raises:
            AlreadyRunning: another process of this machine does.
            UsageError: there is no place for it.
        """
        file = self.run_dir.beside("lock")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{file.parent}: cannot hold the working copy of {self.url} ({error.strerror}); "
                             "name another place by TUNER_WORKING_COPIES") from error  # fmt: skip
        with lock(
            file, f"{self.run_dir.path}: is in use by another command", "wait for it, end it, or use another --name"
        ):
            yield


def working_copy(run: str | Path) -> Path:
    """A RUN as a folder: itself, or for one in a store its working copy, brought to the store's state.

    Raises:
        UsageError: the store cannot be read, or there is no run folder in it.
        StateError: store and working copy have gone on apart, or what is stored is damaged.
    """
    if not is_url(run):
        return Path(run)
    mirror = Mirror.of_run(str(run))
    mirror.pull()
    if not mirror.run_dir.path.is_dir():
        raise UsageError(f"{mirror.url}: no run folder there; name the --out of a sweep, a slash, and its --name")
    return mirror.run_dir.path


def _to_json(state: CopyState) -> dict[str, Any]:
    return {"copy": state.copy, "head": state.head.lineage, "stored": state.stored.lineage}


def _holds(path: Path, content: Content) -> bool:
    """Whether a file that may be there has these bytes."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != content.size:
        return False
    return sha256(path) == content.sha256
