"""What a judge says of a run's final policy, and how it is asked: a function that a space names as `module:function`.

    judge(policy, run, seed) -> Judgement

`policy` maps (n, *observation shape) observations to n greedy actions, see `tuner.policy`; `run` is the RunConfig that
made it; all chance of the judge's is to follow from `seed`, so that it says the same of the same policy.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tuner.errors import TrialFailed, UsageError

if TYPE_CHECKING:
    from tuner.policy import Policy
    from tuner.training import RunConfig

FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")  # module:function


@dataclass(frozen=True)
class MatchRecord:
    """How a policy's matches against one opponent ended, on one side of the field."""

    opponent: str
    side: str
    wins: int
    draws: int
    losses: int

    @property
    def matches(self) -> int:
        """How many were played."""
        return self.wins + self.draws + self.losses

    @property
    def points(self) -> float:
        """A win is 1, a draw 1/2, a loss 0."""
        return self.wins + self.draws / 2


@dataclass(frozen=True)
class Judgement:
    """A finite score, higher is better; where there are match records, it is the share of points, from 0 to 1."""

    score: float
    records: tuple[MatchRecord, ...] = ()

    @classmethod
    def of_matches(cls, records: Sequence[MatchRecord]) -> Judgement:
        """The share of the points that there were against each opponent, as the mean over the opponents."""
        shares = []
        for opponent in dict.fromkeys(record.opponent for record in records):
            theirs = [record for record in records if record.opponent == opponent]
            shares.append(sum(record.points for record in theirs) / sum(record.matches for record in theirs))
        return cls(sum(shares) / len(shares), tuple(records))

    def to_json(self) -> dict[str, Any]:
        """As `result.json` holds it; `from_json` gives an equal one back."""
        return {"score": self.score, "records": [asdict(record) for record in self.records]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Judgement:
        """The judgement that `to_json` described."""
        return cls(float(values["score"]), tuple(MatchRecord(**record) for record in values["records"]))


Judge = Callable[["Policy", "RunConfig", int], Judgement]


def load(name: str) -> Judge:
    """The function that `module:function` names.

    Raises:
        UsageError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        found: Judge = getattr(importlib.import_module(module), function)
    except Exception as error:  # a judge's module is anybody's code
        raise UsageError(
            f"judge {name!r}: cannot be imported: {type(error).__name__}: {error}; "
            "correct the space, or start where Python finds the module"
        ) from error
    if not callable(found):
        raise UsageError(f"judge {name!r}: is {type(found).__name__}, no function; correct the space")
    return found


def judge(policy: Policy, run: RunConfig) -> Judgement:
    """What a run's judge says of its final policy, with the run's own seed.

    Raises:
        TrialFailed: the judge raised, or returned something else than a judgement with a usable score.
    """
    try:
        found = load(run.judge or "")(policy, run, run.seed)
    except Exception as error:  # a judge is anybody's code
        raise TrialFailed(f"judge {run.judge}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Judgement):
        raise TrialFailed(f"judge {run.judge}: returned {type(found).__name__}, must return a Judgement")
    if not math.isfinite(found.score) or (found.records and not 0 <= found.score <= 1):
        limits = "from 0 to 1 beside match records" if found.records else "finite"
        raise TrialFailed(f"judge {run.judge}: its score is {found.score}, must be {limits}")
    return found
