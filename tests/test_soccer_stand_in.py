"""The stand-in player: what a trainer gets to see of it, message by message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import ROOT
from tests.soccer import chase
from tuner.envs.soccer import wire
from tuner.envs.soccer.field import Field
from tuner.envs.soccer.stand_in import TEAMS, play

Reply = tuple[int, NDArray[Any] | None]  # the command and the actions, (4, 3)


class Trainer:
    """Answers a player from a script, and keeps what the player showed."""

    def __init__(self, seed: int, replies: Iterator[Reply]) -> None:
        self.seed = seed
        self.replies = replies
        self.initializations: list[Any] = []
        self.shown: list[Any] = []

    def exchange(self, message: Any) -> Any:
        """One call of the player's."""
        assert message.header.status == wire.OK
        reply = wire.Message()
        reply.header.status = wire.OK
        output = message.unity_output
        if output.HasField("rl_initialization_output"):
            self.initializations.append(output.rl_initialization_output)
        if len(self.initializations) == 1 and message.HasField("unity_output"):
            reply.unity_input.rl_initialization_input.seed = self.seed
            return reply
        if output.HasField("rl_output"):
            self.shown.append({entry.key: entry.value.value for entry in output.rl_output.agentInfos})
        command, actions = next(self.replies, (wire.QUIT, None))
        rl_input = reply.unity_input.rl_input
        rl_input.command = command
        for team in range(2 if actions is not None else 0):
            value = rl_input.agent_actions.add(key=TEAMS[team]).value.value
            for player in (2 * team, 2 * team + 1):
                value.add(discrete_actions=actions[player])
        return reply


def observations(shown: Any) -> NDArray[np.float32]:
    """(4, 345), as the package puts them together."""
    agents = [agent for team in TEAMS for agent in shown[team]]
    return np.array([[x for o in agent.observations for x in o.float_data.data] for agent in agents], np.float32)


def seen(field: Field) -> NDArray[np.float32]:
    """The same of a field."""
    return np.concatenate([field.observations[0], field.extras[0]], axis=1)


RESET: Reply = (wire.RESET, None)
STILL: Reply = (wire.STEP, np.zeros((4, 3), int))


def test_the_first_messages_say_who_plays_and_what_it_takes() -> None:
    trainer = Trainer(3, iter([RESET]))
    play(Field(1), trainer.exchange)
    hello, behaviours = trainer.initializations
    assert (hello.communication_version, hello.package_version) == ("1.5.0", "2.1.0-exp.1")
    assert hello.capabilities.multiAgentGroups and not hello.brain_parameters
    assert [each.brain_name for each in behaviours.brain_parameters] == list(TEAMS)
    assert [list(each.action_spec.discrete_branch_sizes) for each in behaviours.brain_parameters] == [[3, 3, 3]] * 2
    agents = [agent for team in TEAMS for agent in trainer.shown[0][team]]
    assert sorted(agent.id for agent in agents) == [0, 1, 2, 3]
    assert [[list(o.shape) for o in agent.observations] for agent in agents] == [[[264], [72], [9]]] * 4


@pytest.mark.parametrize("seed", [0, 3, 2**31 - 1, 2**32 - 1])
def test_the_resets_of_the_beginning_place_nothing_anew(seed: int) -> None:
    field = Field(1)
    field.reset([seed])
    trainer = Trainer(seed - 2**32 if seed >= 2**31 else seed, iter([RESET, RESET, RESET]))
    play(Field(1), trainer.exchange)
    assert len(trainer.shown) == 3
    for shown in trainer.shown:
        assert np.array_equal(observations(shown), seen(field))


def test_a_reset_in_mid_episode_moves_nothing() -> None:
    trainer = Trainer(3, iter([RESET, (wire.STEP, np.ones((4, 3), int)), RESET]))
    play(Field(1), trainer.exchange)
    first, moved, after = map(observations, trainer.shown)
    assert not np.array_equal(first, moved) and np.array_equal(moved, after)


@pytest.mark.parametrize("after", [RESET, STILL], ids=["reset", "step"])
def test_a_match_that_ended_is_placed_anew_at_the_next_exchange(after: Reply) -> None:
    field = Field(1)
    field.reset([3])

    def replies() -> Iterator[Reply]:
        yield RESET
        while not (field.terminateds[0] or field.truncateds[0]):
            actions = chase(field).copy()
            field.step(actions)
            yield wire.STEP, actions[0]
        yield after

    trainer = Trainer(3, replies())
    play(Field(1), trainer.exchange)
    last, anew = trainer.shown[-2:]
    agents = [agent for team in TEAMS for agent in last[team]]
    assert all(agent.done for agent in agents) and not any(agent.max_step_reached for agent in agents)
    assert np.array_equal([agent.group_reward for agent in agents], field.rewards[0]) and field.rewards.any()
    assert np.array_equal(observations(last), seen(field))
    field.step(np.zeros((1, 4, 3), int))
    assert np.array_equal(observations(anew), seen(field))
    assert not any(agent.done or agent.group_reward for team in TEAMS for agent in anew[team])


def test_the_time_limit_is_said_apart() -> None:
    trainer = Trainer(3, iter([RESET, *[STILL] * 1000]))
    play(Field(1), trainer.exchange)
    assert not any(agent.done for team in TEAMS for agent in trainer.shown[-2][team])
    assert all(agent.done and agent.max_step_reached for team in TEAMS for agent in trainer.shown[-1][team])


def closed(message: Any) -> Any:
    """A trainer that has had enough."""
    reply = wire.Message()
    reply.header.status = 400
    return reply


def lost(message: Any) -> Any:
    """A trainer whose connection breaks."""
    raise ConnectionError


@pytest.mark.parametrize("end", [closed, lost])
@pytest.mark.parametrize("calls", [0, 1, 2, 5])
def test_it_plays_no_further_when_the_trainer_is_gone(end: Callable[[Any], Any], calls: int) -> None:
    trainer = Trainer(3, iter([RESET, *[STILL] * 99]))
    made = 0

    def exchange(message: Any) -> Any:
        nonlocal made
        made += 1
        return trainer.exchange(message) if made <= calls else end(message)

    if end is lost:
        with pytest.raises(ConnectionError):
            play(Field(1), exchange)
    else:
        play(Field(1), exchange)
    assert made == calls + 1


def test_the_process_ends_by_itself_where_nobody_listens() -> None:
    command = [sys.executable, "-m", "tuner.envs.soccer.stand_in", "-nographics", "-batchmode", "--mlagents-port", "1"]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 0


def test_it_starts_without_ray_and_torch() -> None:
    ask = "import sys, tuner.envs.soccer.stand_in, tuner.envs.soccer.field; print({'ray', 'torch'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
