"""What each trick of the compiled kernels brings: the fused engine as it is, and without one of them at a time."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "tricks.json"
WARM_UP, ITERATIONS = 1200, 800  # by then many of Adam's first moments would be denormal


def keep_denormals() -> None:
    """Leave the processor's way with denormals alone."""
    from tuner import compiled

    compiled._FLUSH = 0


def no_tiles() -> None:
    """Compute products in loops over arrays, as Numba compiles them by itself."""
    import numba

    from tuner import compiled

    lanes, fast = compiled.LANES, numba.njit(fastmath=compiled.FASTMATH, error_model="numpy")

    def broadcast(rows: int, from_start: bool) -> Any:
        @fast
        def tile(out, out_at, out_row, start, start_at, a, a_at, a_row, a_step, x, x_at, x_step, count):  # type: ignore[no-untyped-def]
            for r in range(rows):
                to = out[out_at + r * out_row : out_at + r * out_row + lanes]
                if from_start:
                    to[:] = start[start_at + r]
                for k in range(count):
                    factor, row = a[a_at + r * a_row + k * a_step], x[x_at + k * x_step : x_at + k * x_step + lanes]
                    for lane in range(lanes):
                        to[lane] += factor * row[lane]

        return tile

    @fast
    def dot_tile(out, out_at, out_row, a, a_at, x, x_at, row, count):  # type: ignore[no-untyped-def]
        for i in range(compiled.DOT_ROWS):
            left = a[a_at + i * row : a_at + i * row + count * lanes]
            for j in range(compiled.DOT_COLUMNS):
                right = x[x_at + j * row : x_at + j * row + count * lanes]
                total = left[0] * 0
                for s in range(count * lanes):
                    total += left[s] * right[s]
                out[out_at + i * out_row + j] += total

    compiled.row_from_start, compiled.rows_from_start = broadcast(1, True), broadcast(compiled.ROWS, True)
    compiled.add_to_row, compiled.add_to_rows = broadcast(1, False), broadcast(compiled.ROWS, False)
    compiled.dot_tile = dot_tile


def off_the_line() -> None:
    """Let the arrays begin in the middle of a cache line."""
    import numpy as np

    from tuner.ppo import actor_critic

    def zeros(*shape: int) -> Any:
        buffer = np.zeros(int(np.prod(shape)) + 64, np.float32)
        first = (-buffer.ctypes.data % 64) // 4 + 4
        return buffer[first : first + int(np.prod(shape))].reshape(shape)

    actor_critic._zeros = zeros


def wide_panels() -> None:
    """Take panels of twice as many columns."""
    from tuner.ppo import kernels

    kernels.PANEL = 2 * kernels.PANEL


WITHOUT: dict[str, Callable[[], None]] = {
    "as it is": lambda: None,
    "denormals kept": keep_denormals,
    "no tiles": no_tiles,
    "arrays off a cache line": off_the_line,
    "panels twice as wide": wide_panels,
}
WIDE = {"train_batch_size": 128, "minibatch_size": 128, "num_epochs": 10, "fcnet_hiddens": [128, 128]}


def microseconds(trick: str, is_wide: bool) -> float:
    """One minibatch's update without the trick, on PPO_01 or on the wide configuration, in this process."""
    import time

    WITHOUT[trick]()
    import torch

    from tuner import catalog, cluster
    from tuner.ppo import engine

    torch.set_num_threads(1)
    params = catalog.load("cartpole").space.baseline | (WIDE if is_wide else {})
    with cluster.private_ray(cluster.Machine(cpus=1, gpus=0)):
        run: Any = engine.build("fused", "CartPole-v1", params, seed=10, env_config={}, gpus=0)
        for _ in range(WARM_UP // 10 if is_wide else WARM_UP):
            run.iterate()
        algorithm = run._algorithm
        batch, _ = algorithm._sampler.sample(algorithm._actor_critic)
        step, started = algorithm._actor_critic._step, time.perf_counter()
        for _ in range(ITERATIONS // 10 if is_wide else ITERATIONS):
            algorithm._actor_critic.update(batch)
        took = time.perf_counter() - started
        run.close()
        return 1e6 * took / (algorithm._actor_critic._step - step)


def measure(trick: str, is_wide: bool, side_by_side: int, cache: str) -> float:
    """The median over processes that run at the same time, each with code of its own."""
    command = [sys.executable, "-m", "benchmarks.tricks", "--one", trick, *(["--wide"] if is_wide else [])]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "env": os.environ | {"XDG_CACHE_HOME": cache}, "text": True}
    running = [subprocess.Popen(command, **options) for _ in range(side_by_side)]  # noqa: S603 ours
    return statistics.median(float(process.communicate()[0].splitlines()[-1]) for process in running)


def main() -> None:
    """Measure every trick, write and print the times and how many times as long it takes without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=WITHOUT, help=argparse.SUPPRESS)
    parser.add_argument("--wide", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (3)")
    args = parser.parse_args()
    if args.one:
        print(microseconds(args.one, args.wide))
        return
    cases = [(trick, False, 1) for trick in WITHOUT if trick != "panels twice as wide"]
    cases += [(trick, True, 2) for trick in ("as it is", "panels twice as wide")]
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(args.repeat + 1):  # the first one compiles
            for number, (trick, is_wide, side_by_side) in enumerate(cases):
                took = measure(trick, is_wide, side_by_side, str(Path(folder) / str(number)))
                label = f"{trick}, 128 units a layer, two side by side" if is_wide else trick
                if repetition:
                    found.setdefault(label, []).append(took)
    RESULTS.write_text(json.dumps({"microseconds_a_minibatch": found}, indent=1) + "\n")
    for label, times in found.items():
        usual = found["as it is" + label.partition(",")[1] + label.partition(",")[2]]
        ratios = [mine / theirs for mine, theirs in zip(times, usual, strict=True)]
        print(f"{label}: {statistics.median(times):.1f} us, {statistics.median(ratios):.2f} times as long "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
