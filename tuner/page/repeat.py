"""The command that repeats a sweep, from what its `sweep.json` holds. Runs nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuner.layout import safe_name
from tuner.plan import SweepOptions, default_race_seeds
from tuner.ppo.engine import chosen
from tuner.space import SearchSpace

# The options that are words of their own. A deadline makes a sweep shorter, not another one; where it is, is the
# reader's choice.
_PLAIN = ("episodes", "steps", "threshold", "window", "seed", "sampler_seed", "sampler", "pruner", "parallel",
          "gpus_per_trial", "cpus_per_trial")  # fmt: skip
_DEFAULTS = SweepOptions()


def command(sweep: Mapping[str, Any], name: str) -> str:
    """The command, quoted for a shell, that does this sweep again: every option that differs from its default.

    Args:
        sweep: what `sweep.json` holds.
        name: the run folder's.
    """
    return shlex.join(["python", "-m", "tuner.sweep", space_of(sweep), *_options(sweep, name)])


def space_of(sweep: Mapping[str, Any]) -> str:
    """The space as a command takes it: its name, `gym:ENV_ID`, or its file in the current folder."""
    file = str(sweep["file"])
    if file.startswith("gym:"):
        return file
    path = Path(file)
    return str(sweep["space"]) if path.parent.name == "search_spaces" else f"./{path.name}"


def _options(sweep: Mapping[str, Any], name: str) -> Iterator[str]:
    given: Mapping[str, Any] = sweep["options"]
    yield from ("--trials", str(sweep["trials"]))  # the space's own number is not known here
    for option in _PLAIN:
        value = given.get(option, getattr(_DEFAULTS, option))
        if value != getattr(_DEFAULTS, option):
            yield from (f"--{option.replace('_', '-')}", str(value))
    if sweep["engine"] != chosen("auto"):
        yield from ("--engine", str(sweep["engine"]))
    race = sweep.get("race") or {"seeds": 0, "finalists": _DEFAULTS.finalists}
    if race["seeds"] != default_race_seeds(SearchSpace.from_json(sweep["definition"]), sweep["engine"]):
        yield from ("--race-seeds", str(race["seeds"]))
    if race["finalists"] != _DEFAULTS.finalists:
        yield from ("--finalists", str(race["finalists"]))
    for key, value in given.get("set", {}).items():
        yield from ("--set", f"{key}={value}")
    if name != safe_name(str(sweep["space"])):
        yield from ("--name", name)
