"""Clocks that all sides of a comparison share, and the line of JSON that each one ends with."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
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
