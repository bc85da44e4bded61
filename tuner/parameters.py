"""PPO's parameters: their names, kinds, valid ranges, defaults and older names. Owns no values of any run."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.errors import nearest

ACTIVATIONS = ("relu", "tanh", "swish", "silu", "linear")


@dataclass(frozen=True)
class Parameter:
    """One PPO parameter: what it may hold and what RLlib's PPOConfig gives it."""

    kind: str  # float, int, bool, str, layers, or plain: any of the first four
    default: Any
    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # `low` itself is excluded
    nullable: bool = False
    choices: tuple[str, ...] = ()

    def problem(self, value: Any) -> str | None:
        """Why `value` cannot be used, or None when it can."""
        if value is None:
            return None if self.nullable else f"must be {self.expects()}"
        if self.kind == "plain":
            valid = isinstance(value, (bool, str)) or (_is_number(value) and math.isfinite(value))
        elif self.kind == "bool":
            valid = isinstance(value, bool)
        elif self.kind == "str":
            valid = value in self.choices
        elif self.kind == "layers":
            valid = isinstance(value, (list, tuple)) and all(_is_int(width) and width >= 1 for width in value)
        elif self.kind == "int":
            valid = value in self.choices if isinstance(value, str) else _is_int(value) and self._in_range(value)
        else:
            valid = _is_number(value) and abs(value) <= sys.float_info.max and self._in_range(value)
        return None if valid else f"must be {self.expects()}"

    def expects(self) -> str:
        """The valid values in words."""
        if self.kind == "plain":
            words = "a number, a text, true or false"
        elif self.kind == "bool":
            words = "true or false"
        elif self.kind == "str":
            words = "one of " + ", ".join(self.choices)
        elif self.kind == "layers":
            words = "a list of layer widths such as [64, 64]"
        else:
            words = "a whole number" if self.kind == "int" else "a number"
            if self.low > -math.inf:
                words += f" {'above' if self.above else 'of at least'} {self.low:g}"
            if self.high < math.inf:
                words += f" and at most {self.high:g}"
            words += "".join(f' or "{choice}"' for choice in self.choices)
        return words + (" or null" if self.nullable else "")

    def parse(self, value: Any) -> Any:
        """`value` with text turned into what the parameter holds (`"5e-4"` from YAML or a command line).

        Raises:
            ValueError: `value` is not a valid one; the message says what is.
        """
        if isinstance(value, str) and value not in self.choices:
            value = self._from_text(value)
        if self.kind == "int" and isinstance(value, float) and value.is_integer():
            value = int(value)
        if self.kind == "layers" and isinstance(value, tuple):
            value = list(value)
        problem = self.problem(value)
        if problem:
            raise ValueError(problem)
        return float(value) if self.kind == "float" and _is_int(value) else value

    def _from_text(self, text: str) -> Any:
        text = text.strip()
        lowered = text.lower()
        if lowered in ("none", "null", ""):
            return None
        if self.kind == "bool":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(lowered, text)
        if self.kind == "plain":
            try:
                return json.loads(lowered if lowered in ("true", "false") else text)
            except ValueError:
                return text
        if self.kind == "layers":
            widths = re.fullmatch(r"\[?\s*(\d+(?:\s*[,x]\s*\d+)*)\s*,?\s*\]?", text)
            return [int(width) for width in re.split("[,x]", widths[1])] if widths else text
        try:
            return float(text)
        except ValueError:
            return text

    def _in_range(self, value: float) -> bool:
        return (value > self.low if self.above else value >= self.low) and value <= self.high


