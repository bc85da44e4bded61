"""The search space: what a sweep may try, and the promise that every trial of it is a valid PPO configuration."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from tuner.episodes import Goal
from tuner.errors import SpaceError, nearest
from tuner.judgement import FORM
from tuner.ledger import MOST_SEEDS, RACE_FROM
from tuner.parameters import (
    ENV_PREFIX,
    OLDER_NAMES,
    PARAMETERS,
    Parameter,
    current_names,
    default_params,
    display,
    parameter,
    parse_params,
    split,
)

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random", "grid")
PRUNERS = ("none", "asha", "median")


@dataclass(frozen=True)
class Float:
    """A real parameter in [low, high], searched on a logarithmic scale where `log`."""

    low: float
    high: float
    log: bool = False

    def problems(self, parameter: Parameter) -> list[str]:
        """What keeps this range from being searched for `parameter`, one line for each problem."""
        if parameter.kind not in ("float", "plain"):
            return [f"takes {parameter.expects()}; use Int or Choice"]
        return _range_problems(self, parameter)

    def contains(self, value: Any) -> bool:
        """Whether `value` lies in the range."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def grid(self, points: int = 5) -> list[float]:
        """`points` values from low to high, evenly spaced on the range's scale."""
        if self.low == self.high:
            return [self.low]
        steps = [index / (points - 1) for index in range(points)]
        if self.log:
            ratio = math.log(self.high / self.low)
            inner = [self.low * math.exp(step * ratio) for step in steps[1:-1]]
        else:
            inner = [self.low + step * (self.high - self.low) for step in steps[1:-1]]
        return [self.low, *inner, self.high]


@dataclass(frozen=True)
class Int:
    """A whole-number parameter in [low, high], in steps of `step` or on a logarithmic scale."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def problems(self, parameter: Parameter) -> list[str]:
        """What keeps this range from being searched for `parameter`, one line for each problem."""
        if parameter.kind not in ("int", "float", "plain"):
            return [f"takes {parameter.expects()}; use Choice"]
        if not all(isinstance(bound, int) for bound in (self.low, self.high, self.step)):
            return ["low, high and step must be whole numbers"]
        if self.step < 1:
            return ["step must be at least 1"]
        if self.log and self.step != 1:
            return ["a logarithmic range has no step; leave one of the two out"]
        return _range_problems(self, parameter)

    def contains(self, value: Any) -> bool:
        """Whether `value` lies in the range and on its steps."""
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value != int(value):
            return False
        return self.low <= value <= self.high and (int(value) - self.low) % self.step == 0

    def grid(self, points: int = 5) -> list[int]:
        """At most `points` different values from low to high, on the range's steps and scale."""
        reals = Float(self.low, self.high, self.log).grid(points)
        snapped = (self.low + round((real - self.low) / self.step) * self.step for real in reals)
        return sorted({min(value, self.values_end()) for value in snapped})

    def values_end(self) -> int:
        """The largest value on the range's steps."""
        return self.low + (self.high - self.low) // self.step * self.step


@dataclass(frozen=True, init=False)
class Choice:
    """One of the given values, in the order given."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", tuple(list(v) if isinstance(v, (list, tuple)) else v for v in values))

    def __repr__(self) -> str:
        return f"Choice({', '.join(display(value) for value in self.values)})"

    def __hash__(self) -> int:
        return hash(repr(self))

    def problems(self, parameter: Parameter) -> list[str]:
        """What keeps these values from being searched for `parameter`, one line for each problem."""
        if not self.values:
            return ["needs at least one value"]
        found = [f"{display(value)} {problem}" for value in self.values if (problem := parameter.problem(value))]
        if len({display(value) for value in self.values}) < len(self.values):
            found.append("holds the same value twice; remove one")
        return found

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the choices."""
        return value in self.values

    def grid(self, points: int = 5) -> list[Any]:
        """Every value, as given."""
        return list(self.values)


Domain = Float | Int | Choice
_DOMAINS: dict[str, type[Float] | type[Int] | type[Choice]] = {"float": Float, "int": Int, "choice": Choice}


