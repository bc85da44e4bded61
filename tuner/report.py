"""`tuner report RUN`: write `best/`, `summary.json` and the report again from the study and the trials."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from tuner import command
from tuner.disk import told_when_full
from tuner.layout import RunDir, check_trust
from tuner.mirror import Mirror, working_copy
from tuner.store import is_url


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report again and return the exit code."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("report", __doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder, such as runs/cartpole, or its URL")
    command.add_trust(parser)
    return parser


def _main(args: argparse.Namespace) -> int:
    from tuner.reporter import Reporter
    from tuner.results import open_study

    run_dir = RunDir.existing(working_copy(args.run))
    check_trust(run_dir.path, args.trust)
    kept = Mirror.of_run(args.run).kept(lambda: False) if is_url(args.run) else nullcontext()
    with kept, told_when_full(run_dir.path), run_dir.lock():
        study, there = open_study(run_dir)
        race = there.get("race", {"seeds": 0, "finalists": 0})  # older folders had none
        reporter = Reporter(run_dir, study, there["space"], there["engine"], race)
        summary = reporter.write(reporter.answer())
    command.say("\n".join([*summary.lines(), f"report    {run_dir.report}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
