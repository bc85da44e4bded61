"""A Ray cluster on this machine: a head and other nodes, each with its own raylet, ports and process group."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

TOKEN = "token-of-the-tests-" + "0" * 45
HOST = "127.0.0.1"  # for Ray, this machine's address
_WAIT = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False)
nodes, cpus = map(int, sys.argv[2:])
while sum(node["Alive"] for node in ray.nodes()) != nodes or ray.cluster_resources().get("CPU", 0) != cpus:
    time.sleep(0.1)
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Nodes:
    """A head of no CPUs for trials but `cpus[0]`, and a node for each further number.

    Every node but the head finds an empty disk where `hidden` is, as another machine would.
    """

    def __init__(self, cpus: tuple[int, ...], hidden: Path, *, dashboard: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nodes-"))  # short: Ray's sockets lie below it
        self._hidden = hidden
        token = self.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # a job's `python`
        self.environment.pop("RAY_AUTH_TOKEN", None)
        self._port, self._dashboard_port, self.metrics_port = free_ports(3)
        self.address = f"{HOST}:{self._port}"
        self.dashboard = f"http://{HOST}:{self._dashboard_port}"
        self._cpus = cpus
        self._with_dashboard = dashboard
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        """Start every node, and wait until all have joined."""
        head = ["--head", f"--port={self._port}", f"--ray-client-server-port={free_ports(1)[0]}"]
        head += [f"--include-dashboard={self._with_dashboard}", f"--dashboard-port={self._dashboard_port}"]
        self.processes = [self._start(0, head)]
        for _ in self._cpus[1:]:
            self.add()
        self.wait()

    def add(self) -> None:
        """Start the next node, or again the first that was killed."""
        dead = (number for number, process in enumerate(self.processes) if process.poll() is not None)
        number = next(dead, len(self.processes))
        self.processes[number : number + 1] = [self._start(number, [f"--address={self.address}"])]

    def wait(self) -> None:
        """Wait until every node is alive and what it has is known."""
        words = [sys.executable, "-c", _WAIT, self.address, str(len(self._cpus)), str(sum(self._cpus))]
        try:
            done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._said()) from None
        assert done.returncode == 0, (done.stderr[-2000:], self._said())

    def kill(self, number: int) -> None:
        """End a node and all that runs on it, as a machine that loses its power."""
        processes = [psutil.Process(self.processes[number].pid)]
        with suppress(psutil.NoSuchProcess):
            processes += processes[0].children(recursive=True)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.processes[number].wait()

    def stop(self) -> None:
        """End every node."""
        for number in reversed(range(len(self.processes))):
            with suppress(psutil.NoSuchProcess):
                self.kill(number)

    def _start(self, number: int, options: list[str]) -> subprocess.Popen[bytes]:
        agent, grpc, runtime_env, metrics = free_ports(4)
        metrics = self.metrics_port if number == 0 else metrics
        words = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
            f"--node-ip-address={HOST}", f"--num-cpus={self._cpus[number]}", "--num-gpus=0",
            "--object-store-memory=100000000", f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={grpc}", f"--runtime-env-agent-port={runtime_env}",
            f"--metrics-export-port={metrics}", *options,
        ]  # fmt: skip
        if number == 0:
            words.append(f"--temp-dir={self.folder / 'ray'}")
        elif can_hide():
            words = [
                "unshare",
                "--mount",
                "sh",
                "-c",
                'mount -t tmpfs tmpfs "$0" && exec "$@"',
                str(self._hidden),
                *words,
            ]
        said = self.folder / f"node-{number}.txt"
        with said.open("wb") as file:
            process = subprocess.Popen(
                words, env=self.environment, cwd="/", stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while b"Ray runtime started" not in said.read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, self._said()
            time.sleep(0.2)
        return process

    def _said(self) -> str:
        return "\n".join(file.read_text()[-2000:] for file in self.folder.glob("node-*.txt"))


def can_hide() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(words, capture_output=True).returncode == 0
