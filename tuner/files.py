"""Durable files: written whole or not at all, locked by one process, verified by a manifest."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from tuner.errors import AlreadyRunning, UsageError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path`: a reader, or a crash, sees the old bytes or the new ones, never a mix."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with tmp.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
    except BaseException:
        tmp.unlink(missing_ok=True)  # on a full disk it would take what little is left
        raise
    fsync_dir(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON that a person can read."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """A value as plain JSON: dataclasses and mappings as objects, enums by their value, what is not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fsync_dir(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder of files; an error is raised as it is, so that a full disk is told as one.

    `shutil.copytree` goes on after an error and raises one of its own in the end, which has no number.
    """
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        (copy_folder if path.is_dir() else shutil.copyfile)(path, target / path.name)


def replace_folder(source: Path, target: Path) -> None:
    """Put the finished folder `source` in the place of `target`, which may exist."""
    retired = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.rename(retired)
    source.rename(target)
    fsync_dir(target.parent)
    shutil.rmtree(retired, ignore_errors=True)


def replace_link(link: Path, target: Path) -> None:
    """Point the relative symbolic `link` at `target`, by rename."""
    tmp = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    tmp.unlink(missing_ok=True)
    tmp.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    tmp.replace(link)
    fsync_dir(link.parent)


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """List every file of `folder` with size and SHA-256 beside `facts`, sealed, and all on disk before returning."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": sha256(path)}
    content = facts | {"files": files}
    write_json(folder / MANIFEST, content | {"seal": seal_of(content)})


def manifest_problem(folder: Path) -> str | None:
    """What in `folder` differs from its manifest, or None when every byte is as it was written."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        seal = content.pop("seal")
        listed = {name: (facts["size"], facts["sha256"]) for name, facts in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST}: {type(error).__name__}"
    if seal != seal_of(content):
        return f"{MANIFEST}: changed"
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() or p.is_symlink()}
    for name in sorted(present - {MANIFEST} - listed.keys()):
        return f"{name}: not in the manifest"
    for name, facts in listed.items():
        path = folder / name
        if name not in present or path.is_symlink():
            return f"{name}: missing"
        if (path.stat().st_size, sha256(path)) != facts:
            return f"{name}: changed"
    return None


def seal_of(content: dict[str, Any]) -> str:
    """A hash of plain values, to be kept beside them: it finds damage, not malice."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def lock(path: Path, busy: str, remedy: str) -> Iterator[None]:
    """Hold the lock file `path`; the kernel releases it when the owner dies, however it dies.

    Raises:
        AlreadyRunning: a live process holds it; the message is `busy`, that process, and `remedy`.
        UsageError: the file system has no locks.
    """
    # Who is alive the kernel alone knows: by the name in the file no process is looked up. Its number may be another's
    # by now, or be counted in another container; and clocks, on which a lease would depend, differ and are set.
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyRunning(f"{busy}: {file.read().strip() or 'another process'}; {remedy}") from None
        except OSError as error:
            raise UsageError(f"{path}: cannot be locked ({error.strerror}); use a folder on another disk") from error
        file.seek(0)
        _tell_of_dead_owner(path.parent, file.read().strip())
        _put(file, f"process {os.getpid()} on {socket.gethostname()}\n")
        try:
            yield
        finally:
            with suppress(OSError):
                _put(file, "")  # whose name stays has died


def _put(file: TextIO, text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _tell_of_dead_owner(folder: Path, owner: str) -> None:
    """Say from whom a lock is taken over; of another machine's owner only that machine may know that it is dead."""
    if not owner:
        return
    if owner.endswith(f" on {socket.gethostname()}"):
        logger.info("%s: taken over from %s, which has died", folder, owner)
    else:
        logger.warning(
            "%s: taken over from %s; should that still run, end it: some shared disks keep locks to one machine",
            folder, owner,
        )  # fmt: skip
