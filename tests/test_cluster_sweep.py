"""A sweep on a real Ray cluster of several nodes, of which only the head's sees the run folder."""

from __future__ import annotations

import json
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
from tests.faults.test_trials import FAULTY, SPACE
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


def test_prometheus_finds_a_running_sweep_under_its_name(nodes: Nodes, out: Path) -> None:
    process = subprocess.Popen([*long(nodes, out, "measured"), "--steps", "5000000"], env=nodes.environment)
    found: dict[str, float] = {}

    def is_told() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{nodes.metrics_port}/metrics") as answer:
            lines = [line for line in answer.read().decode().splitlines() if 'sweep="measured"' in line]
        for line in lines:
            state = re.search(r'state="(\w+)"', line)
            found[line.partition("{")[0] + (f" {state[1]}" if state else "")] = float(line.rpartition(" ")[2])
        return found.get("ray_tuner_trials RUNNING") == 3 and found.get("ray_tuner_episodes_per_second", 0) > 0

    try:
        wait_for(is_told)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    assert found["ray_tuner_trials_total_budget"] == 3
    assert not [name for name in found if "lr" in name.split("_")]


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


LONG = ["--sampler", "random", "--trials", "3", "--race-seeds", "0", "--threshold", "501", "--episodes", "100000",
        "--steps", "150000", "--set", "fcnet_hiddens=[128,128]", "--set", "num_epochs=10"]  # fmt: skip


def long(nodes: Nodes, out: Path, name: str) -> list[str]:
    """A sweep on the nodes whose trials take some ten seconds each: two checkpoints."""
    return words("sweep", SMALL, *LONG, "--address", nodes.address, "--out", out, "--name", name)


@pytest.fixture(scope="module")
def undisturbed(out: Path) -> Path:
    """The long sweep, on this machine alone and from its start to its end."""
    command = words("sweep", SMALL, *LONG, "--out", out, "--name", "undisturbed")
    subprocess.run(command, check=True, timeout=400, capture_output=True)
    return out / "undisturbed"


def test_a_job_of_the_cluster_gives_the_same_and_its_exit_code(nodes: Nodes, local: Path, out: Path) -> None:
    arguments = [SMALL, *ARGUMENTS, "--address", nodes.dashboard, "--out", out, "--name", "job", "--wait"]
    done = run(nodes, "submit", *arguments)
    assert done.returncode == 0, done.stderr
    job = done.stdout.splitlines()[0]
    assert "trial 0" in done.stdout
    assert tables(out / "job") == tables(local)
    assert values(out / "job") == values(local)
    assert run(nodes, "submit", "--status", job, "--address", nodes.dashboard).stdout == "SUCCEEDED, exit code 0\n"
    assert "trials    5 COMPLETE" in run(nodes, "submit", "--logs", job, "--address", nodes.dashboard).stdout
    refused = run(nodes, "submit", *arguments, "--seed", "11")
    assert refused.returncode == 3, refused.stderr
    assert "--seed is 10 there, 11 here" in refused.stdout


def test_a_stopped_job_has_saved_and_the_same_command_goes_on(nodes: Nodes, out: Path) -> None:
    arguments = [SMALL, *LONG, "--address", nodes.dashboard, "--out", out, "--name", "stopped"]
    first = run(nodes, "submit", *arguments)
    job = first.stdout.strip()
    assert first.returncode == 0
    wait_for(lambda: (out / "stopped" / "trials" / "0000" / "config.json").exists())
    second = run(nodes, "submit", *arguments)
    assert (second.stdout.strip(), "works on" in second.stderr) == (job, True)
    waiting = subprocess.Popen(words("submit", *arguments, "--wait"), env=nodes.environment, cwd=nodes.folder)
    time.sleep(3)
    assert run(nodes, "submit", "--stop", job, "--address", nodes.dashboard).returncode == 0
    assert waiting.wait(timeout=90) == 75
    assert {trial.state.name for trial in read_study(out / "stopped")} <= {"WAITING", "COMPLETE"}
    last = run(nodes, "submit", *arguments, "--wait")
    assert last.returncode == 0, last.stdout + last.stderr
    assert {trial.state.name for trial in read_study(out / "stopped")} == {"COMPLETE"}


