"""What a job is made of: the words of its command, and the files that are shipped."""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tuner import catalog, submit, sweep
from tuner.errors import Interrupted
from tuner.plan import SweepOptions

DATABASE = "postgresql://me:canary@host/db"  # pragma: allowlist secret
SPACE = """from tuner.space import Float, SearchSpace
space = SearchSpace(env="CartPole-v1", params={"lr": Float(1e-5, 1e-2, log=True)})
"""


def words(*arguments: str) -> list[str]:
    """The sweep's words in a job's command, for the arguments of `submit`."""
    args = submit.parser().parse_args([*arguments, "--address", "http://host:8265"])
    return list(submit._words(sweep.options_of(args)))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--trials", "7", "--time", "90s", "--episodes", "100", "--steps", "5000", "--threshold", "30.5"],
        ["--seed", "3", "--sampler", "random", "--sampler-seed", "4", "--pruner", "asha", "--parallel", "2"],
        ["--engine", "rllib", "--finalists", "2", "--race-seeds", "0", "--window", "20", "--name", "it", "--out", "/x"],
        ["--set", "gamma=0.98", "--set", "fcnet_hiddens=[32, 32]", "--gpus-per-trial", "0.5", "--cpus-per-trial", "2"],
        ["--trust", "--storage", "postgresql://me@host/db"],
    ],
)
def test_a_jobs_words_say_what_was_asked_of_submit(arguments: list[str]) -> None:
    asked = sweep.options_of(submit.parser().parse_args(["cartpole", *arguments, "--address", "http://host:8265"]))
    said = sweep.options_of(
        sweep.parser().parse_args(["cartpole", *words("cartpole", *arguments), "--address", "auto"])
    )
    assert {**vars(said), "address": None} == {**vars(asked), "address": None}


def test_every_option_of_a_sweep_is_one_of_submit() -> None:
    args = submit.parser().parse_args(["cartpole", "--address", "http://host:8265"])
    assert SweepOptions.__dataclass_fields__.keys() <= vars(args).keys()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a space, an environment, and much that is nobody's business."""
    folder = tmp_path / "my project"
    files = {
        "my space.py": SPACE, "envs/__init__.py": "", "envs/maze.py": "SIZE = 3", ".env": "KEY=canary",
        "secrets.yaml": "canary", "notes.txt": "canary", ".git/hook.py": "canary", "venv/pyvenv.cfg": "",
        "venv/lib/module.py": "canary", "runs/cartpole/best/rllib.py": "canary", "__pycache__/x.py": "canary",
    }  # fmt: skip
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def shipped(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("tuner/")}


