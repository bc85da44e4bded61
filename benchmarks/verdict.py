"""How often the answer is right where the truth is known: simulated sweeps, with runs drawn from real ones.

Every figure is printed with what it is of; docs/answer.md shows them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner.answer import stages
from tuner.answer.parts import Answer, Question, Run, RunResult
from tuner.episodes import Outcome, score
from tuner.inference import Decision
from tuner.judgement import Judgement, MatchRecord
from tuner.ledger import RACE
from tuner.space import Float, SearchSpace
from tuner.study import TrialRecord, TrialState

# Episodes to threshold of the cartpole space's baseline on 30 seeds, as `benchmarks.parity` found them.
TABLE = json.loads((Path(__file__).parent / "results" / "parity.json").read_text())["episodes_to_threshold"]["fused"]
SPREAD = np.array(list(TABLE.values()), dtype=np.float64)
SEEDS = 20
MATCHES = 120  # of a judged run, as the soccer judge has them played
NAMES = ("lr", "gamma", "lambda_", "clip_param", "entropy_coeff", "vf_loss_coeff", "kl_coeff", "kl_target", "grad_clip",
         "vf_clip_param")  # fmt: skip
SPACE = SearchSpace(
    env="CartPole-v1", threshold=475, max_episodes=1000,
    baseline={name: 0.5 for name in NAMES}, params={name: Float(0.1, 0.9) for name in NAMES},
)  # fmt: skip

Factor = Callable[[Mapping[str, Any]], float]  # of a configuration: its episodes over the baseline's, in truth


def main() -> None:
    """Print each figure with what it is of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=1000, help="simulated sweeps of each kind (1000)")
    count = parser.parse_args().sweeps
    print(f"all alike: called better in {called_better(count, 1.0):.1%} of {count} sweeps")
    for factor in (0.7, 0.8, 0.9):
        print(f"one needs {1 - factor:.0%} fewer episodes: called better in {called_better(count, factor):.1%}")
    wins, better = reliable_wins(count, 0.3)
    print("one needs 60% fewer episodes, two need 70% fewer but do not get there on 30% of the seeds:")
    print(f"the one wins the race in {wins:.1%}, called better in {better:.1%}")
    for seeds in (5, 8, 20):
        found = [f"{judged_better(count, seeds, more):.1%}" for more in (0.0, 0.1, 0.2)]
        print(f"judged on {seeds} seeds, one takes 0, 10, 20 points of 100 more: called better in {', '.join(found)}")
    few = max(1, count // 10)
    for factor in (0.5, 0.7):
        found = [finds_the_one(sweep, factor) for sweep in range(few)]
        print(f"one parameter in {len(NAMES)} brings {1 - factor:.0%}: the path finds it in {sum(found)} of {few}")


def called_better(count: int, factor: float) -> float:
    """The share of simulated sweeps that end with "better", where one finalist needs `factor` times the episodes."""

    def truth(params: Mapping[str, Any]) -> float:
        return factor if params["lr"] == 0.1 else 1.0

    decisions = [simulated(sweep, truth, with_path=False).verdict for sweep in range(count)]
    return sum(verdict is not None and verdict.decision is Decision.BETTER for verdict in decisions) / count


def reliable_wins(count: int, misses: float) -> tuple[float, float]:
    """The shares of sweeps that the reliable of three finalists wins, and that end with "better".

    It needs 0.4 times the baseline's episodes; the others need 0.3 times as many, or never get there.
    """

    def truth(params: Mapping[str, Any]) -> float:
        return {0.1: 0.4, 0.2: 0.3, 0.3: 0.3}.get(params["lr"], 1.0)

    def missing(params: Mapping[str, Any]) -> float:
        return misses if params["lr"] in (0.2, 0.3) else 0.0

    verdicts = [simulated(sweep, truth, with_path=False, missing=missing).verdict for sweep in range(count)]
    wins = sum(verdict is not None and verdict.number == 1 for verdict in verdicts)
    better = sum(verdict is not None and verdict.decision is Decision.BETTER for verdict in verdicts)
    return wins / count, better / count


def judged_better(count: int, seeds: int, more: float) -> float:
    """The same of sweeps with a judge, where one finalist takes so much more of the points, the others half of them."""

    def truth(params: Mapping[str, Any]) -> float:
        return 0.5 + more if params["lr"] == 0.1 else 0.5

    decisions = [
        simulated(sweep, truth, with_path=False, seeds=seeds, is_judged=True).verdict for sweep in range(count)
    ]
    return sum(verdict is not None and verdict.decision is Decision.BETTER for verdict in decisions) / count


def finds_the_one(sweep: int, factor: float) -> bool:
    """Whether the path's first step is the only parameter that matters, and says that it helped."""

    def truth(params: Mapping[str, Any]) -> float:
        return factor if params["lambda_"] == 0.1 else 1.0

    path = simulated(sweep, truth, with_path=True).path
    return path is not None and list(path.steps[0].changes) == ["lambda_"] and (
        path.steps[0].effect.decision is Decision.BETTER
    )  # fmt: skip


def simulated(
    sweep: int,
    truth: Factor,
    *,
    with_path: bool,
    seeds: int = SEEDS,
    is_judged: bool = False,
    missing: Factor = lambda params: 0.0,
) -> Answer:
    """The answer to one simulated sweep; a run's episodes are a random one of the table's, times what is true of it.

    Of the race's runs and its test's a share, as large as `missing` says, misses the threshold; the search was lucky.
    Of a judged one the truth is the mean share of points; that of a run's policy lies around it by 0.1, one standard
    deviation.
    """

    def lookup(run: Run) -> RunResult:
        draw = np.random.default_rng([sweep, run.seed, *(round(10 * run.params[name]) for name in NAMES)])
        if is_judged:
            share = float(np.clip(draw.normal(truth(run.params), 0.1), 0.0, 1.0))
            wins = int(draw.binomial(MATCHES, share))
            judgement = Judgement.of_matches([MatchRecord("all", "both", wins, 0, MATCHES - wins)])
            return RunResult(Outcome(1000, 100_000, None, 400.0), judgement=judgement)
        episodes = min(1000, max(50, round(truth(run.params) * float(draw.choice(SPREAD)))))
        if run.folder == RACE and draw.random() < missing(run.params):
            episodes = 1000
        reached = episodes if episodes < 1000 else None
        return RunResult(Outcome(episodes, 100 * episodes, reached, 475.0 if reached else 400.0))

    def record(number: int, **changes: float) -> TrialRecord:
        params = SPACE.resolve(changes)
        outcome = lookup(Run("trials", "", SPACE.seed, params)).outcome
        assert outcome is not None  # noqa: S101 a simulated run never fails
        value = score(outcome, question.goal)
        return TrialRecord(number, TrialState.COMPLETE, params, changes, 1, value, outcome, None, 1.0)

    question = Question(SPACE, [], seeds, 3, random_trials=10)
    others = [record(number, lr=number / 10, **{name: 0.1 for name in NAMES[1:]}) for number in (1, 2, 3)]
    question = Question(SPACE, [record(0), *others], seeds, 3, random_trials=10)
    answer = Answer()
    for _ in stages(question, answer, lookup):
        if answer.verdict is not None and not with_path:
            break
    return answer


if __name__ == "__main__":
    main()
