"""The importances on searches whose truth is known: which parameter mattered, and how sure that is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.invented import multiply
from tuner.episodes import Outcome
from tuner.importance import FEWEST_TRIALS, SAMPLES, importances
from tuner.space import Choice, Float, SearchSpace
from tuner.study import SweepStudy

SPACE = SearchSpace(
    env="CartPole-v1", threshold=100, window=5, max_episodes=500,
    params={
        "lr": Float(1e-5, 1e-2, log=True), "num_epochs": Choice(4, 10, 30), "clip_param": Float(0.1, 0.5),
        "fcnet_hiddens": Choice([64, 64], [256, 256]),
    },
)  # fmt: skip

Episodes = Callable[[Mapping[str, Any]], float]


def by_lr(params: Mapping[str, Any]) -> float:
    """Only the learning rate matters; the best is 1e-3."""
    return 50 + 100 * abs(math.log10(params["lr"]) + 3)


def search(path: Path, trials: int, episodes: Episodes = by_lr, space: SearchSpace = SPACE) -> SweepStudy:
    """A finished random search in which a trial needs so many episodes."""
    study = SweepStudy(f"sqlite:///{path / 'study.db'}", space, sampler="random")
    for _ in range(trials):
        record = study.start_next()
        needed = int(episodes(record.params))
        study.complete(record.number, Outcome(needed, 20_000, needed, 101.0), wall_s=1.0)
    return study


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> SweepStudy:
    return search(tmp_path_factory.mktemp("forty"), 40)


def test_the_parameter_that_matters_comes_first_by_more_than_its_range(forty: SweepStudy) -> None:
    first, *others = importances(forty).ranked
    assert first.name == "lr" and first.median > 0.5
    assert first.low > max(other.median for other in others)


def test_every_searched_parameter_has_a_share_and_a_range_around_it(forty: SweepStudy) -> None:
    found = importances(forty)
    assert {importance.name for importance in found.ranked} == SPACE.params.keys()
    assert all(0 <= importance.low <= importance.median <= importance.high <= 1 for importance in found.ranked)
    assert 0.9 < sum(importance.median for importance in found.ranked) < 1.1
    assert (found.trials, found.samples, found.reason) == (40, SAMPLES, None)


def test_a_parameters_place_is_found_by_its_name(forty: SweepStudy) -> None:
    found = importances(forty).of("lr")
    assert found is not None and found[0] == 1 and found[1].name == "lr"
    assert importances(forty).of("gamma") is None


def test_the_same_study_has_the_same_importances(forty: SweepStudy) -> None:
    assert importances(forty) == importances(forty)


def test_where_nothing_matters_no_parameter_comes_first_by_more_than_its_range(tmp_path: Path) -> None:
    study = search(tmp_path, 40, lambda params: 50 + 1e9 * params["lr"] % 97)  # as good as random
    first, *others = importances(study).ranked
    assert first.low < max(other.median for other in others)


@pytest.mark.parametrize("trials", [0, 1, FEWEST_TRIALS - 1])
def test_too_few_trials_say_nothing_and_why(trials: int, tmp_path: Path) -> None:
    found = importances(search(tmp_path, trials))
    assert found.ranked == () and found.reason is not None
    assert found.reason.endswith(f"there {'is' if trials == 1 else 'are'} {trials}")


def test_trials_without_a_score_do_not_count(tmp_path: Path) -> None:
    study = search(tmp_path, FEWEST_TRIALS - 1)
    for _ in range(3):
        study.fail(study.start_next().number, "non-finite loss")
    assert importances(study).trials == FEWEST_TRIALS - 1


def test_equal_scores_say_nothing_and_why(tmp_path: Path) -> None:
    found = importances(search(tmp_path, 12, lambda params: 80))
    assert found.ranked == () and found.reason == "all 12 completed trials had the same score"


def test_a_space_without_parameters_says_so(tmp_path: Path) -> None:
    space = SearchSpace(env="CartPole-v1", threshold=100, window=5, max_episodes=500)
    assert importances(search(tmp_path, 1, space=space)).reason == "no parameter was searched"


def test_nothing_is_printed_and_optunas_own_log_level_is_left_alone(
    forty: SweepStudy, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    importances(forty)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_two_thousand_trials_take_seconds(tmp_path: Path) -> None:
    search(tmp_path, 21)
    multiply(tmp_path / "study.db", 100)
    study = SweepStudy(f"sqlite:///{tmp_path / 'study.db'}", SPACE)
    assert len(study.scored_trials()) == 2001
    start = time.process_time()
    found = importances(study)
    assert time.process_time() - start < 3
    assert found.samples >= 20 and found.trials == 2001
