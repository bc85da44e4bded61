"""Does the faults of the list to `plain_tune` and records what came of it, in `plain_tune.json`.

    python -m tests.faults.plain_faults [NAME ...] [--repeats 2]     Linux, as root for the full disk; an hour or two

Every record is of one real run: exit codes, what was finished before and after, what was run again, what was said.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.plain_tune import CHECKPOINT_EVERY, ITERATIONS, TRIALS

RESULTS = Path(__file__).with_name("plain_tune.json")
ROOT = Path(__file__).parents[2]
MARK = "PLAIN_TUNE_SWEEP"  # in the environment of every process of a sweep, so that none is missed and no other is hit
TEMP = "/tmp"  # noqa: S108 the path of a socket must be short
TOO_LONG_S = 600
WORTH_TELLING = re.compile(
    r"Failed to restore the run state|Restarting experiment|No space left|Stop signal received|infeasible|"
    r"[Ii]nsufficient|No trial is running|No best trial found|Could not find best trial|\b\w+(?:Error|Exception)\b: .+|"
    r"Traceback|Failure # \d|RESULT .*|Trial .* errored|failed with exception|non-finite|\bNaN\b"
)
Record = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """What Tune's own files say of one trial: its state, and the iteration of each result in the order written."""

    status: str
    iterations: tuple[int, ...]

    @property
    def is_finished(self) -> bool:
        """Whether its last iteration was written, whatever Tune remembers of that."""
        return ITERATIONS in self.iterations


