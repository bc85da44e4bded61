"""What a person sees while a sweep runs: a live view on a terminal or in a notebook, one line an event elsewhere."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tuner.answer.parts import Run, RunResult, Stage
from tuner.files import plain
from tuner.parameters import display
from tuner.progress import STAGES, SweepState
from tuner.study import TrialRecord, TrialState

LOG = "TUNER_LOG"
_BARS = "▁▂▃▄▅▆▇█"


class LinesView:
    """One line an event, no control characters."""

    def __init__(self, state: SweepState, stream: TextIO) -> None:
        self._state = state
        self._stream = stream

    def __enter__(self) -> LinesView:
        done = len(self._state.finished)
        self._print(f"sweep of {self._state.trials} trials, {done} done, {self._state.parallel} at once")
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def on_start(self, record: TrialRecord) -> None:
        """A line for a trial that starts."""
        self._state.on_start(record)
        kind = "baseline" if record.is_baseline else _in_short(record.suggested)
        again = f", attempt {record.attempts}" if record.attempts > 1 else ""
        self._print(f"trial {record.number} started{again}: {kind}")

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """No line: a log is read by events."""
        self._state.on_progress(record, result)

    def on_finish(self, record: TrialRecord) -> None:
        """A line for a trial that ended, with the best so far and the time left."""
        state = self._state
        state.on_finish(record)
        best = state.best
        so_far = f"; best: trial {best.number}, {state.in_words(best)}" if best else ""
        words = state.in_words(record)
        name = record.state.value if not words.startswith(record.state.value) else ""
        place = " elsewhere" if record.elsewhere else ""
        self._print(
            f"trial {record.number}{place} {name}{': ' if name else ''}{words}, {record.wall_s:.0f} s; "
            f"{len(state.finished)}/{state.trials} done{so_far}; time left {in_time(state.time_left())}"
        )

    def on_loss(self, record: TrialRecord) -> None:
        """A line for a trial that another driver took over."""
        self._state.on_loss(record)
        self._print(f"trial {record.number} goes on elsewhere")

    def on_stage(self, stage: Stage, done: int) -> None:
        """A line for a part of the answer that begins."""
        if self._state.on_stage(stage, done):
            most = f"at most {self._state.answer_runs['path']}" if stage.name == "path" else f"{len(stage.runs)}"
            self._print(f"{stage.name}: {STAGES[stage.name]}, {most} runs" + (f", {done} done" if done else ""))

    def on_run(self, run: Run, result: RunResult) -> None:
        """A line for every twentieth run, and for one that failed."""
        stage = self._state.on_run(run, result)
        if result.outcome is None:
            self._print(f"{stage.name} {run.name} FAILED: {result.reason}")
        if stage.done % 20 == 0:
            of = "" if stage.name == "path" else f"/{stage.runs}"
            self._print(f"{stage.name} {stage.done}{of} runs; time left {in_time(self._state.answer_time_left())}")

    def _print(self, line: str) -> None:
        print(_plain(line), file=self._stream, flush=True)


class JsonView:
    """One JSON object a line and an event, for whoever collects logs."""

    def __init__(self, state: SweepState, stream: TextIO) -> None:
        self._state = state
        self._stream = stream

    def __enter__(self) -> JsonView:
        self._print("sweep_started", trials=self._state.trials, done=len(self._state.finished))
        return self

    def __exit__(self, *error: object) -> None:
        self._print("sweep_ended", done=len(self._state.finished))

    def on_start(self, record: TrialRecord) -> None:
        """A line for a trial that starts."""
        self._state.on_start(record)
        self._print("trial_started", trial=record.number, attempt=record.attempts, params=record.params)

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """No line: figures in time are the metrics'."""
        self._state.on_progress(record, result)

    def on_finish(self, record: TrialRecord) -> None:
        """A line for a trial that ended."""
        self._state.on_finish(record)
        best = self._state.best
        self._print(
            "trial_finished", trial=record.number, state=record.state, outcome=record.outcome, reason=record.reason,
            wall_s=record.wall_s, best_trial=best and best.number, time_left_s=self._state.time_left(),
        )  # fmt: skip

    def on_loss(self, record: TrialRecord) -> None:
        """A line for a trial that another driver took over."""
        self._state.on_loss(record)
        self._print("trial_lost", trial=record.number)

    def on_stage(self, stage: Stage, done: int) -> None:
        """A line for a part of the answer that begins."""
        self._state.on_stage(stage, done)
        self._print("stage_started", stage=stage.name, runs=len(stage.runs), done=done)

    def on_run(self, run: Run, result: RunResult) -> None:
        """A line for a run of the answer that ended."""
        stage = self._state.on_run(run, result)
        self._print("run_finished", stage=stage.name, run=run.name, outcome=result.outcome, reason=result.reason)

    def _print(self, event: str, **facts: object) -> None:
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        print(json.dumps(plain({"time": moment, "event": event, **facts})), file=self._stream, flush=True)


