"""The bridge: the real package behind it, the stand-in as its player; and what is left when something ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium.utils.env_checker import check_env

from tests.conftest import ROOT
from tests.soccer import Mixed, alive, chase, children, not_of_ray
from tuner.envs.soccer import worker
from tuner.envs.soccer.bridge import Bridge
from tuner.envs.soccer.field import Field
from tuner.envs.soccer.interpreter import WorkerEnvironment
from tuner.envs.soccer.matches import Matches
from tuner.errors import TrialFailed, UsageError

ROUNDS = int(os.environ.get("TUNER_SOCCER_ROUNDS", "2"))  # 20 for the long form
ARRAYS = ("observations", "rewards", "terminateds", "truncateds", "extras")

pytestmark = pytest.mark.usefixtures("soccer_worker")


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """One match, begun with the seed 7."""
    bridge = Bridge(1)
    try:
        bridge.reset([7])
        yield bridge
    finally:
        bridge.close()


def assert_same(one: Matches, other: Matches) -> None:
    """Every number that can be seen is the same."""
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_it_plays_what_the_field_plays_over_twenty_episodes(bridge: Bridge) -> None:
    field = Field(1)
    field.reset([7])
    assert_same(bridge, field)
    mixed = Mixed(1)
    ends = []
    while len(ends) < 20:
        # The first episode is played to its time limit.
        actions = mixed.act(field, len(ends) % 2) if ends else np.zeros((1, 4, 3), np.int64)
        field.step(actions)
        bridge.step(actions)
        assert_same(bridge, field)
        if field.terminateds[0] or field.truncateds[0]:
            ends.append((bool(field.truncateds[0]), bool(field.rewards[0, 0] > 0), bool(field.rewards[0, 2] > 0)))
    assert set(ends) == {(True, False, False), (False, True, False), (False, False, True)}


def test_the_players_are_talked_to_on_loopback_alone(bridge: Bridge) -> None:
    bridge.reset([1])
    listening = [
        connection.laddr.ip
        for pid in processes(bridge)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and {ip.rpartition(":")[2] for ip in listening} == {"127.0.0.1"}


def test_matches_side_by_side_are_those_of_the_field() -> None:
    seeds = [0, 2**32 - 1]
    bridge, field = Bridge(2), Field(2)
    try:
        for matches in (bridge, field):
            matches.reset(seeds)
        for _ in range(100):
            assert_same(bridge, field)
            actions = chase(field)
            for matches in (bridge, field):
                matches.step(actions)
        assert not np.array_equal(field.extras[0], field.extras[1])
    finally:
        bridge.close()


def test_a_reset_in_mid_episode_begins_another_one_that_follows_from_the_seed(bridge: Bridge) -> None:
    first = bridge.observations.copy()
    seen = []
    for _ in range(2):
        bridge.step(chase(bridge))
        bridge.reset()
        seen.append(bridge.observations.copy())
        assert not (np.array_equal(seen[-1], first) or bridge.rewards.any() or bridge.terminateds.any())
        bridge.reset([7])
        assert np.array_equal(bridge.observations, first)
    assert np.array_equal(*seen)


@pytest.mark.parametrize("config", [{"variation": "team_vs_policy"}, {"single_player": True, "flatten_branched": True}])
def test_gymnasiums_checks_pass(config: dict[str, object]) -> None:
    env = gymnasium.make("tuner.envs:tuner/SoccerTwos-v0", player="stand-in", disable_env_checker=True, **config)
    try:
        check_env(env.unwrapped, skip_render_check=True)
    finally:
        env.close()


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda bridge: bridge.reset([1, 2]), "give 1 of"),
        (lambda bridge: bridge.reset([-1]), "give 1 of"),
        (lambda bridge: bridge.reset([2**32]), "give 1 of"),
        (lambda bridge: bridge.step(np.zeros((2, 4, 3), int)), "shape"),
        (lambda bridge: bridge.step(np.full((1, 4, 3), 3)), "of 0, 1 or 2"),
    ],
)
def test_what_is_no_seed_or_action_is_refused_and_harms_nothing(
    ask: Callable[[Bridge], None], what: str, bridge: Bridge
) -> None:
    with pytest.raises(ValueError, match=what):
        ask(bridge)
    bridge.step(chase(bridge))


# Two matches in each of four processes, made when a line comes, and compared with the field; then again.
OWNER = """
import sys