@dataclass
class Sweep:
    """One folder of `plain_tune`, whose processes are known by a mark in their environment."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    driver: subprocess.Popen[bytes] | None = None
    starts: int = 0
    temps: list[str] = field(default_factory=list)  # Ray's own folders
    logs: Path | None = None  # beside the folder unless that is on a disk to be filled

    def start(self, *options: str) -> None:
        """The command, in a process group of its own."""
        self.starts += 1
        environment = {
            **os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "5",
            "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        }  # fmt: skip
        self.temps.append(tempfile.mkdtemp(prefix="pt-", dir=TEMP))
        words = [sys.executable, "-m", "tests.faults.plain_tune", str(self.folder), "--temp", self.temps[-1], *options]
        with self.log.open("wb") as log:
            self.driver = subprocess.Popen(
                words, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True
            )

    @property
    def log(self) -> Path:
        """What the newest start printed."""
        return (self.logs or self.folder.parent) / f"{self.mark[:6]}.{self.starts}.log"

    def run(self, *options: str, within_s: float = TOO_LONG_S) -> int | str:
        """Start it and wait for its end."""
        self.start(*options)
        return self.wait(within_s)

    def wait(self, within_s: float = TOO_LONG_S) -> int | str:
        """Its exit code; where it does not end, it is killed with all its processes."""
        assert self.driver is not None
        try:
            code: int | str = self.driver.wait(within_s)
        except subprocess.TimeoutExpired:
            code = f"still running after {within_s:.0f} s"
        self.clear()
        return code

    def wait_for_results(self, count: int) -> bool:
        """Wait until that many results were written; whether the driver still lives then."""
        assert self.driver is not None
        deadline = time.monotonic() + TOO_LONG_S
        while time.monotonic() < deadline and self.driver.poll() is None:
            if sum(len(trial.iterations) for trial in trials_in(self.folder).values()) >= count:
                return True
            time.sleep(0.1)
        return False

    def processes(self) -> dict[int, str]:
        """The ids and command lines of the sweep's living processes."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    if line := (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip():
                        found[int(folder.name)] = line
        return found

    def of(self, name: str) -> list[int]:
        """The ids of the sweep's processes whose command line holds that."""
        return sorted(pid for pid, line in self.processes().items() if name in line)

    def kill_group(self) -> None:
        """SIGKILL to the driver's process group, and to whatever of the sweep is outside it: a machine that is lost."""
        assert self.driver is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()
        self.clear()

    def clear(self) -> None:
        """End every process that is left, and remove Ray's folders."""
        for _ in range(50):
            if not (left := self.processes()):
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        for temp in self.temps:
            shutil.rmtree(temp, ignore_errors=True)

    def plain_log(self) -> str:
        """The newest log without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace").replace(str(self.folder), "RUN"))

    def said(self) -> list[str]:
        """The lines of the newest log that tell of trouble or of the end, each once and shortened."""
        text = self.plain_log()
        lines = [re.sub(r"\s+", " ", line)[:300] for line in text.splitlines() if WORTH_TELLING.search(line)]
        lines = [line for line in dict.fromkeys(lines) if not re.search(r"[│╭╰]|loss.*nan|Current best trial", line)]
        last = [line[:300] for line in text.splitlines() if line.strip(" │╭╰─╯├┤")][-2:]
        return [*lines[:8], *lines[8:][-4:], *(f"last: {line}" for line in last)]


def trials_in(folder: Path) -> dict[str, Trial]:
    """Each trial of a folder by its id, from `result.json` and the newest experiment state that can be read."""
    states: dict[str, str] = {}
    for file in sorted(folder.glob("experiment_state-*.json"), reverse=True):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            data = [json.loads(trial) for trial, _ in json.loads(file.read_bytes())["trial_data"]]
            states = {trial["trial_id"]: trial["status"] for trial in data}
            break
    trials = {}
    for trial in folder.glob("PPO_*"):
        key = re.search(r"_([0-9a-f]{8})_\d+_", trial.name)
        iterations = []
        with contextlib.suppress(OSError):
            for line in (trial / "result.json").read_text().splitlines():
                with contextlib.suppress(ValueError):
                    iterations.append(json.loads(line)["training_iteration"])
        if key:
            trials[key[1]] = Trial(states.get(key[1], "not in the state"), tuple(iterations))
    return trials


def compared(before: dict[str, Trial], after: dict[str, Trial]) -> Record:
    """What became of the trials: finished ones lost or run again, and iterations repeated."""
    finished = [key for key, trial in before.items() if trial.is_finished]
    new = {key: after[key].iterations[len(before[key].iterations) :] for key in before if key in after}
    unfinished = [key for key, trial in before.items() if not trial.is_finished and trial.iterations]
    return {
        "finished_before": len(finished),
        "finished_run_again": sum(bool(new.get(key)) for key in finished),
        "finished_not_in_the_result": sum(key not in after or after[key].status != "TERMINATED" for key in finished),
        "unfinished_before": len(unfinished),
        "unfinished_from_scratch": sum(bool(new.get(key)) and new[key][0] == 1 for key in unfinished),
        "unfinished_abandoned": sum(not new.get(key) for key in unfinished),
        "iterations_repeated": {
            key: sum(i <= max(before[key].iterations) for i in new[key])
            for key in new
            if before[key].iterations and new[key]
        },
        "trial_folders": len(after),
        "budget": TRIALS,
        "states": {key: trial.status for key, trial in after.items()},
        "results_by_trial": {key: runs_of(trial.iterations) for key, trial in after.items()},
    }


def runs_of(iterations: tuple[int, ...]) -> str:
    """`1-9 7-12`: the iterations in the order written, as runs without a gap."""
    starts = [0, *(i for i in range(1, len(iterations)) if iterations[i] != iterations[i - 1] + 1)]
    ends = [*starts[1:], len(iterations)]
    return " ".join(f"{iterations[a]}-{iterations[b - 1]}" for a, b in zip(starts, ends, strict=True) if a < b)


def searcher_in(folder: Path) -> Record:
    """What the newest searcher state holds: Optuna's trials by state."""
    from ray.tune.search.optuna import OptunaSearch

    searcher = OptunaSearch()
    try:
        searcher.restore_from_dir(str(folder))
        states = [trial.state.name for trial in searcher._ot_study.trials]
    except Exception as error:  # noqa: BLE001 whatever a damaged pickle raises is the finding
        return {"unreadable": repr(error)[:200]}
    return {state: states.count(state) for state in set(states)}


