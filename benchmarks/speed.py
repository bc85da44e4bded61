"""Times this project against its peers in turn, each measurement in a process of its own, and keeps every number."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from benchmarks.measuring import GAUGES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TIMEOUT_S = 3600


@dataclass(frozen=True)
class Side:
    """One of the sides that are compared, and the script that measures it."""

    name: str
    module: str
    options: tuple[str, ...] = ()
    needs: str | None = None  # a package of the peers' Python

    @property
    def is_ours(self) -> bool:
        """Whether this project does the work."""
        return self.name.startswith("fused")


# One thread is RLlib's faster choice wherever another process uses a core; with torch's own it is shown beside.
RLLIB, FUSED = Side("RLlib, 1 thread", "rllib_ppo", ("--threads", "1")), Side("fused", "fused_ppo")
RATES = {
    "CartPole-v1": [
        RLLIB,
        Side("RLlib, torch's threads", "rllib_ppo"),
        Side("Stable-Baselines3", "sb3_ppo", needs="stable_baselines3"),
        Side("JAX, whole program", "jax_ppo", needs="jax"),
        FUSED,
        Side("fused, Gymnasium's CartPole", "fused_ppo", ("--env", "GymCartPole-v1")),
    ],
    "Acrobot-v1": [RLLIB, FUSED],
    "Pendulum-v1": [RLLIB, FUSED],
    **({"LunarLander-v3": [RLLIB, FUSED]} if find_spec("Box2D") else {}),
}
SWEEP = [
    Side("Ray Tune + RLlib", "rllib_sweep"),
    Side("Optuna + Stable-Baselines3", "sb3_sweep", needs="stable_baselines3"),
    Side("fused", "tuner_sweep"),
]
Found = dict[str, dict[str, list[dict[str, Any]]]]  # what was compared -> side -> one measurement a repetition


def main() -> None:
    """Measure in turn, keep what was found after each one, and print it."""
    args = parse()
    kinds = {side.needs for side in (*RATES["CartPole-v1"], *SWEEP) if side.needs}
    missing = {package for package in kinds if not has(args.peer_python, package)}
    for package in sorted(missing):
        print(f"skipped: {package} is not installed for {Path(args.peer_python).name}; see benchmarks/README.md")
    clock = ("--seconds", "3", "--warm-up", "1") if args.quick else ("--seconds", str(args.seconds))
    # Compiled code is kept between processes; what the first one pays is not what is compared here.
    measure(FUSED, ("--seconds", "1", "--warm-up", "0"), sys.executable)
    found: Found = {}
    for repetition in range(args.repeat):
        todo = [(env, side, (*clock, "--env", env)) for env, sides in RATES.items() for side in sides]
        if repetition >= args.repeat - args.sweeps:
            todo += [("sweep", side, ("--episodes", "30") if args.quick else ()) for side in SWEEP]
        for what, side, options in todo:
            if side.needs not in missing:
                made = measure(side, options, args.peer_python if side.needs else sys.executable)
                found.setdefault(what, {}).setdefault(side.name, []).append(made)
                print(f"{repetition + 1}/{args.repeat} {what}, {side.name}: {shown(made)}", flush=True)
                write(found, args)
    print(table(found))


def parse() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one short repetition, kept apart from the real results")
    add("--repeat", type=int, default=3, metavar="N", help="repetitions (3)")
    add("--sweeps", type=int, metavar="N", help="repetitions that include the sweep (all)")
    add("--seconds", type=float, default=10.0, metavar="S", help="seconds of each measurement of a rate (10)")
    add("--peer-python", default=sys.executable, metavar="PATH", help="a Python that has Stable-Baselines3 and JAX")
    args = parser.parse_args()
    if args.quick:
        args.repeat = 1
    args.sweeps = args.repeat if args.sweeps is None else args.sweeps
    return args


def has(python: str, package: str) -> bool:
    """Whether a Python can import a package."""
    return subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode == 0  # noqa: S603 ours


def measure(side: Side, options: tuple[str, ...], python: str) -> dict[str, Any]:
    """Run one measurement; the side's own options win."""
    load = os.getloadavg()[0]
    command = [python, "-m", f"benchmarks.peers.{side.module}", *options, *side.options]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)  # noqa: S603 ours
    if done.returncode:
        raise SystemExit(f"error: {side.module} {' '.join(options)} failed:\n{done.stderr[-2000:]}")
    took = time.perf_counter() - started
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"load_before": load} | ({"wall_s": took} if "trials_s" in found else {})


