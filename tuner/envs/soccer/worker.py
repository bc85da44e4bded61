"""The worker: one match of the unmodified soccer-twos package, played over a socket for the process that owns it.

It runs by its path under Python 3.8 to 3.10 in the worker environment, where the package is and this project is not.

    worker.py serve FD       plays for the process at the other end of that socket
    worker.py player PID …   becomes the player …, which dies with the worker PID
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import os
import select
import shlex
import shutil
import signal
import socket
import struct
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np

# What goes over the socket, which keeps messages apart (SOCK_SEQPACKET): four bytes that say what it is, then the body.
SETTINGS, LAUNCH, STEP, RESET, CLOSE = b"sett", b"laun", b"step", b"rese", b"clos"  # to the worker
READY, STATE, FAILED = b"READ", b"STAT", b"FAIL"  # from the worker
KIND = 4
LONGEST = 2**16

SEED = struct.Struct("<q")
ACTIONS = np.dtype((np.uint8, (4, 3)))
STATE_OF_MATCH = np.dtype(
    [
        ("observations", np.float32, (4, 336)),
        ("extras", np.float32, (4, 9)),
        ("rewards", np.float32, 4),
        ("terminated", np.bool_),
        ("truncated", np.bool_),
    ]
)

_PORTS = range(20500, 26000)  # below Linux's ephemeral ports, beside those of Ray
_PDEATHSIG = 1


class PlayerEnded(Exception):
    """The player ended though nobody had asked it to."""


def receive(sock: socket.socket) -> tuple[bytes, bytes]:
    """What the next message is, and its body; raises EOFError where the other end is gone."""
    message = sock.recv(LONGEST)
    if not message:
        raise EOFError
    return message[:KIND], message[KIND:]


def send(sock: socket.socket, message: bytes | bytearray) -> None:
    """Say something to the other end; raises EOFError where it is gone."""
    try:
        sock.send(message)
    except OSError:
        raise EOFError from None


def serve(sock: socket.socket) -> None:
    """Play what the other end asks for until it has enough or something fails."""
    try:
        _, body = receive(sock)
        settings = json.loads(body)
        _end_with(settings["owner"], sock, settings["logs"])
        signal.signal(signal.SIGCHLD, _on_child)
        try:
            _play(sock, settings)
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the owner has to know
            reason = " ".join(str(error).split())[:1000]
            name = "" if isinstance(error, PlayerEnded) else f"{type(error).__name__}: "
            send(sock, FAILED + f"{name}{reason}".encode())
    except EOFError:
        while True:  # whoever watches the socket ends this process once it has tidied up, and must not be cut short
            signal.pause()


def _play(sock: socket.socket, settings: dict[str, Any]) -> None:
    match = None
    package = _package()
    send(sock, READY + json.dumps(_versions()).encode())
    while True:
        kind, body = receive(sock)
        if kind == LAUNCH:
            if match is not None:
                match.close()
            match = Match(package, settings, SEED.unpack(body)[0])
            state = match.reset()
        elif kind == STEP and match is not None:
            state = match.step(np.frombuffer(body, ACTIONS)[0])
        elif kind == RESET and match is not None:
            state = match.reset()
        else:
            break
        send(sock, state)
    if match is not None:
        match.close()


class Match:
    """One player behind one environment of the package."""

    def __init__(self, package: Any, settings: dict[str, Any], seed: int) -> None:
        os.environ["SOCCER_PLAYER"] = " ".join(
            map(shlex.quote, [sys.executable, "-I", __file__, "player", str(os.getpid()), *settings["player"]])
        )
        # `make` hands on neither a seed nor a timeout nor a folder for the player's log: its own global gets them.
        original = package.UnityEnvironment
        package.UnityEnvironment = functools.partial(
            original,
            seed=seed - 2**32 if seed >= 2**31 else seed,  # an int32 in the handshake
            timeout_wait=settings["package_timeout_s"],
            log_folder=settings["logs"],
        )
        try:
            self._port, self._env = self._make(package, settings)
        finally:
            package.UnityEnvironment = original
        self._wrapper = self._env.unwrapped
        self._behaviours = [self._wrapper.group_prefix + str(team) for team in range(2)]
        self._message = bytearray(STATE) + bytes(STATE_OF_MATCH.itemsize)
        self._state = np.ndarray((), STATE_OF_MATCH, self._message, KIND)
        self._observations, self._extras = self._state["observations"], self._state["extras"]
        self._rewards = self._state["rewards"]
        # The package would keep every environment until the process ends, to close it then.
        atexit.unregister(self._wrapper._env._close)

    @staticmethod
    def _make(package: Any, settings: dict[str, Any]) -> tuple[socket.socket, Any]:
        in_use = sys.modules["mlagents_envs.exception"].UnityWorkerInUseException
        for number in _PORTS:
            port = _lock(number)
            if port is None:
                continue
            try:
                return port, package.make(
                    variation="multiagent_player",
                    env_path=settings["env_path"],
                    base_port=number,
                    render=settings["render"],
                    time_scale=settings["time_scale"],
                )
            except in_use:  # somebody else, who knows nothing of our locks, was quicker
                port.close()
        raise OSError(f"no free port from {_PORTS[0]} to {_PORTS[-1]}")

    def reset(self) -> bytearray:
        """Ask the package for the first observations of an episode; the message with its `STATE_OF_MATCH`."""
        return self._told(self._env.reset(), None, False)

    def step(self, actions: Any) -> bytearray:
        """One decision of every player, (4, 3); the message with its `STATE_OF_MATCH`."""
        observations, rewards, done, _ = self._env.step({player: actions[player] for player in range(4)})
        return self._told(observations, rewards, done["__all__"])

    def close(self) -> None:
        """End the player, and wait until it is gone."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._env.close()
        self._port.close()
        signal.signal(signal.SIGCHLD, _on_child)

    def _told(self, observations: dict[int, Any], rewards: dict[int, float] | None, ended: bool) -> bytearray:
        for player in range(4):
            self._observations[player] = observations[player]
            self._rewards[player] = rewards[player] if rewards else 0.0
        # The wrappers drop whether the time was over, and at a reset the nine extra floats: ask what they wrap.
        for team in range(2):
            steps = self._wrapper._env.get_steps(self._behaviours[team])[1 if ended else 0]
            if steps.obs[-1].shape[1:] == (9,):
                self._extras[2 * team : 2 * team + 2] = steps.obs[-1]
        interrupted = ended and bool(steps.interrupted[0])
        self._state["truncated"] = interrupted
        self._state["terminated"] = ended and not interrupted
        return self._message


