"""The stand-in player: plays the field in the Unity player's place, and speaks to its trainer as that does."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np

from tuner.envs.soccer import wire
from tuner.envs.soccer.matches import BRANCHES, EXTRAS, PLAYERS, Matches

TEAMS = ("SoccerTwos?team=0", "SoccerTwos?team=1")
SENSORS = (("ForwardRays", 264), ("BackwardRays", 72), ("Vector", EXTRAS))

_PDEATHSIG = 1
_IDS = (0, 2, 1, 3)  # the simulation counts the players by turns, the package team after team


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Connect to the trainer, play one match for it, and end when it has enough or is gone.

    The options are those that ML-Agents gives a player; the others that it gives mean nothing here.
    """
    parser = argparse.ArgumentParser(prog="soccer-stand-in", description=__doc__, allow_abbrev=False)
    parser.add_argument("--mlagents-port", type=int, required=True, metavar="N", help="where the trainer listens")
    parser.add_argument("-logFile", type=Path, metavar="FILE", help="where to write what goes wrong")
    args, _ = parser.parse_known_args(argv)
    if args.logFile:
        sys.stderr = args.logFile.open("a", buffering=1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    from tuner.envs.soccer.field import Field

    # A proxy of the environment is not for this machine's own address.
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{args.mlagents_port}", options) as channel:
        exchange = channel.unary_unary(
            wire.EXCHANGE,
            request_serializer=wire.Message.SerializeToString,
            response_deserializer=wire.Message.FromString,
        )
        with suppress(grpc.RpcError):  # the trainer is gone
            play(Field(1), exchange)
        os._exit(0)  # nothing is left to put in order, and the trainer waits


def play(matches: Matches, exchange: Callable[[Any], Any]) -> None:
    """Play one match, seeded as the trainer says, until it quits.

    A match that has ended is placed anew at the next exchange, whatever that says; otherwise a RESET moves nothing.

    Args:
        matches: A single match.
        exchange: Sends a message and returns the answer; what it raises ends the match.
    """
    hello = _message()
    hello.unity_output.rl_initialization_output.CopyFrom(_initialization())
    reply = exchange(hello)
    if reply.header.status != wire.OK:
        return
    matches.reset([reply.unity_input.rl_initialization_input.seed % 2**32])
    reply = exchange(_message())
    over, first = False, True
    while reply.header.status == wire.OK and reply.unity_input.rl_input.command != wire.QUIT:
        rl_input = reply.unity_input.rl_input
        if over or rl_input.command == wire.STEP:
            matches.step(_actions(rl_input))
            over = bool(matches.terminateds[0] or matches.truncateds[0])
        state = _message()
        _write(matches, over, state.unity_output.rl_output)
        if first:
            state.unity_output.rl_initialization_output.CopyFrom(_initialization(behaviours=TEAMS))
            first = False
        reply = exchange(state)


def _message() -> Any:
    message = wire.Message()
    message.header.status = wire.OK
    return message


def _initialization(behaviours: Sequence[str] = ()) -> Any:
    """Who plays; and, where they are named, what its behaviours do."""
    output = wire.Message().unity_output.rl_initialization_output
    output.name = "SoccerTwos"
    output.communication_version = wire.API_VERSION
    output.package_version = wire.PACKAGE_VERSION
    for capability in output.capabilities.DESCRIPTOR.fields:
        setattr(output.capabilities, capability.name, True)
    for name in behaviours:
        behaviour = output.brain_parameters.add(brain_name=name, is_training=True)
        behaviour.action_spec.num_discrete_actions = len(BRANCHES)
        behaviour.action_spec.discrete_branch_sizes.extend(BRANCHES)
    return output


def _actions(rl_input: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(1, 4, 3); zeros for a player that the trainer left out."""
    actions = np.zeros((1, PLAYERS, len(BRANCHES)), np.int64)
    for entry in rl_input.agent_actions:
        for member, action in enumerate(entry.value.value):
            actions[0, 2 * TEAMS.index(entry.key) + member] = action.discrete_actions
    return actions


def _write(matches: Matches, over: bool, output: Any) -> None:
    """Put the state of the match into the message, as its players see it."""
    for team, name in enumerate(TEAMS):
        seen = output.agentInfos.add(key=name).value
        for player in (2 * team, 2 * team + 1):
            agent = seen.value.add(
                id=_IDS[player],
                group_id=team + 1,
                group_reward=float(matches.rewards[0, player]),
                done=over,
                max_step_reached=bool(matches.truncateds[0]),
            )
            numbers = [*matches.observations[0, player].tolist(), *matches.extras[0, player].tolist()]
            start = 0
            for sensor, size in SENSORS:
                observation = agent.observations.add(shape=[size], name=sensor, dimension_properties=[1])
                observation.float_data.data.extend(numbers[start : start + size])
                start += size


if __name__ == "__main__":
    main()
