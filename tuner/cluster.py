"""The Ray that a command runs on: a private local one, started quietly and ended with everything it left behind."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import UsageError
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
    """A Ray of our own on this machine, whatever else runs here; yields its temporary folder."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    folder = Path(tempfile.mkdtemp(prefix="tuner-"))
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial is told by the sweep, in one line
    try:
        with warnings.catch_warnings(), resting_collector():
            warnings.simplefilter("ignore")
            ray.init(
                address="local", num_cpus=machine.cpus, num_gpus=machine.gpus, include_dashboard=False,
                log_to_driver=False, logging_level=logging.ERROR, _temp_dir=str(folder / "ray"),
            )  # fmt: skip
        yield folder
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
