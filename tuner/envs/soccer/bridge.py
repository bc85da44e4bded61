"""The bridge: matches of the real soccer-twos package, each in a worker process under the package's own old Python."""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tuner
from tuner.envs.soccer import interpreter, worker
from tuner.envs.soccer.matches import BRANCHES, EXTRAS, OBSERVATION, PLAYERS
from tuner.errors import TrialFailed, UsageError

_GRACE_S = 3.0  # what a worker has to end its player in the player's own way


class Bridge:
    """`Matches` of the unmodified package; all of them are stepped at the same time.

    A seed reaches a player only when it is started, so `reset(seeds)` starts all of them anew. The same seed gives the
    same match with the stand-in; what the Unity player makes of it is its own affair. `reset()` without seeds goes on
    in a player whose match has ended; any other it starts anew, with a seed that follows from the one before: a player
    has no other way to leave an episode.

    Args:
        number: How many matches.
        player: `stand-in`, which plays the field behind the package, or `unity`.
        env_path: The Unity player; None for the one that the package downloads, which then happens here.
        time_scale: How many times as fast as real time the Unity player may run.
        render: Let the Unity player open a window.
        timeout_s: How long a player may take for anything; whoever is later counts as hung.

    Raises:
        UsageError: what was asked for is not there: the system, the worker environment, the player.
        TrialFailed: from `reset` and `step`: a worker or a player crashed or hung. Nothing is left running.
    """

    def __init__(
        self,
        number: int,
        player: str = "stand-in",
        env_path: str | None = None,
        *,
        time_scale: float = 20.0,
        render: bool = False,
        timeout_s: float = 60.0,
    ) -> None:
        if sys.platform != "linux":
            raise UsageError(f"player {player!r} needs Linux, this is {sys.platform}; play on the field")
        environment = interpreter.worker_environment()
        settings = {
            "player": _command(player, env_path),
            "env_path": "./player",  # the package cuts .x86_64 and the like out of a path, wherever they stand in it
            "render": render,
            "time_scale": time_scale,
            # The package notices a hang after this, then waits as long again; `timeout_s` comes before.
            "package_timeout_s": math.ceil(timeout_s) + 10,
        }
        self.number = number
        self.observations: NDArray[np.float32] = np.zeros((number, PLAYERS, OBSERVATION), np.float32)
        self.rewards: NDArray[np.float32] = np.zeros((number, PLAYERS), np.float32)
        self.terminateds: NDArray[np.bool_] = np.zeros(number, np.bool_)
        self.truncateds: NDArray[np.bool_] = np.zeros(number, np.bool_)
        self.extras: NDArray[np.float32] = np.zeros((number, PLAYERS, EXTRAS), np.float32)
        self.timeout_s = timeout_s
        self._generators = [np.random.default_rng() for _ in range(number)]
        self._is_started = False
        self._workers: list[_Worker] = []
        self._environment, self._settings = environment, settings
        self._is_closed = False

    def reset(self, seeds: Sequence[int] | None = None) -> None:
        """Begin a new episode in every match; with one seed for each, 0 to 2**32 - 1, its player begins anew, too."""
        if seeds is not None:
            if len(seeds) != self.number or not all(0 <= seed < 2**32 for seed in seeds):
                raise ValueError(f"seeds {seeds!r}: give {self.number} of 0 to {2**32 - 1}, one for each match")
            self._generators = [np.random.default_rng(seed) for seed in seeds]
        if not self._workers and not self._is_closed:  # not sooner: an environment is often made just to be looked at
            self._start()
        self._check_open()
        for index, each in enumerate(self._workers):
            if seeds is not None:
                each.send(worker.LAUNCH, worker.SEED.pack(seeds[index]))
            elif self._is_started and (self.terminateds[index] or self.truncateds[index]):
                each.send(worker.RESET)
            else:
                each.send(worker.LAUNCH, worker.SEED.pack(int(self._generators[index].integers(2**31))))
        self._collect()
        self._is_started = True

    def step(self, actions: NDArray[np.integer[Any]]) -> None:
        """One decision of every player, (number, 4, 3) of 0, 1 or 2; a match that had ended begins anew instead."""
        branches = actions.astype(np.uint8).tobytes()  # a negative one becomes a large one
        if actions.shape != (self.number, PLAYERS, len(BRANCHES)) or max(branches) > 2:
            raise ValueError(f"actions of shape {actions.shape}: give ({self.number}, 4, 3) of 0, 1 or 2")
        if not self._is_started:
            raise RuntimeError("step before reset: reset begins the first episode")
        self._check_open()
        size = worker.ACTIONS.itemsize
        for index, each in enumerate(self._workers):
            if self.terminateds[index] or self.truncateds[index]:
                each.send(worker.RESET)
            else:
                each.send(worker.STEP, branches[index * size : (index + 1) * size])
        self._collect()

    def get_state(self) -> None:
        """A player's state cannot be read."""

    def set_state(self, state: Any) -> None:
        """A player cannot be put anywhere, so this is always refused."""
        raise NotImplementedError("a match behind the bridge cannot go on from a saved state")

    def close(self) -> None:
        """End every player and worker; within seconds, by force where they do not answer. May be called again."""
        deadline = time.monotonic() + _GRACE_S
        for each in self._workers:
            each.send(worker.CLOSE)
        for each in self._workers:
            each.end(deadline)
        self._workers.clear()
        self._is_closed = True

    def _start(self) -> None:
        """Start the workers; each starts its player when it gets a seed."""
        try:
            self._workers.extend(_Worker(self._environment, self._settings) for _ in range(self.number))
            self._wait(worker.READY)
            for each in self._workers:
                if (found := json.loads(each.text())["soccer-twos"]) != interpreter.PACKAGE:
                    raise UsageError(
                        f"the worker environment at {self._environment.path} has soccer-twos {found}, "
                        f"{interpreter.PACKAGE} is needed: remove that folder and run {interpreter.INSTALL}"
                    )
        except BaseException:
            self.close()
            raise

    def _check_open(self) -> None:
        if len(self._workers) != self.number:
            raise RuntimeError("the bridge is closed, or a fault has ended it: make another one")

    def _collect(self) -> None:
        self._wait(worker.STATE)
        for index, each in enumerate(self._workers):
            self.observations[index] = each.observations
            self.extras[index] = each.extras
            self.rewards[index] = each.rewards
            self.terminateds[index] = each.state["terminated"]
            self.truncateds[index] = each.state["truncated"]

    def _wait(self, expected: bytes) -> None:
        """Let every worker answer what is expected; at the first fault all of them are ended."""
        deadline = time.monotonic() + self.timeout_s
        for index, each in enumerate(self._workers):
            try:
                if each.receive(deadline) == expected:
                    continue
                reason = each.text()
            except TimeoutError:
                reason = f"no answer within {self.timeout_s:g} s: the player hangs, or timeout_s is too short for it"
            except (EOFError, OSError):
                reason = f"the worker ended ({each.how_it_ended()})"
            last = each.last_words()
            for other in self._workers:
                other.kill()
            self.close()
            raise TrialFailed(f"soccer match {index} of {self.number}: {reason}{last and f'; last in its log: {last}'}")


