"""Fault 23: names and links that would lead a command out of its folder, and run folders of other users."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import tree
from tests.faults import in_process
from tests.faults.in_process import SMALL, answer_of, wait
from tests.soccer_runs import VARIATIONS, run_of
from tuner import board, doctor, play, report, sweep, train
from tuner.layout import strangers

COMMANDS = {"sweep": sweep, "train": train, "report": report, "board": board, "doctor": doctor, "play": play}
HOSTILE = {
    "parent": "..",
    "climbing": "../../x",
    "absolute": "/etc/x",
    "NUL": "a\0b",
    "300 characters": "x" * 300,
    "code": "__import__('pathlib').Path('canary').touch()",
}
PLACES = [
    "sweep cartpole --name X",
    "sweep X",
    "sweep X.py",
    "sweep gym:X",
    "sweep gym:X:CartPole-v1",
    "sweep cartpole --set X=1",
    "sweep cartpole --set lr=X",
    "sweep cartpole --set fcnet_activation=X",
    "sweep cartpole --set fcnet_hiddens=X",
    "sweep cartpole --set env_config.X=1",
    "sweep soccer --set env_config.opponent=X",
    "sweep soccer --set env_config.player=X",
    "sweep soccer --set env_config.env_path=X",
    "train cartpole --name X",
    "train X",
    "train cartpole --config X",
    "train cartpole --set lr=X",
    "report X",
    "board X",
    "doctor X",
    "play X",
]
UNWRITABLE = ("NUL", "300 characters")  # for a file or a folder that a user names, the others are as good as any
FILES = [
    "sweep cartpole --dry-run --out X",
    "sweep cartpole --out X",
    "train cartpole --out X",
    "play RUN --gif X",
    "play RUN --export X",
]
HTML = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
CONTROLS = "\x1b]0;taken\a\x1b[31m"


def run(words: str, **replaced: str) -> int:
    """A command's exit code, in this process; the words that are names in `replaced` are what it says."""
    command, *rest = words.split()
    filled = []
    for word in rest:
        for name, text in replaced.items():
            word = word.replace(name, text)
        filled.append(word)
    try:
        return COMMANDS[command].main(filled)
    except SystemExit as refusal:  # argparse's own
        assert isinstance(refusal.code, int)
        return refusal.code


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which, three levels down, the commands are given; nothing in it may change, nor /etc/x appear."""
    work = tmp_path / "outside/deeper/work"
    work.mkdir(parents=True)
    (tmp_path / "outside/x").write_text("theirs")
    monkeypatch.chdir(work)
    before = tree(tmp_path), sorted(tmp_path.rglob("*"))
    yield tmp_path / "outside"
    assert (tree(tmp_path), sorted(tmp_path.rglob("*"))) == before
    assert not Path("/etc/x").exists()


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("words", PLACES)
def test_a_hostile_name_ends_with_2_and_nothing_outside_changed(
    words: str, name: str, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words, X=name) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.isprintable() and "Traceback" not in last


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize("words", FILES)
def test_a_file_that_cannot_be_is_refused_before_anything_starts(
    words: str, name: str, trained: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words, X=HOSTILE[name], RUN=str(trained)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[-1].isprintable()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run, with a policy that can be played."""
    folder = tmp_path_factory.mktemp("trained")
    run_of(folder, VARIATIONS["single-flat"])
    return folder


