"""The compiled kernels on shapes that are nobody's usual ones, against torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import compiled
from tuner.ppo import kernels

ROOT = Path(__file__).parent.parent
ACTIVATIONS: list[Any] = [lambda x: x, torch.relu, torch.tanh, torch.nn.functional.silu]
sizes = st.integers(1, 70)


def layer_table(widths: list[int], activations: list[int]) -> tuple[Any, int, int]:
    """A chain of layers, how many parameters and how many rows it has."""
    rows, source, at, target = [], 0, 0, widths[0]
    for inputs, outputs, activation in zip(widths, widths[1:], activations, strict=False):
        rows.append((inputs, outputs, at, at + inputs * outputs, source, target, activation))
        source, target, at = target, target + outputs, at + inputs * outputs + outputs
    return np.array(rows, np.int64), at, target


@settings(max_examples=60, deadline=None)
@given(
    st.lists(sizes, min_size=2, max_size=5), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(1, 128)
)
def test_forward_and_backward_are_torchs(widths: list[int], activations: list[int], samples: int) -> None:
    generator = np.random.default_rng(len(widths) * 1000 + samples)
    table, count, rows = layer_table(widths, activations)
    parameters = torch.tensor(generator.normal(0, 0.3, count).astype(np.float32), requires_grad=True)
    observations = generator.normal(size=(samples, widths[0])).astype(np.float32)
    hidden = torch.from_numpy(observations)
    for inputs, outputs, weight, bias, _, _, activation in table.tolist():
        weights = parameters[weight : weight + inputs * outputs].view(outputs, inputs)
        hidden = ACTIVATIONS[activation](hidden @ weights.T + parameters[bias : bias + outputs])
    upstream = generator.normal(size=hidden.shape).astype(np.float32)
    (hidden * torch.from_numpy(upstream)).sum().backward()

    columns = kernels.columns_for(samples)
    units, slopes, deltas = (np.zeros((rows, columns), np.float32) for _ in range(3))
    units[: widths[0], :samples] = observations.T
    gradients = np.zeros(count, np.float32)
    flat = parameters.detach().numpy()
    kernels.forward(table, flat, units.reshape(-1), slopes.reshape(-1), columns)
    deltas[-widths[-1] :, :samples] = upstream.T
    kernels.backward(table, flat, gradients, units.reshape(-1), slopes.reshape(-1), deltas.reshape(-1), columns)
    np.testing.assert_allclose(units[-widths[-1] :, :samples].T, hidden.detach().numpy(), rtol=1e-4, atol=1e-4)
    expected = parameters.grad.numpy()
    assert np.linalg.norm(gradients - expected) <= 1e-4 * np.linalg.norm(expected) + 1e-5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 4), st.booleans())
def test_adam_is_torchs(count: int, steps: int, weighs: bool) -> None:
    generator = np.random.default_rng(count)
    start = generator.normal(size=count).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([theirs], lr=1e-2, betas=(0.8, 0.95) if weighs else (0.9, 0.999))
    ours, first, second = start.copy(), np.zeros(count, np.float32), np.zeros(count, np.float32)
    for step in range(1, steps + 1):
        gradient = (generator.normal(size=count) * 10.0 ** generator.integers(-6, 6, count)).astype(np.float32)
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
        kernels.adam(ours, gradient, first, second, step, 1e-2, *optimizer.param_groups[0]["betas"], 1e-8)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=2e-5, atol=2e-6)


def batch_of(size: int, dimensions: int, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "observations": generator.normal(size=(size, 3)).astype(np.float32),
        "rows": np.arange(size),
        "actions": generator.integers(0, 2, (size, dimensions)).astype(np.float32),
        "logps": np.full(size, np.log(0.5) * dimensions, np.float32),
        "inputs": np.zeros((size, 2 * dimensions), np.float32),
        "is_real": np.arange(size) % 5 > 0,
        "advantages": generator.normal(size=size).astype(np.float32),
        "targets": generator.normal(size=size).astype(np.float32),
    }


class Small:
    """One policy layer of binary choices and one value layer, ready for `kernels.update`."""

    def __init__(self, size: int, dimensions: int) -> None:
        self.dimensions = dimensions
        table, count, rows = layer_table([3, 9, 2 * dimensions], [kernels.RELU, kernels.LINEAR])
        value = np.array([[9, 1, count, count + 9, 3, rows, kernels.LINEAR]])
        self.layers, self.heads = np.concatenate([table, value]), np.array([12, rows])
        self.count, self.rows = count + 10, rows + 1
        self.parameters = np.random.default_rng(1).normal(0, 0.1, self.count).astype(np.float32)
        self.first, self.second = np.zeros(self.count, np.float32), np.zeros(self.count, np.float32)
        self.statistics = np.zeros(kernels.STATISTICS)
        self.batch = batch_of(size, dimensions, seed=size)

    def update(self, epochs: int, minibatch_size: int, shuffles: bool) -> int:
        return int(kernels.update(
            self.layers, np.array([[0, self.count]]), self.heads, self.parameters, self.first, self.second, 0,
            np.zeros(self.count, np.float32), np.zeros((3, self.rows * kernels.PANEL), np.float32),
            np.full(self.dimensions, 2), np.inf, *self.batch.values(),
            epochs, minibatch_size, shuffles, np.arange(1, 5, dtype=np.uint64),
            1e-3, 0.9, 0.999, 1e-8, kernels.BY_GLOBAL_NORM, 0.5, 0.2, np.inf, 0.5, 0.01, 0.2, self.statistics,
        ))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(2, 200), minibatch_size=st.integers(1, 200), epochs=st.integers(1, 3),
    dimensions=st.integers(1, 3), scale=st.sampled_from([1.0, 1e6]), is_flat=st.booleans(), shuffles=st.booleans(),
)  # fmt: skip
def test_an_update_of_any_shape_makes_rllibs_number_of_steps_and_stays_finite(
    size: int, minibatch_size: int, epochs: int, dimensions: int, scale: float, is_flat: bool, shuffles: bool
) -> None:
    small = Small(size, dimensions)
    small.batch["targets"] *= np.float32(scale)
    if is_flat:
        small.batch["advantages"][:] = 0
    before = small.parameters.copy()
    steps = small.update(epochs, minibatch_size, shuffles)
    covered = made = position = 0
    while covered < epochs:  # MiniBatchCyclicIterator
        made, position = made + 1, position + minibatch_size
        while position >= size:
            covered, position = covered + 1, position - size
    assert steps == made
    assert np.isfinite(small.statistics).all() and kernels.is_finite(small.parameters.view(np.uint32))
    assert (small.parameters != before).any()


def test_denormals_are_flushed_in_an_update_and_nowhere_else() -> None:
    small = Small(20, 1)
    small.batch["is_real"][:] = False  # no gradient: moments only decay
    small.first[:] = np.float32(1.2e-38)  # the smallest normal number
    small.update(1, 10, False)
    assert (small.first == 0).all()
    assert (np.full(40, 1e-40, np.float32) * np.float32(0.5) > 0).all()  # this thread's arithmetic is as it was


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 7, 99])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(value: float, at: int) -> None:
    numbers = np.full(100, np.finfo(np.float32).max, np.float32)
    assert kernels.is_finite(numbers.view(np.uint32))
    numbers[at] = value
    assert not kernels.is_finite(numbers.view(np.uint32))


def test_random_numbers_are_uniform_normal_and_the_states_alone() -> None:
    state = np.random.SeedSequence(1).generate_state(4, np.uint64)
    again = state.copy()
    numbers = np.array([kernels.uniform(state) for _ in range(20_000)])
    assert 0 <= numbers.min() and numbers.max() < 1
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] - 2000).max() < 200
    assert [kernels.uniform(again) for _ in range(5)] == numbers[:5].tolist()
    normals = np.array([kernels.normal(state) for _ in range(20_000)])
    assert abs(normals.mean()) < 0.03 and abs(normals.std() - 1) < 0.03
    order = np.arange(50)
    kernels.shuffle(state, order)
    assert sorted(order) == list(range(50)) and (order != np.arange(50)).any()


@pytest.mark.skipif(not compiled.IS_X86, reason="names processors of x86")
@pytest.mark.parametrize(
    ("processor", "features", "lanes"), [("haswell", "+avx,+avx2,+fma", 8), ("nehalem", "+sse4.2", 4)]
)
def test_older_processors_compute_the_same(processor: str, features: str, lanes: int, tmp_path: Path) -> None:
    """The tiles are as wide as the processor's vectors; each width passes the comparison with torch."""
    program = (
        f"from tuner import compiled; assert compiled.LANES == {lanes}\n"
        "from tests.test_kernels import *\n"
        "test_forward_and_backward_are_torchs()\ntest_adam_is_torchs()\n"
    )
    environment = os.environ | {
        "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "XDG_CACHE_HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


class TestCache:
    def test_the_cache_is_named_after_every_kernel_source(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = compiled._sources_hash()
        read = Path.read_bytes

        def changed(path: Path) -> bytes:
            return read(path) + (b"#" if path.name == "cartpole.py" else b"")

        monkeypatch.setattr(Path, "read_bytes", changed)
        assert compiled._sources_hash() != before

    @pytest.mark.parametrize("others", [{}, {"NUMBA_CACHE_DIR": "numba"}], ids=["XDG_CACHE_HOME", "NUMBA_CACHE_DIR"])
    def test_a_second_process_compiles_nothing(self, others: dict[str, str], tmp_path: Path) -> None:
        program = (
            "import numpy as np\nfrom tuner.ppo import kernels\n"
            "print(kernels.is_finite(np.zeros(4, np.uint32)), kernels.is_finite.stats.cache_hits)"
        )
        folders = {"XDG_CACHE_HOME": "cache"} | others
        environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
        said = [
            subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True).stdout
            for _ in range(2)
        ]
        assert "True Counter()" in said[0] and ": 1}" in said[1]
        assert [folder.name for folder in tmp_path.iterdir()] == [list(folders.values())[-1]]

    def test_a_home_that_cannot_be_written_is_no_error(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("")
        program = "import numpy as np\nfrom tuner.ppo import kernels\nprint(kernels.is_finite(np.zeros(4, np.uint32)))"
        environment = os.environ | {"XDG_CACHE_HOME": str(blocked)}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "True", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has these figures and needs this")
def test_the_compilers_code_takes_no_memory_once_it_is_released_and_still_works() -> None:
    numba.njit(lambda x: x + 1)(1)  # not cached, so it is compiled here
    assert _resident_mb() > 20
    compiled.release_compiler()
    assert _resident_mb() < 1
    assert numba.njit(lambda x: x + 2)(1) == 3


def _resident_mb() -> float:
    """How much of LLVM's code this process has in memory."""
    resident, is_code = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_code = "libllvmlite" in line and " r-xp " in line
        elif is_code and line.startswith("Rss:"):
            resident += int(line.split()[1])
    return resident / 1024
