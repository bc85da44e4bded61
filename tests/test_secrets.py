"""The scan for secrets that `make check` runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLANTED = {
    "AWS": "key = 'AKIA" + "IOSFODNN7EXAMPLQ'",
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "URL": "url = 'postgresql://tuner:" + "hunter22hunter@db/tuner'",
    "word": "password = '" + "correct-horse-battery'",
}


def scan(file: Path) -> int:
    """The exit code of the Makefile's scan on one file."""
    words = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "detect-secrets-hook" in line).split()
    tool = Path(sys.executable).with_name("detect-secrets-hook")
    return subprocess.run([tool, *words[words.index("$(BIN)/detect-secrets-hook") + 1 :], file]).returncode


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
def test_a_planted_secret_fails_the_scan(text: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(f"{text}\n")
    assert scan(tmp_path / "planted.py") == 1


def test_what_is_no_secret_passes(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("lr = 5e-4\nname = 'cartpole'\n")
    assert scan(tmp_path / "plain.py") == 0
