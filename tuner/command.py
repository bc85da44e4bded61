"""What all commands share: their parser, their last line on stderr, and their exit codes."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from tuner.errors import EXIT_INTERRUPTED, SweepError

# Control characters but tab and newline, and those that turn the direction of writing.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A command's parser; its description is the module's first docstring line."""
    summary = (doc or "").splitlines()[0].partition(": ")[2]
    return argparse.ArgumentParser(
        prog=f"tuner {name}", description=summary[:1].upper() + summary[1:],
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        epilog="exit codes: 0 done, 1 trials failed, 2 bad input, 3 run folder refused, 75 interrupted: run it again",
    )  # fmt: skip


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option with which a user vouches for what others may have made."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="read policies from outside the run folder, follow links out of it, and use one of another user's: "
        "reading a policy runs whatever code its maker put into it",
    )


def run(main: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse, run, and turn an error into one message and its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_StderrOfTheMoment()])
    args = parser.parse_args(argv)
    ours = logging.getLogger("tuner")
    level = ours.level
    ours.setLevel(logging.INFO)
    try:
        return main(args)
    except SweepError as error:
        say(f"error: {error}", sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        ours.setLevel(level)


class _StderrOfTheMoment(logging.Handler):
    """Writes to what `sys.stderr` is now: a live view puts something else there, so that a line does not tear it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        say(self.format(record), sys.stderr)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print `text` on `stream`, stdout unless given, with control characters as escapes.

    Reasons, names and paths come from environments and run folders, and must not command a terminal.
    """
    print(printable(text), file=stream, flush=True)


def printable(text: str) -> str:
    """`text` with control characters as escapes."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)


def seconds(text: str) -> float:
    """`90s`, `10m`, `2h` or a plain number as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write a time such as 90s, 10m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def key_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE` as its two parts."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r}: write KEY=VALUE, such as gamma=0.98")
    return key.strip(), value
