"""What one invocation of a sweep will do: its options checked against space, environment, machine and run folder."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tuner import catalog, envs, storage
from tuner.catalog import Source
from tuner.errors import SpaceChanged, SpaceError, StateError, StudyUnreadable, UsageError
from tuner.layout import RunDir, check_trust, safe_name
from tuner.ledger import MOST_SEEDS
from tuner.mirror import Mirror
from tuner.parameters import ENV_PREFIX, display
from tuner.ppo.engine import ENGINES, chosen
from tuner.space import SAMPLERS, Choice, SearchSpace
from tuner.store import is_url

FORMAT = 1
SET_FORM = "--set {name}={text}"
_PACKAGES = ("ray", "torch", "gymnasium", "optuna", "numpy")
DISTRIBUTION = "rllib-ppo-tuner"
_ALWAYS_THERE = ("space", "file", "definition", "engine", "sampler", "sampler_seed", "trials", "options", "versions")
_BEGUN = re.compile(r"trials|\.lock|\.sweep\.json\.\d+\.tmp")


@dataclass(frozen=True)
class SweepOptions:
    """The options of `sweep`; None leaves a value to the space, or to the machine."""

    trials: int | None = None
    time_s: float | None = None
    episodes: int | None = None
    steps: int | None = None
    threshold: float | None = None
    window: int | None = None
    seed: int | None = None
    sampler_seed: int = 0
    sampler: str = "tpe"
    pruner: str | None = None
    parallel: int | None = None
    engine: str = "auto"
    finalists: int = 3
    race_seeds: int | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    out: str = "runs"
    address: str | None = None
    gpus_per_trial: float = 0
    cpus_per_trial: int = 1
    trust: bool = False
    storage: str | None = None  # the URL of a database, without a password


@dataclass(frozen=True)
class Plan:
    """One invocation, ready to start."""

    source: Source
    space: SearchSpace
    options: SweepOptions
    run_dir: RunDir
    trials: int
    engine: str
    mirror: Mirror | None = None  # of a remote --out; `run_dir` is its working copy

    @classmethod
    def of(cls, space: str, options: SweepOptions) -> Plan:
        """Check everything that can be refused without starting or writing anything.

        With a remote `--out` the working copy is brought to the store's state first.

        Raises:
            UsageError: an option, the space, its environment or the store cannot be used.
            StateError: the run folder holds another sweep.
        """
        check_options(options)
        source = catalog.load(space)
        effective = effective_space(source, options)
        effective = dataclasses.replace(effective, env_config=envs.explicit(effective.env, effective.env_config))
        trials = effective.trials
        if options.sampler == "grid":
            from tuner.study import check_grid

            trials = min(trials, check_grid(effective) + 1)
        if not options.trust:
            searched = effective.params.get(f"{ENV_PREFIX}opponent")
            choices = searched.values if isinstance(searched, Choice) else ()
            envs.check_no_policy(effective.env, effective.env_config, *({"opponent": choice} for choice in choices))
        name = options.name or safe_name(source.name)
        mirror = Mirror.named(options.out, name) if is_url(options.out) else None
        run_dir = mirror.run_dir if mirror else RunDir.named(options.out, name)
        check_trust(run_dir.path, options.trust)
        if mirror:
            mirror.pull()
        options = dataclasses.replace(options, storage=_storage(options, run_dir))
        plan = cls(source, effective, options, run_dir, trials, _engine(options, run_dir), mirror)
        plan.check_run_dir()
        return plan

    @property
    def cpus_per_trial(self) -> int:
        """CPUs of a trial, the remote environment runners of its largest configuration included."""
        domain = self.space.params.get("num_env_runners")
        runners: list[int] = [self.space.baseline["num_env_runners"]]
        if domain is not None:
            runners += domain.values if isinstance(domain, Choice) else [int(domain.high)]
        return self.options.cpus_per_trial + max(runners)

    @property
    def race(self) -> dict[str, int]:
        """How many finalists race on how many seeds; RLlib's own way is too slow to be raced unasked."""
        seeds = self.options.race_seeds
        return {"seeds": default_race_seeds(self.space, self.engine) if seeds is None else seeds,
                "finalists": self.options.finalists}  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run folder to be gone on with."""
        definition = self.space.to_json()
        del definition["trials"]
        return {
            "definition": definition,
            "sampler": self.options.sampler,
            "sampler_seed": self.options.sampler_seed,
            "engine": self.engine,
        }

    def to_json(self) -> dict[str, Any]:
        """What `sweep.json` holds."""
        options = {k: v for k, v in dataclasses.asdict(self.options).items() if k not in ("out", "name")}
        return {
            "format": FORMAT,
            "space": self.source.name,
            "file": self.source.file,
            "sha256": self.source.sha256,
            **self.identity(),
            "trials": self.trials,
            "race": self.race,
            "options": options,
            "versions": versions(),
            "git": git_revision(),
        }

    def check_run_dir(self) -> dict[str, Any] | None:
        """What the run folder's `sweep.json` holds, None where there is no folder yet.

        Raises:
            StateError: it is not a run folder, or was written for another sweep.
        """
        path = self.run_dir.path
        if not self.run_dir.sweep.exists():
            # A crash between making the folder and writing sweep.json leaves it with no more than these.
            if path.exists() and not (path.is_dir() and all(_BEGUN.fullmatch(p.name) for p in path.iterdir())):
                raise StateError(f"{path}: exists and is not a run folder (no sweep.json); use another --name or --out")
            if self.options.storage and (carried := storage.look_up(self.options.storage, path.name)) is not None:
                self.check_shared(carried)
            return None
        there = read_sweep(self.run_dir)
        self._check_storage(storage_of(there))
        differences = _differences(there, self.identity())
        if differences:
            raise SpaceChanged(
                f"{path}: was written for another sweep: {'; '.join(differences)}; "
                "use --name for a new sweep, or repeat the command it was written by"
            )
        check_study(self.run_dir, there)
        return there

    def check_shared(self, carried: Mapping[str, Any]) -> None:
        """Refuse a study whose attribute says that it is of another sweep.

        Raises:
            SpaceChanged: it does.
        """
        differences = _differences(carried, self.identity())
        if differences:
            raise SpaceChanged(
                f"the study {self.run_dir.path.name} in {self.options.storage}: was written for another sweep: "
                f"{'; '.join(differences)}; use --name for a new sweep, or repeat the command it was written by"
            )

    def _check_storage(self, there: str | None) -> None:
        """Refuse a database that is not the one of the run folder's study, which was begun in `there`."""
        here = self.options.storage
        if not storage.is_same(there, here):
            raise SpaceChanged(
                f"{self.run_dir.path}: its study is in {there or self.run_dir.study}, not in "
                f"{here or self.run_dir.study}; leave {storage.OPTION} and {storage.VARIABLE} out, or use another "
                "--name"
            )


