"""`tuner report RUN`: write `best/`, `summary.json` and the report again from the study and the trials."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tuner import command
from tuner.layout import RunDir


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report again and return the exit code."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("report", __doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder, such as runs/cartpole")
    return parser


def _main(args: argparse.Namespace) -> int:
    from tuner.reporter import Reporter
    from tuner.results import open_study

    run_dir = RunDir.existing(args.run)
    with run_dir.lock():
        study, there = open_study(run_dir)
        race = there.get("race", {"seeds": 0, "finalists": 0})  # older folders had none
        summary = Reporter(run_dir, study, there["space"], there["engine"], race).write()
    print("\n".join([*summary.lines(), f"report    {run_dir.report}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
