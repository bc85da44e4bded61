"""Faults 25 and 26: a real sweep with secrets around it, and an intruder on the network who has no token."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from tests.faults import intruder
from tests.test_sweep import SMALL, rows_or_none, wait_for
from tuner.board import HOST

CANARY = "canary-7f3a9c"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws",
    "WANDB_API_KEY": f"{CANARY}-wandb",
    "PGPASSWORD": f"{CANARY}-storage",  # for TUNER_STORAGE: test_storage.py
    "DATABASE_URL": f"mysql://root:{CANARY}-url@db.example/other",  # pragma: allowlist secret
}
WITHOUT_THE_TOKEN = {"UNAUTHENTICATED", "UNIMPLEMENTED"}  # refused, or not a call of this port's
NAMESPACE, OURS, THEIRS = "tuner-intruder", "10.213.7.1", "10.213.7.2"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(sys.platform != "linux", reason="the ports are found as Linux has them"),
]


@dataclass(frozen=True)
class Running:
    """A sweep that runs: its process, where it writes, what it prints, its token and the ports it opened."""

    process: subprocess.Popen[bytes]
    run: Path
    temporary: Path
    printed: Path
    token: Path

    def ports(self) -> dict[int, str]:
        """Every TCP port that the sweep's processes listen on beyond loopback, and the process."""
        ours = psutil.Process(self.process.pid)
        return {
            connection.laddr.port: process.name()
            for process in [ours, *ours.children(recursive=True)]
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != HOST
        }

    def attacked(self, prefix: list[str], **environment: str) -> dict[str, Any]:
        """What every port answers to `intruder`."""
        words = [*prefix, sys.executable, intruder.__file__, address(), *map(str, self.ports())]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, env=environment)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def is_of_metrics(body: str) -> bool:
    """Whether this is Prometheus' format and nothing else."""
    return all(re.fullmatch(r"#.*|[A-Za-z_:][\w:]*(\{.*\})? \S+|", line) for line in body.splitlines())


