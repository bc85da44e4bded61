"""Faults 6 and 7: a study or sweep.json cut short, zeroed or flipped; a finished sweep that is asked for again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import tree
from tests.faults import IS_LONG, in_process
from tests.faults.in_process import SMALL, answer_in, answer_of, wait

FLIPS = 500 if IS_LONG else 60
CUTS = 200 if IS_LONG else 12
PAGE = 4096


def files(out: Path) -> dict[str, bytes]:
    """Every file but the lock, which names its last owner."""
    return {name: data for name, data in tree(out).items() if not name.endswith(".lock")}


def test_a_finished_sweep_starts_nothing_and_changes_no_file(finished: Path) -> None:
    before = files(finished)
    assert wait(in_process.in_child(lambda: in_process.run(finished, *SMALL))) == 0
    assert files(finished) == before


def damages(size: int) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """Each damage with its name: cut at every page boundary and beside it and anywhere, zeroed, one bit flipped."""
    chance = random.Random(0)  # noqa: S311 for tests
    lengths = {page + by for page in range(0, size, PAGE) for by in (-1, 0, 1) if 0 < page + by < size}
    lengths = set(chance.sample(sorted(lengths), min(len(lengths), 3 * CUTS)))
    for length in sorted(lengths | {chance.randrange(1, size) for _ in range(CUTS)}):
        yield f"cut to {length}", lambda data, length=length: data[:length]
    yield "zeroed", lambda data: bytes(len(data))
    yield "empty", lambda data: b""
    for _ in range(FLIPS):
        place, bit = chance.randrange(size), 1 << chance.randrange(8)

        def flip(data: bytes, place: int = place, bit: int = bit) -> bytes:
            return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

        yield f"bit {bit} of byte {place}", flip


@pytest.mark.parametrize("file", ["study.db", "sweep.json"])
def test_a_damaged_file_is_refused_untouched_or_gives_the_same_answer(
    file: str, finished: Path, tmp_path: Path
) -> None:
    printed = tmp_path / "printed.json"
    expected, data = answer_of(finished), (finished / "run" / file).read_bytes()
    refused = 0
    for name, damage in damages(len(data)):
        out = Path(shutil.copytree(finished, tmp_path / "copy", symlinks=True))
        (out / "run" / file).write_bytes(damage(data))
        before = files(out)
        code = wait(in_process.in_child(lambda out=out: in_process.run(out, *SMALL, printed=printed)))
        if code == 3:
            assert files(out) == before, name
            refused += 1
        else:
            assert code == 0, f"{name}: exit code {code}"
            assert answer_in(printed) == expected, name
        shutil.rmtree(out)
    assert refused > CUTS
