"""What a person sees while a sweep runs: lines in a log, a table that fits its terminal, and the time left."""

from __future__ import annotations

import io
import json
import re
import time
import unicodedata
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tuner.answer.parts import Run, RunResult, Stage
from tuner.episodes import Outcome
from tuner.live import JsonView, LinesView, TerminalView, in_time, render, view_for
from tuner.progress import SweepState
from tuner.space import Choice, Float, SearchSpace
from tuner.study import SweepStudy, TrialRecord, TrialState

SPACE = SearchSpace(
    env="CartPole-v1",
    threshold=475,
    window=50,
    max_episodes=1000,
    baseline={"lr": 1e-3, "fcnet_hiddens": [64, 32]},
    params={"lr": Float(1e-4, 1e-2, log=True), "fcnet_hiddens": Choice([64, 32], [64, 64])},
)
SUGGESTED = {"lr": 0.0012345, "fcnet_hiddens": [64, 64], "lr_anneal_steps": None, "fcnet_activation": "relu"}


def record(number: int, state: TrialState = TrialState.RUNNING, **changes: Any) -> TrialRecord:
    """A trial as the study knows it."""
    values: dict[str, Any] = {
        "params": SPACE.baseline,
        "suggested": SUGGESTED,
        "attempts": 1,
        "value": None,
        "outcome": None,
        "reason": None,
        "wall_s": 20.0,
    }
    return TrialRecord(number, state, **(values | changes))


def reached(number: int, at: int, wall_s: float = 20.0) -> TrialRecord:
    """A trial that reached the threshold."""
    return record(number, TrialState.COMPLETE, value=float(at), outcome=Outcome(at, 20 * at, at, 476.0), wall_s=wall_s)


def missed(number: int, best_mean: float, wall_s: float = 20.0) -> TrialRecord:
    """A trial that used its budget."""
    outcome = Outcome(1000, 90_000, None, best_mean)
    return record(number, TrialState.COMPLETE, value=1476.0 - best_mean, outcome=outcome, wall_s=wall_s)


def failed(number: int, reason: str) -> TrialRecord:
    """A trial that failed."""
    return record(number, TrialState.FAILED, reason=reason)


def result(episodes: int, mean_reward: float | None, wall_s: float = 5.0) -> dict[str, Any]:
    """A running trial's result."""
    return {"wall_s": wall_s, "episodes": episodes, "mean_reward": mean_reward}


State = Callable[..., SweepState]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SweepStudy:
    """A study in which nothing was started; what the views show is told to them."""
    return SweepStudy(f"sqlite:///{tmp_path_factory.mktemp('live') / 'study.db'}", SPACE)


@pytest.fixture
def make(study: SweepStudy) -> State:
    """A state with trials that finished and that run."""

    def state(*finished: TrialRecord, trials: int = 8, parallel: int = 2, seconds: float | None = None) -> SweepState:
        made = SweepState(study, trials, parallel, seconds)
        for trial in finished:
            made.on_finish(trial)
        return made

    return state


def lines_of(state: SweepState, *events: tuple[str, Any]) -> list[str]:
    """The log of some events."""
    stream = io.StringIO()
    with LinesView(state, stream) as view:
        for name, arguments in events:
            getattr(view, name)(*arguments)
    return stream.getvalue().split("\n")[:-1]


def drawn(state: SweepState, width: int = 80) -> str:
    """The live view on a terminal of this width, without colours."""
    output = io.StringIO()
    Console(width=width, file=output, force_terminal=False).print(render(state))
    return output.getvalue()


def controls(text: str) -> list[str]:
    """The control characters in a text."""
    return [character for character in text if unicodedata.category(character) == "Cc"]


def test_a_log_begins_with_how_much_there_is_to_do(make: State) -> None:
    assert lines_of(make(missed(0, 100.0))) == ["sweep of 8 trials, 1 done, 2 at once"]