def address() -> str:
    """This machine's outer address, as Ray finds it."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A sweep of more episodes than there is time for, in a home of its own, with secrets in its environment."""
    out, home = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("home")
    temporary = Path(tempfile.mkdtemp(prefix="net-"))  # short: Ray's sockets lie below it
    words = [sys.executable, "-m", "tuner.sweep", SMALL, "--threshold", "501", "--episodes", "1000000"]
    words += ["--out", str(out)]
    environment = {**os.environ, **SECRETS, "HOME": str(home), "TMPDIR": str(temporary)}
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # what is compiled need not be again
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    printed = out / "printed.txt"
    with printed.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment, umask=0o022)
    running = Running(process, out / "small", temporary, printed, home / ".ray" / "auth_token")
    try:
        wait_for(lambda: len(rows_or_none(running.run / "trials/0000")) > 5, seconds=300)
        yield running
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[list[str]]:
    """What a command begins with to run in another network namespace; nothing where the kernel allows none."""
    ip = shutil.which("ip")

    def done(*words: str) -> bool:
        return ip is not None and subprocess.run([ip, *words], capture_output=True).returncode == 0

    is_there = (
        done("netns", "add", NAMESPACE)
        and done("link", "add", "tuner-veth", "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        and done("addr", "add", f"{OURS}/30", "dev", "tuner-veth")
        and done("link", "set", "tuner-veth", "up")
        and done("-n", NAMESPACE, "addr", "add", f"{THEIRS}/30", "dev", "eth0")
        and done("-n", NAMESPACE, "link", "set", "eth0", "up")
        and done("-n", NAMESPACE, "route", "add", "default", "via", OURS)
    )
    yield [str(ip), "netns", "exec", NAMESPACE] if is_there else []
    done("netns", "delete", NAMESPACE)  # and both ends of the pair with it
    done("link", "delete", "tuner-veth")


def test_without_the_token_no_call_is_answered_from_another_namespace(sweep: Running, elsewhere: list[str]) -> None:
    where = sweep.ports()
    tried = sweep.attacked(elsewhere)
    assert {"gcs_server", "raylet"} <= set(where.values()) and len(where) >= 5
    refused = 0
    for port, found in tried.items():
        for call, status in found["calls"].items():
            assert status in WITHOUT_THE_TOKEN, f"{where[int(port)]}, port {port}: {call}: {status}"
            refused += status == "UNAUTHENTICATED"
        for request, (status, body) in found["http"].items():
            if status == 200 and is_of_metrics(body):
                shown = [CANARY, str(sweep.run), sweep.run.name, str(sweep.temporary), "train_batch_size"]
                assert not [word for word in shown if word in body]
            else:
                assert status in (401, 403, 404, 405), f"{where[int(port)]}, port {port}: {request}: {status} {body}"
        assert found["calls"] or found["http"], f"{where[int(port)]}, port {port}: could not be reached"
    assert refused > 100
    assert sweep.process.poll() is None
    if not elsewhere:
        pytest.skip("the kernel allows no network namespace; tried from this one, through the outer address")


def test_with_the_token_the_same_intruder_is_answered(sweep: Running, elsewhere: list[str]) -> None:
    tried = sweep.attacked(elsewhere, INTRUDERS_TOKEN=sweep.token.read_text())
    assert "OK" in {status for found in tried.values() for status in found["calls"].values()}


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["without", "wrong"])
def test_the_stream_that_nodes_tell_their_state_by_wants_the_token(sweep: Running, token: str | None) -> None:
    ended = []
    for port in sweep.ports():
        metadata = [("node_id", "ab" * 28), *([("authorization", f"Bearer {token}")] if token else [])]
        with grpc.insecure_channel(f"{address()}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.stream_stream(intruder.FATAL)(iter([b""]), metadata=metadata, timeout=5)
            with pytest.raises(grpc.RpcError):
                list(call)
            ended.append(call.code().name)
    assert ended.count("UNAUTHENTICATED") == 2, "the state of the cluster is told by two processes"
    assert sweep.process.poll() is None


def test_nobody_else_can_read_the_token(sweep: Running) -> None:
    assert sweep.token.stat().st_mode & 0o777 == 0o600
    folder = next(sweep.temporary.glob("tuner-*"))
    assert folder.stat().st_mode & 0o777 == 0o700, "Ray's sockets and objects lie in it"


def test_no_dashboard_is_served(sweep: Running) -> None:
    """Ray runs that program without its server, to count usage, which is off, too, and metrics with `ray[default]`."""
    ours = psutil.Process(sweep.process.pid).children(recursive=True)
    dashboards = [process for process in ours if "dashboard/dashboard.py" in " ".join(process.cmdline())]
    for process in dashboards:
        for connection in process.net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                for status, body in intruder.answers(HOST, connection.laddr.port).values():
                    assert status in (401, 403, 404, 405) or is_of_metrics(body), body


def test_the_sweep_went_on_and_no_secret_is_in_any_file_or_line(sweep: Running) -> None:
    """The last test here: it ends the sweep."""
    before = len(rows_or_none(sweep.run / "trials/0000"))
    wait_for(lambda: len(rows_or_none(sweep.run / "trials/0000")) > before, seconds=300)
    secrets = [CANARY.encode(), sweep.token.read_bytes()]

    def hits(folder: Path) -> list[str]:
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        assert len(files) > 5
        lines = [(path, line) for path in files for line in path.read_bytes().splitlines()]
        return [f"{path}: {line[:500]!r}" for path, line in lines if any(secret in line for secret in secrets)]

    assert hits(sweep.temporary) == [], "Ray's own logs"
    sweep.process.send_signal(signal.SIGTERM)
    assert sweep.process.wait(timeout=60) == 75
    assert hits(sweep.run) == []
    assert hits(sweep.printed.parent) == []
    assert any(sweep.run.glob("trials/*/events.out.tfevents.*"))
