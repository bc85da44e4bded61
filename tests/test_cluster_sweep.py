"""A sweep on a real Ray cluster of several nodes, of which only the head's sees the run folder."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.conftest import read_study
from tests.faults.test_processes import Sweep
from tests.faults.test_trials import write_space
from tests.nodes import Nodes, can_hide
from tests.test_sweep import SMALL, wait_for
from tuner import deaths

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="nodes are made as Linux has them")]

ARGUMENTS = ["--sampler", "random", "--trials", "5", "--race-seeds", "0"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def nodes(out: Path) -> Iterator[Nodes]:
    made = Nodes((1, 1, 1), hidden=out, dashboard=True)
    yield made
    made.stop()
    shutil.rmtree(made.folder, ignore_errors=True)


def words(command: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"tuner.{command}", *map(str, arguments)]


def run(nodes: Nodes, command: str, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    environment = nodes.environment
    return subprocess.run(
        words(command, *arguments), env=environment, capture_output=True, text=True, timeout=timeout, cwd=nodes.folder
    )


def tables(run: Path) -> dict[str, list[str]]:
    """Every table of a run folder without its times, and every configuration."""
    found = {}
    for file in sorted(run.glob("*/*/episodes.csv")):
        found[f"{file.parent.parent.name}/{file.parent.name}"] = [
            line.rpartition(",")[0] for line in file.read_text().splitlines()
        ]
    for file in sorted(run.glob("*/*/config.json")):
        found[str(file.relative_to(run))] = [file.read_text()]
    return found


def checkpoints(run: Path) -> dict[str, str]:
    """The newest checkpoint of each trial."""
    return {link.parent.name: link.resolve().name for link in run.glob("trials/*/checkpoint")}


def values(run: Path) -> list[Any]:
    return [(trial.number, trial.state, trial.params, trial.value) for trial in read_study(run)]


@pytest.fixture(scope="module")
def local(out: Path) -> Path:
    """The sweep that the cluster's must equal, done on this machine alone."""
    subprocess.run(
        words("sweep", SMALL, *ARGUMENTS, "--out", out, "--name", "local"), check=True, timeout=240, capture_output=True
    )
    return out / "local"


def test_three_nodes_give_what_one_machine_gives(nodes: Nodes, local: Path, out: Path) -> None:
    done = run(nodes, "sweep", SMALL, *ARGUMENTS, "--address", nodes.address, "--out", out, "--name", "spread")
    assert done.returncode == 0, done.stderr
    assert "3 at once" in done.stdout
    assert tables(out / "spread") == tables(local)
    assert values(out / "spread") == values(local)
    assert checkpoints(out / "spread") == checkpoints(out / "local")
    assert not list(nodes.folder.glob("ray/*/tuner-trial-*"))  # where trials away from home work


def test_the_same_command_starts_nothing_once_it_is_finished(nodes: Nodes, out: Path) -> None:
    study = (out / "spread" / "study.db").read_bytes()
    done = run(nodes, "sweep", SMALL, *ARGUMENTS, "--address", nodes.address, "--out", out, "--name", "spread")
    assert done.returncode == 0, done.stderr
    assert (out / "spread" / "study.db").read_bytes() == study


