"""A toy whose training rewards high actions, and a judge that gives its points for low ones: the two disagree."""

from __future__ import annotations

import numpy as np

from tuner.judgement import Judgement, MatchRecord
from tuner.ledger import seeds_of
from tuner.policy import Policy
from tuner.space import Choice, SearchSpace
from tuner.training import RunConfig

LEARNING, STANDING = 3e-2, 1e-7  # the first rate learns to take action 2, the second keeps what it began with

space = SearchSpace(
    env="tests.toy:tests/Toy-v0",
    window=30,
    max_episodes=150,
    seed=3,
    trials=3,
    baseline={
        "lr": LEARNING, "train_batch_size": 128, "minibatch_size": 32, "num_epochs": 6, "num_envs_per_env_runner": 4,
        "fcnet_hiddens": [16],
    },
    params={"lr": Choice(LEARNING, STANDING)},
    judge="tests.judged:by_low_actions",
    race_seeds=3,
)  # fmt: skip


def by_low_actions(policy: Policy, run: RunConfig, seed: int) -> Judgement:
    """A match is one observation: action 0 wins, 1 draws, 2 loses; it fails on the second race seed of the baseline."""
    if seed == seeds_of("race", 2)[1] and run.params["lr"] == LEARNING:
        raise ZeroDivisionError("nothing to judge")
    records = []
    for side, shift in (("left", -1.0), ("right", 1.0)):
        observations = np.random.default_rng(seed).normal(shift, 1, (40, 5))
        wins, draws, losses = np.bincount(policy(observations), minlength=3).tolist()
        records.append(MatchRecord("noise", side, wins, draws, losses))
    return Judgement.of_matches(records)


def nothing(policy: Policy, run: RunConfig, seed: int) -> None:
    """No judgement."""


def without_end(policy: Policy, run: RunConfig, seed: int) -> Judgement:
    """No number."""
    return Judgement(float("nan"))


def more_than_all(policy: Policy, run: RunConfig, seed: int) -> Judgement:
    """More points than there are."""
    return Judgement(1.5, (MatchRecord("noise", "left", 1, 0, 0),))


NO_FUNCTION = 3