import numpy as np

from tuner.envs.soccer.bridge import Bridge
from tuner.envs.soccer.field import Field
from tests.soccer import chase

field = Field(2)
print("ready", flush=True)
for line in sys.stdin:
    seeds = [int(word) for word in line.split()]
    bridge = Bridge(2, timeout_s=120)
    for matches in (bridge, field):
        matches.reset(seeds)
    for _ in range(20):
        assert np.array_equal(bridge.observations, field.observations) and np.array_equal(bridge.extras, field.extras)
        actions = chase(field)
        for matches in (bridge, field):
            matches.step(actions)
    bridge.close()
    print("played", flush=True)
"""


def start(script: str) -> subprocess.Popen[str]:
    """A process that runs this script and says "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def test_eight_started_together_do_not_disturb_each_other() -> None:
    owners = [start(OWNER) for _ in range(4)]
    try:
        for number in range(ROUNDS):
            for index, owner in enumerate(owners):
                assert owner.stdin
                owner.stdin.write(f"{1000 * number + 2 * index} {1000 * number + 2 * index + 1}\n")
                owner.stdin.flush()
            for owner in owners:
                assert owner.stdout and owner.stdout.readline() == "played\n", f"round {number}"
        pids = set().union(*(children(owner.pid) for owner in owners))
        assert alive(pids, 5) == set()
    finally:
        for owner in owners:
            owner.kill()
            owner.communicate()


def test_a_port_is_locked_once_and_never_where_somebody_listens() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert worker._lock(listener.getsockname()[1]) is None
    number = next(port for port in range(26000, 27000) if (first := worker._lock(port)))
    assert first and worker._lock(number) is None
    first.close()
    again = worker._lock(number)
    assert again
    again.close()


