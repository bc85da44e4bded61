"""The worker environment: an old interpreter with the soccer-twos package, found, built and checked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import UsageError
from tuner.files import replace_folder, write_json

PACKAGE = "0.1.14"
VERSIONS = ("3.10", "3.9", "3.8")  # soccer-twos needs gym 0.19, which does not build on 3.11
INSTALL = "python -m tuner.doctor --install-soccer"

# gym 0.19 builds only with old build tools; soccer-twos would bring torch and tensorboard unless left to these lists.
_BUILD_TOOLS = ("setuptools==65.7.0", "wheel==0.38.4")
_PACKAGES = (f"soccer-twos=={PACKAGE}", "mlagents-envs==0.27.0", "gym-unity==0.27.0", "gym==0.19.0")
_NEEDS = (
    "numpy==1.23.5", "protobuf==3.20.3", "grpcio==1.70.0", "Pillow==10.4.0", "cloudpickle==1.6.0", "PyYAML==6.0.2",
    "attrs==24.2.0", "cattrs==1.5.0", "requests==2.32.3",
)  # fmt: skip

# The package starts one file and gives it the port. This one starts what the worker named, as `worker.py` says.
_PLAYER = """#!/bin/sh
eval "exec $SOCCER_PLAYER"' "$@"'
"""
_MARK = "complete.json"
_BINARY = "soccer_twos/bin/v2/linux-x86_64/soccer-twos/soccer-twos.x86_64"


@dataclass(frozen=True)
class WorkerEnvironment:
    """A folder with a virtual environment that was installed to the end."""

    path: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    @property
    def binary(self) -> Path:
        """Where soccer-twos keeps the Unity player that it downloads; there may be none."""
        return self.path / "lib" / f"python{self.version}" / "site-packages" / _BINARY

    @property
    def version(self) -> str:
        """Its Python, such as 3.10."""
        return str(json.loads((self.path / _MARK).read_bytes())["python"])


def location() -> Path:
    """Where the worker environment is, or would be: `rllib-ppo-tuner/soccer-worker` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return root / "rllib-ppo-tuner" / "soccer-worker"


def problem() -> str | None:
    """Why no match can be played through the worker environment, and what to do; None when it is sound."""
    path = location()
    try:
        mark = json.loads((path / _MARK).read_bytes())
    except FileNotFoundError:
        return f"no worker environment at {path}: run {INSTALL}"
    except (OSError, ValueError) as error:
        return f"the worker environment at {path} cannot be read, {error}: run {INSTALL}"
    if mark.get("packages") != _fingerprint():
        return f"the worker environment at {path} is of another version of this project: run {INSTALL}"
    if not _version(str(path / "bin" / "python")):
        return f"the interpreter of the worker environment at {path} does not start: run {INSTALL}"
    return None


def worker_environment() -> WorkerEnvironment:
    """The worker environment, ready to use.

    Raises:
        UsageError: there is none that is sound; the message says what to do.
    """
    if reason := problem():
        raise UsageError(reason)
    return WorkerEnvironment(location())


def find() -> Path | None:
    """An interpreter of 3.10, 3.9 or 3.8 with `venv` and `pip`, from PATH, pyenv or uv; None where there is none."""
    found = {version: path for path in reversed(list(_candidates())) if (version := _version(path))}
    return next((Path(found[version]) for version in VERSIONS if version in found), None)


def install() -> WorkerEnvironment:
    """Build the worker environment unless it is there and sound; takes half a minute and needs the package index.

    It is built beside its place and renamed, so that an interrupted installation is never used.

    Raises:
        UsageError: no interpreter was found, the folder cannot be written, or pip failed; the message says which.
    """
    path = location()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path.with_suffix(".lock")):
            if problem() is not None:
                _build(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; set XDG_CACHE_HOME to a folder of yours") from error
    return worker_environment()


def unity_player(env_path: str | None) -> Path:
    """The Unity player at `env_path`, or the one that the package downloads, which it does here where it has none.

    Args:
        env_path: The executable; its suffix `.x86_64` may be left out, as the package allows.

    Raises:
        UsageError: there is no such file, it is not executable, or it cannot be downloaded.
    """
    if env_path is None:
        return _downloaded(worker_environment())
    named = Path(env_path).expanduser().absolute()
    beside = [named, *(named.with_name(named.name + suffix) for suffix in (".x86_64", ".x86"))]
    path = next((path for path in beside if path.is_file()), None)
    if path is None:
        raise UsageError(f"env_path {env_path}: no such file; give the path of the player, soccer-twos.x86_64")
    if not os.access(path, os.X_OK):
        raise UsageError(f"env_path {path}: not executable; run chmod +x {path}")
    return path


def _candidates() -> Iterator[str]:
    """Interpreters that may do, the likeliest first."""
    for version in VERSIONS:
        for folder in os.get_exec_path():
            yield str(Path(folder) / f"python{version}")
    for folder in os.get_exec_path():
        yield str(Path(folder) / "python3")
    pyenv = _pyenv_root()
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    for version in VERSIONS:
        yield from map(str, sorted(pyenv.glob(f"versions/{version}*/bin/python"), reverse=True))
        yield from map(str, sorted(uv.glob(f"cpython-{version}*/bin/python{version}"), reverse=True))


def _pyenv_root() -> Path:
    """The folder that pyenv keeps its versions in; its own command lies in `bin` there, a link into `libexec`."""
    if named := os.environ.get("PYENV_ROOT"):
        return Path(named)
    command = shutil.which("pyenv")
    return Path(command).resolve().parent.parent if command else Path.home() / ".pyenv"


def _version(python: str) -> str | None:
    """The interpreter's version, if it is an old one that can make a virtual environment."""
    if not os.access(python, os.X_OK):
        return None
    ask = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        said = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = said.stdout.strip()
    return version if said.returncode == 0 and version in VERSIONS else None


def _build(path: Path) -> None:
    """Make the environment beside `path`, then put it there."""
    python = find()
    if python is None:
        raise UsageError(
            "no Python 3.8 to 3.10 with venv and pip in PATH, pyenv or uv, and soccer-twos runs on no other; get one "
            f"(uv python install 3.10, pyenv install 3.10, or your system's packages), then run {INSTALL}"
        )
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        _run([str(python), "-I", "-m", "venv", str(beside)])
        pip = [str(beside / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *_BUILD_TOOLS])
        _run([*pip, "--no-deps", "--no-build-isolation", *_PACKAGES])
        _run([*pip, *_NEEDS])
        player = beside / "player"
        player.write_text(_PLAYER)
        player.chmod(0o755)
        write_json(beside / _MARK, {"python": _version(str(beside / "bin" / "python")), "packages": _fingerprint()})
        replace_folder(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if re.match("error", line, re.IGNORECASE)]
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise UsageError(f"the worker environment for soccer was not built: {reason} (from {' '.join(command)})")


def _fingerprint() -> str:
    parts = (*_BUILD_TOOLS, *_PACKAGES, *_NEEDS, _PLAYER)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _downloaded(environment: WorkerEnvironment) -> Path:
    """The package's own player; the package downloads it when it is imported and has none."""
    with _one_at_a_time(environment.path / "download.lock"):
        if not environment.binary.is_file():
            command = [str(environment.python), "-I", "-c", "import soccer_twos"]
            done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
            if done.returncode or not environment.binary.is_file():
                reason = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
                raise UsageError(
                    f"soccer-twos could not download its Unity player: {reason[:300]}; "
                    "download it yourself and give its path as env_path"
                )
    return unity_player(str(environment.binary))


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Wait for the lock file `path`; the kernel releases it when its holder dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
