"""How a sweep's throughput grows with the nodes of a cluster: its trials sleep, its nodes are on this machine."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.nodes import Nodes

RESULTS = Path(__file__).parent / "results" / "scaling.json"
SPACE = Path(__file__).parent / "sleeping.py"


def main() -> int:
    """Measure with one, two and four nodes in turn; 1 where four do less than 90 % of four times the work of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="measurements of each (3)")
    parser.add_argument("--rounds", type=int, default=4, metavar="N", help="trials of each node, after its first (4)")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(SPACE.parent)  # where each node finds the environment
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    for repetition in range(args.repeat):
        for nodes, found in rates.items():
            found.append(trials_per_minute(nodes, args.rounds))
            print(f"{repetition + 1}/{args.repeat}: {nodes} nodes, {found[-1]:.2f} trials a minute", flush=True)
    # Each repetition is compared with its own single node: what else the machine does is then in both.
    share = {
        nodes: [many / nodes / one for many, one in zip(found, rates[1], strict=True)] for nodes, found in rates.items()
    }
    summary: dict[str, Any] = {"trials_per_minute": rates, "share_of_linear": share, "cores": os.cpu_count()}
    RESULTS.write_text(json.dumps(summary, indent=2) + "\n")
    for nodes, shares in share.items():
        print(f"{nodes} nodes: {statistics.median(shares):.0%} of linear ({min(shares):.0%} to {max(shares):.0%})")
    return 0 if statistics.median(share[4]) >= 0.9 else 1


def trials_per_minute(nodes: int, rounds: int) -> float:
    """Trials a minute once every node has finished its first, which pays for imports and the first compilation."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as out:
        cluster = Nodes((0, *[1] * nodes), hidden=Path(out))
        try:
            words = [sys.executable, "-m", "tuner.sweep", str(SPACE), "--trials", str(nodes * (rounds + 1))]
            words += ["--sampler", "random", "--race-seeds", "0", "--address", cluster.address, "--out", out]
            environment = {**cluster.environment, "TUNER_LOG": "json"}
            done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 ours
        finally:
            cluster.stop()
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"time"')]
    ends = [datetime.fromisoformat(event["time"]) for event in events if event["event"] == "trial_finished"]
    return 60 * (len(ends) - nodes) / (ends[-1] - ends[nodes - 1]).total_seconds()


if __name__ == "__main__":
    sys.exit(main())