@pytest.mark.parametrize(
    ("address", "words_said"),
    [
        ("127.0.0.1:1", "nothing answers there"),
        ("http://127.0.0.1:8265", "use tuner.submit"),
        ("nowhere.invalid:6379", "nothing answers there"),
        ("6379", "must be auto or HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_refused_with_a_remedy(
    address: str, words_said: str, nodes: Nodes, tmp_path: Path
) -> None:
    started = time.monotonic()
    done = run(nodes, "sweep", SMALL, "--address", address, "--out", tmp_path / "runs")
    assert (done.returncode, time.monotonic() - started < 30) == (2, True), done.stderr
    assert words_said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_a_cluster_is_not_joined_without_its_token(nodes: Nodes, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("f" * 64)
    refused = [
        subprocess.Popen(
            words("sweep", SMALL, "--address", nodes.address, "--out", tmp_path / "runs"),
            env={**nodes.environment, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for environment in ({"RAY_AUTH_TOKEN_PATH": str(wrong)}, {"RAY_AUTH_MODE": "disabled"})
    ]  # fmt: skip
    for process in refused:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 2, said
        assert "token" in said.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_a_cluster_of_another_ray_is_refused_with_both_versions(nodes: Nodes, tmp_path: Path) -> None:
    script = "import ray, sys; ray.__version__ = '2.59.0'; from tuner.sweep import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, SMALL, "--address", nodes.address, "--out", str(tmp_path / "runs")],
        env=nodes.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "Ray: 2.59.0" in last and f"Ray: {ray.__version__}" in last and "use an environment with" in last
    assert not (tmp_path / "runs").exists()


def test_a_trial_that_no_node_holds_is_refused_though_all_together_would(nodes: Nodes, tmp_path: Path) -> None:
    done = run(
        nodes, "sweep", SMALL, "--cpus-per-trial", 2, "--address", nodes.address, "--out", tmp_path / "runs", timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "no machine of the cluster has both (at most 1 CPUs" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


# Trials of two checkpoints: some eight seconds of a core.
LONG = (SMALL, "--sampler", "random", "--trials", "2", "--race-seeds", "0", "--threshold", "501",
        "--episodes", "100000", "--steps", "400000", "--set", "fcnet_hiddens=[128,128]", "--set", "num_epochs=10",
        "--name", "run")  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(out: Path) -> Path:
    """The long sweep, on this machine alone and from its start to its end."""
    sweep = Sweep(out / "undisturbed", *LONG)
    assert sweep.end(400) == 0, sweep.log.read_text()
    return sweep.path


def test_a_stopped_job_has_saved_and_the_same_command_goes_on_to_what_one_machine_gives(
    nodes: Nodes, out: Path, undisturbed: Path
) -> None:
    at = ("--address", nodes.dashboard)
    arguments = (*LONG, *at, "--out", out / "stopped")
    path = out / "stopped/run"
    first = run(nodes, "submit", *arguments)
    job = first.stdout.strip()
    assert first.returncode == 0
    wait_for((path / "trials/0000/config.json").exists)
    waiting = subprocess.Popen(
        words("submit", *arguments, "--wait"),
        env=nodes.environment,
        cwd=nodes.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    second = run(nodes, "submit", *arguments)
    assert (second.stdout.strip(), "works on" in second.stderr) == (job, True)
    assert waiting.stdout is not None and waiting.stdout.readline().strip() == job
    assert run(nodes, "submit", "--stop", job, *at).returncode == 0
    waiting.communicate(timeout=90)
    assert waiting.returncode == 75
    assert {trial.state.name for trial in read_study(path)} <= {"WAITING", "COMPLETE"}

    done = run(nodes, "submit", *arguments, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    job = done.stdout.splitlines()[0]
    assert "trial 0" in done.stdout
    assert tables(path) == tables(undisturbed)
    assert values(path) == values(undisturbed)
    assert run(nodes, "submit", "--status", job, *at).stdout == "SUCCEEDED, exit code 0\n"
    assert "trials    2 COMPLETE" in run(nodes, "submit", "--logs", job, *at).stdout
    refused = run(nodes, "submit", *arguments, "--seed", "11", "--wait")
    assert refused.returncode == 3, refused.stderr
    assert "--seed is 10 there, 11 here" in refused.stdout


def test_prometheus_finds_a_running_sweep_under_its_name(nodes: Nodes, out: Path) -> None:
    words = (*LONG, "--trials", "3", "--steps", "5000000", "--address", nodes.address)
    sweep = Sweep(out / "measured", *words, "--name", "measured", env=nodes.environment, cwd=nodes.folder)
    found: dict[str, float] = {}

    def is_told() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{nodes.metrics_port}/metrics") as answer:
            lines = [line for line in answer.read().decode().splitlines() if 'sweep="measured"' in line]
        for line in lines:
            state = re.search(r'state="(\w+)"', line)
            found[line.partition("{")[0] + (f" {state[1]}" if state else "")] = float(line.rpartition(" ")[2])
        return found.get("ray_tuner_trials RUNNING") == 3 and found.get("ray_tuner_episodes_per_second", 0) > 0

    try:
        sweep.wait_for(is_told)
    finally:
        sweep.process.send_signal(signal.SIGTERM)
    assert sweep.end(60) == 75, sweep.log.read_text()
    assert found["ray_tuner_trials_total_budget"] == 3
    assert not [name for name in found if "lr" in name.split("_")]


def test_a_job_finds_its_environment_on_every_node_and_says_where_a_trial_there_hung(
    nodes: Nodes, out: Path, tmp_path: Path
) -> None:
    space = write_space(tmp_path, "hang")
    arguments = ["--sampler", "grid", "--race-seeds", "0", "--address", nodes.dashboard, "--out", out, "--name", "hung"]
    environment = {**nodes.environment, deaths.TIMEOUT: "60"}
    done = subprocess.run(
        words("submit", space, *arguments, "--wait"), env=environment, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *others, hung = sorted(read_study(out / "hung"), key=lambda trial: trial.params["env_config.fault"] == "hang")
    assert [trial.state.name for trial in others] == ["COMPLETE"] * 2
    assert hung.user_attrs["reason"].startswith("no iteration within 60 s; it was in step (faulty.py, line ")
    assert (hung.state.name, hung.user_attrs["attempts"]) == ("FAIL", 1)
    assert not list(nodes.folder.glob("ray/*/tuner-trial-*"))


@pytest.mark.parametrize(
    ("arguments", "words_said"),
    [
        (["nothing"], "unknown"),
        ([SMALL, "--lr", "1"], "unrecognized arguments"),
        (["--status", "nothing"], "no such job"),
        ([], "which SPACE?"),
        ([SMALL, "--pip", "/nowhere/requirements.txt"], "cannot be read"),
    ],
)
def test_what_cannot_be_submitted_is_refused_here(arguments: list[str], words_said: str, nodes: Nodes) -> None:
    done = run(nodes, "submit", *arguments, "--address", nodes.dashboard)
    assert done.returncode == 2, done.stderr
    assert words_said in done.stderr.splitlines()[-1]


def test_the_jobs_api_is_not_talked_to_without_its_token(nodes: Nodes, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("f" * 64)
    for environment in ({"RAY_AUTH_TOKEN_PATH": str(wrong)}, {"RAY_AUTH_MODE": "disabled"}):
        done = subprocess.run(
            words("submit", SMALL, "--address", nodes.dashboard), env={**nodes.environment, **environment},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert "token" in done.stderr.splitlines()[-1]


def test_when_the_driver_and_two_nodes_are_killed_the_same_command_gives_what_one_machine_gives(
    nodes: Nodes, out: Path, undisturbed: Path
) -> None:
    def started() -> Sweep:
        return Sweep(out / "lost-nodes", *LONG, "--address", nodes.address, env=nodes.environment, cwd=nodes.folder)

    first = started()
    first.wait_for(lambda: checkpoints(first.path))
    first.kill()
    sweep = started()
    sweep.wait_for_a_result()
    for number in (1, 2):  # at least one of the two has a trial that is under way
        nodes.kill(number)
    code, said = sweep.end(400), sweep.log.read_text()
    nodes.add()
    nodes.add()
    nodes.wait()
    assert code == 0, said
    study = read_study(sweep.path)
    assert {trial.state.name for trial in study} == {"COMPLETE"}
    assert any(trial.user_attrs.get("deaths") for trial in study), said
    assert "it goes on from its checkpoint" in said
    assert tables(sweep.path) == tables(undisturbed)


@pytest.mark.parametrize("command", ["sweep", "submit"])
def test_what_loses_its_head_ends_with_75_and_goes_on_on_another(
    command: str, nodes: Nodes, out: Path, undisturbed: Path
) -> None:
    is_job = command == "submit"
    address = ("--address", nodes.dashboard, "--wait") if is_job else ("--address", nodes.address)

    def started() -> Sweep:
        where = {"env": nodes.environment, "cwd": nodes.folder}
        return Sweep(out / f"lost-head-{command}", *LONG, *address, command=command, **where)

    first = started()
    first.wait_for(lambda: checkpoints(first.path))
    head = nodes.processes[0]
    nodes.kill(0)
    if not is_job:
        assert first.end(60) == 75, first.log.read_text()
        assert "does not answer" in first.last_line()
    assert head.returncode is not None
    for number in (1, 2):
        nodes.kill(number)
    nodes.start()
    if is_job:
        assert first.end(120) == 75, first.log.read_text()
        assert "the same command goes on" in first.last_line()
    done = started()
    assert done.end(400) == 0, done.log.read_text()
    assert tables(done.path) == tables(undisturbed)


def test_nodes_of_these_tests_do_not_see_the_run_folder(nodes: Nodes, out: Path) -> None:
    if not can_hide():
        pytest.skip("this machine allows no mounts of a process's own")
    seen = Path(f"/proc/{nodes.processes[1].pid}/root{out}")
    assert list(seen.iterdir()) == []
