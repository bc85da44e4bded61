"""Wall-clock time of the sweep with Stable-Baselines3 and an Optuna study that two processes work on."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from functools import partial

import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.configurations import PARALLEL, SWEEP
from benchmarks.measuring import report, sweep_arguments
from benchmarks.peers.sb3_ppo import ENDLESS, ppo_01


class Episodes(BaseCallback):
    """Ends the training after the first iteration that has seen so many episodes."""

    def __init__(self, goal: int) -> None:
        super().__init__()
        self._goal = goal
        self.episodes = 0
        self._is_over = False

    def _on_rollout_end(self) -> None:
        self._is_over = self.episodes >= self._goal

    def _on_step(self) -> bool:
        if not self._is_over:
            self.episodes += int(self.locals["dones"].sum())
        return not self._is_over


def train(trial: optuna.Trial, episodes: int) -> float:
    """Train one configuration; the study's value is of no interest here."""
    configuration = SWEEP[trial.suggest_categorical("configuration", list(range(len(SWEEP))))]
    counter = Episodes(episodes)
    started = time.perf_counter()
    ppo_01("CartPole-v1", **configuration).learn(ENDLESS, callback=counter)
    trial.set_user_attr("seconds", time.perf_counter() - started)
    trial.set_user_attr("episodes", counter.episodes)
    return 0.0


def work(storage: str, episodes: int) -> None:
    """Train one queued configuration after the other until none is left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    begun = (TrialState.RUNNING, TrialState.COMPLETE)
    study = optuna.load_study(study_name="sweep", storage=storage)
    study.optimize(partial(train, episodes=episodes), callbacks=[MaxTrialsCallback(len(SWEEP), states=begun)])


def main() -> None:
    """Run the sweep and print what it took; `trials_s` is the trials' own training time, shared by the workers."""
    args = sweep_arguments(__doc__).parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        study = optuna.create_study(study_name="sweep", storage=storage)
        for number in range(len(SWEEP)):
            study.enqueue_trial({"configuration": number})
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=work, args=(storage, args.episodes)) for _ in range(PARALLEL)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        notes = [trial.user_attrs for trial in study.trials]
    report(
        trials_s=sum(note["seconds"] for note in notes) / PARALLEL,
        episodes=[note["episodes"] for note in notes],
    )


if __name__ == "__main__":
    main()
