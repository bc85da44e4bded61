"""`tuner/SoccerTwos-v0`: Gymnasium's contract, the package's variations, the shaping, and training on it."""

import dataclasses
import subprocess
import sys

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium.utils.env_checker import check_env

from tuner import catalog, environment
from tuner.envs.soccer.env import SoccerTwosVector, make
from tuner.envs.soccer.settings import Settings
from tuner.errors import UsageError
from tuner.layout import TrialDir
from tuner.training import RunConfig, Training

ID = "tuner/SoccerTwos-v0"
FLAT = {"flatten_branched": True}
ONE = {"single_player": True}
VARIATIONS = [
    {},
    FLAT,
    ONE,
    FLAT | ONE,
    FLAT | ONE | {"opponent": "chaser", "ball_progress": 1.0},
    {"opponent": "still"},
]


@pytest.mark.parametrize("config", VARIATIONS)
def test_gymnasiums_checker_passes(config):
    check_env(gymnasium.make(ID, **config).unwrapped)


@pytest.mark.parametrize(
    ("config", "width", "action_space"),
    [
        ({}, 672, gymnasium.spaces.MultiDiscrete([3] * 6)),
        (FLAT, 672, gymnasium.spaces.Discrete(729)),
        (ONE, 336, gymnasium.spaces.MultiDiscrete([3] * 3)),
        (FLAT | ONE, 336, gymnasium.spaces.Discrete(27)),
    ],
)
def test_spaces_are_the_packages(config, width, action_space):
    env = gymnasium.make(ID, **config)
    assert env.observation_space == gymnasium.spaces.Box(0, 1, (width,), np.float32)
    assert env.action_space == action_space


def test_the_id_works_in_a_process_that_has_not_imported_this_project():
    code = "import gymnasium; print(gymnasium.make('tuner.envs:tuner/SoccerTwos-v0').observation_space.shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(672,)"


def rollout(env, steps, seed):
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    seen = [observation]
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        seen.append((observation.copy(), reward, terminated, truncated, info))
        if terminated or truncated:
            seen.append(env.reset()[0])
    return seen


def test_a_vector_plays_what_single_environments_play():
    config = FLAT | ONE | {"ball_progress": 0.5}
    vector = gymnasium.make_vec(ID, 3, vectorization_mode="vector_entry_point", **config)
    singles = [gymnasium.make(ID, **config) for _ in range(3)]
    observations, _ = vector.reset(seed=40)
    for index, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=40 + index)[0], observations[index])
    over, ended = np.zeros(3, bool), 0
    for actions in np.random.default_rng(0).integers(0, 27, (3000, 3)):
        observations, rewards, terminateds, truncateds, infos = vector.step(actions)
        for index, env in enumerate(singles):
            if over[index]:
                np.testing.assert_array_equal(env.reset()[0], observations[index])
                assert rewards[index] == 0
                continue
            observation, reward, terminated, truncated, info = env.step(actions[index])
            np.testing.assert_array_equal(observation, observations[index])
            assert (reward, terminated, truncated) == (rewards[index], terminateds[index], truncateds[index])
            np.testing.assert_array_equal(info["ball_info"]["position"], infos["ball_info"]["position"][index])
        over = terminateds | truncateds
        ended += over.sum()
    assert ended >= 6


def test_infos_hold_the_nine_numbers_under_the_packages_names():
    env = gymnasium.make(ID)
    _, info = env.reset(seed=1)
    assert {name: {key: np.shape(value) for key, value in part.items()} for name, part in info.items()} == {
        "player_info": {"position": (2,), "rotation_y": (), "velocity": (2,)},
        "ball_info": {"position": (2,), "velocity": (2,)},
    }
    assert info["player_info"]["position"][0] < 0 < info["player_info"]["rotation_y"]


def test_actions_reach_the_players_they_are_meant_for():
    team, one = SoccerTwosVector(1, flatten_branched=True), SoccerTwosVector(1, single_player=True)
    branches = SoccerTwosVector(1)
    starts = [env.reset(seed=3) and env.matches.extras[0].copy() for env in (team, one, branches)]
    team.step(np.array([27 * (9 * 1) + 2]))  # the first runs forward, the second turns right
    branches.step(np.array([[1, 0, 0, 0, 0, 2]]))
    one.step(np.array([[1, 0, 0]]))
    np.testing.assert_array_equal(team.matches.extras[:, :2], branches.matches.extras[:, :2])
    moved = [env.matches.extras[0] - start for env, start in zip((team, one), starts[:2], strict=True)]
    assert moved[0][0, 0] > 0.2 and moved[0][0, 2] == 0 and moved[0][1, 2] == pytest.approx(10)
    assert moved[1][0, 0] > 0.2 and not moved[1][1, :5].any(), "a mate without an agent stands still"