def event_steps(folder: Path) -> Record:
    """For TensorBoard: in how many of the trials the steps of a tag go back or repeat."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    bad = 0
    for trial in folder.glob("PPO_*"):
        steps: dict[str, list[int]] = {}
        for file in sorted(trial.glob("events.out.*"), key=lambda file: file.name):
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    steps.setdefault(value.tag, []).append(event.step)
        bad += any(a >= b for several in steps.values() for a, b in pairwise(several))
    return {"trials_whose_steps_do_not_increase": bad, "trials": len(list(folder.glob("PPO_*")))}


@contextlib.contextmanager
def a_sweep() -> Iterator[Sweep]:
    """A sweep in a new folder, and nothing left of it."""
    with tempfile.TemporaryDirectory(prefix="plain-") as out:
        sweep = Sweep(Path(out, "run"))
        try:
            yield sweep
        finally:
            sweep.clear()


def interrupted(sweep: Sweep) -> dict[str, Trial]:
    """Two trials finished, two under way with a checkpoint, and then the process group is killed."""
    kept = KEPT.get("interrupted")
    if kept is None:
        KEPT["interrupted"] = kept = Path(tempfile.mkdtemp(prefix="plain-kept-"))
        sweep.start()
        assert sweep.wait_for_results(2 * ITERATIONS + 4 * CHECKPOINT_EVERY), sweep.log.read_text()[-2000:]
        sweep.kill_group()
        shutil.copytree(sweep.folder, kept / "run", symlinks=True)
    else:
        shutil.copytree(kept / "run", sweep.folder, symlinks=True)
    return trials_in(sweep.folder)


KEPT: dict[str, Path] = {}


def newest(folder: Path, pattern: str) -> Path:
    """The newest file of a pattern, as Tune chooses it."""
    return max(folder.glob(pattern))


def killed(chance: random.Random) -> Record:
    """1 and 22: SIGKILL of the group at up to three random moments, the same command each time, then to the end."""
    with a_sweep() as sweep:
        starts: list[Record] = []
        code: int | str = "killed"
        while code == "killed":
            before = trials_in(sweep.folder)
            written = sum(len(trial.iterations) for trial in before.values())
            sweep.start()
            if len(starts) < 3 and sweep.wait_for_results(written + chance.randint(2, ITERATIONS + 2)):
                time.sleep(chance.uniform(0, 0.5))
                sweep.kill_group()
            else:
                code = sweep.wait()
            starts.append({"exit_code": code, **compared(before, trials_in(sweep.folder)), "said": sweep.said()})
        return {
            "kills": len(starts) - 1,
            "starts": starts,
            "searcher": searcher_in(sweep.folder),
            "events": event_steps(sweep.folder),
        }


def signalled(number: signal.Signals, everyone: bool) -> Callable[[random.Random], Record]:
    """3: a request to stop, to the driver or to all its processes; then the same command."""

    def fault(chance: random.Random) -> Record:
        with a_sweep() as sweep:
            sweep.start()
            alive = sweep.wait_for_results(ITERATIONS * 2 + chance.randint(4, 10))
            assert alive and sweep.driver is not None
            began = time.monotonic()
            for pid in sweep.processes() if everyone else [sweep.driver.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                sweep.driver.wait(60)
            took, code = time.monotonic() - began, sweep.driver.poll()
            said = sweep.said()
            time.sleep(3)
            left = len(sweep.processes()) - (code is None)
            sweep.kill_group()
            before = trials_in(sweep.folder)
            again = sweep.run()
            return {
                "exit_code": code,
                "ended_after_s": round(took, 1),
                "processes_left_after_3_s": left,
                "said_on_signal": said,
                "again_exit_code": again,
                **compared(before, trials_in(sweep.folder)),
            }

    return fault


def two_drivers(chance: random.Random) -> Record:
    """5: the same command while it runs."""
    with a_sweep() as first:
        first.start()
        assert first.wait_for_results(chance.randint(4, ITERATIONS))
        second = Sweep(first.folder)
        second.start()
        second_code = second.wait()
        code = first.wait()
        after = trials_in(first.folder)
        both = [
            set(re.findall(r"Trial PPO_\S+?_(\w{8}) completed after", sweep.plain_log())) for sweep in (first, second)
        ]
        return {
            "trials_run_to_the_end_by_both": sorted(both[0] & both[1]),
            "exit_code_first": code,
            "exit_code_second": second_code,
            "trials_with_repeated_iterations": sum(
                len(set(trial.iterations)) < len(trial.iterations) for trial in after.values()
            ),
            "states": {key: trial.status for key, trial in after.items()},
            "trial_folders": len(after),
            "results_by_trial": {key: runs_of(trial.iterations) for key, trial in after.items()},
            "said_first": first.said(),
            "said_second": second.said(),
        }


def damages(chance: random.Random) -> dict[str, Callable[[bytes], bytes]]:
    """Ways to damage a file."""

    def flipped(data: bytes) -> bytes:
        place = chance.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]

    return {
        "cut in half": lambda data: data[: len(data) // 2],
        "zeroed": lambda data: bytes(len(data)),
        "one bit flipped": flipped,
    }


def damaged(pattern: str, how: str) -> Callable[[random.Random], Record]:
    """6: a file of the sweep's state is damaged between two starts."""

    def fault(chance: random.Random) -> Record:
        with a_sweep() as sweep:
            before = interrupted(sweep)
            file = newest(sweep.folder, pattern)
            data = file.read_bytes()
            file.write_bytes(new := damages(chance)[how](data))
            where = next((i for i, (a, b) in enumerate(zip(data, new, strict=False)) if a != b), len(new))
            code = sweep.run(within_s=180)
            return {
                "at_byte": where,
                "of": len(data),
                "exit_code": code,
                **compared(before, trials_in(sweep.folder)),
                "searcher": searcher_in(sweep.folder),
                "said": sweep.said(),
            }

    return fault