class TerminalView:
    """A table that stays in place: progress, best against baseline, a bar and a curve for each running trial."""

    def __init__(self, state: SweepState, console: Console) -> None:
        self._state = state
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> TerminalView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def on_start(self, record: TrialRecord) -> None:
        """Show a trial that starts."""
        self._state.on_start(record)

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Show a running trial's result."""
        self._state.on_progress(record, result)

    def on_finish(self, record: TrialRecord) -> None:
        """Show a trial that ended."""
        self._state.on_finish(record)

    def on_loss(self, record: TrialRecord) -> None:
        """Show no more of a trial that another driver took over."""
        self._state.on_loss(record)

    def on_stage(self, stage: Stage, done: int) -> None:
        """Show a part of the answer that begins."""
        self._state.on_stage(stage, done)

    def on_run(self, run: Run, result: RunResult) -> None:
        """Show a run of the answer that ended."""
        self._state.on_run(run, result)

    def _render(self) -> Group:
        return render(self._state)


class NotebookView:
    """The terminal's table as a notebook cell's output, redrawn in place."""

    def __init__(self, state: SweepState) -> None:
        from IPython.display import HTML, display

        self._state = state
        self._html = HTML
        self._handle = display(HTML(""), display_id=True)
        self._drawn = 0.0

    def __enter__(self) -> NotebookView:
        return self

    def __exit__(self, *error: object) -> None:
        self._draw(every_s=0)

    def on_start(self, record: TrialRecord) -> None:
        """Show a trial that starts."""
        self._state.on_start(record)
        self._draw()

    def on_progress(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Show a running trial's result."""
        self._state.on_progress(record, result)
        self._draw()

    def on_finish(self, record: TrialRecord) -> None:
        """Show a trial that ended."""
        self._state.on_finish(record)
        self._draw(every_s=0)

    def on_loss(self, record: TrialRecord) -> None:
        """Show no more of a trial that another driver took over."""
        self._state.on_loss(record)

    def on_stage(self, stage: Stage, done: int) -> None:
        """Show a part of the answer that begins."""
        self._state.on_stage(stage, done)
        self._draw(every_s=0)

    def on_run(self, run: Run, result: RunResult) -> None:
        """Show a run of the answer that ended."""
        self._state.on_run(run, result)
        self._draw()

    def _draw(self, every_s: float = 0.5) -> None:
        if time.monotonic() - self._drawn < every_s:
            return
        self._drawn = time.monotonic()
        console = Console(record=True, width=100, file=io.StringIO(), force_jupyter=False)
        console.print(render(self._state))
        style = "font-family:monospace;line-height:1.2;background:none"
        text = console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')
        self._handle.update(self._html(text))


def view_for(state: SweepState, stream: TextIO | None = None) -> LinesView | JsonView | TerminalView | NotebookView:
    """The view that fits where the output goes, JSON lines where the environment asks for them."""
    stream = stream or sys.stdout
    if os.environ.get(LOG) == "json":
        return JsonView(state, stream)
    if _is_notebook():
        return NotebookView(state)
    if stream.isatty():
        return TerminalView(state, Console(file=stream))
    return LinesView(state, stream)


def render(state: SweepState) -> Group:
    """The live view's picture of a sweep."""
    done, total = len(state.finished), max(state.trials, 1)
    elapsed = time.monotonic() - state.started
    left = in_time(state.answer_time_left() if state.stages else state.time_left())
    doing = next(reversed(state.stages), f"{len(state.running)} running")
    head = Text.assemble(
        (f"{done}/{state.trials} trials ", "bold"),
        (_bar(done / total, 24), "blue"),
        f"  {doing}  {in_time((elapsed, elapsed))} gone  time left {left}",
    )
    facts = Table.grid(padding=(0, 2))
    if state.baseline:
        facts.add_row("baseline", Text(_plain(state.in_words(state.baseline))))
    best = state.best
    if best and not best.is_baseline:
        facts.add_row(Text("best", style="bold green"), Text(_plain(f"trial {best.number}: {state.in_words(best)}")))
        facts.add_row("", Text(_in_short(best.suggested), style="dim"))
    failed = [record for record in state.finished.values() if record.state is TrialState.FAILED]
    if failed:
        last = f"{len(failed)}, the last: trial {failed[-1].number}: {failed[-1].reason}"
        facts.add_row(Text("failed", style="red"), Text(_plain(last)))
    if state.stages:
        return Group(head, facts, _answer_table(state))
    running = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading, justify in (("trial", "right"), ("episodes", "right"), ("", "left"), ("mean reward", "right")):
        running.add_column(heading, justify=justify)  # type: ignore[arg-type]
    running.add_column("its course")
    for number, trial in sorted(state.running.items()):
        mean = "" if trial.mean_reward is None else f"{trial.mean_reward:.1f}"
        used = trial.episodes / state.study.goal.max_episodes
        running.add_row(str(number), str(trial.episodes), _bar(used, 12), mean, _sparkline(trial.means, 32))
    return Group(head, facts, running)


def _answer_table(state: SweepState) -> Table:
    """A row for each part of the answer: how far it is, and what it is for."""
    table = Table.grid(padding=(0, 2))
    for name, most in state.answer_runs.items():
        stage = state.stages.get(name)
        is_over = stage is not None and name != next(reversed(state.stages))
        runs = most if stage is None or (name == "path" and not is_over) else stage.runs
        done = stage.done if stage else 0
        of = f"{done}/{runs}" if name != "path" or is_over else f"{done} of at most {most}"
        style = "bold" if stage and not is_over else "dim"
        table.add_row(Text(name, style=style), Text(_bar(done / max(runs, 1), 24), style="blue"), of, STAGES[name])
    return table


def in_time(seconds: tuple[float, float] | None) -> str:
    """A range of seconds as a person says it: `40-70 s`, `3-5 min`, `unknown`."""
    if seconds is None:
        return "unknown"
    low, high = seconds
    if high < 100:
        unit, low, high = "s", round(low), round(high)
    elif high < 6000:
        unit, low, high = "min", round(low / 60), round(high / 60)
    else:
        return f"{low / 3600:.1f}-{high / 3600:.1f} h" if high - low > 360 else f"{high / 3600:.1f} h"
    return f"{low}-{high} {unit}" if low < high else f"{high} {unit}"


def _bar(share: float, width: int) -> str:
    filled = round(min(max(share, 0.0), 1.0) * width)
    return "━" * filled + "╌" * (width - filled)


def _sparkline(values: Sequence[float], width: int) -> str:
    if not values:
        return ""
    step = max(1, -(-len(values) // width))
    shown = values[::step]
    low, span = min(shown), max(shown) - min(shown) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in shown)


def _in_short(params: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={display(v)}" for k, v in params.items())


def _plain(text: str) -> str:
    """Text in one line without control characters, whatever an error message brought along."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text))


def _is_notebook() -> bool:
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and "IPKernelApp" in running.config
