"""Race, verdict and path on a real Ray: what is trained, what is kept, and that a kill changes nothing."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import trim_mean

from tests.conftest import ROOT, Command, tree
from tests.judged import STANDING
from tuner.ledger import seeds_of

pytestmark = pytest.mark.ray

SEEDS = 4
WORDS = ("cartpole", "--trials", "5", "--episodes", "150", "--threshold", "100", "--finalists", "2",
         "--sampler", "random", "--parallel", "1", "--race-seeds", str(SEEDS))  # fmt: skip


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def without_times(value: Any) -> Any:
    """A summary without what is never the same twice."""
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in ("cost_s", "wall_s")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def episodes_of(folder: Path) -> list[dict[str, float]]:
    """An episode table, read with nothing of this project, without its times."""
    with (folder / "episodes.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(file)]


def reached(folder: Path) -> int | None:
    """Episodes to the threshold, from the raw rows; None where it was missed."""
    rows = episodes_of(folder)
    return next((int(row["episode"]) for row in rows if row["episode"] >= 50 and row["mean_reward"] >= 100), None)


@pytest.fixture(scope="module")
def raced(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with its race, as a user would run it."""
    out = tmp_path_factory.mktemp("raced")
    done = command("sweep", *WORDS, "--out", "runs", cwd=out)  # a relative path, as a user gives it
    assert done.returncode == 0, done.stderr
    out = out / "runs"
    (out / "stdout").write_text(done.stdout)
    return out / "cartpole"


def test_the_race_is_on_its_seeds_and_the_verdict_on_others(raced: Path) -> None:
    summary = summary_of(raced)
    labels = [entry["label"] for entry in summary["race"]["entries"]]
    assert "baseline" in labels and 3 <= len(labels) <= 4
    names = {path.name for path in (raced / "race").iterdir()}
    assert labels[0] != "baseline", "this sweep is here to have a test and a path"
    tested = {labels[0], "baseline"}
    assert names == {f"{label}-s{seed}" for label in labels for seed in seeds_of("race", SEEDS)} | {
        f"{label}-s{seed}" for label in tested for seed in seeds_of("test", SEEDS)
    }
    assert summary["seeds"]["search"] == [10] and summary["seeds"]["race"] == list(seeds_of("race", SEEDS))


def test_every_run_says_which_ledger_its_seed_is_of(raced: Path) -> None:
    for folder in (raced / "race").iterdir():
        config = json.loads((folder / "config.json").read_text())
        assert config["seed"] == int(folder.name.rsplit("-s", 1)[1])
        assert config["ledger"] == ("race" if config["seed"] in seeds_of("race", SEEDS) else "test")
    for folder in (raced / "trials").iterdir():
        config = json.loads((folder / "config.json").read_text())
        assert (config["seed"], config["ledger"]) == (10, "search")


def test_every_run_has_its_trials_parameters_and_stops_exactly(raced: Path) -> None:
    for entry in summary_of(raced)["race"]["entries"]:
        trial = json.loads((raced / f"trials/{entry['number']:04d}/config.json").read_text())
        for seed in seeds_of("race", SEEDS):
            folder = raced / f"race/{entry['label']}-s{seed}"
            config = json.loads((folder / "config.json").read_text())
            assert config == trial | {"seed": seed, "ledger": "race"}
            assert len(episodes_of(folder)) == (reached(folder) or 150)
            assert {path.name for path in folder.iterdir()} == {"config.json", "episodes.csv", "result.json"}


def test_the_figures_follow_from_the_raw_episodes(raced: Path) -> None:
    for entry in summary_of(raced)["race"]["entries"]:
        found = [reached(raced / f"race/{entry['label']}-s{seed}") for seed in seeds_of("race", SEEDS)]
        values = [150 if episodes is None else episodes for episodes in found]
        assert entry["values"] == values
        assert entry["estimate"]["value"] == pytest.approx(trim_mean(values, 0.25))
        assert entry["reached"] == sum(episodes is not None for episodes in found)