def test_an_episodes_shaping_sums_to_nothing():
    plain = SoccerTwosVector(32, opponent="chaser")
    shaped = SoccerTwosVector(32, opponent="chaser", ball_progress=2.0, ball_distance=1.0)
    for env in (plain, shaped):
        env.reset(seed=5)
    sums, ended, largest = np.zeros((2, 32)), 0, 0.0
    for actions in np.random.default_rng(1).integers(0, 3, (400, 32, 6)):
        (_, a, over, cut, _), (_, b, *_) = plain.step(actions), shaped.step(actions)
        sums += a, b
        largest = max(largest, np.abs(sums[1] - sums[0]).max())
        done = over | cut
        np.testing.assert_allclose(sums[1, done], sums[0, done], atol=1e-4)
        ended += done.sum()
        sums[:, done] = 0
    assert ended > 100 and largest > 0.5


def test_an_episode_that_is_begun_again_owes_nothing():
    env = SoccerTwosVector(1, opponent="still", ball_distance=1.0, flatten_branched=True, single_player=True)
    env.reset(seed=0)
    for _ in range(30):
        env.step(np.array([9]))
    env.reset(seed=0)
    total = sum(env.step(np.array([0]))[1][0] for _ in range(1000))
    assert total == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("weights", "ball_speed", "action"), [({"ball_progress": 1.0}, 10.0, 0), ({"ball_distance": 1.0}, 0.0, 9)]
)
def test_shaping_is_the_way_in_field_lengths(weights, ball_speed, action):
    env = SoccerTwosVector(1, opponent="still", single_player=True, flatten_branched=True, **weights)
    env.reset(seed=0)
    state = env.get_state()
    state["matches"][0][0, 4, 3] = ball_speed  # towards +x
    env.set_state(state)

    def places():
        player, ball = env.matches.extras[0, 0, 0:2].copy(), env.matches.extras[0, 0, 5:7].copy()
        return ball[0], np.linalg.norm(ball - player)

    before = places()
    _, rewards, *_ = env.step(np.array([action]))
    after = places()
    way = after[0] - before[0] if "ball_progress" in weights else before[1] - after[1]
    assert rewards[0] == pytest.approx(way / 31, rel=1e-3) and way > 0.2


