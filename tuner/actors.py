"""Tune's actors, the processes of trials: taken where they are ready, kept for the next trial, known when lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import class_cache, tune_controller
from ray.tune.utils.object_cache import _ObjectCache

IDLE_S = 60.0


@contextmanager
def actors_that_stay() -> Iterator[None]:
    """Have Tune take Ray's ready processes, keep the actor of a trial that ended for one to come, and know a lost one.

    - What environment variables Tune names, AWS's keys among them, Ray writes into its log, and with any of them no
      trial may have a process that Ray has ready. A trial has its environment from Ray's processes.
    - Tune itself keeps one idle actor, ends the others and starts new ones when the next trials are there; a start
      takes seconds of a core, longer than many a run.
    - Of an actor that was killed for lack of memory Ray says OutOfMemoryError, at which Tune would end everything.
    """
    failed, idle = RayActorManager._actor_task_failed, _IdleActors()

    def lost_ones_are_dead(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        idle.are_doubtful |= isinstance(exception, RayActorError)
        failed(manager, tracked_actor_task, exception)

    replaced = {
        (RayActorManager, "_actor_task_failed"): lost_ones_are_dead,
        (tune_controller, "_ObjectCache"): lambda may_keep_one: idle,
        (class_cache, "DEFAULT_ENV_VARS"): {},
        (class_cache, "ENV_VARS_TO_PROPAGATE"): set(),
    }
    known = {(owner, name): getattr(owner, name) for owner, name in replaced}
    try:
        for (owner, name), ours in replaced.items():
            setattr(owner, name, ours)
        yield
    finally:
        for (owner, name), theirs in known.items():
            setattr(owner, name, theirs)


class _IdleActors(_ObjectCache):
    """Tune's idle actors by what they take of a machine. All stay, until a trial waits that none of them can serve.

    One that nobody wanted for `IDLE_S` is ended: on a cluster it holds a CPU that others may wait for. When an actor is
    lost, with its machine perhaps, none of the idle ones is trusted any more: that one of them is gone, too, would be
    told of the trial that it is given to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.are_doubtful = False

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep one more."""
        self._cached_objects[key].append((time.monotonic(), obj))
        self._num_cached_objects += 1
        return True

    def pop_cached_object(self, key: Any) -> Any:
        """The one that has been idle the longest; None where there is none."""
        kept = super().pop_cached_object(key)
        return kept and kept[1]

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:
        """Those that are to be ended."""
        force_all |= self.are_doubtful
        self.are_doubtful = False
        wanted = {key for key, number in self._max_num_objects.items() if number}
        idle = {key for key, actors in self._cached_objects.items() if actors}
        if force_all or wanted - idle:
            yield from (actor for _, actor in super().flush_cached_objects(force_all=force_all))
        for actors in self._cached_objects.values():
            while actors and time.monotonic() - actors[0][0] > IDLE_S:
                self._num_cached_objects -= 1
                yield actors.pop(0)[1]