def test_best_is_the_winners_search_trial(raced: Path) -> None:
    summary = summary_of(raced)
    winner = summary["race"]["entries"][0]
    assert summary["best"]["number"] == winner["number"] == summary["verdict"]["number"]
    theirs = json.loads((raced / f"trials/{winner['number']:04d}/config.json").read_text())
    assert f"lr: {theirs['lr']}" in (raced / "best/config.yaml").read_text()


def test_best_holds_the_ways_on(raced: Path) -> None:
    names = {path.name for path in (raced / "best").iterdir()}
    assert names == {"config.yaml", "rllib.py", "policy.pt", "checkpoint", "curves.csv", "curves.png", "curves.html"}
    compile((raced / "best/rllib.py").read_text(), "rllib.py", "exec")


def test_the_terminal_names_the_verdict_in_one_sentence(raced: Path) -> None:
    said = (raced.parent / "stdout").read_text()
    assert f"verdict   {summary_of(raced)['verdict']['sentence']}\n" in said
    assert re.search(r"^race: .*\d+ runs$", said, re.M) and re.search(r"time left", said)


def test_the_path_ends_at_the_winner(raced: Path) -> None:
    summary = summary_of(raced)
    steps = summary["path"]["steps"]
    winner = json.loads((raced / f"trials/{summary['best']['number']:04d}/config.json").read_text())
    for step in steps:
        for name, (before, after) in step["changes"].items():
            assert (before, after) == (summary["baseline"]["params"][name], winner[name])
    assert len(list((raced / "path").iterdir())) == summary["path"]["runs"]


def test_the_same_command_again_starts_nothing_and_says_the_same(raced: Path, command: Command) -> None:
    before = {name: data for name, data in tree(raced).items() if name.split("/")[0] in ("race", "path", "trials")}
    started = time.monotonic()
    done = command("sweep", *WORDS, "--out", str(raced.parent))
    assert done.returncode == 0, done.stderr
    assert f"verdict   {summary_of(raced)['verdict']['sentence']}" in done.stdout
    assert {name: data for name, data in tree(raced).items() if name in before} == before
    assert time.monotonic() - started < 30


def test_report_gives_the_same_answer_again(raced: Path, command: Command) -> None:
    before = summary_of(raced)
    (raced / "summary.json").unlink()
    done = command("report", str(raced))
    assert done.returncode == 0, done.stderr
    assert summary_of(raced) == before


def test_doctor_finds_a_run_whose_episodes_are_not_those_of_its_result(
    raced: Path, tmp_path: Path, command: Command
) -> None:
    run = Path(shutil.copytree(raced, tmp_path / "cartpole", symlinks=True))
    assert command("doctor", str(run)).returncode == 0
    torn = next((run / "race").iterdir())
    lines = (torn / "episodes.csv").read_text().splitlines(keepends=True)
    (torn / "episodes.csv").write_text("".join(lines[:-1]))
    done = command("doctor", str(run))
    assert done.returncode == 3
    assert f"{torn / 'episodes.csv'}: its rows do not give the outcome in result.json; remove {torn}" in done.stdout