def test_a_log_has_one_line_for_every_start_and_every_end(make: State) -> None:
    events = [
        ("on_start", (record(0),)),
        ("on_progress", (record(0), result(10, 20.0))),
        ("on_progress", (record(0), result(20, 25.0))),
        ("on_finish", (missed(0, 100.0),)),
        ("on_start", (record(1),)),
        ("on_finish", (failed(1, "it broke"),)),
    ]
    assert [line.split(":")[0].split(" COMPLETE")[0] for line in lines_of(make(), *events)[1:]] == [
        "trial 0 started", "trial 0", "trial 1 started", "trial 1 FAILED",
    ]  # fmt: skip


def test_a_logs_line_of_a_start_names_the_baseline(make: State) -> None:
    assert lines_of(make(), ("on_start", (record(0),)))[1] == "trial 0 started: baseline"


def test_a_logs_line_of_a_start_shows_what_was_suggested(make: State) -> None:
    assert lines_of(make(), ("on_start", (record(3),)))[1] == (
        'trial 3 started: lr=0.00123 fcnet_hiddens=[64, 64] lr_anneal_steps=None fcnet_activation="relu"'
    )


def test_a_logs_line_of_a_trial_that_goes_on_says_which_attempt_it_is(make: State) -> None:
    assert lines_of(make(), ("on_start", (record(0, attempts=3),)))[1] == "trial 0 started, attempt 3: baseline"


def test_a_logs_line_of_an_end_says_how_it_went_and_what_is_best(make: State) -> None:
    state = make(missed(0, 200.0, wall_s=10), missed(1, 100.0, wall_s=20))
    assert lines_of(state, ("on_finish", (reached(2, 310, wall_s=30),)))[1] == (
        "trial 2 COMPLETE: 475 reached at episode 310, 30 s; 3/8 done; "
        "best: trial 2, 475 reached at episode 310; time left 25-75 s"
    )


def test_a_logs_line_of_a_pruned_trial_says_so(make: State) -> None:
    pruned = record(1, TrialState.PRUNED, outcome=Outcome(100, 2000, None, 30.0))
    assert lines_of(make(), ("on_finish", (pruned,)))[1].startswith("trial 1 PRUNED: best mean 30.0 in 100 episodes")


def test_a_logs_line_of_a_failed_trial_gives_its_reason(make: State) -> None:
    line = lines_of(make(), ("on_finish", (failed(1, "ValueError: it broke"),)))[1]
    assert line.startswith("trial 1 FAILED: ValueError: it broke, 20 s")


@pytest.mark.parametrize("reason", ["it\nbroke", "\x1b[36mray::PPO\x1b[39m died", "beep\a", "half\rline", "a\tb"])
def test_a_log_holds_no_control_characters_whatever_a_trial_died_of(reason: str, make: State) -> None:
    assert controls("".join(lines_of(make(), ("on_finish", (failed(1, reason),))))) == []


def test_a_log_has_one_line_for_an_end_whatever_the_trial_died_of(make: State) -> None:
    assert len(lines_of(make(), ("on_finish", (failed(1, "it\nbroke"),)))) == 2


def test_a_log_is_written_as_it_happens(make: State) -> None:
    flushed: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    with LinesView(make(), Stream()) as view:
        view.on_start(record(0))
        assert flushed[-1].endswith("trial 0 started: baseline\n")


def test_what_is_not_a_terminal_gets_lines(make: State) -> None:
    assert isinstance(view_for(make(), io.StringIO()), LinesView)


def test_a_terminal_gets_a_table(make: State) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(view_for(make(), Terminal()), TerminalView)


def test_the_time_left_is_unknown_before_two_trials_have_finished(make: State) -> None:
    assert make(missed(0, 100.0)).time_left() is None


def test_the_time_left_is_the_middle_half_of_the_durations_for_every_trial_to_come(make: State) -> None:
    state = make(*(missed(number, 100.0, wall_s) for number, wall_s in enumerate([10.0, 20.0, 30.0, 40.0])))
    assert state.time_left() == (40.0, 60.0)


