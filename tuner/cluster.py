"""The Ray that a command runs on: a private local one, started quietly, watched, and ended, or a cluster that runs."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tuner import signals
from tuner.errors import Interrupted, UsageError
from tuner.startup import resting_collector

logger = logging.getLogger(__name__)

# Read by Ray and its processes when they start; a user's own values win. RAY_AUTH_MODE is not among them: a local
# Ray of 2.60 or newer asks for its token unless the user disabled that, and it must not change once Ray is imported.
_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables, which its verbose=0 does not silence
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a path in an env_config is meant from where the command was given
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # tuner.signals handles all three signals alike
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "inf",  # Tune would stumble where all trials run elsewhere
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "inf",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is never read; the study is the truth
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

# Of those, what the processes of a cluster that runs already would not have.
_WORKERS_ENVIRONMENT = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAY_CHDIR_TO_TRIAL_DIR")

CONNECT_S = 5.0
HEAD_SILENT_S = 10.0  # Ray itself gives up after a minute, and aborts the process then
NODES_EVERY_S = 5.0
FIRST_WORKER_S = 20.0  # for the first machine that takes trials to join a cluster which was just started
_NOTICED_S = 4.0
STOP_GRACE_S = 12.0  # for trials to end their iteration and save; a batch system's own grace is often 30 s
_VITAL = ("gcs_server", "raylet")
# What a Ray of one command has no use for, and what takes most of its start: the dashboard's server, which runs without
# a dashboard, too; the autoscaler; and the process that has the driver print what is in Ray's logs.
_UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")
_PR_SET_PDEATHSIG = 1

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and either under Windows


@dataclass(frozen=True)
class Machine:
    """What a machine can give to trials."""

    cpus: int
    gpus: int


def machine() -> Machine:
    """The cores this process may use and the GPUs that torch sees; nothing is started."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return Machine(cores, 0)  # without the seconds that importing torch takes
    import torch

    return Machine(cores, torch.cuda.device_count() if torch.cuda.is_available() else 0)


def trials_at_once(machine: Machine, cpus: int, gpus: float) -> int:
    """How many trials of `cpus` CPUs (remote runners included) and `gpus` GPUs the machine holds.

    Raises:
        UsageError: not even one.
    """
    if cpus > machine.cpus:
        raise UsageError(
            f"a trial asks for {cpus} CPUs and this machine has {machine.cpus}; "
            "lower --cpus-per-trial or num_env_runners"
        )
    if gpus > machine.gpus:
        raise UsageError(f"a trial asks for {gpus:g} GPUs and this machine has {machine.gpus}; lower --gpus-per-trial")
    return _held(machine, cpus, gpus)


def _held(machine: Machine, cpus: int, gpus: float) -> int:
    by_cpu = machine.cpus // cpus
    return min(by_cpu, int(machine.gpus / gpus)) if gpus else by_cpu