@dataclass(frozen=True)
class SearchSpace:
    """What a sweep tries on one environment: a baseline, the parameters to search, and the goal.

    Args:
        env: Gymnasium id, `module:Env-v0` included.
        baseline: PPO parameters that every trial starts from, by PPOConfig's names; the rest are RLlib's defaults.
        params: the parameters to search, each a Float, Int or Choice that holds the baseline's value; `env_config.KEY`
            is one of the environment's, whose baseline is in `env_config`.
        threshold: mean reward to reach; None searches for the best mean.
        window: number of episodes in the mean.
        max_episodes: episodes a trial may use.
        max_steps: environment steps a trial may use; None sets no limit.
        seed: training seed of every trial in the search.
        trials: trials in all, the baseline included.
        pruner: `none`, `asha` or `median`.
        env_config: keyword arguments of the environment.
        judge: "module:function" that judges the final policy of each run of the race, its test and the path, see
            `tuner.judgement`; None compares these runs by their episodes, as the search does.
        race_seeds: unseen seeds that choose the winner, and as many that judge it.

    Raises:
        SpaceError: with every problem of the space, each naming its key, value and remedy.
    """

    env: str
    baseline: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Domain] = field(default_factory=dict)
    threshold: float | None = None
    window: int = 50
    max_episodes: int = 1000
    max_steps: int | None = None
    seed: int = 0
    trials: int = 64
    pruner: str = "none"
    env_config: Mapping[str, Any] = field(default_factory=dict)
    judge: str | None = None
    race_seeds: int = 20
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        problems = self._goal_problems()
        for name in ("baseline", "params", "env_config"):
            if not isinstance(getattr(self, name), Mapping):
                problems.append(f"{name} = {getattr(self, name)!r}: must be a mapping such as {{...}}")
                object.__setattr__(self, name, {})
        baseline, baseline_notes = current_names(self.baseline)
        params, params_notes = current_names(self.params)
        parsed, baseline_problems = parse_params(baseline, 'baseline["{name}"] = {value}')
        parsed, of_env = split(parsed)
        of_env |= self.env_config
        searched = {name: of_env.get(key) for name in params if (key := _env_key(name)) is not None}
        object.__setattr__(self, "baseline", default_params() | parsed | searched)
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "env_config", of_env)
        notes = dict.fromkeys([*self.notes, *baseline_notes, *params_notes])
        object.__setattr__(self, "notes", tuple(notes))
        problems += baseline_problems + self._params_problems(baseline.keys() - parsed.keys())
        if not problems:
            problems = self._fit_problems()
        if problems:
            raise SpaceError(problems)

    @property
    def goal(self) -> Goal:
        """What every run is for, and when it must stop."""
        return Goal(self.threshold, self.window, self.max_episodes, self.max_steps)

    def resolve(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """Every PPO parameter of a trial: the baseline's values, overlaid with `suggested`, made to fit the batch.

        `minibatch_size` and `num_envs_per_env_runner` are lowered to their largest choice that fits the batch. A
        fragment length that is not itself searched follows from batch and environments wherever these differ from
        the baseline's.
        """
        params: dict[str, Any] = {**self.baseline, **suggested}
        batch = params["train_batch_size"]
        runners = max(1, params["num_env_runners"])
        params["minibatch_size"] = self._lowered("minibatch_size", params, batch)
        params["num_envs_per_env_runner"] = self._lowered("num_envs_per_env_runner", params, batch // runners)
        envs = params["num_envs_per_env_runner"] * runners
        shape = ("train_batch_size", "num_env_runners", "num_envs_per_env_runner")
        is_kept = "rollout_fragment_length" in self.params or all(params[key] == self.baseline[key] for key in shape)
        fragment = params["rollout_fragment_length"]
        if fragment == "auto" or not is_kept or batch % (envs * fragment):
            params["rollout_fragment_length"] = "auto" if batch % envs else batch // envs
        return params

    def fixing(self, fixed: Mapping[str, Any], form: str = "{name} = {text}") -> SearchSpace:
        """The space with parameters fixed for every trial, the baseline included; `form` is that of its messages.

        Raises:
            SpaceError: an unknown key, or a value that PPO cannot use.
        """
        named, notes = current_names(fixed)
        parsed, problems = parse_params(named, form)
        if problems:
            raise SpaceError(problems)
        ppo, of_env = split(parsed)
        return dataclasses.replace(
            self,
            baseline={**self.baseline, **ppo},
            env_config={**self.env_config, **of_env},
            params={name: domain for name, domain in self.params.items() if name not in parsed},
            notes=(*self.notes, *notes),
        )

    def grid_size(self) -> int:
        """The number of combinations that the grid sampler would try."""
        return math.prod(len(domain.grid()) for domain in self.params.values())

    def to_json(self) -> dict[str, Any]:
        """The space as plain JSON values; `from_json` gives an equal space back."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "notes"}
        return values | {"params": {name: _domain_to_json(domain) for name, domain in self.params.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SearchSpace:
        """The space that `to_json` described."""
        params = {name: _domain_from_json(domain) for name, domain in values["params"].items()}
        return cls(**{**values, "params": params})

    def _lowered(self, name: str, params: Mapping[str, Any], limit: int) -> int:
        """The value of `name`, or where it exceeds `limit` the largest value of its domain that does not."""
        value: int = params[name]
        domain = self.params.get(name)
        if value <= limit:
            return value
        if isinstance(domain, Choice):
            return max((choice for choice in domain.values if choice <= limit), default=limit)
        if isinstance(domain, Int):
            return max(limit - (limit - domain.low) % domain.step, 1)
        return limit

    def _goal_problems(self) -> list[str]:
        found = []
        if not isinstance(self.env, str) or not self.env:
            found.append(f'env = {self.env!r}: must be a Gymnasium id such as "CartPole-v1"')
        if self.threshold is not None and not (_is_real(self.threshold) and math.isfinite(self.threshold)):
            found.append(f"threshold = {self.threshold!r}: must be a finite number or None")
        for name in ("window", "max_episodes", "trials"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                found.append(f"{name} = {value!r}: must be a whole number of at least 1")
        if self.max_steps is not None and (type(self.max_steps) is not int or self.max_steps < 1):
            found.append(f"max_steps = {self.max_steps!r}: must be a whole number of at least 1, or None for no limit")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < RACE_FROM:
            found.append(
                f"seed = {self.seed!r}: must be a whole number from 0 to {RACE_FROM - 1}; the race has those beyond"
            )
        if self.pruner not in PRUNERS:
            found.append(f"pruner = {self.pruner!r}: must be one of {', '.join(PRUNERS)}")
        if self.judge is not None and not (isinstance(self.judge, str) and FORM.fullmatch(self.judge)):
            found.append(
                f'judge = {self.judge!r}: must be the name of a function as "module:function", or None for no judge'
            )
        if type(self.race_seeds) is not int or not 0 <= self.race_seeds <= MOST_SEEDS:
            found.append(
                f"race_seeds = {self.race_seeds!r}: must be a whole number from 0, which leaves the race out, "
                f"to {MOST_SEEDS}"
            )
        return found

    def _params_problems(self, unusable: Set[str]) -> list[str]:
        found = []
        for name, domain in self.params.items():
            key = f'params["{name}"] = {domain!r}'
            known = parameter(name)
            if known is None:
                found.append(f"{key}: unknown PPO parameter{nearest(name, [*PARAMETERS, *OLDER_NAMES])}")
            elif not isinstance(domain, (Float, Int, Choice)):
                found.append(f"{key}: must be a Float, Int or Choice; to fix a parameter, put it into baseline")
            else:
                problems = domain.problems(known)
                found += [f"{key}: {problem}" for problem in problems]
                value = self.baseline[name]
                if not problems and name not in unusable and not domain.contains(value):
                    found.append(
                        f"{key}: does not hold the baseline's value {display(value)}; "
                        f"widen it, or change {_place(name)}"
                    )
        return found

    def _fit_problems(self) -> list[str]:
        found = []
        smallest_batch = min(self._values("train_batch_size"))
        smallest_minibatch = min(self._values("minibatch_size"))
        if smallest_minibatch > smallest_batch:
            found.append(
                f"minibatch_size = {smallest_minibatch}: is larger than the smallest train_batch_size, "
                f"{smallest_batch}; allow a smaller minibatch_size or only larger batches"
            )
        envs = min(self._values("num_envs_per_env_runner")) * max(1, *self._values("num_env_runners"))
        if envs > smallest_batch:
            found.append(
                f"num_envs_per_env_runner x num_env_runners = {envs}: is more than the smallest train_batch_size, "
                f"{smallest_batch}; allow fewer environments or only larger batches"
            )
        return found

    def _values(self, name: str) -> list[int]:
        """The extreme values that a whole-number parameter may take."""
        domain = self.params.get(name)
        if domain is None:
            return [self.baseline[name]]
        return list(domain.values) if isinstance(domain, Choice) else [int(domain.low), int(domain.high)]


def _range_problems(domain: Float | Int, parameter: Parameter) -> list[str]:
    if not (_is_real(domain.low) and _is_real(domain.high)):
        return ["low and high must be numbers"]
    found = []
    if domain.low >= domain.high:
        found.append("low must be below high")
    if domain.log and domain.low <= 0:
        found.append("a logarithmic range must start above 0")
    for bound in (domain.low, domain.high):
        if problem := parameter.problem(bound):
            found.append(f"{bound!r} {problem}")
    return found


def _env_key(name: str) -> str | None:
    """The environment's own name of a parameter, None for one of PPO's."""
    return name.removeprefix(ENV_PREFIX) if name.startswith(ENV_PREFIX) else None


def _place(name: str) -> str:
    """Where a space gives a parameter its baseline."""
    key = _env_key(name)
    return f'baseline["{name}"]' if key is None else f'env_config["{key}"]'


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _domain_to_json(domain: Domain) -> dict[str, Any]:
    kind = next(name for name, cls in _DOMAINS.items() if type(domain) is cls)
    values = dataclasses.asdict(domain)
    return {"kind": kind, **({"values": list(values["values"])} if kind == "choice" else values)}


def _domain_from_json(values: Mapping[str, Any]) -> Domain:
    kind = _DOMAINS[values["kind"]]
    arguments = {name: value for name, value in values.items() if name != "kind"}
    return Choice(*arguments["values"]) if kind is Choice else kind(**arguments)
