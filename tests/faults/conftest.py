"""What the faults share: one sweep in this process that has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import in_process
from tests.faults.in_process import SMALL, wait


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a sweep that has ended, race, verdict and path included; for reading and copying."""
    out = tmp_path_factory.mktemp("finished")
    assert wait(in_process.in_child(lambda: in_process.run(out, *SMALL))) == 0
    return out
