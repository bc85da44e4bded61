"""Judges a policy by matches on the field: against still, random and chaser, from both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.envs.soccer.field import Field
from tuner.envs.soccer.matches import BRANCHES, PLAYERS
from tuner.envs.soccer.opponents import opponent
from tuner.envs.soccer.settings import Seat, Settings
from tuner.judgement import Judgement, MatchRecord
from tuner.policy import Policy
from tuner.training import RunConfig

SIDES = ("blue", "orange")  # the number of a side is its team's
OPPONENTS = ("still", "random", "chaser")
MATCHES = 20  # a pairing
TEAM = 2  # players


def against_scripts(policy: Policy, run: RunConfig, seed: int) -> Judgement:
    """20 matches against each script from each side, to the first goal or the time limit, in the run's variation.

    The policy sees the pitch from its own players, so that it plays either side. Its matches are on the field,
    whatever the run was trained on.
    """
    seats = [seat for seat in Settings.of(run.env_config).seats if seat.players[0] < TEAM]
    pairings = [
        Pairing(name, team, seats, [seed, index])
        for index, (name, team) in enumerate((name, team) for name in OPPONENTS for team in range(len(SIDES)))
    ]
    while going_on := [pairing for pairing in pairings if not pairing.is_over.all()]:
        # All pairings at once: the policy's cost is more by the call than by the row.
        actions = policy(np.concatenate([pairing.observations for pairing in going_on]))
        for pairing, own in zip(going_on, np.split(actions, len(going_on)), strict=True):
            pairing.step(own)
    return Judgement.of_matches([pairing.record for pairing in pairings])


class Pairing:
    """The matches of a policy, in the seats of one team, against one script."""

    def __init__(self, name: str, team: int, seats: Sequence[Seat], seed: Sequence[int]) -> None:
        """Begin every match, each with a seed of its own."""
        first = TEAM * team
        self._name = name
        self._team = team
        self._seats = [replace(seat, players=tuple(first + player for player in seat.players)) for seat in seats]
        self._field = Field(MATCHES)
        self._script = opponent(name, MATCHES)
        self._actions = np.zeros((MATCHES, PLAYERS, len(BRANCHES)), np.int64)
        self._goals = np.zeros(MATCHES, np.int64)  # 1: scored, -1: conceded
        self.is_over = np.zeros(MATCHES, np.bool_)
        seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(MATCHES, np.uint64)]
        self._field.reset(seeds)
        self._script.seed(seeds)

    @property
    def observations(self) -> NDArray[np.float32]:
        """What the policy sees, (seats x matches, numbers of a seat)."""
        return np.concatenate([seat.observe(self._field.observations) for seat in self._seats])

    def step(self, actions: NDArray[np.integer[Any]]) -> None:
        """One decision in every match: an action for each row of `observations`; only a match's first end counts."""
        for seat, own in zip(self._seats, np.split(actions, len(self._seats)), strict=True):
            seat.write(own, self._actions)
        other = TEAM * (1 - self._team)
        self._actions[:, other : other + TEAM] = self._script.act(self._field, 1 - self._team)
        self._field.step(self._actions)
        ended = (self._field.terminateds | self._field.truncateds) & ~self.is_over
        self._goals[ended] = np.sign(self._field.rewards[ended, TEAM * self._team])
        self.is_over |= ended

    @property
    def record(self) -> MatchRecord:
        """How the matches ended."""
        wins, draws, losses = (int((self._goals == goal).sum()) for goal in (1, 0, -1))
        return MatchRecord(self._name, SIDES[self._team], wins, draws, losses)
