"""How fast Soccer-Twos is played on the field, and what the bridge costs over the package called directly."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.envs.soccer import interpreter
from tuner.envs.soccer.bridge import Bridge
from tuner.envs.soccer.env import SoccerTwosVector
from tuner.envs.soccer.opponents import SCRIPTS
from tuner.errors import UsageError

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "soccer.json"
LIMIT = 0.10


class Package:
    """The package in a process of its own, without the bridge."""

    def __init__(self, environment: interpreter.WorkerEnvironment, folder: Path) -> None:
        player = folder / "player"
        player.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tuner.envs.soccer.stand_in "$@"\n')
        player.chmod(0o755)
        script = ROOT / "benchmarks" / "peers" / "soccer_package.py"
        self._process = subprocess.Popen(  # noqa: S603
            [environment.python, "-I", script, player], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def seconds(self, decisions: int) -> float:
        """Play, and say how long it took."""
        assert self._process.stdin and self._process.stdout  # noqa: S101
        self._process.stdin.write(f"{decisions}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("seconds"):
                return float(line.split()[1])
        raise SystemExit("error: the package called directly ended; run it by hand to see why")

    def close(self) -> None:
        """End it and its player."""
        self._process.communicate()


def bridge_seconds(bridge: Bridge, generator: np.random.Generator, decisions: int) -> float:
    """The same, through the bridge."""
    actions: NDArray[Any] = generator.integers(0, 3, (decisions, 1, 4, 3))
    start = time.perf_counter()
    for each in actions:
        bridge.step(each)
    return time.perf_counter() - start


def field_rates() -> dict[str, list[float]]:
    """Match decisions a second of `tuner/SoccerTwos-v0`, 64 matches on one core, by opponent, in turn."""
    matches, steps = 64, 1000
    envs = {name: SoccerTwosVector(matches, opponent=name) for name in SCRIPTS}
    actions: NDArray[Any] = np.random.default_rng(0).integers(0, 3, (steps, matches, 6))
    rates: dict[str, list[float]] = {name: [] for name in envs}
    for turn in range(6):
        for name, env in envs.items():
            env.reset(seed=turn)
            start = time.perf_counter()
            for each in actions:
                env.step(each)
            if turn:  # the first compiles
                rates[name].append(round(matches * steps / (time.perf_counter() - start)))
    return rates


def main() -> int:
    """Take turns, print and keep every number; 1 where the bridge costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=300, metavar="N", help="turns of each side (300)")
    parser.add_argument("--decisions", type=int, default=20, metavar="N", help="decisions a turn (20)")
    args = parser.parse_args()
    field = field_rates()
    for name, found in field.items():
        print(
            f"field    {statistics.median(found):,.0f} decisions/s against {name} "
            f"({min(found):,.0f} to {max(found):,.0f})"
        )
    try:
        environment = interpreter.install()
    except UsageError as error:
        print(f"the bridge is skipped: {error}", file=sys.stderr)
        return 0
    rates: dict[str, list[float]] = {"package": [], "bridge": []}
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        package, bridge = Package(environment, Path(folder)), Bridge(1)
        try:
            bridge.reset([0])
            generator = np.random.default_rng(1)
            for turn in range(args.repeat + 1):
                seconds = {
                    "package": package.seconds(args.decisions),
                    "bridge": bridge_seconds(bridge, generator, args.decisions),
                }
                for side in rates if turn else ():  # the first turn warms up
                    rates[side].append(round(args.decisions / seconds[side], 1))
        finally:
            bridge.close()
            package.close()
    # Other processes only ever slow a turn down: the fastest tenth says what the machine itself does.
    undisturbed = {side: statistics.median(sorted(found)[-max(len(found) // 10, 1) :]) for side, found in rates.items()}
    cost = undisturbed["package"] / undisturbed["bridge"] - 1
    costs = [package / bridge - 1 for package, bridge in zip(rates["package"], rates["bridge"], strict=True)]
    quartiles = statistics.quantiles(costs, n=4)
    for side, found in rates.items():
        print(f"{side:<8} {undisturbed[side]:5.0f} decisions/s in its fastest tenth of turns, {min(found):.0f} to "
              f"{max(found):.0f} in all")  # fmt: skip
    print(f"the bridge costs {cost:.1%} of the package's time in those; from turn to turn {quartiles[1]:.1%} "
          f"(quartiles {quartiles[0]:.1%} to {quartiles[2]:.1%})")  # fmt: skip
    RESULTS.write_text(
        json.dumps(
            {
                "machine": {"cores": os.cpu_count(), "system": platform.platform(), "load_before": load_before},
                "python": {"bridge": platform.python_version(), "package": environment.version},
                "field_decisions_per_s": field,
                "decisions_a_turn": args.decisions,
                "decisions_per_s": rates,
                "cost": {"undisturbed": cost, "quartiles_of_turns": quartiles},
            },
            indent=2,
        )
        + "\n"
    )
    return int(cost > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
