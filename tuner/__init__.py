"""Tune RLlib's PPO: sweep, stop exactly, keep everything, show the best."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.recorder import EpisodeRecorder
    from tuner.results import SweepResult
    from tuner.sweep import run_sweep

    load = SweepResult.load

__all__ = ["EpisodeRecorder", "SweepResult", "load", "run_sweep"]

# Names are loaded when they are first used: a search space must import without Ray, torch or Optuna.
_HOMES = {
    "EpisodeRecorder": ("tuner.recorder", "EpisodeRecorder"),
    "SweepResult": ("tuner.results", "SweepResult"),
    "load": ("tuner.results", "SweepResult.load"),
    "run_sweep": ("tuner.sweep", "run_sweep"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from tuner.plan import own_version

        return own_version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, path = _HOMES[name]
    value: Any = import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value
