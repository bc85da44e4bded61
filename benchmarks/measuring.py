"""Clocks and gauges that all sides of a comparison share, and the line of JSON that each one ends with."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("gymnasium", "jax", "numba", "numpy", "optuna", "ray", "stable-baselines3", "torch")


def rate_arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options of every script that measures iterations a second."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--env", default="CartPole-v1", help="Gymnasium's name of the environment (CartPole-v1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure (10)")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds that are left out before (3)")
    return parser


def sweep_arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options of every script that times the sweep."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--episodes", type=int, default=300, help="episodes that each trial trains (300)")
    return parser


def iterate_for(seconds: float, iterate: Callable[[], Any]) -> list[float]:
    """Call `iterate` once, for what it compiles and allocates, and then for so long: when each call ended."""
    iterate()
    marks = [time.perf_counter()]
    while marks[-1] - marks[0] < seconds:
        iterate()
        marks.append(time.perf_counter())
    return marks


def rate(marks: Sequence[float], warm_up_s: float) -> float:
    """Iterations a second between the marks that come after the warm-up."""
    warm = [mark for mark in marks if mark - marks[0] >= warm_up_s]
    if len(warm) < 2:
        raise SystemExit("error: no iteration ended after the warm-up; give more --seconds")
    return (len(warm) - 1) / (warm[-1] - warm[0])


GAUGES = {"Rss": "actor_rss_mb", "Pss": "actor_pss_mb", "Pss_Anon": "actor_anon_mb"}


@contextmanager
def actor_memory(process: str, at_once: int) -> Iterator[dict[str, float]]:
    """Watch the memory of the Ray actors whose process has this name, by Linux's own account of it.

    Yields:
        What `GAUGES` names, in MB, filled at the end: the median over actors and time while `at_once` were training.
        Resident memory counts every shared page in full; the proportional one divides it among those who share it.
    """
    found: dict[str, float] = {}
    samples: list[dict[str, float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            seen = [kept for folder in Path("/proc").glob("[0-9]*") if (kept := _memory(folder, process))]
            if len(seen) == at_once:
                samples.extend(seen)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
    # Actors grow while they import and build: the second half of what was seen is after that.
    steady = samples[len(samples) // 2 :]
    found |= {name: statistics.median(sample[name] for sample in steady) for name in GAUGES.values() if steady}


def _memory(folder: Path, process: str) -> dict[str, float]:
    """The gauges of one process; empty when it has another name or has gone."""
    with suppress(OSError):
        if (folder / "cmdline").read_bytes().startswith(process.encode()):
            lines = (line.split() for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
            return {GAUGES[words[0][:-1]]: float(words[1]) / 2**10 for words in lines if words[0][:-1] in GAUGES}
    return {}


def report(**values: Any) -> None:
    """Print the measurement as the last line of stdout."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    values["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    values["versions"] = {name: found for name in PACKAGES if (found := _version(name))}
    print(json.dumps(values), flush=True)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
