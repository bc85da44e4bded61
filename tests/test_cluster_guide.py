"""The first section of docs/cluster.md, followed command by command as it stands, but for ports, end and size."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.nodes import free_ports

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="nodes are made as Linux has them")]

_PORTS = ("6379", "8265", "52366", "52367")


def commands() -> list[str]:
    """The commands of the section, a line each."""
    text = (ROOT / "docs/cluster.md").read_text()
    section = text.partition("## Several nodes on one machine")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", section, re.S) for line in block.splitlines()]


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder for Ray, whose sockets need short names."""
    with tempfile.TemporaryDirectory(prefix="guide-", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture
def marked() -> Iterator[str]:
    """A mark in the environment by which every process that the section starts is found, and ended."""
    mark = uuid.uuid4().hex
    yield mark
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TUNER_TEST_MARK") == mark:
                process.kill()


def test_a_new_user_can_follow_the_guide_on_one_machine(tmp_path: Path, short_folder: str, marked: str) -> None:
    ports = dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True))
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TUNER_TEST_MARK": marked}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment["RAY_TMPDIR"] = short_folder  # elsewhere Ray would look for this cluster long after it has gone
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # what is compiled need not be again
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    followed, said, job = [], "", ""
    for command in commands():
        if command == "ray stop":  # it would end every Ray of this machine
            continue
        words = re.sub("|".join(_PORTS), lambda found: ports[found[0]], command).replace(" ID ", f" {job} ")
        words = words.replace("--trials 8", "--trials 3 --episodes 60")
        # A shell for each, as if in one: what it exports goes on to the next.
        script = f"{words} && env -0 >{tmp_path / 'environment'}"
        done = subprocess.run(
            ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
        pairs = (tmp_path / "environment").read_text().split("\0")[:-1]
        environment = dict(pair.split("=", 1) for pair in pairs)
        if "tuner.submit" in command and "--wait" in command:
            job = done.stdout.splitlines()[0]
        followed.append(command)
        said += done.stdout
    assert len(followed) >= 10
    assert (home / ".ray/auth_token").stat().st_mode & 0o777 == 0o600
    for run in ("cartpole", "job"):
        assert json.loads((tmp_path / "runs" / run / "summary.json").read_text())["trials"] == {"COMPLETE": 3}
    assert "SUCCEEDED, exit code 0" in said