def test_a_job_finds_its_environment_on_every_node_and_says_where_a_trial_there_hung(
    nodes: Nodes, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "mine.py").write_text(SPACE.replace("FAULT", "hang"))
    arguments = ["--sampler", "grid", "--race-seeds", "0", "--address", nodes.dashboard, "--out", out, "--name", "hung"]
    environment = {**nodes.environment, deaths.TIMEOUT: "30"}
    done = subprocess.run(
        words("submit", tmp_path / "mine.py", *arguments, "--wait"), env=environment, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *others, hung = sorted(read_study(out / "hung"), key=lambda trial: trial.params["env_config.fault"] == "hang")
    assert [trial.state.name for trial in others] == ["COMPLETE"] * 2
    assert hung.user_attrs["reason"].startswith("no iteration within 30 s; it was in step (faulty.py, line ")
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


def test_the_trials_of_killed_nodes_go_on_elsewhere_from_their_checkpoints(
    nodes: Nodes, out: Path, undisturbed: Path
) -> None:
    command = long(nodes, out, "lost-node")
    process = subprocess.Popen(command, env=nodes.environment, stderr=subprocess.PIPE, text=True)
    trials = out / "lost-node" / "trials"
    wait_for(lambda: any(trials.glob("*/checkpoint")), seconds=90)
    for number in (1, 2):  # at least one of the two has a trial that is under way
        nodes.kill(number)
    _, said = process.communicate(timeout=400)
    nodes.add()
    nodes.add()
    nodes.wait()
    assert process.returncode == 0, said
    study = read_study(out / "lost-node")
    assert {trial.state.name for trial in study} == {"COMPLETE"}
    assert sum(trial.user_attrs["attempts"] for trial in study) > len(study)
    assert "it goes on from its checkpoint" in said
    assert tables(out / "lost-node") == tables(undisturbed)


def test_a_killed_driver_leaves_a_folder_that_the_same_command_goes_on_with(
    nodes: Nodes, out: Path, undisturbed: Path
) -> None:
    command = long(nodes, out, "lost-driver")
    process = subprocess.Popen(command, env=nodes.environment)
    trials = out / "lost-driver" / "trials"
    wait_for(lambda: any(trials.glob("*/checkpoint")), seconds=90)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, env=nodes.environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert tables(out / "lost-driver") == tables(undisturbed)
    assert json.loads((out / "lost-driver" / "summary.json").read_text())["trials"] == {"COMPLETE": 3}


def test_a_sweep_whose_cluster_loses_its_head_ends_with_75_and_goes_on_on_another(
    nodes: Nodes, out: Path, undisturbed: Path
) -> None:
    command = long(nodes, out, "lost-head")
    process = subprocess.Popen(command, env=nodes.environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any((out / "lost-head" / "trials").glob("*/checkpoint")), seconds=90)
    head = nodes.processes[0]
    nodes.kill(0)
    _, said = process.communicate(timeout=60)
    assert head.returncode is not None
    assert process.returncode == 75, said
    assert "does not answer" in said.splitlines()[-1]
    for number in (1, 2):
        nodes.kill(number)
    nodes.start()
    done = subprocess.run(command, env=nodes.environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert tables(out / "lost-head") == tables(undisturbed)


def test_a_job_whose_head_is_lost_goes_on_once_it_is_submitted_to_the_next(
    nodes: Nodes, out: Path, undisturbed: Path
) -> None:
    arguments = [SMALL, *LONG, "--address", nodes.dashboard, "--out", out, "--name", "lost-job", "--wait"]
    waiting = subprocess.Popen(
        words("submit", *arguments), env=nodes.environment, cwd=nodes.folder, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any((out / "lost-job" / "trials").glob("*/checkpoint")), seconds=90)
    for number in (0, 1, 2):
        nodes.kill(number)
    nodes.start()
    _, said = waiting.communicate(timeout=120)
    assert waiting.returncode == 75, said
    assert "the same command goes on" in said.splitlines()[-1]
    done = run(nodes, "submit", *arguments, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tables(out / "lost-job") == tables(undisturbed)


def test_nodes_of_these_tests_do_not_see_the_run_folder(nodes: Nodes, out: Path) -> None:
    if not can_hide():
        pytest.skip("this machine allows no mounts of a process's own")
    seen = Path(f"/proc/{nodes.processes[1].pid}/root{out}")
    assert list(seen.iterdir()) == []
