"""From what a user typed (a name, a `.py` file or `gym:ENV_ID`) to a search space and where it came from."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tuner.errors import SpaceError, UsageError, nearest
from tuner.layout import is_file, safe_name
from tuner.space import Choice, Float, SearchSpace

GYM_PREFIX = "gym:"


@dataclass(frozen=True)
class Source:
    """A search space, its name, and where it came from."""

    name: str
    space: SearchSpace
    file: str
    sha256: str | None
    doc: str


def load(text: str) -> Source:
    """The space that `text` names: a name in `search_spaces/`, a path to a `.py` file, or `gym:ENV_ID`.

    Raises:
        UsageError: nothing has that name.
        SpaceError: its file has problems, all of them listed.
    """
    if text.startswith(GYM_PREFIX):
        return _from_gymnasium(text)
    if text.endswith(".py") or "/" in text:
        path = Path(text)
        if not is_file(path):
            raise UsageError(f"space {text!r}: no such file; `python -m tuner.sweep --list` shows the named spaces")
        return _from_file(path, path.stem)
    files = space_files()
    if text not in files:
        hint = nearest(text, files) or f"; known: {', '.join(files)}; or a path to a .py file, or gym:ENV_ID"
        raise UsageError(f"space {text!r}: unknown{hint}{_hidden_by_init()}")
    return _from_file(files[text], text)


def space_files() -> dict[str, Path]:
    """The file of every named space; where two folders have the name, the one that Python imports."""
    try:
        package = importlib.import_module("search_spaces")
    except ModuleNotFoundError:
        return {}
    found: dict[str, Path] = {}
    for folder in package.__path__:
        for module in pkgutil.iter_modules([folder]):
            found.setdefault(module.name, Path(folder) / f"{module.name}.py")
    return dict(sorted(found.items()))


def listing() -> list[tuple[str, str, str, str]]:
    """Name, environment, first docstring line and file of every named space; a broken file says so in its row."""
    rows = []
    for name, path in space_files().items():
        try:
            source = _from_file(path, name)
            rows.append((name, source.space.env, source.doc, str(path)))
        except SpaceError as error:
            rows.append((name, "?", str(error).splitlines()[0], str(path)))
    return rows


def _from_file(path: Path, name: str) -> Source:
    data = path.read_bytes()
    module = ModuleType(f"search_spaces.{name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles in the file look their module up by name
    try:
        exec(compile(data, str(path), "exec"), module.__dict__)  # noqa: S102 a space is a file that the user chose to run
    except SpaceError as error:
        raise error.at(str(path)) from None
    except (Exception, SystemExit) as error:  # anything can go wrong in a user's file; it is theirs to mend
        raise SpaceError([_raised(error, path)], str(path)) from error
    space = getattr(module, "space", None)
    if not isinstance(space, SearchSpace):
        problem = f"space = {space!r}: must be a tuner.space.SearchSpace; write `space = SearchSpace(env=..., ...)`"
        raise SpaceError([problem], str(path))
    doc = (ast.get_docstring(ast.parse(data)) or "").strip().splitlines()
    return Source(name, space, str(path), hashlib.sha256(data).hexdigest(), doc[0] if doc else "")


def _raised(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    hint = nearest(unknown[1], SearchSpace.__dataclass_fields__) if unknown else ""
    traceback, line = error.__traceback__, None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f"line {line}: {type(error).__name__}: {error}{hint}"


def _from_gymnasium(text: str) -> Source:
    import gymnasium

    from tuner import envs

    env = text.removeprefix(GYM_PREFIX)
    module, _, name = env.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        spec = gymnasium.spec(envs.anywhere(name))
    except (
        gymnasium.error.Error,
        ImportError,
        TypeError,
        ValueError,
    ) as error:  # the last two: no module has that name
        hint = nearest(name, gymnasium.registry)
        raise UsageError(f"space {text!r}: Gymnasium has no such environment: {first_line(error)}{hint}") from error
    doc = f"{env}: a generic PPO space"
    return Source(safe_name(text), generic_space(env, spec.reward_threshold), text, None, doc)


def generic_space(env: str, threshold: float | None = None) -> SearchSpace:
    """A PPO space for any single-agent environment; its ranges are those in common use."""
    baseline: Mapping[str, Any] = {
        "lr": 3e-4, "lr_anneal_steps": None, "train_batch_size": 1024, "minibatch_size": 64, "num_epochs": 10,
        "gamma": 0.99, "lambda_": 0.95, "clip_param": 0.2, "vf_clip_param": 1e5, "vf_loss_coeff": 0.5,
        "entropy_coeff": 0.0, "use_kl_loss": False, "grad_clip": 0.5,
        "num_env_runners": 0, "num_envs_per_env_runner": 8,
        "fcnet_hiddens": [64, 64], "fcnet_activation": "tanh", "vf_share_layers": False,
    }  # fmt: skip
    return SearchSpace(
        env=env, threshold=threshold, window=50, max_episodes=1000, trials=64, baseline=baseline,
        params={
            "lr": Float(1e-5, 1e-2, log=True),
            "train_batch_size": Choice(128, 256, 512, 1024, 2048, 4096),
            "minibatch_size": Choice(32, 64, 128, 256),
            "num_epochs": Choice(4, 6, 10, 20),
            "gamma": Choice(0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
            "lambda_": Choice(0.8, 0.9, 0.95, 0.98, 1.0),
            "clip_param": Choice(0.1, 0.2, 0.3, 0.5),
            "entropy_coeff": Choice(0.0, 0.001, 0.01),
            "vf_loss_coeff": Choice(0.25, 0.5, 1.0),
            "num_envs_per_env_runner": Choice(1, 4, 8, 16),
        },
    )  # fmt: skip


def _hidden_by_init() -> str:
    """The remedy where a user's `search_spaces/__init__.py` hides the installed spaces."""
    file = getattr(sys.modules.get("search_spaces"), "__file__", None)
    return f" ({file} hides the installed spaces: remove that file)" if file else ""


def first_line(error: BaseException) -> str:
    """An exception's message in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