def test_seeds_differ_within_a_run_and_repeat_with_it():
    first, second, other = (SoccerTwosVector(16) for _ in range(3))
    a, b, c = (env.reset(seed=seed)[0].copy() for env, seed in ((first, 9), (second, 9), (other, 1000)))
    assert len({row.tobytes() for row in a}) == 16
    np.testing.assert_array_equal(a, b)
    assert not np.any(np.all(a == c, axis=1))
    unseeded = [SoccerTwosVector(2).reset()[0].tobytes() for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_a_saved_state_goes_on_as_if_never_interrupted():
    first, second = (SoccerTwosVector(8, ball_progress=1.0, ball_distance=0.5) for _ in range(2))
    first.reset(seed=1)
    actions = np.random.default_rng(0).integers(0, 3, (1200, 8, 6))
    for action in actions[:500]:
        first.step(action)
    second.reset(seed=2)
    second.set_state(first.get_state())
    ended = 0
    for action in actions[500:]:
        mine, theirs = first.step(action), second.step(action)
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        ended += (mine[2] | mine[3]).sum()
    assert ended > 3


@pytest.mark.parametrize(("variation", "agents", "width"), [("multiagent_team", 2, 672), ("multiagent_player", 4, 336)])
def test_several_agents_play_with_the_packages_ids(variation, agents, width):
    env = make(variation=variation, flatten_branched=True)
    observations, infos = env.reset(seed=3)
    again, _ = make(variation=variation).reset(seed=3)
    assert sorted(observations) == sorted(infos) == env.possible_agents == list(range(agents))
    assert all(np.array_equal(again[agent], seen) and seen.shape == (width,) for agent, seen in observations.items())
    rng = np.random.default_rng(0)
    for _ in range(3000):
        actions = {agent: rng.integers(env.action_spaces[agent].n) for agent in env.agents}
        observations, rewards, terminateds, truncateds, _ = env.step(actions)
        assert all(env.observation_spaces[agent].contains(seen) for agent, seen in observations.items())
        if terminateds["__all__"]:
            break
        assert not any(rewards.values())
        if truncateds["__all__"]:
            env.reset()
    per_team = 2 if variation == "multiagent_team" else 1
    assert min(rewards.values()) == -per_team and 0 < max(rewards.values()) < per_team


def test_the_notebooks_keys_are_understood():
    class EnvType:  # the package's enumeration, as far as it is looked at
        value = "team_vs_policy"

    config = {"render": False, "time_scale": 50, "multiagent": False, "variation": EnvType, "worker_id": 3}
    env = gymnasium.make(ID, **config, **FLAT, **ONE)
    assert env.action_space.n == 27


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"variaton": "team_vs_policy"}, "variation"),
        ({"variation": "solo"}, "multiagent_player"),
        ({"opponent": "nobody"}, "chaser"),
        ({"single_player": 1}, "true or false"),
        ({"ball_progress": -1}, "ball_progress"),
        ({"ball_progress": "a"}, "ball_progress"),
        ({"player": "unreal"}, "stand-in"),
        ({"env_path": "/nowhere"}, "unity"),
        ({"variation": "multiagent_team", "single_player": True}, "team_vs_policy"),
        ({"variation": "multiagent_team", "multiagent": False}, "multiagent"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(config, named):
    with pytest.raises(UsageError, match=named):
        environment.check(ID, config)


@pytest.mark.parametrize(
    "words",
    [
        ("env_config.player=unity", "env_config.env_path=/nowhere/soccer-twos.x86_64"),
        ("env_config.player=stand-in", "env_config.env_path=/nowhere/soccer-twos.x86_64"),
        ("env_config.opponent=/nowhere",),
        ("env_config.speed=2",),
    ],
)
def test_a_sweep_that_cannot_play_ends_with_2_and_the_reason_last(words, command, tmp_path):
    done = command("sweep", "soccer", "--out", tmp_path, *(part for word in words for part in ("--set", word)))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_settings_of_the_field_need_no_package():
    assert Settings.of({}).player == "field"


def soccer(**changes):
    return dataclasses.replace(catalog.load("soccer").space, threshold=None, max_episodes=40, max_steps=None, **changes)


def train(space, folder, engine="fused", stop_at=None, **params):
    suggested = {"train_batch_size": 1024, "num_envs_per_env_runner": 16, "minibatch_size": 256, "num_epochs": 1}
    training = Training(RunConfig.of(space, engine, 1, space.resolve(suggested | params)), TrialDir(folder))
    try:
        while not training.is_finished and (stop_at is None or training.outcome.episodes < stop_at):
            training.advance(0.0)
        path = training.advance(0.0).path if training.is_finished else None
        training.save()
    finally:
        training.close()
    return path


def test_a_killed_runs_table_equals_an_undisturbed_ones(local_ray, tmp_path):
    assert train(soccer(), tmp_path / "whole") == "compiled"
    train(soccer(), tmp_path / "killed", stop_at=10)
    train(soccer(), tmp_path / "killed")
    whole, killed = (
        pd.read_csv(tmp_path / name / "episodes.csv").drop(columns="wall_s") for name in ("whole", "killed")
    )
    assert len(whole) == 40
    pd.testing.assert_frame_equal(whole, killed)


@pytest.mark.parametrize("variation", ["multiagent_team", "multiagent_player"])
def test_several_agents_train_one_policy_and_go_on_from_a_checkpoint(variation, local_ray, tmp_path):
    space = dataclasses.replace(
        soccer(), env_config={"variation": variation, "flatten_branched": True}, params={}, max_episodes=3
    )
    shape = {"train_batch_size": 256, "num_envs_per_env_runner": 2, "minibatch_size": 128, "num_epochs": 1}
    train(space, tmp_path, stop_at=1, **shape)
    begun = pd.read_csv(tmp_path / "episodes.csv")
    assert train(space, tmp_path, **shape) == "rllib: multi-agent"
    rows = pd.read_csv(tmp_path / "episodes.csv")
    assert len(rows) == 3 and rows.iloc[: len(begun)].equals(begun)
    # All four players' together: a goal is 1 - t / 5000 to two of them and -1 to the other two, and t is in updates.
    t = np.where(rows.length < 1000, 5 * rows.length, 0)
    np.testing.assert_allclose(rows.reward, -2 * t / 5000, atol=2 * 5 / 5000)


def test_what_is_searched_of_the_environment_reaches_it(local_ray, tmp_path):
    train(soccer(), tmp_path / "plain", stop_at=1, **{"env_config.ball_progress": 2.0, "num_epochs": 1})
    config = TrialDir(tmp_path / "plain").config.read_text()
    assert '"ball_progress": 2.0' in config and "env_config." not in config
