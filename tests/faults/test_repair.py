"""Fault 6, and after it: a damaged run folder is repaired into a copy, where its sweep ends as if undisturbed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tree
from tests.faults import IS_LONG, in_process
from tests.faults.in_process import SMALL, answer_of, wait
from tests.faults.sound import Finished, assert_kept, assert_sound
from tests.faults.test_driver import dying
from tests.faults.test_state import damages
from tuner import doctor
from tuner.layout import RunDir

EVERY_NTH_DAMAGE = 1 if IS_LONG else 20
TRIALS = 3


def damaged(finished: Path, folder: Path, damage: Callable[[Path], object]) -> Path:
    """A copy of the finished sweep's run folder, damaged."""
    run = Path(shutil.copytree(finished, folder / "damaged", symlinks=True)) / "run"
    damage(run)
    return run


def repaired(run: Path, target: Path) -> int:
    """The exit code of the repair, which changes nothing in the run folder."""
    before = tree(run)
    code = wait(in_process.in_child(lambda: doctor.main([str(run), "--repair-into", str(target)])))
    assert tree(run) == before
    return code


def goes_on(target: Path, expected: dict[str, Any], but: str = "") -> None:
    """The same sweep command ends with the same answer, and runs no trial again that was saved."""
    saved = Finished.of(target)
    assert wait(in_process.in_child(lambda: in_process.run(target.parent, *SMALL))) == 0
    assert_kept(saved, Finished.of(target))
    assert_sound(target, TRIALS)
    answer = answer_of(target.parent)
    assert answer | {but: None} == expected | {but: None}


def test_every_damage_of_a_study_is_repaired_from_the_trials_folders(finished: Path, tmp_path: Path) -> None:
    expected, data = answer_of(finished), (finished / "run" / "study.db").read_bytes()
    repairs = 0
    for name, damage in [*damages(len(data))][::EVERY_NTH_DAMAGE]:
        folder = tmp_path / "one"
        folder.mkdir()
        run = damaged(finished, folder, lambda run, damage=damage: (run / "study.db").write_bytes(damage(data)))
        target = folder / "fixed" / "run"
        assert repaired(run, target) == 0, name
        if target.exists():  # else the study is sound: the flipped bit carries nothing
            assert len(Finished.of(target).trials) == TRIALS, name
            goes_on(target, expected)
            repairs += 1
        shutil.rmtree(folder)
    assert repairs >= 2


def lose_the_study(run: Path) -> None:
    (run / "study.db").unlink()


def cut_a_table(run: Path) -> None:
    path = run / "trials/0001/episodes.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def change_a_reward(run: Path) -> None:
    path = run / "trials/0001/episodes.csv"
    lines = path.read_text().splitlines(keepends=True)
    cells = lines[1].split(",")
    lines[1] = ",".join([cells[0], repr(float(cells[1]) + 0.5), *cells[2:]])
    path.write_text("".join(lines))


def change_a_configuration(run: Path) -> None:
    path = run / "trials/0001/config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"gamma": 0.995 if values["gamma"] != 0.995 else 0.98}))


def lose_a_folder(run: Path) -> None:
    shutil.rmtree(run / "trials/0001")


def damage_a_run_of_the_answer(run: Path) -> None:
    path = next(iter(sorted((run / "race").iterdir()))) / "result.json"
    values = json.loads(path.read_text())
    values["outcome"]["best_mean"] += 1
    path.write_text(json.dumps(values))


def both(run: Path) -> None:
    cut_a_table(run)
    lose_the_study(run)


@pytest.mark.parametrize(
    ("damage", "saved"),
    [
        (lose_the_study, 3),
        (cut_a_table, 2),
        (change_a_reward, 2),
        (change_a_configuration, 2),
        (lose_a_folder, 2),
        (damage_a_run_of_the_answer, 3),
        (both, 2),
    ],
)
def test_what_is_not_proved_is_done_again(
    damage: Callable[[Path], None], saved: int, finished: Path, tmp_path: Path
) -> None:
    run = damaged(finished, tmp_path, damage)
    before = tree(run)
    assert doctor.main([str(run)]) == 3
    assert tree(run) == before
    target = tmp_path / "fixed" / "run"
    assert repaired(run, target) == 0
    assert len(Finished.of(target).trials) == saved
    goes_on(target, answer_of(finished))


def test_a_damaged_checkpoint_is_left_out_and_the_trial_kept(finished: Path, tmp_path: Path) -> None:
    def damage(run: Path) -> None:
        for file in (run / "trials/0001/checkpoints").rglob("generator.json"):
            file.write_bytes(file.read_bytes()[:-1])

    run = damaged(finished, tmp_path, damage)
    target = tmp_path / "fixed" / "run"
    assert repaired(run, target) == 0
    assert RunDir(target).trial(1).iterations() == []
    assert len(Finished.of(target).trials) == TRIALS
    assert doctor.main([str(target)]) == 0
    goes_on(target, answer_of(finished))


def test_a_sweep_that_was_killed_and_then_lost_its_study_goes_on(finished: Path, tmp_path: Path) -> None:
    for last in (150, 260):  # in the search, and in the answer
        out = tmp_path / str(last)
        wait(in_process.in_child(lambda out=out, last=last: dying(out, last)))
        (out / "run" / "study.db").write_bytes(b"")
        target = out / "fixed" / "run"
        assert repaired(out / "run", target) == 0
        goes_on(target, answer_of(finished), but="paths")  # no summary.json says it yet


def test_what_nobody_can_tell_is_refused_with_what_to_do(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = damaged(finished, tmp_path, lambda run: (run / "sweep.json").write_bytes(b"{"))
    assert doctor.main([str(run), "--repair-into", str(tmp_path / "fixed")]) == 3
    assert "restore it from a copy" in capsys.readouterr().err

    there = json.loads((finished / "run" / "sweep.json").read_text())
    there["definition"]["seed"] += 1
    (run / "sweep.json").write_text(json.dumps(there))
    assert doctor.main([str(run), "--repair-into", str(tmp_path / "fixed")]) == 3
    assert "no trial agrees with it" in capsys.readouterr().err
    assert not (tmp_path / "fixed").exists()


def test_a_copy_goes_nowhere_but_into_a_new_folder(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = damaged(finished, tmp_path, cut_a_table)
    before = tree(tmp_path)
    for target in (run, run / "fixed", tmp_path, tmp_path / "no\nname"):
        assert doctor.main([str(run), "--repair-into", str(target)]) == 2
    assert tree(tmp_path) == before
    assert doctor.main([str(finished / "run"), "--repair-into", str(tmp_path / "fixed")]) == 0
    assert "sound; no copy was made" in capsys.readouterr().out
    assert not (tmp_path / "fixed").exists()