def results(run: Path) -> dict[Path, tuple[int, bytes]]:
    """What the runs that are done have left, and when."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.glob("*/*/result.json")}


def test_a_sweep_that_is_stopped_and_killed_in_its_race_goes_on_to_the_same_answer(raced: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tuner.sweep", *WORDS, "--out", str(tmp_path)]
    run = tmp_path / "cartpole"

    def until(runs: int) -> subprocess.Popen[str]:
        """The sweep, once so many runs of its race and its path are done."""
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(results(run)) < runs:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "said").read_text()
            time.sleep(0.02)
        return process

    stopped = until(3)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=60) == 75
    said = (tmp_path / "said").read_text()
    assert "the rest of the race and its path; the same command goes on" in said
    assert said.splitlines()[-1].startswith("error: stopped by SIGTERM")
    assert summary_of(run)["verdict"] is None
    assert (run / "best/config.yaml").exists() and not (run / "best/policy.pt").exists()  # torch takes its time

    before = results(run)
    killed = until(11)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    after = results(run)
    assert len(after) >= 11
    assert {path: after[path] for path in before} == before, "some were done again"

    assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0
    last = results(run)
    assert {path: last[path] for path in after} == after, "some were done again"
    assert (run / "best/policy.pt").is_file()
    assert without_times(summary_of(run)) == without_times(summary_of(raced))
    for folder in (raced / "race").iterdir():
        assert episodes_of(run / "race" / folder.name) == episodes_of(folder)


def test_fewer_race_seeds_show_that_part_of_the_race(raced: Path, command: Command) -> None:
    done = command("sweep", *WORDS[:-1], "0", "--out", str(raced.parent), "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["race"] is None and summary["verdict"] is None and summary["path"] is None
    assert command("sweep", *WORDS, "--out", str(raced.parent)).returncode == 0
    assert summary_of(raced)["verdict"] is not None


@pytest.fixture(scope="module")
def judged(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose race is judged by what its training does not reward; see `tests.judged`."""
    out = tmp_path_factory.mktemp("judged")
    done = command("sweep", "tests/judged.py", "--sampler", "grid", "--parallel", "1", "--out", out, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return out / "judged"


def test_a_judged_race_is_won_by_the_judges_choice_and_not_by_the_rewards(judged: Path) -> None:
    race = summary_of(judged)["race"]
    assert race["measure"] == "share of points in matches"
    winner, baseline = race["entries"]
    assert (winner["params"]["lr"], baseline["label"]) == (STANDING, "baseline")
    assert baseline["search"]["best_mean"] > winner["search"]["best_mean"] + 1, "by reward the baseline had won"
    for entry in (winner, baseline):
        found = [json.loads((judged / f"race/{entry['label']}-s{seed}/result.json").read_text())
                 for seed in seeds_of("race", 3)]  # fmt: skip
        scores = [result["judgement"] and result["judgement"]["score"] for result in found]
        assert entry["values"] == scores
        played = [record for result in found if result["judgement"] for record in result["judgement"]["records"]]
        assert sum(matches["wins"] for matches in entry["matches"]) == sum(record["wins"] for record in played)


def test_a_run_whose_judge_fails_is_failed_with_the_reason(judged: Path) -> None:
    folder = judged / f"race/baseline-s{seeds_of('race', 2)[1]}"
    found = json.loads((folder / "result.json").read_text())
    reason = "judge tests.judged:by_low_actions: ZeroDivisionError: nothing to judge"
    assert (found["outcome"], found["judgement"], found["reason"]) == (None, None, reason)
    assert f"1 of 6 runs of the baseline FAILED: {reason}" in (judged / "report.html").read_text()


def test_the_search_is_not_judged_and_no_run_of_the_race_leaves_a_policy(judged: Path) -> None:
    for folder in (judged / "trials").iterdir():
        assert "judge" not in json.loads((folder / "config.json").read_text())
    for folder in (judged / "race").iterdir():
        assert json.loads((folder / "config.json").read_text())["judge"] == "tests.judged:by_low_actions"
        assert {path.name for path in folder.iterdir()} == {"config.json", "episodes.csv", "result.json"}


def test_a_judged_answer_is_given_again_from_what_is_on_disk(judged: Path, command: Command) -> None:
    before = summary_of(judged)
    assert before["verdict"]["winner_matches"] and "percentage points" in before["verdict"]["sentence"]
    (judged / "summary.json").unlink()
    done = command("report", str(judged), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert summary_of(judged) == before
    assert command("doctor", str(judged)).returncode == 0