def test_more_trials_at_once_need_less_time(make: State) -> None:
    finished = [missed(number, 100.0, wall_s) for number, wall_s in enumerate([10.0, 20.0, 30.0, 40.0])]
    assert make(*finished, parallel=4).time_left() == (20.0, 30.0)


def test_a_running_trial_needs_what_those_that_took_longer_needed_beyond_it(make: State) -> None:
    finished = [missed(number, 100.0, wall_s) for number, wall_s in enumerate([10.0, 20.0, 30.0, 40.0])]
    state = make(*finished, trials=5, parallel=1)
    state.on_start(record(4))
    state.on_progress(record(4), result(100, 50.0, wall_s=25.0))
    assert state.time_left() == (5.0, 15.0)


def test_a_trial_that_outlasts_all_others_needs_no_more_than_its_own_pace_says(make: State) -> None:
    state = make(missed(0, 100.0, 10.0), missed(1, 100.0, 20.0), trials=3, parallel=1)
    state.on_start(record(2))
    state.on_progress(record(2), result(250, 50.0, wall_s=30.0))
    assert state.time_left() == (0.0, 90.0)


def test_no_time_is_left_once_everything_has_finished(make: State) -> None:
    assert make(missed(0, 100.0), missed(1, 100.0), trials=2).time_left() == (0.0, 0.0)


def test_the_time_left_is_never_longer_than_the_deadline(make: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    state = make(missed(0, 100.0, 500.0), missed(1, 100.0, 600.0), seconds=60)
    monkeypatch.setattr(time, "monotonic", lambda: 1020.0)
    assert state.time_left() == (40.0, 40.0)


def test_the_time_left_is_nothing_after_the_deadline(make: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    state = make(missed(0, 100.0, 500.0), missed(1, 100.0, 600.0), seconds=60)
    monkeypatch.setattr(time, "monotonic", lambda: 1100.0)
    assert state.time_left() == (0.0, 0.0)


@settings(deadline=None, max_examples=50)
@given(
    durations=st.lists(st.floats(0.001, 1e5), min_size=2, max_size=12),
    running=st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 1000)), max_size=4),
    parallel=st.integers(1, 8),
    to_come=st.integers(0, 50),
)
def test_the_time_left_is_a_range_from_short_to_long(
    study: SweepStudy, durations: list[float], running: list[tuple[float, int]], parallel: int, to_come: int
) -> None:
    state = SweepState(study, len(durations) + len(running) + to_come, parallel, None)
    for number, wall_s in enumerate(durations):
        state.on_finish(missed(number, 100.0, wall_s))
    for number, (wall_s, episodes) in enumerate(running, start=len(durations)):
        state.on_start(record(number))
        state.on_progress(record(number), result(episodes, 50.0, wall_s))
    low, high = state.time_left() or (-1.0, -1.0)
    assert 0 <= low <= high


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"),
        ((40.0, 70.0), "40-70 s"),
        ((5.0, 5.0), "5 s"),
        ((0.0, 0.0), "0 s"),
        ((0.0, 99.0), "0-99 s"),
        ((180.0, 300.0), "3-5 min"),
        ((290.0, 300.0), "5 min"),
        ((30.0, 300.0), "0-5 min"),
        ((7200.0, 10800.0), "2.0-3.0 h"),
        ((7200.0, 7300.0), "2.0 h"),
    ],
)
def test_a_range_of_time_is_said_as_a_person_would(seconds: tuple[float, float] | None, words: str) -> None:
    assert in_time(seconds) == words


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.floats(0, 1e7), st.floats(0, 1e7)).map(lambda pair: (min(pair), max(pair))))
def test_a_range_of_time_is_never_said_backwards(seconds: tuple[float, float]) -> None:
    low, _, high = in_time(seconds).rpartition(" ")[0].rpartition("-")
    assert float(low or high) <= float(high)


