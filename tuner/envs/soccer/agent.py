"""A trained team as a package in a zip, in the form that `soccer_twos.evaluate` and `soccer_twos.watch` load."""

from __future__ import annotations

import io
import keyword
import re
import sys
import zipfile
from pathlib import Path
from string import Template

import numpy as np

from tuner.envs.soccer import policy, trained
from tuner.errors import UsageError
from tuner.files import write_atomic

# A package of one of these names would hide what the evaluation itself imports.
_TAKEN = {*sys.stdlib_module_names, "gym", "gym_unity", "mlagents_envs", "numpy", "ray", "soccer_twos"}


def module_name(target: Path) -> str:
    """The name of the package in `target`: agent.zip holds `agent`.

    Raises:
        UsageError: it is no zip, or its name is not one that the package's evaluation can import.
    """
    name = target.stem
    if target.suffix != ".zip":
        raise UsageError(f"--export {target}: an agent is a zip; name it {re.sub('[^A-Za-z0-9_]', '_', name)}.zip")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,63}", name) or keyword.iskeyword(name) or name.lower() in _TAKEN:
        raise UsageError(
            f"--export {target}: the agent's Python package would be {name!r}; a name has 1 to 64 letters, digits or "
            "underscores, begins with a letter, and is not one that Python or the evaluation uses; try agent.zip"
        )
    return name


def write_agent(run: Path, target: Path) -> None:
    """Write the team of a run folder's best trial, or of one trial, as a package that needs soccer-twos alone.

    The same run gives the same bytes.

    Raises:
        UsageError: the run has no such team, or the file cannot be written or named so; nothing was written.
        StateError: the run's checkpoint does not verify; nothing was written.
    """
    name = module_name(target)
    arrays = io.BytesIO()
    np.savez(arrays, **trained.arrays_of(run))  # type: ignore[arg-type]  # its stubs take it for a flag
    files: dict[str, bytes | str] = {
        "__init__.py": _INIT,
        "agent.py": Template(_AGENT).substitute(name=name),
        "policy.py": Path(policy.__file__).read_bytes(),
        "policy.npz": arrays.getvalue(),
        "README.md": Template(_README).substitute(name=name),
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            entry = zipfile.ZipInfo(f"{name}/{file}")  # of 1980, whenever it is written
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    try:
        write_atomic(target, data.getvalue())
    except OSError as error:
        raise UsageError(f"--export {target}: {error.strerror}; choose a file you can write") from error


_INIT = '''\
"""An agent for Soccer-Twos."""

from .agent import Agent
'''

_AGENT = '''\
"""The agent, as soccer_twos looks for it."""

from pathlib import Path

import numpy as np
from soccer_twos import AgentInterface

from .policy import Team


class Agent(AgentInterface):
    """Moves both players of a team."""

    def __init__(self, env=None):
        super().__init__()
        self.name = "$name"
        with np.load(str(Path(__file__).with_name("policy.npz"))) as arrays:
            self._team = Team(arrays)

    def act(self, observation):
        """From {player: 336 numbers} to {player: 3 branches}, for players 0 and 1."""
        branches = self._team.act(np.stack([observation[0], observation[1]])[None])[0]
        return {0: branches[0], 1: branches[1]}
'''

_README = """\
# $name

An agent for [soccer-twos](https://pypi.org/project/soccer-twos/), trained with RLlib's PPO. It needs that package and
numpy alone. (`soccer_twos.evaluate` itself also imports `ray`, which the package does not bring.)

Unpack it, and from the folder that then holds `$name/`:

```sh
python -m soccer_twos.evaluate -m1 $name -m2 OTHER_AGENT
python -m soccer_twos.watch -m1 $name -m2 OTHER_AGENT
```

`-m $name` alone lets it play itself. `policy.npz` holds the layers, `policy.py` says how they are read.
"""
