"""The roles of PPO's parameters: each has its own, in a few sentences, with a source that exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tuner.parameters import PARAMETERS
from tuner.roles import ROLES

KNOWN_SOURCES = ("Schulman et al. 2017", "Schulman et al. 2016", "Andrychowicz et al. 2021", "Engstrom et al. 2020",
                 "Huang et al. 2022", "Kingma and Ba 2015", "Pascanu et al. 2013", "RLlib 2.60")  # fmt: skip


def test_every_parameter_has_a_role_and_no_other_name_has_one() -> None:
    assert list(ROLES) == list(PARAMETERS)


def test_no_two_parameters_share_a_paragraph() -> None:
    assert len({role.text for role in ROLES.values()}) == len(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_role_is_two_to_four_whole_sentences(name: str) -> None:
    text = ROLES[name].text
    assert 2 <= len(re.findall(r"[.](?= [A-Z]|$)", text)) <= 4
    assert 250 <= len(text) <= 500
    assert text.endswith(".") and "  " not in text


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_source_is_a_known_paper_or_rllib(name: str) -> None:
    assert any(source in ROLES[name].source for source in KNOWN_SOURCES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_role_names_only_parameters_that_exist(name: str) -> None:
    words = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b|\blambda_", ROLES[name].text))
    assert words - {"global_norm"} <= set(PARAMETERS)


def test_what_a_source_names_of_rllib_is_defined_there() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "rllib"
    named = {word for role in ROLES.values() for part in re.findall(r"RLlib 2\.60: ([\w.]+)", role.source)
             for word in part.split(".") if word}  # fmt: skip
    modules = (path for part in ("algorithms", "connectors", "core", "env", "execution", "utils")
               for path in (folder / part).rglob("*.py"))  # fmt: skip
    defined = {word for path in modules for word in re.findall(r"^ *(?:class|def) (\w+)", path.read_text(), re.M)}
    assert len(named) > 10
    assert named <= defined