def resumed(chance: random.Random) -> Record:
    """What is compared with: interrupted, not damaged, resumed."""
    with a_sweep() as sweep:
        before = interrupted(sweep)
        code = sweep.run()
        return {
            "exit_code": code,
            **compared(before, trials_in(sweep.folder)),
            "searcher": searcher_in(sweep.folder),
            "said": sweep.said(),
        }


def finished(chance: random.Random) -> Record:
    """7: the same command on a finished sweep."""
    with a_sweep() as sweep:
        first = sweep.run()
        before, files = trials_in(sweep.folder), tree(sweep.folder)
        best = re.findall(r"BEST .*", sweep.log.read_text(errors="replace"))
        code = sweep.run()
        return {
            "first_exit_code": first,
            "exit_code": code,
            "same_best": best == re.findall(r"BEST .*", sweep.log.read_text(errors="replace")),
            "files_changed": sum(tree(sweep.folder).get(name) != data for name, data in files.items()),
            "files_added": sorted(tree(sweep.folder).keys() - files.keys()),
            **compared(before, trials_in(sweep.folder)),
        }


def tree(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def changed(*options: str) -> Callable[[random.Random], Record]:
    """8: another space at the second start; killed early, so that some trials are still to be suggested."""

    def fault(chance: random.Random) -> Record:
        with a_sweep() as sweep:
            sweep.start()
            assert sweep.wait_for_results(4)
            sweep.kill_group()
            before = trials_in(sweep.folder)
            code = sweep.run(*options)
            rates = [json.loads(file.read_bytes())["lr"] for file in sweep.folder.glob("PPO_*/params.json")]
            return {
                "options": options,
                "exit_code": code,
                "learning_rates": rates,
                **compared(before, trials_in(sweep.folder)),
                "said": sweep.said(),
            }

    return fault


def process_killed(name: str) -> Callable[[random.Random], Record]:
    """10 and 14: SIGKILL to one of Ray's processes: a trial's actor, the raylet, the head."""

    def fault(chance: random.Random) -> Record:
        with a_sweep() as sweep:
            sweep.start()
            assert sweep.wait_for_results(chance.randint(8, ITERATIONS + 6)) and sweep.driver is not None
            before, began = trials_in(sweep.folder), time.monotonic()
            victims = sweep.of(name)
            os.kill(victims[0], signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                sweep.driver.wait(120)
            code: int | str = "still running after 120 s" if sweep.driver.poll() is None else sweep.driver.returncode
            took, said, left = time.monotonic() - began, sweep.said(), len(sweep.processes())
            sweep.kill_group()
            record = {
                "victim": name,
                "ended_after_s": round(took, 1),
                "exit_code": code,
                "processes_left": left,
                "said": said,
                **compared(before, trials_in(sweep.folder)),
            }
            if code != 0:
                before = trials_in(sweep.folder)
                again = sweep.run()
                record["again"] = {
                    "exit_code": again,
                    **compared(before, trials_in(sweep.folder)),
                    "said": sweep.said(),
                }
            return record

    return fault


LOOK = """
import hashlib, json, sys, tempfile
import ray
temp = tempfile.TemporaryDirectory(prefix="pt-", dir="/tmp", ignore_cleanup_errors=True)
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=temp.name)
def of(algorithm):
    weights = algorithm.learner_group.get_weights()["default_policy"]
    return hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()[:12]
from ray.rllib.algorithms.ppo import PPOConfig
config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0, num_envs_per_env_runner=4)
config = config.debugging(seed=10).rl_module(model_config={"fcnet_hiddens": [16], "fcnet_activation": "relu"})
config = config.training(train_batch_size_per_learner=256, minibatch_size=128, num_epochs=2)
found = {}
for name, path in zip(("fresh", "sound", "damaged"), ("", *sys.argv[1:])):
    algorithm = config.build_algo()
    try:
        if path:
            algorithm.restore_from_path(path)
        found[name] = of(algorithm)
    except Exception as error:
        found[name] = repr(error)[:200]
    algorithm.stop()
print("LOOK", json.dumps(found))
"""


def weights_of(sound: Path, bad: Path) -> Record:
    """Hashes of a policy's weights: never restored, restored from the sound checkpoint, and from the damaged one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, sound, bad], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    line = re.search(r"LOOK (.*)", done.stdout)
    found: Record = json.loads(line[1]) if line else {"error": done.stderr[-300:]}
    return found


def checkpoint_damaged(how: str) -> Callable[[random.Random], Record]:
    """12, 13 and 24: the newest checkpoint of a trial under way is damaged, or has a pickle planted in it."""

    def fault(chance: random.Random) -> Record:
        with a_sweep() as sweep, tempfile.TemporaryDirectory(prefix="plain-") as aside:
            before = interrupted(sweep)
            canary = Path(aside, "canary")
            chosen = [key for key, trial in before.items() if not trial.is_finished and len(trial.iterations) > 3]
            for key in chosen:
                checkpoint = newest(next(sweep.folder.glob(f"PPO_*_{key}_*")), "checkpoint_*")
                sound = Path(aside, key)
                shutil.copytree(checkpoint, sound)
                damage_checkpoint(checkpoint, how, canary)
            looked = {} if "planted" in how else weights_of(sound, checkpoint)
            code = sweep.run()
            return {
                "how": how,
                "checkpoints_damaged": len(chosen),
                "exit_code": code,
                "canary_appeared": canary.exists(),
                "weights": looked,
                **compared(before, trials_in(sweep.folder)),
                "said": sweep.said(),
            }

    return fault


class Planted:
    """A pickle that makes a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self._canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self._canary),)