def _package() -> Any:
    """The package, whose import would download the Unity player; the owner names the player in any case."""
    stub = types.ModuleType("soccer_twos.package")
    stub.check_package = lambda: None  # type: ignore[attr-defined]
    stub.TRAINING_ENV_PATH = stub.ROLLOUT_ENV_PATH = None  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    import grpc
    import soccer_twos

    original = grpc.server

    def on_loopback(*arguments: Any, **options: Any) -> Any:
        """ML-Agents would listen on every interface, to whoever calls; its player is on this machine."""
        server = original(*arguments, **options)
        listen = server.add_insecure_port
        server.add_insecure_port = lambda address: listen(address.replace("[::]", "127.0.0.1"))
        return server

    grpc.server = on_loopback
    return soccer_twos


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("soccer-twos", "mlagents-envs")}


def _lock(port: int) -> socket.socket | None:
    """Reserve a port among the workers of this machine; None where another has it, or anybody listens there.

    gRPC shares a port with whoever else asks for it, so a look whether it is free is not enough. The lock is a name in
    the same network namespace as the port itself, and is gone with its holder, however that ends.
    """
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0rllib-ppo-tuner-soccer-port-{port}")
        for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104  a look only
            if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
                continue
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
    except OSError:
        lock.close()
        return None
    return lock


def _on_child(*_: object) -> None:
    """Notice the end of the player at once; the package looks after it only now and then."""
    # It is looked at and not collected: that is the package's own doing.
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is not None:
        how = f"exit code {ended.si_status}" if ended.si_code == os.CLD_EXITED else f"signal {ended.si_status}"
        raise PlayerEnded(f"the player ended ({how})")


def _end_with(owner: int, sock: socket.socket, logs: str) -> None:
    """End this process, and with it the player, when the owner is gone, whatever this process is waiting for."""

    ending = threading.Lock()

    def end() -> None:
        if ending.acquire(blocking=False):  # both ways to notice may come at once, and one would cut the other short
            shutil.rmtree(logs, ignore_errors=True)
            os._exit(1)

    def on_death_of_a_thread(*_: object) -> None:
        # Linux means the thread that started this process, of which the owner may have others.
        if os.getppid() != owner:
            end()

    def watch() -> None:
        hang_up = select.poll()
        hang_up.register(sock, 0)
        hang_up.poll()
        end()

    signal.signal(signal.SIGHUP, on_death_of_a_thread)
    _on_parents_death(signal.SIGHUP)
    on_death_of_a_thread()
    threading.Thread(target=watch, daemon=True).start()


def become_player(worker: int, command: list[str]) -> None:
    """Replace this process by the player, which then cannot outlive the worker."""
    _on_parents_death(signal.SIGKILL)
    if os.getppid() == worker:
        try:
            os.execv(command[0], command)  # noqa: S606  the player that the user named
        except OSError as error:
            with Path(command[command.index("-logFile") + 1]).open("a") as log:
                log.write(f"{command[0]}: {error.strerror}\n")
    os._exit(127)


def _on_parents_death(signal_number: int) -> None:
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal_number, 0, 0, 0)


if __name__ == "__main__":
    if sys.argv[1] == "player":
        become_player(int(sys.argv[2]), sys.argv[3:])
    serve(socket.socket(fileno=int(sys.argv[2])))
    os._exit(0)  # nothing that a library left waiting may hold it up; the player dies with it
