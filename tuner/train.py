"""`tuner train SPACE`: one training run, the baseline or a configuration from a file."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tuner import catalog, command, envs
from tuner.episodes import Goal
from tuner.errors import EXIT_DONE, EXIT_TRIALS_FAILED, Interrupted, SpaceError, TrialFailed, UsageError
from tuner.layout import RunDir, TrialDir, check_possible, check_trust, safe_name
from tuner.ledger import ledger_of
from tuner.parameters import PARAMETERS, current_names
from tuner.plan import SET_FORM
from tuner.ppo.engine import ENGINES, chosen

_RESULT_EVERY_S = 0.5
_OWN_KEYS = ("env", "env_config", "engine", "seed", "ledger", "threshold", "window", "max_episodes", "max_steps",
             "judge")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run or resume one training run and return the exit code."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("train", __doc__)
    add = parser.add_argument
    add("space", metavar="SPACE", help="a name (see `sweep --list`), a path to a .py file, or gym:ENV_ID")
    add("--config", type=Path, metavar="FILE", help="YAML or JSON with PPO parameters, such as best/config.yaml")
    add("--seed", type=int, metavar="N", help="training seed (the file's, else the space's)")
    add("--episodes", type=int, metavar="N", help="episodes to train (the file's, else the space's)")
    add("--engine", choices=ENGINES, help="what trains (the file's, else auto)")
    add("--set", action="append", type=command.key_value, default=[], metavar="KEY=VALUE", help="set a parameter")
    add("--name", metavar="NAME", help="name of the folder (<space>-train-s<seed>)")
    add("--out", default="runs", metavar="FOLDER", help="where the folder is made (runs)")
    command.add_trust(parser)
    return parser


def _main(args: argparse.Namespace) -> int:
    source = catalog.load(args.space)
    values = _read_config(args.config) if args.config else {}
    config, notes = _run_config(source, values, args)
    for note in dict.fromkeys(notes):
        command.say(f"note: {note}", sys.stderr)
    folder = _folder(args, source.name, config["seed"])
    check_trust(folder.path, args.trust)
    if not args.trust:
        envs.check_no_policy(config["env"], config["env_config"])

    # Ray and torch take seconds to import: only once everything that can be refused has been looked at.
    from tuner import cluster, environment, signals
    from tuner.disk import told_when_full
    from tuner.files import lock
    from tuner.training import RunConfig, Training

    environment.check(config["env"], config["env_config"])
    machine = cluster.machine()
    cluster.trials_at_once(machine, 1 + config["num_env_runners"], 0)
    try:
        folder.make()
    except OSError as error:
        raise UsageError(f"--out {args.out}: {error.strerror}; choose a folder you can write") from error
    lock_file, busy = folder.path / ".lock", f"{folder.path}: a training is already running here"
    with (
        told_when_full(folder.path),
        lock(lock_file, busy, "wait for it or use --name"),
        signals.graceful() as stop,
        cluster.private_ray(machine),
    ):
        stop.listen()
        training = Training(RunConfig.from_json(config), folder)
        try:
            with _progress(config) as show:
                while not training.is_finished and not stop.is_set():
                    show(training.advance(_RESULT_EVERY_S))
            training.save()
        except TrialFailed as error:
            command.say(f"error: {folder.path}: FAILED: {error}", sys.stderr)
            return EXIT_TRIALS_FAILED
        finally:
            training.close()
    if not training.is_finished:
        raise Interrupted(
            f"stopped by {stop.signal and stop.signal.name}, everything is saved; the same command goes on"
        )
    print(_in_words(training.outcome, training.config.goal), f"episodes  {folder.episodes}", sep="\n")
    return EXIT_DONE


def _run_config(
    source: catalog.Source, values: Mapping[str, Any], args: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    """The run as `config.json` will hold it: the space's baseline, overlaid by the file, overlaid by the options."""
    space, notes = source.space, list(source.space.notes)
    named, file_notes = current_names(values)
    if named.get("env", space.env) != space.env:
        raise UsageError(
            f"{args.config}: env is {named['env']!r}, space {source.name} has {space.env!r}; name its space"
        )
    unknown = {name: value for name, value in named.items() if name not in _OWN_KEYS}
    try:
        space = space.fixing(unknown, "{name}: {text}")
    except SpaceError as error:
        raise error.at(str(args.config)) from None
    try:
        space = space.fixing(dict(args.set), SET_FORM)
    except SpaceError as error:
        raise UsageError("\n".join(error.problems)) from None
    own = {name: named[name] for name in ("threshold", "window", "max_episodes", "max_steps") if name in named}
    seed = named.get("seed", space.seed) if args.seed is None else args.seed  # here the race's are as good as any
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise UsageError(f"{args.config or '--seed'}: seed {seed!r}: must be a whole number from 0 to {2**31 - 1}")
    own |= {"max_episodes": args.episodes} if args.episodes is not None else {}
    try:
        space = dataclasses.replace(space, params={}, env_config=named.get("env_config", space.env_config), **own)
    except SpaceError as error:
        raise error.at(str(args.config or "train")) from None
    engine = chosen(args.engine or named.get("engine", "auto"))
    if engine not in ENGINES:
        raise UsageError(f"{args.config}: engine {engine!r}: must be one of {', '.join(ENGINES)}")
    config = {
        "env": space.env, "env_config": envs.explicit(space.env, space.env_config), "engine": engine,
        "seed": seed, "ledger": ledger_of(seed),
        "threshold": space.threshold, "window": space.window,
        "max_episodes": space.max_episodes, "max_steps": space.max_steps, **space.resolve({}),
    }  # fmt: skip
    return config, [*notes, *(f"{args.config}: {note}" for note in file_notes), *space.notes]