MORE = ("--trials", "4", *SMALL[2:])
LINKS = ["trials", "trials/0000", "trials/0001/checkpoints", "trials/0001/checkpoints/ITER", "trials/0001/episodes.csv",
         "race", "path", "best", "best/config.yaml", "best/checkpoint", "study.db", "sweep.json", "summary.json",
         ".lock", "report.html"]  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_a_link_out_of_a_run_folder_is_neither_read_nor_written_through(
    name: str, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out", symlinks=True))
    iteration = next((out / "run/trials/0001/checkpoints").iterdir()).name
    inside, theirs = out / "run" / name.replace("ITER", iteration), tmp_path / "theirs"
    inside.rename(theirs) if inside.exists() else theirs.mkdir()
    inside.symlink_to(theirs)
    before = tree(tmp_path), sorted(tmp_path.rglob("*"))
    assert wait(in_process.in_child(lambda: in_process.run(out, *MORE))) == 3
    for command in (report, doctor):
        assert wait(in_process.in_child(lambda command=command: command.main([str(out / "run")]))) == 3
    assert (tree(tmp_path), sorted(tmp_path.rglob("*"))) == before
    assert capfd.readouterr().err.count(f"{inside}: is a link out of") == 3


def test_with_trust_a_link_out_is_followed(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out", symlinks=True))
    (out / "run/trials").rename(tmp_path / "large disk")
    (out / "run/trials").symlink_to(tmp_path / "large disk")
    assert wait(in_process.in_child(lambda: in_process.run(out, *MORE, "--trust"))) == 0
    assert (tmp_path / "large disk/0003/episodes.csv").is_file()


def test_a_link_within_the_run_folder_is_followed(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out", symlinks=True))
    (out / "run/trials").rename(out / "run/elsewhere")
    (out / "run/trials").symlink_to("elsewhere")
    assert wait(in_process.in_child(lambda: in_process.run(out, *MORE))) == 0


def test_a_training_is_not_written_through_a_link_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "out/mine").mkdir(parents=True)
    (tmp_path / "out/mine/.lock").symlink_to(tmp_path / "theirs")
    assert train.main(["cartpole", "--name", "mine", "--out", str(tmp_path / "out")]) == 3
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["", "trials/0001", "trials/0001/checkpoints/ITER", "study.db", "best/config.yaml"])
def test_a_run_folder_that_is_another_users_is_refused(name: str, finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out", symlinks=True))
    iteration = next((out / "run/trials/0001/checkpoints").iterdir()).name
    os.chown(out / "run" / name.replace("ITER", iteration), 12345, -1)
    before = tree(out)
    assert wait(in_process.in_child(lambda: in_process.run(out, *MORE))) == 3
    assert wait(in_process.in_child(lambda: play.main([str(out / "run")]))) == 3
    assert tree(out) == before
    assert wait(in_process.in_child(lambda: in_process.run(out, *MORE, "--trust"))) == 0


def test_a_run_folder_of_ones_own_has_no_strangers(finished: Path) -> None:
    assert list(strangers(finished / "run")) == []


def test_hostile_text_stays_text_on_the_page_and_commands_no_terminal(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Tags(HTMLParser):
        def __init__(self, page: Path) -> None:
            super().__init__()
            self.found: list[str] = []
            self.scripted: list[str] = []
            self.feed(page.read_text())

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.append(tag)
            self.scripted += [name for name, _ in attrs if name.startswith("on")]

    noted = {"env_config.note": HTML + CONTROLS}
    options = (*SMALL, "--set", f"env_config.note={HTML}{CONTROLS}", "--set", f"env_config.{HTML}=1")
    for name, extra in (
        ("plain", (*SMALL, "--set", "env_config.note=a", "--set", "env_config.b=1")),
        ("hostile", options),
    ):
        assert wait(in_process.in_child(lambda name=name, extra=extra: in_process.run(tmp_path / name, *extra))) == 0
    run_dir = tmp_path / "hostile/run"
    there = json.loads((run_dir / "sweep.json").read_text())
    assert there["options"]["set"].items() >= noted.items()
    there |= {
        "space": HTML,
        "file": f"/a/{HTML}.py",
        "git": HTML + CONTROLS,
        "versions": there["versions"] | {HTML: HTML},
    }
    (run_dir / "sweep.json").write_text(json.dumps(there))
    capfd.readouterr()
    assert wait(in_process.in_child(lambda: report.main([str(run_dir)]))) == 0
    printed = capfd.readouterr()
    assert [letter for letter in printed.out + printed.err if not (letter.isprintable() or letter == "\n")] == []
    plain, hostile = Tags(tmp_path / "plain/run/report.html"), Tags(run_dir / "report.html")
    assert hostile.found.count("script") == plain.found.count("script")
    assert "img" not in hostile.found and hostile.scripted == []
    assert answer_of(tmp_path / "hostile")["best"] is not None
