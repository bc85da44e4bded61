"""How a sweep's driver keeps up with many trials at once: the real command, Tune and study, and trials that only wait.

A thousand processes do not fit on a small machine: trials are slots in a few real actors, so that every call and result
goes through Ray, and what they report and leave behind is simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray import tune
from ray.air.execution import ResourceManager, ResourceRequest
from ray.air.execution.resources import AcquiredResources

from benchmarks.growth import Simulated
from tuner import cluster, environment, hooks, sweep
from tuner.trial import result_every_s

RESULTS = Path(__file__).parent / "results" / "concurrency.json"
HOSTS = 4
METHODS = ("__ray_ready__", "__ray_terminate__", "get_auto_filled_metrics", "train", "stop", "reset", "save")
LIFETIME_S = 300.0  # of a trial: a driver that starts a few a second has a thousand after some minutes
MEASURED_S = 60.0
FIRST_REPORT = 1000  # an episode that the simulated trials do not come to
STOP_S = 30.0  # within which a sweep ends after a signal


class Waiting(tune.Trainable):
    """A trial that lives for a while, has its results, and does nothing for them."""

    def setup(self, config: dict[str, Any]) -> None:
        """Note what to leave behind."""
        self._config, self._trial, self._since = config, None, time.monotonic()
        self.every_s = result_every_s(config["parallel"], config["timeout_s"])

    def step(self) -> dict[str, Any]:
        """What a real trial would report."""
        if self._trial is None:
            self._trial, self._results = Simulated(self._config), 0
            self._result = self._trial.step()
        elif time.monotonic() - self._since > LIFETIME_S:
            self._result = self._trial.step()
        else:  # of every result one report is new
            self._results += 1
            self._result = self._result | {"reports": [[FIRST_REPORT + self._results, 0.0]]}
        return self._result | {"disk_full": False}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve the next trial."""
        self.setup(new_config)
        return True