class _Worker:
    """A worker process, the socket to it, the state that it last told, and the folder of its logs."""

    def __init__(self, environment: interpreter.WorkerEnvironment, settings: dict[str, Any]) -> None:
        self._logs = Path(tempfile.mkdtemp(prefix="soccer-worker-"))
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._has_message = select.poll()
        self._has_message.register(self._socket, select.POLLIN)
        self._message = bytearray(worker.LONGEST)
        self.state = np.ndarray((), worker.STATE_OF_MATCH, self._message, worker.KIND)
        self.observations, self.extras = self.state["observations"], self.state["extras"]
        self.rewards = self.state["rewards"]
        root = str(Path(tuner.__file__).parent.parent)  # the stand-in needs this project, wherever it was found
        paths = [root, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [root]
        with theirs, (self._logs / "worker.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [environment.python, "-I", worker.__file__, "serve", str(theirs.fileno())],
                cwd=environment.path,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for its owner, which ends it in order
            )
        self.send(worker.SETTINGS, json.dumps(settings | {"owner": os.getpid(), "logs": str(self._logs)}).encode())

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Ask for something; where the worker is gone, `receive` says why."""
        with suppress(OSError):
            self._socket.send(kind + body, socket.MSG_DONTWAIT)

    def receive(self, deadline: float) -> bytes:
        """The kind of its next message; TimeoutError after the deadline of `time.monotonic`, EOFError if it is gone."""
        if not self._has_message.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise TimeoutError
        self._size = self._socket.recv_into(self._message)
        if not self._size:
            raise EOFError
        return bytes(self._message[: worker.KIND])

    def text(self) -> str:
        """The body of its last message."""
        return self._message[worker.KIND : self._size].decode()

    def how_it_ended(self) -> str:
        """Its exit code or signal."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_GRACE_S)
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return "it still runs"

    def last_words(self) -> str:
        """The last line of the player's log, or else of its own; empty where there is none."""
        for path in [*self._logs.glob("Player-*.log"), self._logs / "worker.log"]:
            with suppress(OSError):
                if lines := path.read_text(errors="replace").strip().splitlines():
                    return lines[-1][:300]
        return ""

    def kill(self) -> None:
        """End it and its player now."""
        self._process.kill()

    def end(self, deadline: float) -> None:
        """Wait until it has ended, but not after the deadline, and remove what it left."""
        try:
            self._process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        shutil.rmtree(self._logs, ignore_errors=True)


def _command(player: str, env_path: str | None) -> list[str]:
    """What the worker starts as its player."""
    if player == "unity":
        return [str(interpreter.unity_player(env_path))]
    if player != "stand-in":
        raise UsageError(f"player {player!r}: the bridge has stand-in and unity")
    if env_path is not None:
        raise UsageError(f'env_path {env_path} with player "stand-in": it is for player "unity"')
    return [sys.executable, "-m", "tuner.envs.soccer.stand_in"]
