"""`tuner doctor [RUN]`: what this machine can run, and whether a run folder is sound; installs nothing unasked."""

from __future__ import annotations

import argparse
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuner import command
from tuner.envs.soccer import interpreter
from tuner.errors import EXIT_STATE, StateError, UsageError
from tuner.layout import RunDir, check_trust
from tuner.mirror import working_copy
from tuner.plan import read_sweep, storage_of


def main(argv: Sequence[str] | None = None) -> int:
    """Examine and return the exit code: 3 where a run folder is not sound."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("doctor", __doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("run", nargs="?", metavar="RUN", help="a run folder to examine, or its URL")
    parser.add_argument(
        "--repair-into", type=Path, metavar="FOLDER",
        help="write what can be saved of RUN into a new folder, from which the same sweep goes on; RUN is left alone",
    )  # fmt: skip
    command.add_trust(parser)
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
        if args.repair_into:
            raise UsageError(
                "--repair-into: of which run folder? name it: python -m tuner.doctor RUN --repair-into FOLDER"
            )
        for name, finding in machine_findings():
            print(f"{name:<9} {finding}")
        return 0
    run_dir = RunDir.existing(working_copy(args.run))
    check_trust(run_dir.path, args.trust)  # opening a study may write where it leads
    return _examine(run_dir, args.repair_into)


def _examine(run_dir: RunDir, target: Path | None) -> int:
    """Say what is wrong with a run folder and what can be saved, and save it where that was asked for."""
    from tuner import repair
    from tuner.soundness import elsewhere, run_problems

    if target is not None:
        repair.check_target(run_dir, target)
    problems = list(run_problems(run_dir))
    if not problems:
        for line in elsewhere(run_dir):
            command.say(line)
        command.say(f"{run_dir.path}: sound" + ("; no copy was made" if target else ""))
        return 0
    for problem in problems:
        command.say(problem)
    if shared := storage_of(read_sweep(run_dir)):
        raise StateError(
            f"{run_dir.path}: its study is in {shared}, so that no copy can be made; see above what to mend"
        )
    salvage = repair.examine(run_dir)
    for line in salvage.lines():
        command.say(line)
    if target is not None:
        repair.write(salvage, target)
        where = f"--out {shlex.quote(str(target.parent))} --name {target.name}"
        command.say(f"{target}: sound; the same sweep command goes on there with {where}")
        return 0
    command.say(f"to save it  python -m tuner.doctor {run_dir.path} --repair-into FOLDER")
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    command.say(f"error: {run_dir.path}: {count}, see above; nothing was changed", sys.stderr)
    return EXIT_STATE


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


if __name__ == "__main__":
    sys.exit(main())
