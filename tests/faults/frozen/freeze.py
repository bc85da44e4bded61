"""Makes a frozen pair of run folders of the present format: `python -m tests.faults.frozen.freeze NAME`.

To be done once a release, before its format changes again; the test resumes every archive that there is.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SPACE = HERE.parent.parent / "small.py"
FINISHED = ("--name", "finished", "--trials", "2", "--episodes", "60", "--race-seeds", "1")
# Long enough to be interrupted in the second trial.
INTERRUPTED = (
    "--name", "interrupted", "--trials", "3", "--parallel", "1", "--episodes", "5000", "--steps", "300000",
    "--threshold", "1000", "--set", "num_epochs=30", "--set", "minibatch_size=32", "--race-seeds", "0",
)  # fmt: skip
# Written again by any version, and large; the lock is nobody's.
LEFT_OUT = re.compile(r"\.lock|report\.(html|md)|curves\.(html|png)|policy\.pt")


def main(name: str) -> None:
    """Run both sweeps in a folder of their own, and pack what they leave."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tuner.sweep", str(SPACE), "--out", ".", "--quiet"]
        subprocess.run([*command, *FINISHED], cwd=folder, check=True)
        with subprocess.Popen([*command, *INTERRUPTED], cwd=folder) as process:
            table = Path(folder, "interrupted/trials/0001/episodes.csv")
            while not (table.exists() and len(table.read_bytes()) > 10_000):
                assert process.poll() is None, "it ended before it could be interrupted"
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        assert process.returncode == 75
        for run in ("finished", "interrupted"):
            _forget_this_machine(Path(folder, run, "sweep.json"))
        with tarfile.open(HERE / f"{name}.tar.xz", "w:xz") as archive:
            for run in ("finished", "interrupted"):
                archive.add(Path(folder, run), run, filter=_kept)


def _forget_this_machine(sweep: Path) -> None:
    there = json.loads(sweep.read_bytes())
    sweep.write_text(json.dumps(there | {"file": SPACE.name, "git": None}, indent=2) + "\n")


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return None if LEFT_OUT.fullmatch(Path(member.name).name) else member


if __name__ == "__main__":
    main(sys.argv[1])