def default_race_seeds(space: SearchSpace, engine: str) -> int:
    """The seeds of a race where nobody asked for a number."""
    return 0 if engine == "rllib" else space.race_seeds


def _storage(options: SweepOptions, run_dir: RunDir) -> str | None:
    """The database asked for; where none is, a run folder's study is where it was begun."""
    asked = storage.asked_for(options.storage)
    if asked is not None or not run_dir.sweep.exists():
        return asked
    return storage_of(read_sweep(run_dir))


def _engine(options: SweepOptions, run_dir: RunDir) -> str:
    """The engine asked for; `auto` goes on with the one that a run folder was begun with."""
    if options.engine == "auto" and run_dir.sweep.exists():
        return str(read_sweep(run_dir).get("engine", chosen(options.engine)))
    return chosen(options.engine)


def effective_space(source: Source, options: SweepOptions) -> SearchSpace:
    """The space with the options that change it.

    Raises:
        UsageError: a value is out of range; all of them are listed.
    """
    names = {"trials": "trials", "episodes": "max_episodes", "steps": "max_steps", "seed": "seed",
             "threshold": "threshold", "window": "window", "pruner": "pruner"}  # fmt: skip
    changed = {theirs: getattr(options, ours) for ours, theirs in names.items() if getattr(options, ours) is not None}
    problems = []
    space = source.space
    try:
        space = space.fixing(options.set, SET_FORM)
    except SpaceError as error:
        problems += error.problems
    try:
        space = dataclasses.replace(space, **changed)
    except SpaceError as error:
        option_names = {theirs: f"--{ours}" for ours, theirs in names.items()}
        for problem in error.problems:
            key = problem.split(" ", 1)[0]
            problems.append(problem.replace(key, option_names.get(key, key), 1))
    if problems:
        raise UsageError("\n".join(problems)) if len(problems) == 1 else SpaceError(problems, source.name)
    return space


def read_sweep(run_dir: RunDir) -> dict[str, Any]:
    """What `sweep.json` holds.

    Raises:
        StateError: it cannot be read, something is missing, or a newer version of this project wrote it.
    """
    try:
        there: dict[str, Any] = json.loads(run_dir.sweep.read_bytes())
        found = there["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{run_dir.sweep}: cannot be read ({type(error).__name__}); restore it from a copy, or use another --name"
        ) from error
    if found != FORMAT:
        raise StateError(f"{run_dir.sweep}: has format {found}, this version reads {FORMAT}; update this project")
    for name in _ALWAYS_THERE:
        if name not in there:
            raise StateError(f"{run_dir.sweep}: lacks {name}; restore it from a copy, or use another --name")
    return there