def shown(found: dict[str, Any]) -> str:
    """A measurement's numbers in one line."""
    return ", ".join(f"{name} {value:,.4g}" for name, value in found.items() if isinstance(value, float))


@dataclass(frozen=True)
class Comparison:
    """One of our sides against one peer. A ratio over 1 is in our favour."""

    what: str
    ours: str
    peer: str
    our_median: float
    peer_median: float
    ratios: list[float]


def comparisons(found: Found) -> Iterator[Comparison]:
    """Every ratio there is, repetition by repetition."""
    for what, sides in found.items():
        fields = ("wall_s", "trials_s", *GAUGES.values()) if what == "sweep" else ("iterations_per_s",)
        names = {side.name: side.is_ours for side in (SWEEP if what == "sweep" else RATES[what]) if side.name in sides}
        for field in fields:
            for ours in (name for name, is_ours in names.items() if is_ours):
                for peer in (name for name, is_ours in names.items() if not is_ours):
                    left, right = ([made[field] for made in sides[name] if field in made] for name in (ours, peer))
                    if not (left and right):
                        continue  # memory is of Ray's actors, and another tool has none
                    more_is_better = field == "iterations_per_s"
                    ratios = [a / b if more_is_better else b / a for a, b in zip(left, right, strict=False)]
                    medians = statistics.median(left), statistics.median(right)
                    yield Comparison(f"{what}, {field}", ours, peer, *medians, ratios)


def table(found: Found) -> str:
    """The medians, and the ratios' median, smallest and largest."""
    rows = [("what", "ours", "peer", "ours", "peer", "ratio", "smallest", "largest")]
    for each in comparisons(found):
        numbers = (
            each.our_median,
            each.peer_median,
            statistics.median(each.ratios),
            min(each.ratios),
            max(each.ratios),
        )
        rows.append((each.what, each.ours, each.peer, *(f"{number:,.4g}" for number in numbers)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def write(found: Found, args: argparse.Namespace) -> None:
    """Keep every raw number with what it depends on, and draw the rates."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / ("speed-quick.json" if args.quick else "speed.json")
    versions: dict[str, Any] = {"python": platform.python_version()}
    for made in (made for sides in found.values() for runs in sides.values() for made in runs):
        versions |= made.get("versions", {})
    answer = {
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": versions,
        "repetitions": args.repeat,
        "sweeps": args.sweeps,
        "comparisons": [{**vars(each), "median_ratio": statistics.median(each.ratios)} for each in comparisons(found)],
        "measurements": {
            what: {
                name: [{key: value for key, value in made.items() if key != "versions"} for made in runs]
                for name, runs in sides.items()
            }
            for what, sides in found.items()
        },
    }
    path.write_text(json.dumps(answer, indent=1) + "\n")
    draw(found, path.with_suffix(".png"))


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []  # fmt: skip
    return names[0] if names else platform.processor()


def draw(found: Found, path: Path) -> None:
    """Bars of iterations a second, ours in colour, from the smallest to the largest repetition a line."""
    labels: list[str] = []
    places: list[float] = []
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    at = 0.0
    for env, sides in found.items():
        if env not in RATES:
            continue
        axes.text(0.0, at - 0.75, env, transform=axes.get_yaxis_transform(), weight="bold", va="center")
        for side in RATES[env]:
            rates = [made["iterations_per_s"] for made in sides.get(side.name, ())]
            if not rates:
                continue
            median = statistics.median(rates)
            axes.barh(at, median, height=0.7, color="#1f5fa8" if side.is_ours else "#b8b8b8")
            axes.plot([min(rates), max(rates)], [at, at], color="black", linewidth=1)
            axes.text(max(rates) * 1.1, at, f"{median:,.3g}" if median < 1000 else f"{median:,.0f}", va="center")
            labels.append(side.name)
            places.append(at)
            at += 1
        at += 1.1
    axes.set(xscale="log", yticks=places, yticklabels=labels, xlabel="PPO iterations a second (log scale)")
    axes.set_xlim(left=1, right=3 * axes.dataLim.x1)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
