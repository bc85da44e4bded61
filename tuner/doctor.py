"""`tuner doctor [RUN]`: what this machine can run, and whether a run folder is sound; installs nothing unasked."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from tuner import command
from tuner.envs.soccer import interpreter
from tuner.episodes import Goal, outcome_of, read_rows
from tuner.errors import EXIT_STATE, StateError
from tuner.files import manifest_problem
from tuner.layout import RunDir, TrialDir
from tuner.parameters import ENV_PREFIX


def main(argv: Sequence[str] | None = None) -> int:
    """Examine and return the exit code: 3 where a run folder is not sound."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("doctor", __doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("run", nargs="?", metavar="RUN", help="a run folder to examine")
    what.add_argument(
        "--install-soccer",
        action="store_true",
        help="prepare what the real soccer-twos needs: its own environment under a Python of 3.8 to 3.10",
    )
    return parser


def _main(args: argparse.Namespace) -> int:
    if args.install_soccer:
        environment = interpreter.install()
        print(f"soccer-twos {interpreter.PACKAGE} under Python {environment.version} is ready at {environment.path}")
        return 0
    if args.run is None:
        for name, finding in machine_findings():
            print(f"{name:<9} {finding}")
        return 0
    run_dir = RunDir.existing(args.run)
    problems = list(run_problems(run_dir))
    for problem in problems:
        print(problem)
    if problems:
        print(f"error: {run_dir.path}: {len(problems)} problems, see above; nothing was changed", file=sys.stderr)
        return EXIT_STATE
    print(f"{run_dir.path}: sound")
    return 0


def machine_findings() -> Iterator[tuple[str, str]]:
    """What this machine has, line by line."""
    from tuner import cluster
    from tuner.plan import versions

    machine = cluster.machine()
    found = versions()
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "packages", ", ".join(f"{name} {found[name]}" for name in found if name != "python")
    yield "cores", f"{machine.cpus}: that many trials at once, one core each"
    yield "GPUs", str(machine.gpus) if machine.gpus else "none that torch sees"
    yield "engines", "fused (compiled, torch), rllib"
    yield from _soccer_findings()
    yield "disk", f"{shutil.disk_usage('.').free / 1e9:.0f} GB free here"


def _soccer_findings() -> Iterator[tuple[str, str]]:
    """What plays Soccer-Twos here."""
    yield "soccer", "field: in this process, on every machine"
    if reason := "the bridge needs Linux" if sys.platform != "linux" else interpreter.problem():
        yield "soccer", f"stand-in, unity: not here; {reason}"
        return
    environment = interpreter.worker_environment()
    package = f"soccer-twos {interpreter.PACKAGE} under Python {environment.version}"
    yield "soccer", f"stand-in: {package} at {environment.path}"
    if environment.binary.is_file():
        yield "soccer", f"unity: {environment.binary}"
    else:
        yield "soccer", "unity: give your player's path as env_path; without one, the package downloads it at first use"


def run_problems(run_dir: RunDir) -> Iterator[str]:
    """What is wrong with a run folder, each with where it is; nothing for a sound one."""
    from tuner.results import open_study
    from tuner.study import TrialState

    try:
        study, _ = open_study(run_dir)
        records = study.records()
    except StateError as error:
        yield str(error)
        return
    known = {record.number for record in records}
    for number, folder in run_dir.trial_dirs():
        if number not in known:
            yield f"{folder.path}: the study has no trial {number}"
    for record in records:
        if record.state is not TrialState.COMPLETE:
            continue  # it goes on, or nothing of it counts
        folder = run_dir.trial(record.number)
        try:
            config = json.loads(folder.config.read_bytes())
            config |= {ENV_PREFIX + key: value for key, value in config["env_config"].items()}
            rows = read_rows(folder.episodes)
        except (OSError, ValueError, StateError) as error:
            yield f"{folder.path}: {error}"
            continue
        except (KeyError, TypeError, AttributeError):
            yield f"{folder.config}: is not the configuration of a run"
            continue
        for name, value in record.params.items():
            if config.get(name) != value:
                yield f"{folder.config}: {name} is {config.get(name)!r}, the study says {value!r}"
        if outcome_of(rows, study.goal) != record.outcome:
            yield f"{folder.episodes}: its rows do not give the outcome in the study"
        saved = folder.iterations()
        if not saved:
            yield f"{folder.checkpoints}: no checkpoint"
        elif problem := manifest_problem(folder.checkpoint_at(saved[0])):
            yield f"{folder.checkpoint_at(saved[0])}: does not verify, {problem}"

    for folder in run_dir.answer_dirs():
        if folder.result.exists():  # any other is done again
            yield from _answer_problems(folder, study.goal)


def _answer_problems(folder: TrialDir, goal: Goal) -> Iterator[str]:
    """What is wrong with a finished run of the answer."""
    try:
        outcome = json.loads(folder.result.read_bytes())["outcome"]
        rows = read_rows(folder.episodes)
    except (OSError, ValueError, KeyError, TypeError, StateError) as error:
        yield f"{folder.path}: {type(error).__name__}: {error}; remove it, and the run is done again"
        return
    if outcome is not None and asdict(outcome_of(rows, goal)) != outcome:
        yield f"{folder.episodes}: its rows do not give the outcome in result.json; remove {folder.path}"


if __name__ == "__main__":
    sys.exit(main())