def storage_of(sweep: Mapping[str, Any]) -> str | None:
    """The database in which the study of a `sweep.json` is; None for the run folder's own."""
    found: str | None = sweep["options"].get("storage")
    return found


def study_access(run_dir: RunDir, sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Where the study of a run folder is, and who asks: what `SweepStudy` has to be told of that.

    Raises:
        StateError: the `sweep.json` lacks something.
    """
    shared = storage_of(sweep)
    if shared is None:
        return {"storage": f"sqlite:///{run_dir.study}"}
    from tuner.lease import Owner

    try:
        owner = Owner(**sweep["owner"])
    except (KeyError, TypeError):
        raise StateError(f"{run_dir.sweep}: does not say whose it is (owner); restore it from a copy") from None
    return {"storage": storage.address(shared), "name": run_dir.path.name, "owner": owner}


def check_study(run_dir: RunDir, sweep: Mapping[str, Any]) -> None:
    """Refuse a study that is missing or empty beside trials that it must have started.

    Raises:
        StudyUnreadable: it is.
        UsageError: it is in a database that cannot be used.
    """
    if shared := storage_of(sweep):
        if storage.look_up(shared, run_dir.path.name) is None and any(True for _ in run_dir.trial_dirs()):
            raise StudyUnreadable(
                f"{shared}: holds no study {run_dir.path.name}, and {run_dir.trials} holds trials; restore it from a "
                "copy, or use another --name"
            )
        return
    is_there = run_dir.study.is_file() and run_dir.study.stat().st_size > 0
    if not is_there and any(True for _ in run_dir.trial_dirs()):
        what = "is empty" if run_dir.study.is_file() else "is missing"
        raise StudyUnreadable(
            f"{run_dir.study}: {what}, and {run_dir.trials} holds trials; restore it from a copy, or use another "
            "--name; tuner.doctor says what can be saved"
        )


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), "tuner": own_version()}
    return found | {name: version(name) for name in _PACKAGES}


def own_version() -> str:
    """The installed version of this project, or `0+source` from a plain folder."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+source"


def git_revision() -> str | None:
    """The revision of the checkout that this code runs from, `-dirty` where it was changed; None outside of git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 fixed words
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def check_options(options: SweepOptions) -> None:
    """Refuse options that no space and no machine could make good.

    Raises:
        UsageError: one of them is out of range.
    """
    if options.race_seeds is not None and not 0 <= options.race_seeds <= MOST_SEEDS:
        raise UsageError(
            f"--race-seeds {options.race_seeds}: must be from 0, which leaves the race out, to {MOST_SEEDS}"
        )
    if options.finalists < 1:
        raise UsageError(f"--finalists {options.finalists}: must be at least 1; --race-seeds 0 leaves the race out")
    for name, known in (("sampler", SAMPLERS), ("engine", ENGINES)):
        if getattr(options, name) not in known:
            raise UsageError(f"--{name} {getattr(options, name)}: must be one of {', '.join(known)}")
    if options.time_s is not None and options.time_s <= 0:
        raise UsageError(f"--time {options.time_s:g}s: must be above 0, such as 90s, 10m or 2h")
    for name in ("parallel", "cpus_per_trial"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be at least 1")
    if options.gpus_per_trial < 0:
        raise UsageError(f"--gpus-per-trial {options.gpus_per_trial:g}: must be at least 0")
    if options.sampler_seed < 0:
        raise UsageError(f"--sampler-seed {options.sampler_seed}: must be at least 0")


_OPTION_OF = {"max_episodes": "--episodes", "max_steps": "--steps", "seed": "--seed", "threshold": "--threshold",
              "window": "--window", "pruner": "--pruner", "sampler": "--sampler", "sampler_seed": "--sampler-seed",
              "engine": "--engine"}  # fmt: skip


_ADDED_LATER = {"judge": None}  # to the definition: what it was before


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Each difference in the user's words: `--seed is 10 there, 11 here`; the race may differ."""
    ours = _flat(json.loads(json.dumps(here)))
    theirs = _ADDED_LATER | _flat({name: there.get(name) for name in here})
    found = []
    for name in dict.fromkeys([*theirs, *ours]):
        if name != "race_seeds" and theirs.get(name, "absent") != ours.get(name, "absent"):
            word = _OPTION_OF.get(name, name)
            found.append(
                f"{word} is {_shown(theirs.get(name, 'absent'))} there, {_shown(ours.get(name, 'absent'))} here"
            )
    return found


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        if name == "definition":
            flat |= _flat(value or {})
        elif name in ("baseline", "params", "env_config"):
            flat |= {f"{name}.{key}": v for key, v in value.items()}
        else:
            flat[name] = value
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "kind" in value:
        return " ".join(f"{key} {shown}" if key != "kind" else str(shown) for key, shown in value.items())
    return value if value == "absent" else display(value)
