"""How many trials a machine holds."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.cluster import Machine, trials_at_once
from tuner.errors import UsageError


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
