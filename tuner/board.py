"""`tuner board RUN`: TensorBoard on a run folder, on this machine only."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from tuner import command
from tuner.errors import StateError, UsageError
from tuner.layout import RunDir
from tuner.mirror import working_copy
from tuner.plan import read_sweep, storage_of

HOST = "127.0.0.1"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns only what bad input ends with."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("board", __doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder, such as runs/cartpole, or its URL")
    parser.add_argument("--port", type=int, metavar="N", help="port (6006, or a free one)")
    return parser


def _main(args: argparse.Namespace) -> NoReturn:
    run_dir = RunDir.existing(working_copy(args.run))
    port = _port(args.port)
    print(f"TensorBoard       http://{HOST}:{port}/  (end it with Ctrl-C)")
    print(f"Optuna Dashboard  optuna-dashboard {_study_of(run_dir)}", flush=True)
    serve = [sys.executable, "-m", "tensorboard.main", f"--logdir={run_dir.path}", f"--host={HOST}", f"--port={port}"]
    # TensorBoard takes this process over, so that no signal has to be handed on and none leaves it behind.
    os.execve(sys.executable, serve, os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})  # noqa: S606 our own words


def _study_of(run_dir: RunDir) -> str:
    """The study's database as another tool may be told of it: a password is the user's to add."""
    with suppress(StateError):  # a picture needs none of it
        if shared := storage_of(read_sweep(run_dir)):
            return shared
    return f"sqlite:///{run_dir.study}"


def _port(asked: int | None) -> int:
    """The asked port, or 6006, or where that is taken a free one.

    Raises:
        UsageError: the asked port is not to be had.
    """
    if asked is not None and not 1 <= asked <= 65535:
        raise UsageError(f"--port {asked}: must be from 1 to 65535")
    for port in (asked or 6006, 0):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError as error:
                if asked is not None:
                    raise UsageError(f"--port {asked}: {error.strerror}; choose another or leave it out") from error
                continue
            found: int = trial.getsockname()[1]
            return found
    raise UsageError("no free port on this machine")


if __name__ == "__main__":
    sys.exit(main())
