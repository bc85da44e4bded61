"""Faults 1, 2 and 4: the driver dies at any moment, at any write, and again while it goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.faults import IS_LONG, in_process
from tests.faults.in_process import SIGKILLED, SMALL, answer_of, wait
from tests.faults.sound import Finished, assert_kept, assert_sound

TRIALS = 6
OPTIONS = ("--race-seeds", "3")
KILL_SEEDS = 180 if IS_LONG else 3
FIRST_WRITES = range(1, 21) if IS_LONG else (1,)
EVERY_NTH_WRITE = 20 if IS_LONG else 100  # in the long form every write, in twenty tests


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], float]]:
    """The answer of a sweep that nobody disturbed, and how long it takes."""
    out = tmp_path_factory.mktemp("undisturbed")
    started = time.monotonic()
    assert wait(in_process.in_child(lambda: in_process.run(out, *OPTIONS))) == 0
    yield answer_of(out), time.monotonic() - started


@pytest.mark.parametrize("seed", range(KILL_SEEDS))
def test_killed_at_random_moments_the_same_command_ends_with_the_same_answer(
    seed: int, undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    chance = random.Random(seed)  # noqa: S311 for tests
    before, kills = Finished({}, {}), 0
    for attempt in range(100):
        pid = in_process.in_child(lambda: in_process.run(tmp_path, *OPTIONS))
        if attempt < 8:
            time.sleep(chance.uniform(0, seconds) * (1.0 if attempt else 0.3))  # the first must not come too late
            os.kill(pid, signal.SIGKILL)
        code = wait(pid)
        if code == 0 and not kills:  # it was quicker than the one that was measured
            shutil.rmtree(tmp_path / "run")
            seconds /= 2
            continue
        after = Finished.of(tmp_path / "run")
        assert_kept(before, after)
        before = after
        if code == 0:
            break
        assert code == SIGKILLED, f"seed {seed}, attempt {attempt}: exit code {code}"
        kills += 1
    assert kills >= 1
    assert_sound(tmp_path / "run", TRIALS)
    assert answer_of(tmp_path) == expected


def dying(out: Path, last: int) -> int:
    """Run, and die at the write of that number: a file that is opened is left empty, anything else is left undone."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    left = last

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if name == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            if left == 1 and "w" in arguments[1] and isinstance(arguments[0], (str, os.PathLike)):
                left = -1  # the opening below is not counted
                with Path(arguments[0]).open("wb"):
                    os.kill(os.getpid(), signal.SIGKILL)
            count()
        elif name in ("os.rename", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
            count()

    sys.addaudithook(audit)

    def create(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith("CREATE"):  # SQLite commits each by itself
            count()

    event.listen(Engine, "commit", count)
    event.listen(Engine, "before_cursor_execute", create)
    with mock.patch.object(os, "fsync", lambda descriptor, real=os.fsync: (count(), real(descriptor))[1]):
        code = in_process.run(out, *SMALL)
    return code if left > 0 else 70


@pytest.mark.parametrize("first", FIRST_WRITES)
def test_dying_at_any_write_loses_nothing(first: int, finished: Path, tmp_path: Path) -> None:
    expected = answer_of(finished)
    last, code = first, SIGKILLED
    while code == SIGKILLED:
        out = tmp_path / str(last)
        code = wait(in_process.in_child(lambda out=out, last=last: dying(out, last)))
        assert code in (0, SIGKILLED), f"write {last}: exit code {code}"
        before = Finished.of(out / "run")
        again = wait(in_process.in_child(lambda out=out: in_process.run(out, *SMALL)))
        assert again == 0, f"after write {last}: exit code {again}"
        assert_kept(before, Finished.of(out / "run"))
        assert_sound(out / "run", 3)
        assert answer_of(out) == expected, f"after write {last}"
        last += EVERY_NTH_WRITE
    assert last > 300, "the sweep makes fewer writes than this test was meant for"
