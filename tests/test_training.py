"""One run in one folder: stopped exactly, saved, gone on with, or failed with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests.judged import space as judged
from tests.test_ppo import SMALL
from tests.test_sweep import rows_of
from tuner.episodes import Goal
from tuner.errors import StateError, TrialFailed
from tuner.layout import TrialDir
from tuner.training import RunConfig, Training
from tuner.trial import PPOTrial, result_every_s

pytestmark = pytest.mark.ray

CONFIG = RunConfig("CartPole-v1", "rllib", 3, Goal(475, 50, max_episodes=70), SMALL)


@pytest.fixture(autouse=True)
def _ray(local_ray: None) -> None:
    """Every test here builds an algorithm, and that needs Ray."""


def finish(config: RunConfig, folder: Path) -> Training:
    training = Training(config, TrialDir(folder))
    while not training.is_finished:
        training.advance(1.0)
    training.close()
    return training


def test_the_configuration_survives_json() -> None:
    assert RunConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG


def test_a_run_stops_at_the_very_episode_of_its_budget(tmp_path: Path) -> None:
    training = finish(CONFIG, tmp_path)
    assert training.outcome.episodes == 70 == len(rows_of(tmp_path))


def test_a_run_stops_at_the_very_episode_that_reaches_the_threshold(tmp_path: Path) -> None:
    training = finish(replace(CONFIG, goal=Goal(20.5, 20, max_episodes=300)), tmp_path)
    rows = rows_of(tmp_path)
    assert training.outcome.episodes_to_threshold == len(rows)
    assert rows[-1]["mean_reward"] >= 20.5
    assert all(row["mean_reward"] < 20.5 for row in rows[19:-1])


def test_a_run_ends_within_its_environment_steps(tmp_path: Path) -> None:
    finish(replace(CONFIG, goal=Goal(None, 50, max_episodes=1000, max_steps=1000)), tmp_path)
    assert rows_of(tmp_path)[-1]["env_steps"] <= 1000


def test_the_score_is_reported_at_every_multiple_of_the_window(tmp_path: Path) -> None:
    training = Training(replace(CONFIG, goal=Goal(475, 20, max_episodes=70)), TrialDir(tmp_path))
    reports: list[tuple[int, float]] = []
    while not training.is_finished:
        reports += training.advance(0.0).reports
    training.close()
    assert [episode for episode, _ in reports] == [20, 40, 60]


def test_a_second_training_in_the_folder_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    first = Training(CONFIG, TrialDir(tmp_path))
    while first.outcome.episodes < 20:
        first.advance(0.0)
    first.save()
    saved = first.outcome.episodes
    kept = rows_of(tmp_path)[:saved]
    first.advance(0.0)  # rows after the checkpoint: they are cut before the first new one
    first.close()
    second = finish(CONFIG, tmp_path)
    rows = rows_of(tmp_path)
    assert rows[:saved] == kept
    assert [row["episode"] for row in rows] == list(range(1, 71))
    assert second.wall_s > 0 and rows[-1]["env_steps"] >= rows[saved - 1]["env_steps"]


def test_a_killed_runs_table_equals_an_undisturbed_ones(tmp_path: Path) -> None:
    """With the fused engine, whose CartPole-v1 goes into the checkpoint with every generator."""
    config = replace(CONFIG, engine="fused", goal=Goal(475, 50, max_episodes=150))
    finish(config, tmp_path / "undisturbed")
    for stops in (1, 2):
        first = Training(config, TrialDir(tmp_path / "killed"))
        before = first.outcome.episodes
        while first.outcome.episodes < before + 30 * stops:
            first.advance(0.0)
        first.save()
        first.advance(0.0)  # what a kill loses
        first.close()
    finish(config, tmp_path / "killed")
    expected, killed = rows_of(tmp_path / "undisturbed"), rows_of(tmp_path / "killed")
    assert len(killed) == 150
    assert [{**row, "wall_s": 0} for row in killed] == [{**row, "wall_s": 0} for row in expected]


def test_a_folder_of_another_run_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    finish(CONFIG, tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(StateError, match="seed is 3, this run has 4"):
        Training(replace(CONFIG, seed=4), TrialDir(tmp_path))
    assert (tmp_path / "config.json").read_bytes() == before


class PaysNaN(gymnasium.Env):  # type: ignore[type-arg]
    """An environment whose third episode pays NaN."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, object] | None = None) -> tuple[object, dict]:  # type: ignore[type-arg]
        self.steps = 0
        PaysNaN.episodes += 1
        return np.zeros(2, np.float32), {}

    def step(self, action: object) -> tuple[object, float, bool, bool, dict]:  # type: ignore[type-arg]
        self.steps += 1
        reward = float("nan") if PaysNaN.episodes >= 3 else 1.0
        return np.zeros(2, np.float32), reward, self.steps == 10, False, {}


