"""`tuner COMMAND …`, the same as `python -m tuner.COMMAND …`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

COMMANDS = ("sweep", "train", "report", "board", "play", "submit", "doctor")


def main() -> int:
    """Run the named command; the current folder is on the path, as with `python -m`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        module = import_module(f"tuner.{sys.argv[1]}")
        code: int = module.main(sys.argv[2:])
        return code
    if len(sys.argv) > 1 and sys.argv[1] == "--version":
        from tuner import __version__

        print(f"tuner {__version__}")
        return 0
    asked = sys.argv[1:2] in (["-h"], ["--help"])
    print(
        f"usage: tuner {{{','.join(COMMANDS)}}} …  (tuner COMMAND --help says more)",
        file=sys.stdout if asked else sys.stderr,
    )
    if not asked and len(sys.argv) > 1:
        from tuner.errors import nearest

        print(f"error: tuner {sys.argv[1]!r}: unknown command{nearest(sys.argv[1], COMMANDS)}", file=sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
