"""Faults 5 and 8: two drivers on one folder, a dead owner, clocks that were set; other versions than last time."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.conftest import tree
from tests.faults import in_process
from tests.faults.in_process import SMALL, answer_of, wait
from tests.faults.sound import Finished, assert_kept, assert_sound
from tests.faults.test_state import files

DAY_S = 86_400
_NEW_PROCESS_IDS = 0x20000000


def swept(out: Path, *options: str) -> tuple[int, str]:
    return in_process.swept(out, *SMALL, *options)


@contextlib.contextmanager
def held(out: Path, before: Callable[[], None] = lambda: None) -> Iterator[int]:
    """A sweep that has begun and does not end; its process id."""

    def run() -> int:
        before()
        pid = os.fork()  # what `before` unshares takes effect in a child
        if pid:
            return wait(pid)
        with mock.patch.object(in_process.ToyEngine, "iterate", lambda self: time.sleep(600)):
            return in_process.run(out, *SMALL)

    pid = in_process.in_child(run)
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("run/trials/*/config.json")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield int((out / "run/.lock").read_text().split()[1])
    finally:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        wait(pid)


def test_a_second_driver_is_refused_with_host_and_process_and_a_dead_ones_folder_is_taken_over(tmp_path: Path) -> None:
    with held(tmp_path / "out") as owner:
        before = files(tmp_path / "out")
        code, said = swept(tmp_path / "out")
        assert code == 3 and f"process {owner} on {socket.gethostname()}" in said.splitlines()[-1], said
        assert files(tmp_path / "out") == before
    code, said = swept(tmp_path / "out")  # the owner was killed
    assert code == 0 and said.count(f"taken over from process {owner} on {socket.gethostname()}, which has died") == 1
    assert_sound(tmp_path / "out/run", 3)
    assert swept(tmp_path / "out") == (0, "")  # that one ended by itself


def test_an_owner_in_another_container_keeps_a_second_driver_out(tmp_path: Path) -> None:
    def unshare() -> None:
        if ctypes.CDLL(None).unshare(_NEW_PROCESS_IDS) != 0:
            os._exit(77)

    if os.getuid():
        pytest.skip("a namespace of process ids needs root")
    with held(tmp_path / "out", before=unshare) as owner:
        assert owner == 1  # which is alive here as well, and another process
        assert swept(tmp_path / "out")[0] == 3
    assert swept(tmp_path / "out")[0] == 0  # though a process 1 is alive


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_was_set_makes_no_difference(days: int, tmp_path: Path) -> None:
    out, now = tmp_path / "out", time.time
    with held(out):
        for path in (out / "run").rglob("*"):
            os.utime(path, (now() + days * DAY_S,) * 2, follow_symlinks=False)
        assert swept(out)[0] == 3
    with mock.patch("time.time", lambda: now() + days * DAY_S):
        assert swept(out)[0] == 0
    assert_sound(out / "run", 3)


def test_an_owner_on_another_machine_is_told_of_for_a_shared_disk_may_not_know_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "run").mkdir(parents=True)
    (out / "run/.lock").write_text("process 7 on elsewhere\n")
    code, said = swept(out)
    assert code == 0 and "taken over from process 7 on elsewhere; should that still run, end it" in said


def test_a_file_system_without_locks_is_refused_with_2(tmp_path: Path) -> None:
    with mock.patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, "No locks available")):
        code, said = swept(tmp_path / "out")
    assert code == 2 and "cannot be locked (No locks available); use a folder on another disk" in said.splitlines()[-1]


def test_other_versions_go_on_with_one_warning_that_names_both_and_are_recorded(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert swept(out, "--trials", "2") == (0, "")
    file = out / "run/sweep.json"
    sweep = json.loads(file.read_bytes())
    now = dict(sweep["versions"])
    then = now | {"ray": "2.50.0", "torch": "2.5.1"}
    file.write_text(json.dumps(sweep | {"versions": then}))
    before = Finished.of(out / "run")

    code, said = swept(out)
    assert code == 0
    assert said.splitlines() == [
        f"{out / 'run'}: was written with other versions: "
        f"ray 2.50.0 there, {now['ray']} here, torch 2.5.1 there, {now['torch']} here; going on"
    ]
    assert_kept(before, Finished.of(out / "run"))
    assert_sound(out / "run", 3)
    recorded = json.loads(file.read_bytes())
    assert (recorded["versions"], recorded["former_versions"]) == (now, [then])
    after = tree(out / "run/trials")
    assert swept(out) == (0, "") and tree(out / "run/trials") == after and answer_of(out)["trials"] == {"COMPLETE": 3}
