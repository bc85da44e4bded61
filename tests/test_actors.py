"""The processes of trials on a real Ray and Tune: those at hand serve every part, a lost one costs one attempt."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
from ray import tune
from ray.tune.search import Searcher

from tuner import actors, cluster
from tuner.actors import _IdleActors, actors_that_stay
from tuner.hooks import ErrorStopper, Part, QuietSearcher, Relay

pytestmark = pytest.mark.ray


class Toy(tune.Trainable):
    """Ends with its first result, which names its process, once as many as `together` are at work in `folder`."""

    def setup(self, config: dict[str, Any]) -> None:
        self._folder, self._together, self._seconds = Path(config["folder"]), config["together"], config["seconds"]

    def step(self) -> dict[str, Any]:
        (self._folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(self._folder.iterdir())) < self._together and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(self._seconds)
        return {"pid": os.getpid(), "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True


class Runs(QuietSearcher):
    """Gives out some runs that are at work together; one whose process died is given out again."""

    def __init__(
        self, folder: Path, number: int, at_end: Callable[[set[int]], None] = lambda pids: None, seconds: float = 0.0
    ) -> None:
        super().__init__(lambda: False)
        self._config = {"folder": tempfile.mkdtemp(dir=folder), "together": number, "seconds": seconds}
        self.pids: list[int] = []
        self.deaths = 0
        self._left, self._live = number, 0
        self._at_end = at_end

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._left:
            self._left, self._live = self._left - 1, self._live + 1
            return self._config
        return None if self._live else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._live -= 1
        if error:
            self.deaths += 1
            self._left += self.deaths < 5
            return
        assert result is not None
        self.pids.append(result["pid"])
        if not self._left and not self._live:
            self._at_end(set(self.pids))


@pytest.fixture(scope="module", autouse=True)
def ready() -> Iterator[set[int]]:
    """A Ray that ends with these tests, as other tests end theirs; the processes that it has ready at its start."""
    with cluster.private_ray(cluster.Machine(cpus=2, gpus=0)):
        deadline = time.monotonic() + 30
        while len(found := idle_workers()) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        yield found


def idle_workers() -> set[int]:
    """Ray's processes below this one that wait for work."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::IDLE"]:
                found.add(process.pid)
    return found


def tuned(folder: Path, *searchers: Runs) -> None:
    """One run of Tune's over all of them."""

    def parts() -> Generator[Part]:
        for searcher in searchers:
            yield Part(searcher, ErrorStopper(searcher))

    relay = Relay(parts())
    tuner = tune.Tuner(
        Toy,
        tune_config=tune.TuneConfig(search_alg=relay, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder / "tune"), stop=relay, verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )  # fmt: skip
    with actors_that_stay():
        tuner.fit()
    relay.close()


def kill(pids: set[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)


def test_the_processes_that_ray_has_ready_serve_every_part(ready: set[int], tmp_path: Path) -> None:
    parts = [Runs(tmp_path, number) for number in (2, 2, 1, 2)]
    tuned(tmp_path, *parts)
    assert set(parts[0].pids) == ready
    assert [set(part.pids) <= set(parts[0].pids) for part in parts] == [True] * 4
    assert len(set(parts[3].pids)) == 2, "one was enough for the part before, and the other stayed"


def test_idle_processes_that_were_lost_cost_the_next_run_one_attempt(tmp_path: Path) -> None:
    before, after = Runs(tmp_path, 2, kill), Runs(tmp_path, 1)
    tuned(tmp_path, before, after)
    assert len(set(before.pids)) == 2
    assert (len(after.pids), after.deaths) == (1, 1)
    assert after.pids[0] not in before.pids


def test_idle_actors_stay_until_a_trial_waits_that_none_can_serve_or_one_was_lost() -> None:
    idle = _IdleActors()
    for actor in ("a", "b"):
        assert idle.cache_object("one CPU", actor)
    idle.increase_max("one CPU")
    assert list(idle.flush_cached_objects()) == []
    idle.decrease_max("one CPU")
    idle.increase_max("two CPUs")
    assert list(idle.flush_cached_objects()) == ["a", "b"]
    idle.decrease_max("two CPUs")
    for actor in ("c", "d"):
        assert idle.cache_object("one CPU", actor)
    idle.are_doubtful = True
    assert (list(idle.flush_cached_objects()), idle.are_doubtful) == (["c", "d"], False)


def test_a_process_that_is_idle_for_too_long_ends_while_another_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors, "IDLE_S", 2.0)
    alive: list[int] = []
    before = Runs(tmp_path, 2)
    after = Runs(tmp_path, 1, lambda pids: alive.extend(filter(psutil.pid_exists, before.pids)), seconds=8.0)
    tuned(tmp_path, before, after)
    assert len(set(before.pids)) == 2 and alive == after.pids


def test_an_actor_that_nobody_wants_for_a_minute_is_ended_and_those_in_use_stay() -> None:
    with mock.patch.object(actors, "time") as clock:
        clock.monotonic.return_value = 100.0
        idle = _IdleActors()
        for actor in ("a", "b"):
            idle.cache_object("one CPU", actor)
        clock.monotonic.return_value = 150.0
        assert idle.pop_cached_object("one CPU") == "a"
        idle.cache_object("one CPU", "a")
        assert list(idle.flush_cached_objects()) == []
        clock.monotonic.return_value = 161.0
        assert (list(idle.flush_cached_objects()), idle.num_cached_objects) == (["b"], 1)
        assert (idle.pop_cached_object("one CPU"), idle.pop_cached_object("one CPU")) == ("a", None)
        assert (idle.num_cached_objects, idle.has_cached_object("one CPU")) == (0, False)