@pytest.fixture
def busy(make: State) -> SweepState:
    """A sweep in the middle: a baseline, a better trial, a failed one, and two that run."""
    long_reason = "RuntimeError: " + "a reason that is longer than any terminal is wide " * 4
    state = make(missed(0, 200.0), reached(1, 310), missed(2, 90.0), failed(3, long_reason), trials=64)
    for number, means in ((4, [20.0, 80.0, 310.5]), (11, [None])):
        state.on_start(record(number))
        for index, mean in enumerate(means, start=1):
            state.on_progress(record(number), result(200 * index, mean))
    return state


@pytest.mark.parametrize(
    "part",
    [
        "4/64 trials",
        "2 running",
        "time left",
        "baseline  best mean 200.0 in 1000 episodes",
        "best      trial 1: 475 reached at episode 310",
        "failed    1, the last: trial 3: RuntimeError",
    ],
)
def test_the_live_view_shows_progress_baseline_best_and_failures(part: str, busy: SweepState) -> None:
    assert part in drawn(busy)


def test_the_live_view_has_a_row_with_episodes_and_mean_for_each_running_trial(busy: SweepState) -> None:
    row = next(line for line in drawn(busy).splitlines() if line.split()[:1] == ["4"])
    assert (row.split()[1], "310.5" in row) == ("600", True)


def test_the_live_view_has_a_row_for_a_trial_without_an_episode(busy: SweepState) -> None:
    assert any(line.split()[:2] == ["11", "200"] for line in drawn(busy).splitlines())


@pytest.mark.parametrize("width", [80, 60, 120])
def test_the_live_view_fits_its_terminal(width: int, busy: SweepState) -> None:
    assert max(cell_len(line) for line in drawn(busy, width).splitlines()) <= width


def test_the_live_view_is_there_before_anything_has_started(make: State) -> None:
    assert "0/8 trials" in drawn(make())


def test_the_live_view_shows_no_best_trial_beside_a_baseline_that_is_best(make: State) -> None:
    assert "best      trial" not in drawn(make(missed(0, 200.0), missed(1, 100.0)))


def test_a_bar_shows_how_much_of_its_budget_a_trial_has_used(make: State) -> None:
    state = make()
    state.on_start(record(4))
    state.on_progress(record(4), result(500, 50.0))
    assert "━━━━━━╌╌╌╌╌╌" in drawn(state)


def test_a_curve_rises_with_the_means_of_a_trial(make: State) -> None:
    state = make()
    state.on_start(record(4))
    for index, mean in enumerate((0.0, 50.0, 100.0), start=1):
        state.on_progress(record(4), result(10 * index, mean))
    assert "▁▅█" in drawn(state)


def test_a_trial_that_ended_is_no_longer_among_the_running_ones(make: State) -> None:
    state = make()
    state.on_start(record(4))
    state.on_finish(missed(4, 100.0))
    assert "0 running" in drawn(state)


@pytest.mark.parametrize("reason", ["IndexError: [/obs] is out of bounds", "KeyError: [red]", "[bold]x[/bold]"])
def test_a_reason_is_shown_as_it_stands_whatever_brackets_it_holds(reason: str, make: State) -> None:
    assert reason in drawn(make(missed(0, 200.0), failed(1, reason)), width=200)


@pytest.mark.parametrize("reason", ["IndexError: [/obs] is out of bounds", "KeyError: [red]"])
def test_a_baselines_reason_is_shown_as_it_stands_too(reason: str, make: State) -> None:
    assert f"baseline  FAILED: {reason}" in drawn(make(failed(0, reason)), width=200)


def test_the_finished_trials_of_earlier_drivers_are_counted(tmp_path: Path) -> None:
    study = SweepStudy(f"sqlite:///{tmp_path / 'study.db'}", SPACE)
    study.complete(study.start_next().number, Outcome(310, 6200, 310, 476.0), 20.0)
    study.start_next()
    assert SweepState(study, 8, 2, None).finished.keys() == {0}


RUN = Run("race", "baseline", 1_000_000_000, {})
RUNS = {"race": 10, "test": 4, "path": 30}


