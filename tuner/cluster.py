"""The Ray that a command runs on: a private local one, started quietly, watched, and ended with all it left behind."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import secrets
import shutil
import signal
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
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is never read; the study is the truth
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

STOP_GRACE_S = 12.0  # for trials to end their iteration and save; a batch system's own grace is often 30 s
_VITAL = ("gcs_server", "raylet")
_PR_SET_PDEATHSIG = 1

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and either under Windows


@dataclass(frozen=True)
class Machine:
    """What this machine can give to trials."""

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
    by_cpu = machine.cpus // cpus
    return min(by_cpu, int(machine.gpus / gpus)) if gpus else by_cpu


@contextmanager
def private_ray(machine: Machine) -> Iterator[Path]:
    """A Ray of our own on this machine, whatever else runs here; yields its temporary folder.

    Raises:
        Interrupted: Ray did not start.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _keep_token_private()
    import ray

    folder = Path(tempfile.mkdtemp(prefix="tuner-"))
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial is told by the sweep, in one line
    try:
        with warnings.catch_warnings(), resting_collector(), signals.kept_from_children():
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


def loss() -> str | None:
    """Which process Ray cannot do without has ended, and how; None while all are well or no Ray was started here."""
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

    auto_init_hook.enable_auto_connect = False  # else the call would start another Ray
    ray.shutdown()
    futures.wait([done], timeout=10)
    auto_init_hook.enable_auto_connect = True


def _node() -> Any:
    """Ray's record of the processes that it started here; None where there is no Ray."""
    import ray

    return ray._private.worker._global_node


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
