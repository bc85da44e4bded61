"""How many trials a machine holds, and what ends Ray."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import cluster
from tuner.cluster import Cluster, Machine, trials_at_once
from tuner.errors import Interrupted, UsageError
from tuner.signals import StopRequest


@pytest.mark.parametrize(
    ("machine", "cpus", "gpus", "holds"),
    [
        (Machine(8, 0), 1, 0, 8),
        (Machine(8, 0), 3, 0, 2),
        (Machine(2, 0), 2, 0, 1),
        (Machine(8, 2), 1, 0.5, 4),
        (Machine(8, 2), 1, 1, 2),
        (Machine(2, 4), 1, 0.25, 2),
        (Machine(64, 1), 1, 0.1, 10),
        (Machine(8, 4), 1, 0, 8),
    ],
)
def test_a_machine_holds_as_many_trials_as_its_scarcest_resource(
    machine: Machine, cpus: int, gpus: float, holds: int
) -> None:
    assert trials_at_once(machine, cpus, gpus) == holds


@settings(deadline=None, max_examples=50)
@given(cores=st.integers(1, 256), cpus=st.integers(1, 256))
def test_trials_fill_the_cores_and_never_more(cores: int, cpus: int) -> None:
    if cpus <= cores:
        holds = trials_at_once(Machine(cores, 0), cpus, 0)
        assert holds * cpus <= cores < (holds + 1) * cpus


def test_a_trial_larger_than_the_machine_is_refused_with_both_numbers_and_a_remedy() -> None:
    with pytest.raises(UsageError) as refusal:
        trials_at_once(Machine(4, 0), 64, 0)
    assert str(refusal.value) == (
        "a trial asks for 64 CPUs and this machine has 4; lower --cpus-per-trial or num_env_runners"
    )


def test_a_gpu_that_is_not_there_is_refused_with_both_numbers_and_a_remedy() -> None:
    with pytest.raises(UsageError) as refusal:
        trials_at_once(Machine(4, 0), 1, 0.5)
    assert str(refusal.value) == "a trial asks for 0.5 GPUs and this machine has 0; lower --gpus-per-trial"


def test_looking_at_the_machine_does_not_start_or_import_ray() -> None:
    script = "import sys; from tuner import cluster; cluster.machine(); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_call_hands_its_error_on() -> None:
    with pytest.raises(ZeroDivisionError):
        cluster.call(lambda: 1 / 0, StopRequest())


def test_a_call_that_outlasts_the_grace_of_a_stop_is_left_and_the_request_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "STOP_GRACE_S", 0.1)
    monkeypatch.setattr(cluster, "_end", lambda done: None)
    stop, event = StopRequest(), threading.Event()
    stop.signal = signal.SIGTERM
    cluster.call(event.wait, stop)
    event.set()
    assert (
        stop.reason() == "stopped by SIGTERM, which took longer than 0.1 s; what ran goes on from its last checkpoint"
    )


def test_a_call_under_which_ray_ends_is_left_and_the_request_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_end", lambda done: None)
    monkeypatch.setattr(cluster, "loss", lambda: "Ray's raylet (process 7) ended (SIGKILL)")
    stop, event = StopRequest(), threading.Event()
    cluster.call(event.wait, stop)
    event.set()
    assert stop.is_set() and stop.signal is None
    assert stop.reason() == "Ray's raylet (process 7) ended (SIGKILL); what ran goes on from its last checkpoint"


def test_a_ray_that_does_not_start_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: object) -> None:
        raise RuntimeError("Timed out waiting for file gcs_server_port\n  more")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Interrupted) as interruption, cluster.private_ray(Machine(1, 0)):
        pass
    assert str(interruption.value) == (
        "Ray did not start: Timed out waiting for file gcs_server_port; nothing is lost, the same command goes on"
    )


ALONE = """
import psutil, ray
from tuner import cluster
start = ray._private.node.Node.start_api_server
with cluster.private_ray(cluster.Machine(1, 0)):
    children = psutil.Process().children(recursive=True)
    print(*(" ".join(child.cmdline()).replace("\\n", " ") for child in children), sep="\\n")
    print([c.laddr.port for child in children for c in child.net_connections() if c.status == "LISTEN"])
print(ray._private.node.Node.start_api_server is start)
"""


@pytest.mark.ray
def test_a_private_ray_starts_nothing_that_one_command_has_no_use_for() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=120, check=True)
    *commands, ports, is_as_it_was = done.stdout.splitlines()
    assert any("raylet/raylet" in command for command in commands), "it runs"
    assert not [c for c in commands if "dashboard/dashboard.py" in c or "monitor.py" in c]
    assert "52365" not in ports, "the port for jobs of a cluster on this machine"
    assert is_as_it_was == "True", "for whoever starts a Ray next"


SIGNALLED = """
import os, signal, subprocess, sys, time
from tuner import signals
with signals.kept_from_children():
    kept = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    kept.send_signal(number)
signals.leave_to_driver()
heeding = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
fork = os.fork() or time.sleep(60)
os.kill(os.getpid(), signal.SIGTERM)
heeding.terminate()
time.sleep(1)
os.kill(fork, signal.SIGTERM)
print(heeding.wait(), os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]), kept.poll())
kept.kill()
"""


def test_signals_reach_neither_rays_processes_nor_trials_but_what_trials_start() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["-15", "143", "None"], done.stderr


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "holds"),
    [
        ([Machine(3, 0), Machine(5, 0)], 2, 0, 3),  # and not the four of eight CPUs together
        ([Machine(8, 0), Machine(2, 4)], 1, 0.5, 2),
        ([Machine(0, 0), Machine(4, 0)], 4, 0, 1),
        ([Machine(0, 0)], 1, 0, 0),  # every other machine is lost, or still to come
    ],
)
def test_a_cluster_holds_what_each_of_its_machines_holds(
    machines: list[Machine], cpus: int, gpus: float, holds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "machines", lambda self: machines)
    assert Cluster().trials_at_once(cpus, gpus) == holds


def test_a_trial_is_refused_where_no_machine_holds_it_and_none_to_come_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "machines", lambda self: [Machine(0, 0), Machine(4, 1)])
    monkeypatch.setattr(Cluster, "to_come", lambda self: [])
    Cluster().check_holds(4, 1)
    with pytest.raises(UsageError, match=r"8 CPUs and 0 GPUs, and no machine of the cluster has both \(at most 4 "):
        Cluster().check_holds(8, 0)
    monkeypatch.setattr(Cluster, "to_come", lambda self: [Machine(8, 0)])
    Cluster().check_holds(8, 0)


def test_a_worker_that_joins_after_the_driver_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = iter([[Machine(0, 0)], [Machine(0, 0)]])
    monkeypatch.setattr(Cluster, "machines", lambda self: next(looks, [Machine(0, 0), Machine(4, 0)]))
    monkeypatch.setattr(Cluster, "to_come", lambda self: [])
    with caplog.at_level("INFO"):
        Cluster().check_holds(4, 0)
    assert caplog.messages == ["no machine of the cluster takes trials; one may join within 20 s"]


def test_a_cluster_that_stays_without_a_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "FIRST_WORKER_S", 0.1)
    monkeypatch.setattr(Cluster, "machines", lambda self: [Machine(0, 0)])
    monkeypatch.setattr(Cluster, "to_come", lambda self: [])
    with pytest.raises(UsageError, match="at most 0 CPUs and 0 GPUs"):
        Cluster().check_holds(1, 0)