# Defaults are PPOConfig's and DefaultModelConfig's (RLlib 2.60; a test compares them), but for num_env_runners:
# a trial samples in its own process unless asked otherwise.
PARAMETERS: dict[str, Parameter] = {
    "lr": Parameter("float", 5e-5, low=0, above=True, high=10),
    "lr_anneal_steps": Parameter("int", None, low=1, nullable=True),
    "train_batch_size": Parameter("int", 4000, low=1),
    "minibatch_size": Parameter("int", 128, low=1),
    "num_epochs": Parameter("int", 30, low=1),
    "shuffle_batch_per_epoch": Parameter("bool", True),
    "gamma": Parameter("float", 0.99, low=0, high=1),
    "lambda_": Parameter("float", 1.0, low=0, high=1),
    "use_critic": Parameter("bool", True),
    "use_gae": Parameter("bool", True),
    "clip_param": Parameter("float", 0.3, low=0, above=True),
    "vf_clip_param": Parameter("float", 10.0, low=0, above=True),
    "vf_loss_coeff": Parameter("float", 1.0, low=0),
    "entropy_coeff": Parameter("float", 0.0, low=0),
    "use_kl_loss": Parameter("bool", True),
    "kl_coeff": Parameter("float", 0.2, low=0),
    "kl_target": Parameter("float", 0.01, low=0, above=True),
    "grad_clip": Parameter("float", None, low=0, above=True, nullable=True),
    "grad_clip_by": Parameter("str", "global_norm", choices=("global_norm", "norm", "value")),
    "num_env_runners": Parameter("int", 0, low=0),
    "num_envs_per_env_runner": Parameter("int", 1, low=1),
    "rollout_fragment_length": Parameter("int", "auto", low=1, choices=("auto",)),
    "fcnet_hiddens": Parameter("layers", [256, 256]),
    "fcnet_activation": Parameter("str", "tanh", choices=ACTIVATIONS),
    "vf_share_layers": Parameter("bool", True),
}

# The environment's own parameters, its keyword arguments: `env_config.KEY`.
ENV_PREFIX = "env_config."
_OF_ENVIRONMENT = Parameter("plain", None, nullable=True)

# The notebook's and older RLlib's names.
OLDER_NAMES = {
    "sgd_minibatch_size": "minibatch_size",
    "num_sgd_iter": "num_epochs",
    "num_rollout_workers": "num_env_runners",
    "num_workers": "num_env_runners",
    "num_envs_per_worker": "num_envs_per_env_runner",
    "train_batch_size_per_learner": "train_batch_size",
    "shuffle_sequences": "shuffle_batch_per_epoch",
    "lambda": "lambda_",
}


def parameter(name: str) -> Parameter | None:
    """What is known of a parameter of PPO or of the environment; None where there is none of that name."""
    if name.startswith(ENV_PREFIX) and name != ENV_PREFIX:
        return _OF_ENVIRONMENT
    return PARAMETERS.get(name)


def split(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """PPO's parameters, and the environment's by their own names."""
    ppo = {name: value for name, value in params.items() if not name.startswith(ENV_PREFIX)}
    return ppo, {name.removeprefix(ENV_PREFIX): params[name] for name in params.keys() - ppo.keys()}


def default_params() -> dict[str, Any]:
    """RLlib's own value for every parameter."""
    return {name: parameter.default for name, parameter in PARAMETERS.items()}


def current_names(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`values` under today's names (a nested `model` is flattened), and a note for each renamed one."""
    flat: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in values.items():
        if key == "model" and isinstance(value, Mapping):
            flat.update(value)
            notes.append("model={...}: its entries are parameters of their own here")
        elif key in OLDER_NAMES:
            flat[OLDER_NAMES[key]] = value
            notes.append(f'"{key}" is called "{OLDER_NAMES[key]}" in today\'s PPOConfig')
        else:
            flat[key] = value
    return flat, notes


def parse_params(values: Mapping[str, Any], form: str) -> tuple[dict[str, Any], list[str]]:
    """Parsed values, and one line for each problem; `form` says how `name` and `value` were written."""
    parsed: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in values.items():
        written = form.format(name=name, value=display(value), text=value)
        known = parameter(name)
        if known is None:
            problems.append(f"{written}: unknown PPO parameter{nearest(name, [*PARAMETERS, *OLDER_NAMES])}")
            continue
        try:
            parsed[name] = known.parse(value)
        except ValueError as error:
            problems.append(f"{written}: {error}")
    return parsed, problems


def display(value: Any) -> str:
    """A value as a person would write it in a space or a settings file."""
    return json.dumps(value) if isinstance(value, (str, list, tuple)) else repr(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