def damage_checkpoint(checkpoint: Path, how: str, canary: Path) -> None:
    """One of the damages to an RLlib checkpoint."""
    module = checkpoint / "learner_group" / "learner" / "rl_module"
    weights = module / "default_policy" / "module_state.pkl"
    match how:
        case "a component's folder is missing":
            shutil.rmtree(module)
        case "one byte of the weights flipped":
            data = bytearray(weights.read_bytes())
            data[len(data) // 2] ^= 0x10
            weights.write_bytes(bytes(data))
        case "cut as by a kill while it was written":
            weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        case "a pickle planted in place of a part":
            (checkpoint / "learner_group" / "state.pkl").write_bytes(pickle.dumps(Planted(canary)))
        case "a pickle planted beside the parts":
            (checkpoint / "planted.pkl").write_bytes(pickle.dumps(Planted(canary)))


def environment_fault(name: str, within_s: float) -> Callable[[random.Random], Record]:
    """16 and 17: the environment hangs, raises or gives NaN rewards."""

    def fault(chance: random.Random) -> Record:
        with a_sweep() as sweep:
            code = sweep.run("--fault", name, within_s=within_s)
            after = trials_in(sweep.folder)
            return {
                "exit_code": code,
                "states": {key: trial.status for key, trial in after.items()},
                "results_by_trial": {key: runs_of(trial.iterations) for key, trial in after.items()},
                "claimed": sweep.folder.with_name("run.claim").exists(),
                "metric_by_trial": metrics_in(sweep.folder),
                "best": re.findall(r"BEST \S+?_(\w{8})_", sweep.plain_log()),
                "searcher": searcher_in(sweep.folder),
                "said": sweep.said(),
            }

    return fault


def metrics_in(folder: Path) -> dict[str, Record]:
    """Each trial's metric in the order of its results, as it was written, and how many of its losses are no number."""
    found = {}
    for file in folder.glob("PPO_*/result.json"):
        results = [json.loads(line) for line in file.read_text().splitlines()]
        losses = [result.get("learners", {}).get("default_policy", {}).get("total_loss") for result in results]
        found[file.parent.name.split("_")[2]] = {
            "metric": [result["env_runners"].get("episode_return_mean") for result in results],
            "losses_that_are_no_number": sum(loss is None or loss != loss for loss in losses),
        }
    return found


def impossible(chance: random.Random) -> Record:
    """18: a trial that needs 64 CPUs where there are two."""
    with a_sweep() as sweep:
        code = sweep.run("--runners", "63", within_s=100)
        after = trials_in(sweep.folder)
        return {
            "exit_code": code,
            "states": {key: trial.status for key, trial in after.items()},
            "said": sweep.said(),
        }


def disk_full(chance: random.Random) -> Record:
    """19: a file system of 20 MB fills while trials run; room is made, and the same command goes on."""
    with tempfile.TemporaryDirectory(prefix="plain-") as out:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", out], check=True)
        logs = Path(tempfile.mkdtemp(prefix="plain-"))
        sweep = Sweep(Path(out, "run"), logs=logs)
        try:
            sweep.start()
            alive = sweep.wait_for_results(ITERATIONS + chance.randint(0, 8))
            filler = Path(out, "filler")
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 14))
                    file.flush()
            before = trials_in(sweep.folder)
            code = sweep.wait()
            said = sweep.said()
            filler.unlink()
            full = trials_in(sweep.folder)
            again = sweep.run()
            return {
                "alive_when_filled": alive,
                "exit_code": code,
                "said": said,
                "states_when_full": {key: trial.status for key, trial in full.items()},
                "finished_when_filled": sum(trial.is_finished for trial in before.values()),
                "again_exit_code": again,
                **compared(full, trials_in(sweep.folder)),
                "again_said": sweep.said(),
            }
        finally:
            sweep.clear()
            subprocess.run(["umount", "--lazy", out], check=True)
            shutil.rmtree(logs, ignore_errors=True)


