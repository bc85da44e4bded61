"""`tuner board`: TensorBoard on a run folder, and the study in Optuna Dashboard."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FinishedSweep
from tuner import board

SWEPT = {"lr", "lr_anneal_steps", "train_batch_size", "minibatch_size", "num_epochs", "gamma", "lambda_", "clip_param",
         "entropy_coeff", "vf_loss_coeff", "num_envs_per_env_runner", "fcnet_hiddens", "fcnet_activation"}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str, body: dict[str, Any] | None = None, seconds: float = 60) -> Any:
    """The JSON behind `url`, waiting until its server answers."""
    data = None if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + seconds
    while True:
        try:
            request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 loopback
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 loopback
                return json.loads(answer.read())
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


@pytest.fixture(scope="module")
def tensorboard(finished: FinishedSweep) -> Iterator[str]:
    """The address of a real `tuner board`."""
    port = free_port()
    words = [sys.executable, "-m", "tuner.board", str(finished.path), "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        assert "optuna-dashboard sqlite:///" in process.stdout.readline()
        fetch(f"http://127.0.0.1:{port}/data/runs")
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_tensorboard_shows_the_six_trials(tensorboard: str) -> None:
    deadline = time.monotonic() + 60
    while len(runs := fetch(f"{tensorboard}/data/runs")) < 6 and time.monotonic() < deadline:
        time.sleep(0.3)
    assert sorted(runs) == [f"trials/{number:04d}" for number in range(6)]


def test_tensorboard_shows_hparams_with_every_swept_parameter(tensorboard: str, finished: FinishedSweep) -> None:
    wanted = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN"],
              "colParams": [], "startIndex": 0, "sliceSize": 100}  # fmt: skip
    deadline = time.monotonic() + 60
    while True:
        groups = fetch(f"{tensorboard}/data/plugin/hparams/session_groups", wanted).get("sessionGroups", [])
        if len(groups) == 6 or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    assert len(groups) == 6
    by_name = {group["sessions"][0]["name"]: group["hparams"] for group in groups}
    for trial in finished.trials():
        shown = by_name[f"trials/{trial.number:04d}"]
        assert set(shown) == SWEPT | {"seed"}
        assert shown["lr"] == pytest.approx(trial.params["lr"])


def test_optuna_dashboard_opens_the_study(finished: FinishedSweep) -> None:
    port = free_port()
    dashboard = Path(sys.executable).with_name("optuna-dashboard")
    words = [dashboard, "--host", "127.0.0.1", "--port", str(port), f"sqlite:///{finished.path / 'study.db'}"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            summary = fetch(f"http://127.0.0.1:{port}/api/studies")["study_summaries"][0]
            assert summary["study_name"] == "sweep"
            study = fetch(f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}?after=0")
            assert [trial["state"] for trial in study["trials"]] == ["Complete"] * 6
            assert {item["name"] for item in study["union_search_space"]} == SWEPT
        finally:
            process.terminate()


def test_a_taken_port_is_refused_when_asked_for(finished: FinishedSweep, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert board.main([str(finished.path), "--port", str(port)]) == 2
    assert re.search(rf"--port {port}: .*choose another", capsys.readouterr().err)


def test_a_port_that_cannot_be_is_refused(finished: FinishedSweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert board.main([str(finished.path), "--port", "70000"]) == 2
    assert "--port 70000" in capsys.readouterr().err