def _read_config(path: Path) -> dict[str, Any]:
    check_possible(path, "--config")
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: not YAML or JSON: {catalog.first_line(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(
            f"--config {path}: must hold KEY: VALUE lines, such as `lr: 0.001`; known: {', '.join(PARAMETERS)}"
        )
    return values


def _folder(args: argparse.Namespace, space: str, seed: int) -> TrialDir:
    run_dir = RunDir.named(args.out, args.name or safe_name(f"{space}-train-s{seed}"))
    path = run_dir.path.absolute()
    for parent in (path, *path.parents):
        if (parent / "sweep.json").exists():
            raise UsageError(f"{run_dir.path}: lies in the sweep {parent}; choose another --out or --name")
    return TrialDir(run_dir.path)


@contextmanager
def _progress(config: Mapping[str, Any]) -> Iterator[Callable[[Any], None]]:
    """A bar with mean reward and length on a terminal, a line every `window` episodes elsewhere."""
    if not sys.stdout.isatty():
        shown = 0

        def show_line(progress: Any) -> None:
            nonlocal shown
            episodes = progress.outcome.episodes
            if episodes // config["window"] > shown or progress.stopped_by:
                shown = episodes // config["window"]
                print(f"episode {episodes}: {_means(progress)}", flush=True)

        yield show_line
        return

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("episode {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=config["max_episodes"])

        def show_bar(progress: Any) -> None:
            bar.update(task, completed=progress.outcome.episodes, description=_means(progress))

        yield show_bar


def _means(progress: Any) -> str:
    if progress.mean_reward is None:
        return "no episode yet"
    return f"mean reward {progress.mean_reward:.2f}, mean length {progress.mean_length:.2f}"


def _in_words(outcome: Any, goal: Goal) -> str:
    mean = f"mean reward over {goal.window} episodes"
    if outcome.episodes_to_threshold is not None:
        return f"reached   {mean} {goal.threshold:g} at episode {outcome.episodes_to_threshold}"
    best = "none" if outcome.best_mean is None else f"{outcome.best_mean:.1f}"
    return f"finished  {outcome.episodes} episodes, best {mean} {best}"


if __name__ == "__main__":
    sys.exit(main())