MATCH = """
import os, signal, sys
import numpy as np
from tuner.envs.soccer.bridge import Bridge

bridge = Bridge(1)
bridge.reset([7])
print("ready", flush=True)
word = sys.stdin.readline().strip()
while word == "play":
    bridge.step(np.zeros((1, 4, 3), int))
    if bridge.truncateds[0]:
        bridge.reset([7])
if word == "close":
    bridge.close()
elif word == "fork":
    if (child := os.fork()) == 0:  # it keeps every descriptor open
        signal.pause()
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("word", ["close", "leave", "fork"])
def test_nothing_is_left_when_its_owner_ends(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    owner = start(MATCH)
    pids = children(owner.pid)
    assert len(pids) == 2  # the worker and the player
    assert owner.stdin
    owner.stdin.write(f"{word}\n")
    owner.stdin.flush()
    owner.wait()
    left = alive(pids, 5)
    if word == "fork":
        assert owner.stdout
        os.kill(int(owner.stdout.readline()), signal.SIGKILL)
    owner.communicate()
    assert left == set() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_its_owner_is_ended_in_play(
    signal_number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    owner = start(MATCH)
    pids = children(owner.pid)
    assert len(pids) == 2 and owner.stdin
    owner.stdin.write("play\n")
    owner.stdin.flush()
    time.sleep(0.2)
    owner.send_signal(signal_number)
    assert alive(pids | {owner.pid}, 5) == set()
    owner.communicate()
    assert list(tmp_path.iterdir()) == []


def processes(bridge: Bridge) -> tuple[int, int]:
    """The worker of a single match and its player."""
    (worker_pid,) = (each._process.pid for each in bridge._workers)
    (player_pid,) = children(worker_pid)
    return worker_pid, player_pid


@pytest.mark.parametrize(
    ("of_worker", "signal_number", "reason"),
    [
        (True, signal.SIGKILL, r"the worker ended \(SIGKILL\)"),
        (True, signal.SIGSTOP, "no answer within 2 s"),
        (False, signal.SIGKILL, r"the player ended \(signal 9\)"),
        (False, signal.SIGSTOP, "no answer within 2 s"),
    ],
    ids=["worker-crash", "worker-hang", "player-crash", "player-hang"],
)
@pytest.mark.parametrize("ask", [lambda bridge: bridge.step(chase(bridge)), lambda bridge: bridge.reset([8])])
def test_a_fault_is_an_error_with_its_reason_and_leaves_nothing(
    ask: Callable[[Bridge], None], of_worker: bool, signal_number: signal.Signals, reason: str, bridge: Bridge
) -> None:
    pids = processes(bridge)
    bridge.timeout_s = 2
    struck = pids[0 if of_worker else 1]
    os.kill(struck, signal_number)
    if signal_number == signal.SIGKILL:
        assert alive({struck}, 5) == set()
    with pytest.raises(TrialFailed, match=f"soccer match 0 of 1: {reason}"):
        ask(bridge)
    assert alive(set(pids), 5) == set()
    with pytest.raises(RuntimeError, match="make another one"):
        ask(bridge)


def test_all_matches_end_with_the_one_that_failed() -> None:
    bridge = Bridge(2)
    try:
        bridge.reset([1, 2])
        pids = {pid for each in bridge._workers for pid in (each._process.pid, *children(each._process.pid))}
        os.kill(bridge._workers[1]._process.pid, signal.SIGKILL)
        with pytest.raises(TrialFailed, match="soccer match 1 of 2"):
            bridge.step(np.zeros((2, 4, 3), int))
        assert len(pids) == 4 and alive(pids, 5) == set()
    finally:
        bridge.close()


def player_that(does: str, folder: Path) -> str:
    """An executable that is no player."""
    path = folder / "soccer-twos.x86_64"
    path.write_text(does)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("#!/bin/sh\nexec sleep 1000\n", "no answer within 3 s"),
        ("#!/bin/sh\nexit 3\n", r"the player ended \(exit code 3\)"),
        ("no program", "exit code 127.*Exec format error"),
    ],
)
def test_a_player_that_never_connects_is_an_error(does: str, reason: str, tmp_path: Path) -> None:
    bridge = Bridge(1, "unity", player_that(does, tmp_path), timeout_s=30)
    try:
        bridge.timeout_s = 3
        with pytest.raises(TrialFailed, match=reason):
            bridge.reset([1])
        assert alive(not_of_ray(os.getpid()), 5) == set()
    finally:
        bridge.close()


def test_a_player_of_ones_own_is_started_by_its_path_with_or_without_suffix(tmp_path: Path) -> None:
    stand_in = f'#!/bin/sh\nexec "{sys.executable}" -m tuner.envs.soccer.stand_in "$@"\n'
    path = player_that(stand_in, tmp_path)
    for env_path in (path, path.removesuffix(".x86_64")):
        bridge = Bridge(1, "unity", env_path)
        try:
            bridge.reset([7])
            bridge.step(chase(bridge))
        finally:
            bridge.close()


@pytest.mark.parametrize(
    ("player", "env_path", "what"),
    [
        ("unity", "nowhere/soccer-twos.x86_64", "no such file"),
        ("unity", __file__, "chmod"),
        ("stand-in", __file__, 'it is for player "unity"'),
        ("Unity", None, "stand-in and unity"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_starts(player: str, env_path: str | None, what: str) -> None:
    before = not_of_ray(os.getpid())
    with pytest.raises(UsageError, match=what):
        Bridge(1, player, env_path)
    assert not_of_ray(os.getpid()) == before


def test_without_a_worker_environment_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"run python -m tuner\.doctor --install-soccer"):
        Bridge(1)


def test_another_version_of_the_package_is_refused(
    soccer_worker: WorkerEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rllib-ppo-tuner" / "soccer-worker"
    shutil.copytree(soccer_worker.path, path, symlinks=True)
    metadata = next(path.glob("lib/python*/site-packages/soccer_twos-*/METADATA"))
    metadata.write_text(metadata.read_text().replace("Version: 0.1.14", "Version: 0.1.13"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"soccer-twos 0\.1\.13, 0\.1\.14 is needed"):
        Bridge(1).reset([0])
    assert alive(not_of_ray(os.getpid()), 5) == set()
