"""Faults 16 and 17: an environment raises, returns what it must not, or pays what is no number; on both engines.

A metric that is absent is in `tests/test_stoppers.py`, such a sweep on a real Ray in `tests/test_sweep.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults import in_process
from tests.faults.broken_space import space
from tuner import sweep
from tuner.layout import RunDir
from tuner.results import open_study
from tuner.study import TrialState

REASONS = {
    "step raises": "RuntimeError: the simulator",
    "reset raises": "RuntimeError: the simulator",
    "wrong shape": "shape",
    "observation NaN": "non-finite|nan",  # torch's own words on RLlib's path
    "reward NaN": "non-finite",
    "reward infinite": "non-finite",
    "reward missing": "",
    "reward too large": "non-finite",
}


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["fused", "rllib"])
def test_a_trial_that_fails_is_failed_with_its_reason_and_never_best_and_the_sweep_ends(
    engine: str, local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ROOT / "tests/faults/broken_space.py"
    words = [str(file), "--sampler", "grid", "--engine", engine, "--race-seeds", "0", "--out", str(tmp_path)]
    with in_process.replaced(has_ppo=True):
        assert sweep.main([*words, "--name", "run", "--json"]) == 1  # more than half of them
    printed = capsys.readouterr()
    assert "trials FAILED" in printed.err.splitlines()[-1]
    summary = json.loads(printed.out)
    assert summary["best"]["params"]["env_config.how"] == "sound"
    study, _ = open_study(RunDir(tmp_path / "run"))
    records = {record.params["env_config.how"]: record for record in study.records() if record.number}
    assert records.keys() == set(space.params["env_config.how"].values)  # type: ignore[union-attr]
    assert records.pop("sound").state is TrialState.COMPLETE
    for how, record in records.items():
        assert record.state is TrialState.FAILED and record.value is None, how
        assert record.reason and re.search(REASONS[how], record.reason) and "\n" not in record.reason, (
            how,
            record.reason,
        )
