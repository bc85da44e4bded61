"""The soccer judge: matches against scripts, from both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.envs.soccer.field import Field
from tuner.envs.soccer.judge import MATCHES, OPPONENTS, SIDES, TEAM, Pairing, against_scripts
from tuner.envs.soccer.opponents import Chaser
from tuner.envs.soccer.settings import Seat, Settings
from tuner.episodes import Goal
from tuner.judgement import Judgement
from tuner.training import RunConfig

VARIATIONS: list[dict[str, Any]] = [
    {"single_player": single, "flatten_branched": flat} for single in (True, False) for flat in (True, False)
] + [{"variation": "multiagent_team"}, {"variation": "multiagent_player", "flatten_branched": True}]


def run_of(**env_config: Any) -> RunConfig:
    return RunConfig("tuner/SoccerTwos-v0", "fused", 3, Goal(None, 50, 100), {}, env_config)


def standing(env_config: dict[str, Any], seen: list[tuple[int, ...]]) -> Any:
    """A policy that never moves."""
    space = Settings.of(env_config).seats[0].action_space

    def policy(observations: NDArray[np.float32]) -> NDArray[np.int64]:
        seen.append(observations.shape)
        return np.zeros((len(observations), *(space.shape or ())), np.int64)

    return policy


def running(observations: NDArray[np.float32]) -> NDArray[np.int64]:
    """One player who runs at what the ray straight ahead sees, where it is the ball, and else turns on the run."""
    sees_ball = observations[:, 2 * 88] > 0  # the newest frame's first ray, its first tag
    return np.where(sees_ball, 9, 10).astype(np.int64)


@pytest.mark.parametrize("env_config", VARIATIONS, ids=str)
def test_every_variation_plays_every_script_from_both_sides(env_config: dict[str, Any]) -> None:
    seen: list[tuple[int, ...]] = []
    found = against_scripts(standing(env_config, seen), run_of(**env_config), 5)
    assert [(record.opponent, record.side) for record in found.records] == [
        (name, side) for name in OPPONENTS for side in SIDES
    ]
    assert all(record.matches == MATCHES for record in found.records)
    still, _, chaser = (found.records[at : at + 2] for at in (0, 2, 4))
    assert all(record.draws == MATCHES for record in still), "nobody moves"
    assert all(record.losses == MATCHES for record in chaser)
    seats = 2 if env_config.get("variation") == "multiagent_player" else 1
    assert seen[0][0] == 6 * MATCHES * seats


@pytest.mark.parametrize("team", [0, 1])
def test_who_runs_at_the_ball_beats_who_stands_on_either_side(team: int) -> None:
    pairing, chaser = Pairing("still", team, [Seat((0, 1), is_flat=False)], [5]), Chaser(MATCHES)
    first = TEAM * team
    while not pairing.is_over.all():
        np.testing.assert_array_equal(
            pairing.observations, pairing._field.observations[:, first : first + TEAM].reshape(MATCHES, -1)
        )
        pairing.step(chaser.act(pairing._field, team).reshape(MATCHES, -1))
    assert pairing.record.wins >= MATCHES - 3, "an own goal may happen"


def test_the_same_seed_gives_the_same_matches_and_another_one_others() -> None:
    env_config = {"single_player": True, "flatten_branched": True}
    found = [against_scripts(running, run_of(**env_config), seed) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("team", [0, 1])
def test_a_match_counts_once_for_the_team_that_scored(team: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The field's own flags are set by hand: a goal of blue's, one of orange's, the time limit."""
    pairing = Pairing("still", team, [Seat((0,), True)], [1, 2])
    field: Field = pairing._field

    def step(actions: NDArray[np.int64]) -> None:
        field.terminateds[:], field.truncateds[:] = False, False
        field.terminateds[:3], field.truncateds[3:] = True, True
        field.rewards[:2, :TEAM], field.rewards[:2, TEAM:] = 0.9, -1.0
        field.rewards[2, :TEAM], field.rewards[2, TEAM:] = -1.0, 0.9

    monkeypatch.setattr(field, "step", step)
    for _ in range(2):
        pairing.step(np.zeros(MATCHES, np.int64))
    record = pairing.record
    assert (record.wins, record.losses) == ((2, 1) if team == 0 else (1, 2)) and record.draws == MATCHES - 3
    assert Judgement.of_matches([record]).score == (record.wins + record.draws / 2) / MATCHES