def test_a_reward_that_is_not_finite_fails_the_run_and_never_becomes_a_row(tmp_path: Path) -> None:
    gymnasium.register("PaysNaN-v0", entry_point=PaysNaN)
    params = SMALL | {"num_envs_per_env_runner": 1, "rollout_fragment_length": 128}
    training = Training(replace(CONFIG, env="PaysNaN-v0", params=params), TrialDir(tmp_path))
    with pytest.raises(TrialFailed, match="non-finite"):
        training.advance(1.0)
    training.close()
    assert "nan" not in (tmp_path / "episodes.csv").read_text()


def test_a_run_of_the_race_is_judged_and_one_of_the_search_is_not(tmp_path: Path) -> None:
    params = judged.resolve({})
    searched, raced = (RunConfig.of(judged, "fused", seed, params) for seed in (3, 1_000_000_000))
    assert (searched.judge, raced.judge) == (None, judged.judge)
    assert "judge" not in searched.to_json(), "older folders hold none"
    assert RunConfig.from_json(json.loads(json.dumps(raced.to_json()))) == raced
    training = Training(replace(raced, goal=Goal(None, 10, max_episodes=20)), TrialDir(tmp_path), keeps_policy=False)
    while not training.is_finished:
        training.advance(1.0)
    found = training.judgement()
    training.close()
    assert found is not None and [record.matches for record in found.records] == [40, 40]
    assert found.score == sum(record.points for record in found.records) / 80


def test_reports_that_nobody_took_come_again_after_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, goal=Goal(475, 10, max_episodes=70))
    training = Training(config, TrialDir(tmp_path))
    reports: list[tuple[int, float]] = []
    while len(reports) < 2:
        reports += training.advance(0.0).reports
    training.save()
    training.close()
    training = Training(config, TrialDir(tmp_path))
    again = training.advance(0.0).reports
    assert list(again[: len(reports)]) == reports
    assert again[len(reports) :] == () or again[len(reports)][0] > reports[-1][0]
    training.close()


@pytest.mark.parametrize(("takes_s", "saves"), [(0.01, 16), (0.5, 4)])
def test_a_checkpoint_comes_every_few_seconds_and_takes_a_fiftieth_of_the_time_at_most(
    takes_s: float, saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, saved = [0.0], []

    def save(*_: object) -> None:
        saved.append(now[0])
        now[0] += takes_s

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("tuner.checkpoint.save", save)
    training = Training(replace(CONFIG, engine="fused", goal=Goal(None, 50, max_episodes=10_000)), TrialDir(tmp_path))
    for _ in range(100):
        now[0] += 1
        training.advance(0.0)
    training.close()
    assert len(saved) == saves, saved


def test_among_many_trials_each_has_a_result_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    advance = Training.advance

    def one_iteration(training: Training, seconds: float) -> object:
        asked.append(seconds)
        return advance(training, 0.0)

    monkeypatch.setattr(Training, "advance", one_iteration)
    trial = PPOTrial.__new__(PPOTrial)  # its own part alone, without Tune's
    run = {"folder": str(tmp_path), "run": CONFIG.to_json(), "gpus": 0}
    trial.setup({**run, "timeout_s": 1800.0, "parallel": 300})
    assert trial.step()["failed"] is None
    trial.cleanup()
    assert asked == [3.0] == [result_every_s(300, 1800.0)]
    assert [result_every_s(parallel, 1800.0) for parallel in (2, 100, 1000, 10**6)] == [1.0, 1.0, 5.0, 5.0]
    assert result_every_s(1000, 4.0) == 2.0, "before it would be taken for one that hangs"


def test_a_finished_trial_frees_what_it_holds_at_once_and_what_fails_there_is_not_held_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Training] = []
    close = Training.close

    def failing(training: Training) -> None:
        closed.append(training)
        close(training)
        raise RuntimeError("the simulator was not there any more")

    monkeypatch.setattr(Training, "close", failing)
    trial = PPOTrial.__new__(PPOTrial)
    for number in range(2):  # one after the other in one process
        folder = TrialDir(tmp_path / str(number))
        run = replace(CONFIG, goal=Goal(None, 50, max_episodes=3)).to_json()
        config = {"folder": str(folder.path), "run": run, "gpus": 0, "timeout_s": 1800.0, "parallel": 2}
        if number:
            assert trial.reset_config(config)
        else:
            trial.setup(config)
        while not (last := trial.step())["done"]:
            assert not closed[number:]
        assert (last["failed"], last["episodes"], len(closed)) == (None, 3, number + 1)
        assert not folder.stalled.exists()