@ray.remote(num_cpus=0, max_concurrency=10_000)
class Host:
    """An actor in which many trials are."""

    def __init__(self) -> None:
        self._trials: dict[int, Waiting] = {}

    async def call(self, slot: int, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method of the trial in a slot; a result takes its time."""
        if method == "__init__":
            self._trials[slot] = Waiting(*args, **kwargs)
        elif method == "__ray_terminate__":
            self._trials.pop(slot, None)
        elif method != "__ray_ready__":
            if method == "train":
                await asyncio.sleep(self._trials[slot].every_s)
            return getattr(self._trials[slot], method)(*args, **kwargs)
        return None


class Slot:
    """What Tune takes for the handle of a trial's actor."""

    def __init__(self, host: Any, number: int, kwargs: dict[str, Any]) -> None:
        for method in METHODS:
            setattr(self, method, Method(host, number, method))
        Method(host, number, "__init__").remote(**kwargs)


@dataclass(frozen=True)
class Method:
    """A method of a trial in a slot."""

    host: Any
    number: int
    name: str

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.host.call.remote(self.number, self.name, args, kwargs)


class Slots(ResourceManager):
    """Gives Tune a slot for every actor that it asks for, while there are any."""

    hosts: Sequence[Any] = ()
    made = 0

    def __init__(self, count: int) -> None:
        self._free = count
        self._asked = 0

    def request_resources(self, resource_request: ResourceRequest) -> None:
        """Note that somebody waits."""
        self._asked += 1

    def cancel_resource_request(self, resource_request: ResourceRequest) -> None:
        """Note that somebody does not."""
        self._asked -= 1

    def has_resources_ready(self, resource_request: ResourceRequest) -> bool:
        """Whether there is a slot."""
        return self._asked > 0 and self._free > 0

    def acquire_resources(self, resource_request: ResourceRequest) -> AcquiredResources:
        """A slot."""
        self._asked, self._free = self._asked - 1, self._free - 1
        return Acquired(resource_request)

    def free_resources(self, acquired_resource: AcquiredResources) -> None:
        """Take it back."""
        self._free += 1

    def clear(self) -> None:
        """Nothing: it ends with the sweep."""


class Acquired(AcquiredResources):
    """What makes a slot where Tune would make an actor."""

    def annotate_remote_entities(self, entities: list[Any]) -> list[Any]:
        """Something whose `remote` is a slot with its trial."""
        return [self]

    @staticmethod
    def remote(**kwargs: Any) -> Slot:
        """The next slot."""
        Slots.made += 1
        return Slot(Slots.hosts[Slots.made % HOSTS], Slots.made, kwargs)

    def _annotate_remote_entity(self, entity: Any, bundle: dict[str, float], bundle_index: int) -> Any:
        raise NotImplementedError


class Heartbeat:
    """When the driver last looked after leases, faults and signals, which it does between any two events."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self.gaps_s: list[float] = []
        self.results = 0
        self.finished = 0
        self.full_at: float | None = None
        self.asked_at: float | None = None
        self.cpu_s = 0.0
        self._last = 0.0

    def beat(self, searcher: hooks.StudySearcher) -> None:
        """Note the time since the last time; once all trials run, measure for a while, and then have it all stop."""
        now = time.monotonic()
        if self.full_at is None and len(searcher.live) == self._parallel:
            self.full_at, self.cpu_s = now, time.process_time()
            self.results = self.finished = 0
            threading.Timer(MEASURED_S, self._stop).start()
        elif self.full_at is not None and self.asked_at is None:
            self.gaps_s.append(now - self._last)
        self._last = now

    def _stop(self) -> None:
        self.asked_at, self.cpu_s = time.monotonic(), time.process_time() - self.cpu_s
        self.rates = {"results_per_s": self.results / MEASURED_S, "trials_per_s": self.finished / MEASURED_S}
        os.kill(os.getpid(), signal.SIGTERM)


def run(folder: Path, parallel: int) -> dict[str, Any]:
    """`tuner sweep` with so many trials at once, until it is told to stop."""
    heart = Heartbeat(parallel)
    joined, kill = cluster.private_ray, ray.kill

    @contextlib.contextmanager
    def with_hosts(machine: Any) -> Any:
        with joined(machine) as temporary:
            Slots.hosts = [Host.remote() for _ in range(HOSTS)]
            yield temporary

    def stop_all(stopper: hooks.StudyStopper) -> bool:
        heart.beat(stopper._searcher)
        return known_stop(stopper)

    def is_over(stopper: hooks.StudyStopper, trial_id: str, result: Any) -> bool:
        heart.results += 1
        heart.finished += result["done"]
        return known_result(stopper, trial_id, result)

    known_stop, known_result = hooks.StudyStopper.stop_all, hooks.StudyStopper.__call__
    with contextlib.ExitStack() as stack:
        patch = lambda owner, name, value: stack.enter_context(mock.patch.object(owner, name, value))  # noqa: E731
        patch(cluster, "private_ray", with_hosts)
        patch(cluster, "trials_at_once", lambda *_: parallel)
        patch(environment, "check", lambda env, env_config: None)
        patch(hooks.StudyStopper, "stop_all", stop_all)
        patch(hooks.StudyStopper, "__call__", is_over)
        patch(ray, "kill", lambda actor, **options: None if isinstance(actor, Slot) else kill(actor, **options))
        stack.enter_context(mock.patch("tuner.trial.PPOTrial", Waiting))
        stack.enter_context(
            mock.patch("ray.tune.execution.tune_controller.PlacementGroupResourceManager", lambda: Slots(parallel))
        )
        stack.enter_context(mock.patch("tuner.export.write_policy"))  # there is none
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        options = ["--sampler", "random", "--episodes", "100", "--race-seeds", "0", "--trials", "1000000"]
        code = sweep.main(["cartpole", "--out", str(folder), "--name", "run", *options])
    if heart.asked_at is None:
        raise SystemExit("the sweep ended before every slot had its trial")
    gaps = sorted(heart.gaps_s)
    return {
        "parallel": parallel, "code": code, **heart.rates, "stopped_after_s": time.monotonic() - heart.asked_at,
        "longest_pause_s": gaps[-1], "median_pause_s": statistics.median(gaps), "cpu_share": heart.cpu_s / MEASURED_S,
        "full_after_s": heart.full_at and heart.full_at - STARTED,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> int:
    """Measure with a hundred and with a thousand; 1 where a sweep did not end in time, or with another code than 75."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, nargs="+", default=[100, 1000], metavar="N", help="trials at once")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(Path(folder), args.parallel[0])))
        return 0
    found = []
    for parallel in args.parallel:
        words = [sys.executable, "-m", "benchmarks.concurrency", "--one", "--parallel", str(parallel)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 ours
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(found[-1], flush=True)
    if 1000 in args.parallel:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return int(any(one["code"] != 75 or one["stopped_after_s"] > STOP_S for one in found))


STARTED = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
