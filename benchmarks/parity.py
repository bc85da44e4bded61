"""Do both engines learn alike? Episodes until CartPole-v1 is solved, over seeds fixed beforehand, with an interval."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tuner import catalog, cluster
from tuner.episodes import Goal
from tuner.layout import TrialDir
from tuner.training import RunConfig, Training

RESULTS = Path(__file__).parent / "results" / "parity.json"
FIRST_SEED = 1000
BOUNDS = (0.75, 1.33)


def episodes_to_threshold(engine: str, seed: int) -> int:
    """Train the notebook's PPO_01; the space's budget where it never gets there."""
    space = catalog.load("cartpole").space
    goal = Goal(space.threshold, space.window, space.max_episodes, space.max_steps)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(RunConfig(space.env, engine, seed, goal, space.baseline), TrialDir(Path(folder)))
        while not training.is_finished:
            training.advance(10.0)
        training.close()
    return training.outcome.episodes_to_threshold or space.max_episodes


def interquartile_mean(values: Any, axis: int = -1) -> Any:
    """The mean of the middle half."""
    return stats.trim_mean(values, 0.25, axis=axis)


def ratio_interval(ours: list[int], theirs: list[int], resamples: int = 20_000) -> tuple[float, float, float]:
    """The ratio of the interquartile means, ours to theirs, and its 95 % percentile bootstrap interval."""
    generator = np.random.default_rng(0)
    drawn = [interquartile_mean(generator.choice(values, (resamples, len(values)))) for values in (ours, theirs)]
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    return float(interquartile_mean(ours) / interquartile_mean(theirs)), float(low), float(high)


def main() -> None:
    """Run every seed on our engine, and on RLlib's those that are missing, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30, help="seeds for each engine (30)")
    parser.add_argument("--fresh", action="store_true", help="forget RLlib's earlier runs, too")
    args = parser.parse_args()
    found: dict[str, dict[str, int]] = {"fused": {}, "rllib": {}}
    if RESULTS.exists() and not args.fresh:
        found["rllib"] = json.loads(RESULTS.read_bytes())["episodes_to_threshold"]["rllib"]
    with cluster.private_ray(cluster.Machine(cpus=1, gpus=0)):
        for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
            for engine, runs in found.items():
                if str(seed) not in runs:
                    runs[str(seed)] = episodes_to_threshold(engine, seed)
                    print(f"{engine} seed {seed}: {runs[str(seed)]}", flush=True)
                    write(found)
    ratio, low, high = write(found)
    inside = "inside" if BOUNDS[0] <= low and high <= BOUNDS[1] else "not inside"
    print(f"fused / rllib: {ratio:.3f}, 95 % interval [{low:.3f}, {high:.3f}], {inside} of {list(BOUNDS)}")


def write(found: dict[str, dict[str, int]]) -> tuple[float, float, float]:
    """Keep the runs, and the ratio where both engines have any."""
    ours, theirs = ([*found[engine].values()] for engine in ("fused", "rllib"))
    ratio = ratio_interval(ours, theirs) if ours and theirs else (np.nan,) * 3
    RESULTS.parent.mkdir(exist_ok=True)
    answer = {"ratio": ratio[0], "interval": ratio[1:], "bounds": BOUNDS, "episodes_to_threshold": found}
    RESULTS.write_text(json.dumps(answer, indent=1) + "\n")
    return ratio  # type: ignore[return-value]


if __name__ == "__main__":
    main()