@contextmanager
def private_ray(machine: Machine) -> Iterator[Path]:
    """A Ray of our own on this machine, whatever else runs here; yields its temporary folder.

    Raises:
        Interrupted: Ray did not start.
    """
    _quieten()
    _keep_token_private()
    import ray

    folder = Path(tempfile.mkdtemp(prefix="tuner-"))
    try:
        with warnings.catch_warnings(), resting_collector(), signals.kept_from_children(), _lean():
            warnings.simplefilter("ignore")
            try:
                ray.init(
                    address="local", num_cpus=machine.cpus, num_gpus=machine.gpus, include_dashboard=False,
                    log_to_driver=False, logging_level=logging.ERROR, _temp_dir=str(folder / "ray"),
                )  # fmt: skip
            except (RuntimeError, OSError) as error:  # on a machine with too much to do, after half a minute
                why = str(error).partition("\n")[0]
                raise Interrupted(f"Ray did not start: {why}; nothing is lost, the same command goes on") from error
        node = _node()
        node.kill_all_processes = partial(_kill_all, node, node.kill_all_processes)
        yield folder
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """A Ray cluster that runs already, and which this process has joined."""

    def __init__(self) -> None:
        self._machines: list[Machine] = []
        self._asked_at = -math.inf

    def machines(self) -> list[Machine]:
        """What the machines that are alive can give to trials, as of the last few seconds."""
        if time.monotonic() - self._asked_at > NODES_EVERY_S:
            import ray

            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._machines = [Machine(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in alive]
            self._asked_at = time.monotonic()
        return self._machines

    def check_holds(self, cpus: int, gpus: float) -> None:
        """Refuse a trial that is too large for every machine: each trial is on one of them, whole.

        Raises:
            UsageError: no machine that is there or may come holds it.
        """
        self._await_first()
        machines = self.machines()
        if not any(_held(machine, cpus, gpus) for machine in (*machines, *self.to_come())):
            most_cpus, most_gpus = (max(getattr(machine, kind) for machine in machines) for kind in ("cpus", "gpus"))
            raise UsageError(
                f"a trial asks for {cpus} CPUs and {gpus:g} GPUs, and no machine of the cluster has both (at most "
                f"{most_cpus} CPUs and {most_gpus} GPUs); lower --cpus-per-trial, --gpus-per-trial or num_env_runners"
            )

    def _await_first(self) -> None:
        """Wait a little where no machine takes trials: a head alone may be the first of its cluster to be there."""
        gives_up_at = time.monotonic() + FIRST_WORKER_S
        is_told = False
        while not any(machine.cpus for machine in self.machines()) and not self.to_come():
            if time.monotonic() > gives_up_at:
                return
            if not is_told:
                logger.info("no machine of the cluster takes trials; one may join within %g s", FIRST_WORKER_S)
                is_told = True
            time.sleep(0.5)

    def trials_at_once(self, cpus: int, gpus: float) -> int:
        """How many trials the machines hold now: none while all that could are lost or still to come."""
        return sum(_held(machine, cpus, gpus) for machine in self.machines())

    def to_come(self) -> list[Machine]:
        """The kinds of machine that a cluster which grows by itself may add."""
        import ray

        config = ray._private.state.state.get_cluster_config()
        kinds = [kind.resources for kind in config.node_group_configs] if config else []
        return [Machine(int(kind.get("CPU", 0)), int(kind.get("GPU", 0))) for kind in kinds]


@contextmanager
def joined(address: str) -> Iterator[Cluster]:
    """The cluster at `address` while the context lasts; its workers get this very code.

    Args:
        address: `auto`, for the cluster that this machine belongs to, or `HOST:PORT` of its head.

    Raises:
        UsageError: nothing answers there, it wants another token, it runs another Ray or Python, or this machine is
            not one of its own.
    """
    _check_address(address)
    _quieten()
    import ray
    from ray.exceptions import AuthenticationError

    variables = {name: os.environ[name] for name in _WORKERS_ENVIRONMENT}
    try:
        with warnings.catch_warnings(), resting_collector():
            warnings.simplefilter("ignore")
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR,
                runtime_env={"py_modules": [str(Path(__file__).parent)], "env_vars": variables},
            )  # fmt: skip
    except AuthenticationError as error:
        raise UsageError(
            f"--address {address}: the cluster refuses this token; copy ~/.ray/auth_token from its head, or name a "
            "copy with RAY_AUTH_TOKEN_PATH"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"--address {address}: {_why_not_joined(str(error))}") from error
    try:
        with _HeadWatch(_node().gcs_address).watching():
            yield Cluster()
    finally:
        ray.shutdown()


def _quieten() -> None:
    """Set what Ray reads when it is imported, and leave what it logs to errors."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial is told by the sweep, in one line


def _why_not_joined(said: str) -> str:
    """What Ray said, and what to do."""
    words = " ".join(said.split())
    if "Version mismatch" in words:
        return f"{words}; use an environment with the cluster's versions"
    if "Failed to connect" in words:
        return (
            f"{words}, where something listens; if that is a head, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to "
            "a copy of its token"
        )
    return f"{words}; start a cluster with `ray start --head`; from a machine that is none of it use tuner.submit"


def _check_address(address: str) -> None:
    """Refuse at once what Ray would try to reach for a minute."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UsageError(
            f"--address {address}: must be auto or HOST:PORT of the cluster's head, such as 10.0.0.1:6379; for "
            "http://HOST:8265, the address of its Jobs API, use tuner.submit"
        )
    if problem := connection_problem(address, CONNECT_S):
        raise UsageError(
            f"--address {address}: nothing answers there ({problem}); start the head with `ray start --head`, or leave "
            "the option out for a Ray of this machine alone"
        )


