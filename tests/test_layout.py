"""The run folder: which names it may have, where everything in it is, and who owns it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tuner.errors import AlreadyRunning, StateError, UsageError
from tuner.layout import RunDir, TrialDir, safe_name

REFUSED = {
    "parent": "..",
    "current": ".",
    "climbing": "../../x",
    "absolute": "/etc/x",
    "nested": "a/b",
    "backslash": "a\\b",
    "NUL": "a\0b",
    "newline": "a\n",
    "escape": "a\x1b[31m",
    "space": "a b",
    "too long": "x" * 300,
    "just too long": "x" * 65,
    "empty": "",
    "hidden": ".hidden",
    "option": "-rf",
    "letters of other scripts": "años",
}


def tree(path: Path) -> list[Path]:
    """Everything below `path`."""
    return sorted(path.rglob("*"))


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir.named(tmp_path, "cartpole").make()


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_a_name_that_is_not_a_plain_folder_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        RunDir.named(tmp_path, name)


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_a_refused_name_is_shown_in_one_line_without_control_characters(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        RunDir.named(tmp_path, name)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_a_refused_name_creates_nothing_anywhere_near(name: str, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    out.mkdir()
    before = tree(tmp_path)
    with pytest.raises(UsageError):
        RunDir.named(out, name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["cartpole", "A", "0", "gym-CartPole-v1", "a.b_c-d", "x" * 64])
def test_a_plain_name_is_a_folder_in_out(name: str, tmp_path: Path) -> None:
    assert RunDir.named(tmp_path, name).path == tmp_path / name


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=100))
@example("gym:ALE/Pong-v5")
@example("../../x")
@example("\0")
def test_a_default_name_is_always_an_accepted_one(text: str) -> None:
    assert RunDir.named("runs", safe_name(text)).path.parent == Path("runs")


def test_characters_outside_the_safe_ones_become_dashes() -> None:
    assert safe_name("gym:ALE/Pong-v5") == "gym-ALE-Pong-v5"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "evil").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="is a link out of"):
        RunDir.named(out, "evil")


def test_a_dangling_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    out.mkdir()
    (out / "evil").symlink_to("../not-yet-there")
    with pytest.raises(UsageError, match="is a link out of"):
        RunDir.named(out, "evil")


def test_a_link_to_another_run_folder_beside_it_is_followed(run_dir: RunDir, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(run_dir.path.name)
    assert RunDir.named(tmp_path, "latest").path.resolve() == run_dir.path.resolve()


def test_an_out_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "runs").symlink_to("scratch")
    RunDir.named(tmp_path / "runs", "cartpole").make()
    assert (tmp_path / "scratch" / "cartpole" / "trials").is_dir()


@pytest.mark.parametrize("name", ["sweep.json", "study.db", "summary.json", "best", "trials"])
def test_the_files_of_a_run_folder_are_where_the_interface_says(name: str) -> None:
    run_dir = RunDir(Path("runs/cartpole"))
    assert getattr(run_dir, Path(name).stem) == Path("runs/cartpole") / name


@pytest.mark.parametrize(("number", "name"), [(0, "0000"), (7, "0007"), (1234, "1234"), (12345, "12345")])
def test_a_trials_folder_is_named_after_its_number(number: int, name: str) -> None:
    assert RunDir(Path("runs/cartpole")).trial(number).path == Path("runs/cartpole/trials") / name


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("config", "config.json"),
        ("episodes", "episodes.csv"),
        ("checkpoints", "checkpoints"),
        ("checkpoint", "checkpoint"),
    ],
)
def test_the_files_of_a_trial_are_where_the_interface_says(attribute: str, name: str) -> None:
    assert getattr(TrialDir(Path("trials/0000")), attribute) == Path("trials/0000") / name


def test_a_checkpoint_is_named_after_its_iteration() -> None:
    assert TrialDir(Path("0000")).checkpoint_at(40) == Path("0000/checkpoints/iter-40")


def test_iterations_are_listed_newest_first_by_number(tmp_path: Path) -> None:
    trial = TrialDir(tmp_path).make()
    for name in ("iter-9", "iter-100", "iter-20"):
        (trial.checkpoints / name).mkdir()
    assert trial.iterations() == [100, 20, 9]


def test_only_finished_checkpoints_count_as_iterations(tmp_path: Path) -> None:
    trial = TrialDir(tmp_path).make()
    for name in (".tmp-30", "iter-", "iter-x", "iter-30.old", "copy of iter-30"):
        (trial.checkpoints / name).mkdir()
    assert trial.iterations() == []


def test_a_trial_without_a_folder_has_no_iterations(tmp_path: Path) -> None:
    assert TrialDir(tmp_path / "none").iterations() == []


def test_trial_folders_are_listed_by_number(run_dir: RunDir) -> None:
    for number in (10_000, 2, 1001, 0):
        run_dir.trial(number).make()
    assert [number for number, _ in run_dir.trial_dirs()] == [0, 2, 1001, 10_000]


def test_a_foreign_folder_among_the_trials_is_passed_over(run_dir: RunDir) -> None:
    run_dir.trial(3).make()
    for name in ("notes", ".tmp", "12", "0004.bak"):
        (run_dir.trials / name).mkdir()
    assert [number for number, _ in run_dir.trial_dirs()] == [3]


def test_a_run_folder_that_was_never_made_has_no_trials(tmp_path: Path) -> None:
    assert list(RunDir(tmp_path / "none").trial_dirs()) == []


def test_making_a_run_folder_twice_keeps_what_is_in_it(run_dir: RunDir) -> None:
    run_dir.sweep.write_text("{}")
    run_dir.make()
    assert run_dir.sweep.read_text() == "{}"


def test_an_out_that_is_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(UsageError, match="choose a folder you can write"):
        RunDir.named(tmp_path / "runs", "cartpole").make()


def test_an_existing_run_folder_is_opened_by_its_path(run_dir: RunDir) -> None:
    run_dir.sweep.write_text("{}")
    assert RunDir.existing(run_dir.path) == run_dir


def test_a_run_folder_that_does_not_exist_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run folder"):
        RunDir.existing(tmp_path / "none")


def test_a_path_too_long_to_exist_is_bad_input_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run folder"):
        RunDir.existing(tmp_path / ("x" * 300))


def test_a_folder_without_sweep_json_is_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        RunDir.existing(tmp_path)


def test_two_commands_do_not_own_one_run_folder(run_dir: RunDir) -> None:
    with (
        run_dir.lock(),
        pytest.raises(AlreadyRunning, match="is in use by another command"),
        RunDir(run_dir.path).lock(),
    ):
        pass


def test_a_run_folder_is_free_again_once_its_owner_is_done(run_dir: RunDir) -> None:
    with run_dir.lock():
        pass
    with run_dir.lock():
        assert run_dir.path.is_dir()


def test_a_run_folder_that_vanished_is_refused_and_not_made_again(run_dir: RunDir) -> None:
    run_dir.trials.rmdir()
    run_dir.path.rmdir()
    with pytest.raises(StateError, match="vanished"):
        run_dir.lock()