NETWORK = """
import sys, time, ray
port, temp = int(sys.argv[1]), sys.argv[2]
ray.init(address="local", num_cpus=1, include_dashboard=True, dashboard_port=port, _temp_dir=temp)
print("UP", flush=True)
time.sleep(60)
"""


def network(*words: str) -> Callable[[random.Random], Record]:
    """26: Ray with its dashboard, as it is by default; what the Jobs API answers without a token."""

    def fault(chance: random.Random) -> Record:
        sweep, port = Sweep(Path("network")), chance.randint(20000, 30000)
        home = tempfile.mkdtemp(prefix="pt-", dir=TEMP)
        environment = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
        environment |= {MARK: sweep.mark, "HOME": home, "RAY_USAGE_STATS_ENABLED": "0"}
        values = {"PORT": str(port), "GCS": str(port + 1), "CLIENT": str(port + 2), "HOME": home}
        child = subprocess.Popen(
            [sys.executable, *(values.get(word, word) for word in words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert child.stdout is not None
            printed = []
            for line in child.stdout:
                printed.append(line.strip())
                if line.startswith("UP") or "Ray runtime started" in line:
                    break
            answers = {"GET": asked(port, None), "POST": asked(port, json.dumps({"entrypoint": "true"}).encode())}
            sockets = subprocess.run(["ss", "-tlnpH"], capture_output=True, text=True).stdout.splitlines()
            ours = {f"pid={pid}," for pid in sweep.processes()}
            listening = [row.split()[3] for row in sockets if any(pid in row for pid in ours)]
            return {
                "jobs_api_without_a_token": answers,
                "token_made": Path(home, ".ray", "auth_token").exists(),
                "listening_on_all_interfaces": sum(a.startswith(("0.0.0.0:", "*:", "[::]:")) for a in listening),
                "listening": len(listening),
                "said": [line.replace(home, "HOME") for line in printed if "oken" in line],
            }
        finally:
            child.kill()
            sweep.clear()
            shutil.rmtree(home, ignore_errors=True)

    return fault


def asked(port: int, body: bytes | None) -> str:
    """What the Jobs API answers to a request without a token."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/jobs/", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 a URL of this machine
            return f"{answer.status}: {answer.read(100).decode(errors='replace')}"
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read(100).decode(errors='replace')}"
    except OSError as error:
        return repr(error)


FAULTS: dict[str, Callable[[random.Random], Record]] = {
    "1 killed": killed,
    "3 SIGTERM": signalled(signal.SIGTERM, everyone=False),
    "3 SIGTERM to every process": signalled(signal.SIGTERM, everyone=True),
    "3 SIGINT": signalled(signal.SIGINT, everyone=False),
    "3 SIGUSR1": signalled(signal.SIGUSR1, everyone=False),
    "5 two drivers": two_drivers,
    "6 nothing damaged": resumed,
    **{f"6 experiment state {how}": damaged("experiment_state-*.json", how) for how in damages(random.Random(0))},  # noqa: S311
    **{f"6 searcher state {how}": damaged("searcher-state-*.pkl", how) for how in damages(random.Random(0))},  # noqa: S311
    "6 tuner.pkl cut in half": damaged("tuner.pkl", "cut in half"),
    "7 finished": finished,
    "8 changed range": changed("--lr-low", "0.005"),
    "8 another parameter": changed("--more-keys"),
    "8 space not handed to restore": changed("--keep-space"),
    "10 trial actor killed": process_killed("ray::PPO"),
    "14 raylet killed": process_killed("raylet/raylet"),
    "14 head killed": process_killed("gcs_server"),
    **{
        f"{number} {how}": checkpoint_damaged(how)
        for number, how in (
            (12, "cut as by a kill while it was written"),
            (13, "a component's folder is missing"),
            (13, "one byte of the weights flipped"),
            (24, "a pickle planted in place of a part"),
            (24, "a pickle planted beside the parts"),
        )
    },
    "16 environment hangs": environment_fault("hang", 200),
    "16 environment raises": environment_fault("raise", TOO_LONG_S),
    "17 NaN rewards": environment_fault("nan", TOO_LONG_S),
    "18 64 CPUs": impossible,
    "19 disk full": disk_full,
    "26 ray.init": network("-c", NETWORK, "PORT", "HOME"),
    "26 ray start": network(
        *("-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=1", "--include-dashboard=true"),
        *("--dashboard-port", "PORT", "--port", "GCS", "--temp-dir", "HOME", "--ray-client-server-port", "CLIENT"),
    ),
}


def record(name: str, number: int) -> None:
    """Do a fault once, and add what came of it to the results."""
    began = time.monotonic()
    try:
        found = FAULTS[name](random.Random(f"{name} {number}"))  # noqa: S311
    except AssertionError as error:
        found = {"not_measured": str(error)}
    found["took_s"] = round(time.monotonic() - began)
    print(name, number, json.dumps(found, indent=1), flush=True)
    RESULTS.touch()
    with RESULTS.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        results = json.loads(file.read() or "{}")
        results["versions"] = {part: metadata.version(part) for part in ("ray", "torch", "optuna", "gymnasium")}
        results["date"] = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        results.setdefault("faults", {}).setdefault(name, {})[str(number)] = found
        file.seek(0)
        file.truncate()
        file.write(json.dumps(results, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """The faults that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all when none is given")
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    try:
        for number in range(args.repeats):
            for name in FAULTS:
                if not args.names or any(name.startswith(start) for start in args.names):
                    record(name, number)
    finally:
        for folder in KEPT.values():
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
