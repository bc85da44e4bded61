"""`tuner sweep SPACE`: run, resume or extend one sweep."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from tuner import command
from tuner.errors import EXIT_DONE, Interrupted, TrialsFailed, UsageError
from tuner.plan import Plan, SweepOptions
from tuner.ppo.engine import ENGINES
from tuner.results import SweepResult
from tuner.space import PRUNERS, SAMPLERS
from tuner.startup import resting_collector

if TYPE_CHECKING:
    from tuner.summary import Summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run or resume one sweep and return the exit code that a batch system can act on."""
    return command.run(_main, parser(), argv)


def run_sweep(space: str, **options: object) -> SweepResult:
    """Run, resume or extend one sweep; the options are those of the command, with `time_s` in seconds.

    Args:
        space: a name, a path to a `.py` file, or `gym:ENV_ID`.
        options: `trials=16`, `set={"gamma": 0.98}`, …: the fields of `tuner.plan.SweepOptions`.

    Raises:
        UsageError: bad input; nothing was started or changed.
        StateError: the run folder cannot be trusted as it is; nothing was changed.
        Interrupted: stopped on request; the same call goes on.
    """
    unknown = options.keys() - SweepOptions.__dataclass_fields__.keys()
    if unknown:
        raise UsageError(
            f"run_sweep: unknown option {sorted(unknown)[0]!r}; known: {', '.join(SweepOptions.__dataclass_fields__)}"
        )
    plan = Plan.of(space, SweepOptions(**options))  # type: ignore[arg-type]
    _, interruption = _run(plan, sys.stdout)
    if interruption:
        raise interruption
    return SweepResult.load(plan.run_dir.path)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("sweep", __doc__)
    add_options(parser)
    add = parser.add_argument
    add("--address", metavar="A", help="a running Ray cluster: auto or HOST:PORT, from a machine of it (none)")
    add("--dry-run", action="store_true", help="print the space and the plan; start nothing")
    add("--list", action="store_true", help="print every space")
    add("--quiet", action="store_true", help="no live view")
    add("--json", action="store_true", help="no live view; the summary as JSON on stdout")
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """SPACE, and the options that say what a sweep is, wherever it runs."""
    add = parser.add_argument
    add("space", nargs="?", metavar="SPACE", help="a name (see --list), a path to a .py file, or gym:ENV_ID")
    add("--trials", type=int, metavar="N", help="trials in all, the baseline included (the space's)")
    add(
        "--time",
        type=command.seconds,
        dest="time_s",
        metavar="D",
        help="stop searching after 90s, 10m or 2h; the same command goes on",
    )
    add("--episodes", type=int, metavar="N", help="episodes a trial may use (the space's)")
    add("--steps", type=int, metavar="N", help="environment steps a trial may use (the space's)")
    add("--threshold", type=float, metavar="X", help="mean reward to reach (the space's; gym: the environment's own)")
    add("--window", type=int, metavar="N", help="episodes in the mean (the space's)")
    add("--seed", type=int, metavar="N", help="training seed of the search (the space's)")
    add("--sampler-seed", type=int, default=0, metavar="N", help="seed of the sampler (0)")
    add("--sampler", choices=SAMPLERS, default="tpe", help="how parameters are chosen (tpe)")
    add("--pruner", choices=PRUNERS, help="which trials are ended early (the space's)")
    add("--parallel", type=int, metavar="N", help="trials at once (what the machine holds)")
    add("--engine", choices=ENGINES, default="auto", help="what trains (auto)")
    add("--finalists", type=int, default=3, metavar="N", help="best trials that race at the end (3)")
    add(
        "--race-seeds",
        type=int,
        metavar="N",
        help="unseen seeds that choose the winner, and as many that judge it; 0: no race (the space's; on rllib 0)",
    )
    add(
        "--set",
        action="append",
        type=command.key_value,
        default=[],
        metavar="KEY=VALUE",
        help="fix a parameter; may be repeated",
    )
    add("--name", metavar="NAME", help="name of the run folder (the space's)")
    add("--out", default="runs", metavar="PLACE", help="where run folders are: a folder, or s3://BUCKET/FOLDER (runs)")
    add("--storage", metavar="URL", help="the study's database (the run folder's own); a password: in TUNER_STORAGE")
    add("--gpus-per-trial", type=float, default=0.0, metavar="X", help="GPUs of a trial (0)")
    add("--cpus-per-trial", type=int, default=1, metavar="N", help="CPUs of a trial (1)")
    command.add_trust(parser)


def options_of(args: argparse.Namespace) -> SweepOptions:
    """What was asked for."""
    names = SweepOptions.__dataclass_fields__.keys() - {"set"}
    return SweepOptions(set=dict(args.set), **{name: getattr(args, name) for name in names})


def _main(args: argparse.Namespace) -> int:
    if args.list:
        return _list()
    if not args.space:
        raise UsageError("sweep: which SPACE? `python -m tuner.sweep --list` shows them; for example `sweep cartpole`")
    plan = Plan.of(args.space, options_of(args))
    for note in plan.space.notes:
        command.say(f"note: {plan.source.file}: {note}", sys.stderr)
    if args.dry_run:
        from tuner import forecast

        command.say(forecast.describe(plan))
        return 0
    summary, interruption = _run(plan, None if args.quiet or args.json else sys.stdout)
    if args.json:
        print(json.dumps(summary.to_json(), indent=2))
    else:
        command.say(_answer(plan, summary))
    if interruption:
        raise interruption
    if summary.failure:
        raise TrialsFailed(
            f"{plan.run_dir.path}: {summary.failure}; mend the space or its environment and use another --name"
        )
    return EXIT_DONE


def _run(plan: Plan, stream: TextIO | None) -> tuple[Summary, Interrupted | None]:
    """What the sweep found, and the error to end with where somebody asked it to stop before its last trial."""
    with resting_collector():
        from tuner import driver, signals

    with signals.graceful() as stop:
        summary = driver.run(plan, stop, stream)
    if not stop.is_set() or (summary.finished >= plan.trials and summary.answer.is_complete):
        return summary, None
    return summary, Interrupted(f"{stop.reason()}; the same command goes on")


def _answer(plan: Plan, summary: Summary) -> str:
    lines = summary.lines()
    if summary.finished < plan.trials:
        left = plan.trials - summary.finished
        lines.append(f"to do     {left} of {plan.trials} trials; the same command goes on")
    elif not summary.answer.is_complete:
        lines.append("to do     the rest of the race and its path; the same command goes on")
    if plan.mirror:
        lines.append(f"store     {plan.mirror.url}")
    lines.append(f"report    {plan.run_dir.report}")
    if summary.best is not None:
        lines.append(f"curves    {plan.run_dir.best / 'curves.png'}")
    return "\n".join([*lines, f"review    python -m tuner.board {plan.run_dir.path}"])


def _list() -> int:
    from tuner import catalog

    for name, env, doc, file in catalog.listing():
        command.say(f"{name:<12} {env:<20} {doc}\n{'':<12} {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
