"""Disks of a test's own: a small one, and one that cannot be written."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import in_process

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_NO_MOUNTS = 77


def in_own_mounts(call: Callable[[], None]) -> None:
    """Run a part of a test in a fork with mounts of its own, which end with it; skip where the kernel allows none."""
    code = os.waitstatus_to_exitcode(os.waitpid(in_process.in_child(lambda: _isolated(call)), 0)[1])
    if code == _NO_MOUNTS:
        pytest.skip("this machine allows no mounts, not even in a user namespace")
    assert code == 0, "see stderr"


def _isolated(call: Callable[[], None]) -> int:
    try:
        _unshare()
        subprocess.run(["mount", "--make-rprivate", "/"], check=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return _NO_MOUNTS
    try:
        call()
    except BaseException:  # noqa: BLE001 an assertion that failed
        traceback.print_exc()
        return 1
    return 0


def _unshare() -> None:
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(_NEW_MOUNTS | (_NEW_USER if user else 0)) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def mount_small(path: Path, megabytes: int = 20) -> Path:
    """A disk of so many megabytes at `path`."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path], check=True)
    return path


def mount_read_only(path: Path) -> None:
    """Make the folder `path` and all in it read-only, for root too."""
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)


def fill(file: Path, leave: int = 0) -> None:
    """Let `file` take all of its disk but `leave` bytes."""
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        filler.truncate(max(0, filler.tell() - leave))