class TestTheAnswer:
    """The views while race, test and path are run."""

    @pytest.fixture
    def state(self, study: SweepStudy) -> SweepState:
        state = SweepState(study, 1, 2, None, RUNS)
        state.on_finish(missed(0, 100.0))
        return state

    def test_a_log_has_a_line_for_each_part_every_twentieth_run_and_each_failure(self, state: SweepState) -> None:
        lines = lines_of(
            state,
            ("on_stage", (Stage("race", [RUN] * 10), 3)),
            ("on_run", (RUN, RunResult(None, "non-finite\nloss"))),
            *[("on_run", (RUN, RunResult(Outcome())))] * 6,
            ("on_stage", (Stage("path", [RUN] * 12), 0)),
            *[("on_run", (RUN, RunResult(Outcome())))] * 12,
            ("on_stage", (Stage("path", [RUN] * 8), 0)),
            *[("on_run", (RUN, RunResult(Outcome())))] * 8,
        )
        assert lines[1:4] == [
            "race: the finalists on unseen seeds, 10 runs, 3 done",
            "race baseline-s1000000000 FAILED: non-finite loss",
            "path: which changes made the difference, at most 30 runs",
        ]
        assert re.fullmatch(r"path 20 runs; time left \d.*", lines[4])
        assert len(lines) == 5

    def test_a_terminal_shows_how_far_each_part_is(self, state: SweepState) -> None:
        state.on_stage(Stage("race", [RUN] * 10), 4)
        state.on_run(RUN, RunResult(Outcome()))
        text = drawn(state)
        assert re.search(r"race +━+╌+ +5/10 +the finalists", text)
        assert re.search(r"test +╌+ +0/4 +winner and baseline", text)
        assert re.search(r"path +╌+ +0 of at most 30 +which changes", text)
        state.on_stage(Stage("path", [RUN] * 10), 0)
        assert "path  " in drawn(state).splitlines()[0]

    def test_the_time_left_is_a_range_over_what_is_certain_and_what_may_come(
        self, state: SweepState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr("tuner.progress.time.monotonic", lambda: now)
        state.on_stage(Stage("race", [RUN] * 10), 4)
        assert state.answer_time_left() is None
        for _ in range(3):
            state.on_run(RUN, RunResult(Outcome()))
        now = 106.0  # two seconds a run: 3 are left of the race, 34 may follow
        assert state.answer_time_left() == (6.0, 74.0)

    def test_the_time_left_of_a_path_holds_the_rounds_to_come(
        self, study: SweepStudy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr("tuner.progress.time.monotonic", lambda: now)
        state = SweepState(study, 1, 1, None, RUNS)
        state.on_stage(Stage("path", [RUN] * 12), 0)
        for _ in range(10):
            state.on_run(RUN, RunResult(Outcome()))
        now = 110.0  # a second a run: 2 of this round, and of 30 in all 18 that no round has begun yet
        assert state.answer_time_left() == (2.0, 20.0)

    def test_the_time_left_never_passes_the_deadline(self, study: SweepStudy, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 100.0
        monkeypatch.setattr("tuner.progress.time.monotonic", lambda: now)
        state = SweepState(study, 1, 1, 30.0, RUNS)
        state.on_stage(Stage("race", [RUN] * 10), 0)
        state.on_run(RUN, RunResult(Outcome()))
        now = 110.0
        assert state.answer_time_left() == (20.0, 20.0)


def test_an_event_is_one_json_object_where_the_environment_asks_for_them(
    make: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNER_LOG", "json")
    stream = io.StringIO()
    view = view_for(make(), stream)
    assert isinstance(view, JsonView)
    with view:
        view.on_start(record(0, TrialState.RUNNING))
        view.on_progress(record(0, TrialState.RUNNING), result(3, None))
        view.on_finish(failed(0, "broke\nin two lines"))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["sweep_started", "trial_started", "trial_finished", "sweep_ended"]
    assert (events[2]["state"], events[2]["reason"]) == ("FAILED", "broke\nin two lines")
    assert all(datetime.fromisoformat(event["time"]).tzinfo is not None for event in events)