def test_only_the_python_files_around_a_space_are_shipped(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "staged"
    folder.mkdir()
    word = submit._stage(catalog.load(str(project / "my space.py")), folder)
    assert shipped(folder) == {"my space.py", "envs/__init__.py", "envs/maze.py", "search_spaces/my space.py"}
    assert shlex.split(word.replace('"$PWD"', "HERE")) == ["HERE/search_spaces/my space.py"]
    assert (folder / "tuner/page/report.css").is_file(), "this project is shipped whole"
    assert not list(folder.rglob("__pycache__"))


def test_a_space_of_this_project_ships_nothing_beside_it(tmp_path: Path) -> None:
    submit._stage(catalog.load("cartpole"), tmp_path)
    assert shipped(tmp_path) == {"search_spaces/cartpole.py"}


def test_gymnasiums_environment_ships_the_python_files_of_the_current_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    folder = tmp_path / "staged"
    folder.mkdir()
    assert submit._stage(catalog.load("gym:CartPole-v1"), folder) == "gym:CartPole-v1"
    assert shipped(folder) == {"my space.py", "envs/__init__.py", "envs/maze.py"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cartpole", "--address", "10.0.0.1:6379"], "use tuner.sweep"),
        (["cartpole", "--address", "http://me:canary@host:8265"], "holds a password"),  # pragma: allowlist secret
        (["cartpole", "--address", "http://127.0.0.1:1"], "nothing answers there"),
        (["cartpole", "--storage", DATABASE, "--address", "http://127.0.0.1:1"], "has a password"),
        (["cartpole", "--status", "ID", "--address", "http://127.0.0.1:1"], "either a SPACE or"),
        (["cartpole", "--trials", "0", "--address", "http://127.0.0.1:1"], "--trials"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(arguments: list[str], said: str, capsys: Any) -> None:
    assert submit.main(arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last
    assert "canary" not in last


def test_a_machine_without_ray_default_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "find_spec", lambda name: None)
    monkeypatch.setattr(submit, "connection_problem", lambda address, timeout_s: None)
    assert submit.main(["cartpole", "--address", "http://127.0.0.1:1"]) == 2
    assert "pip install 'rllib-ppo-tuner[cluster]'" in capsys.readouterr().err


class Flaky:
    """A Jobs API that gives a job's output from its beginning each time, and fails in between."""

    def __init__(self, *answers: list[str] | Exception, ends: int) -> None:
        self.answers, self.ends, self.asked = list(answers), ends, 0

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for text in answer:
            yield text

    def get_job_status(self, job: str) -> Any:
        from ray.job_submission import JobStatus

        self.asked += 1
        return JobStatus.SUCCEEDED if self.asked == self.ends else JobStatus.RUNNING


async def no_pause(seconds: float) -> None:
    """Let no time pass."""


def test_output_is_printed_once_and_as_text_however_often_the_connection_breaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit.asyncio, "sleep", no_pause)
    answers = ["one\ntw"], RuntimeError("closed"), ["one\n", "two\n\x1b[31m"], ["one\ntwo\n\x1b[31m", "three\n"]
    asyncio.run(submit._follow(Flaky(*answers, ends=4), "job"))  # type: ignore[arg-type]
    assert capsys.readouterr().out == "one\ntwo\n\\x1b[31mthree\n"


def test_a_job_that_is_silent_for_hours_is_followed_and_a_cluster_that_is_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(step=50)
    monkeypatch.setattr(submit.asyncio, "sleep", no_pause)
    monkeypatch.setattr(submit.time, "monotonic", lambda: float(next(clock)))
    asyncio.run(submit._follow(Flaky(*[[], OSError("gone")] * 5, [], ends=11), "job"))  # type: ignore[arg-type]
    with pytest.raises(ConnectionError, match="gone"):
        asyncio.run(submit._follow(Flaky(*[OSError("gone")] * 9, ends=0), "job"))  # type: ignore[arg-type]


def test_a_cluster_that_was_started_again_and_knows_the_job_no_more_is_not_waited_for() -> None:
    class New(Flaky):
        def get_job_status(self, job: str) -> Any:
            raise RuntimeError("Request failed with status code 404: Job job does not exist.")

    with pytest.raises(Interrupted, match="the same command goes on"):
        asyncio.run(submit._follow(New(ends=0), "job"))  # type: ignore[arg-type]


class Starting:
    """A Jobs API of a head that was started just now."""

    def __init__(self, refusals: int, why: str) -> None:
        self.refusals, self.why = refusals, why

    def submit_job(self, submission_id: str) -> str:
        self.refusals -= 1
        if self.refusals >= 0:
            raise RuntimeError(f"Request failed with status code 500: {self.why}")
        return submission_id


def test_a_head_that_was_just_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=10)
    monkeypatch.setattr(submit.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(submit.time, "monotonic", lambda: float(next(clock)))
    none, job = "No available agent to submit job, please try again later.", {"submission_id": "it"}
    assert submit._started(Starting(3, none), job) == "it"  # type: ignore[arg-type]
    with pytest.raises(ConnectionError, match="No available agent"):
        submit._started(Starting(99, none), job)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="other"):
        submit._started(Starting(1, "other"), job)  # type: ignore[arg-type]