def connection_problem(address: str, timeout_s: float) -> str | None:
    """Why HOST:PORT takes no connection; None where it does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
    except (OSError, OverflowError) as error:
        return str(error)
    return None


class _HeadWatch:
    """Whether the head of a joined cluster still answers: Ray's own calls wait for it, and would wait on."""

    current: _HeadWatch | None = None

    def __init__(self, gcs_address: str) -> None:
        self._address = gcs_address
        self._answered_at = self._asked_at = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have `loss` look at the head while the context lasts."""
        _HeadWatch.current = self
        try:
            yield
        finally:
            _HeadWatch.current = None

    def loss(self) -> str | None:
        """That the head is silent, for too long; it is asked once a second."""
        if (now := time.monotonic()) - self._asked_at > 1.0:
            self._asked_at = now
            if not connection_problem(self._address, timeout_s=1.0):
                self._answered_at = now
        if now - self._answered_at > HEAD_SILENT_S:
            return f"the head of the cluster at {self._address} does not answer"
        return None


def loss() -> str | None:
    """Which process Ray cannot do without has ended, and how; None while all are well or no Ray is used here."""
    if _HeadWatch.current is not None:
        return _HeadWatch.current.loss()
    node = _node()
    for name in _VITAL if node is not None else ():
        for process in (info.process for info in node.all_processes.get(name, ())):
            code = process.poll()
            if code is not None:
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                return f"Ray's {name} (process {process.pid}) ended ({how})"
    return None


def call(function: Callable[[], Any], stop: signals.StopRequest) -> None:
    """Call something that needs Ray, in a thread of its own: this one hears signals and sees Ray's end.

    Once a stop is requested the call has `STOP_GRACE_S` seconds to return. Then, or when Ray ends by itself, `stop`
    gets the reason, and the call is ended with what is left of Ray.
    """
    done: futures.Future[None] = futures.Future()
    threading.Thread(target=_call, args=(function, done), name="on-ray", daemon=True).start()
    grace_ends = math.inf
    try:
        while not futures.wait([done], timeout=0.2).done:
            if stop.is_set():
                grace_ends = min(grace_ends, time.monotonic() + STOP_GRACE_S)
            stop.loss = loss()
            if stop.loss is None and time.monotonic() > grace_ends:
                stop.loss = f"which took longer than {STOP_GRACE_S:g} s"
            if stop.loss is not None:
                break
    finally:
        if not done.done():
            _end(done)
    stop.loss = stop.loss or loss()
    if stop.loss is None:
        done.result()


def end_with_ray() -> None:
    """Have Linux end this process of Ray's when its raylet dies: it must not write on beside the next driver's.

    Elsewhere Ray's own way has to do, which takes seconds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _call(function: Callable[[], Any], done: futures.Future[None]) -> None:
    try:
        function()
        done.set_result(None)
    except BaseException as error:  # noqa: BLE001 it is raised where the result is asked for
        done.set_exception(error)


def _end(done: futures.Future[None]) -> None:
    """End Ray under a call, and wait until the call has noticed."""
    import ray
    from ray._private import auto_init_hook

    worker = ray._private.worker.global_worker
    auto_init_hook.enable_auto_connect = False  # else the call would start another Ray
    mode, worker.mode = worker.mode, None  # its next use of Ray raises; after Ray's end it would end the process
    futures.wait([done], timeout=_NOTICED_S)
    worker.mode = mode
    ray.shutdown()
    futures.wait([done], timeout=_NOTICED_S)  # one that asks a dead head returns in a minute
    auto_init_hook.enable_auto_connect = True


def _node() -> Any:
    """Ray's record of the processes that it started here; None where there is no Ray."""
    import ray

    return ray._private.worker._global_node


@contextmanager
def _lean() -> Iterator[None]:
    """Have a Ray that starts while the context lasts leave out what is unused; one that names it otherwise has it.

    Its agent is the one of a Ray without `ray[default]`, which leaves a cluster's port for jobs to the cluster.
    """
    from ray._private import utils
    from ray._private.node import Node

    answers: dict[tuple[Any, str], Any] = {(Node, name): None for name in _UNUSED}
    answers[utils, "get_dashboard_dependency_error"] = ImportError("not wanted")
    known = {(owner, name): getattr(owner, name) for owner, name in answers if hasattr(owner, name)}
    for owner, name in known:
        setattr(owner, name, lambda *args, answer=answers[owner, name], **kwargs: answer)
    try:
        yield
    finally:
        for (owner, name), function in known.items():
            setattr(owner, name, function)


def _kill_all(node: Any, kill_all: Callable[..., None], **kwargs: Any) -> None:
    """Kill Ray's processes: they heed no SIGTERM, for which Ray would give each a second."""
    import psutil  # Ray brings it along

    with suppress(psutil.Error, LookupError):
        for process in psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True):
            process.kill()  # two agents would look for Ray's head for another minute
    kill_all(check_alive=False, allow_graceful=False)


def _keep_token_private() -> None:
    """Have the token that guards every port of Ray's in a file that its owner alone can read.

    Ray would write it as the umask says, which mostly lets everybody on the machine read it. A token that the user
    keeps elsewhere is his own to guard.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    token = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # where it cannot be written, Ray says so itself
        token.parent.mkdir(parents=True, exist_ok=True)
        if not token.exists():
            with tempfile.NamedTemporaryFile("w", dir=token.parent) as file:  # of mode 600
                file.write(secrets.token_hex(32))
                file.flush()
                os.link(file.name, token)  # whole at once, and the first of two wins
        token.chmod(0o600)
