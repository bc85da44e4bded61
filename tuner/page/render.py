"""A report as one HTML file that opens without a network, and as a short Markdown text for a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from tuner import narrative
from tuner.ledger import SPACING
from tuner.narrative.wording import capital, count, number
from tuner.page import captions, causes, charts, findings, repeat, search_charts
from tuner.page.content import Report
from tuner.page.phrases import costs, shown
from tuner.parameters import ENV_PREFIX
from tuner.space import SearchSpace
from tuner.study import TrialRecord

TEMPLATE = "report.html.j2"


def report_html(report: Report) -> str:
    """The page."""
    from plotly.offline import get_plotlyjs

    page = _templates().get_template(TEMPLATE).render(
        report=report,
        badge=findings.badge(report),
        lead=findings.lead(report),
        optimism=findings.optimism(report),
        tiles=findings.tiles(report),
        curve_notes=captions.of_curves(report),
        notebook=list(charts.notebook_charts(report)),
        bands=charts.bands_chart(report),
        band_notes=captions.of_bands(report),
        race_notes=captions.of_race(report),
        race=charts.race_chart(report),
        race_rows=causes.race_rows(report),
        race_remarks=captions.below_race(report),
        match_rows=causes.match_rows(report),
        match_note=captions.of_matches(report),
        path=charts.path_chart(report),
        path_rows=causes.path_rows(report),
        path_notes=causes.path_notes(report),
        no_path=captions.in_place_of_path(report),
        changes=causes.changes(report),
        told=told(report),
        parallel=search_charts.parallel_chart(report),
        slices=list(search_charts.slice_charts(report)),
        search_notes=captions.of_search(report),
        importances=charts.importances_chart(report),
        importance_note=captions.of_importances(report),
        columns=trial_columns(report),
        trials=[trial_row(report, record) for record in report.records],
        facts=facts(report),
        command=repeat.command(report.sweep, report.name),
        ways=ways(report),
        themes=charts.themes(),
        plotly=get_plotlyjs(),
    )  # fmt: skip
    return page.lstrip()


def report_md(report: Report) -> str:
    """The short text."""
    verdict, race, path = findings.badge(report), causes.race_rows(report), causes.path_rows(report)
    parts = [f"# {escaped(report.name)}: {escaped(verdict.text)}", escaped(findings.lead(report))]
    optimism = findings.optimism(report)
    if optimism:
        parts.append(escaped(optimism))
    if race:
        parts += ["## Race", _markdown(race), *map(escaped, report.failures)]
    if matches := causes.match_rows(report):
        parts += ["## Matches", _markdown(matches), escaped(captions.of_matches(report))]
    if path:
        parts += ["## What made the difference", _markdown(path), *map(escaped, causes.path_notes(report))]
    elif report.summary.changed:
        rows = [{"parameter": change.name, "baseline": change.before, report.best_name: change.after}
                for change in causes.changes(report)]  # fmt: skip
        parts += ["## What it changed", _markdown(rows)]
    parts += ["## Again", f"```sh\n{repeat.command(report.sweep, report.name)}\n```"]
    parts.append(_markdown([{"what was run": name, "": value} for name, value in facts(report)]))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text as Markdown shows it letter by letter; names and reasons come from environments."""
    for letter in "\\`*_{}[]<>#|~":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([escaped(row[head]) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("tuner.page", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip


# What only the page shows


def told(report: Report) -> dict[str, list[str]]:
    """What the curves say, run by run, and beside each other."""
    goal, best = report.goal, report.best_name
    said = {}
    if not report.is_baseline_elsewhere:
        said["The baseline"] = narrative.sentences("the baseline", report.baseline_rows, goal)
    if not report.best_rows or not report.best_number:
        return said
    said[capital(best)] = narrative.sentences(best, report.best_rows, goal)
    if not report.is_baseline_elsewhere:
        said["Beside each other"] = narrative.comparison(report.baseline_rows, report.best_rows, goal, best=best)
    return said


@dataclass(frozen=True)
class Column:
    """A column of the table of every trial."""

    name: str
    is_number: bool


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, its class, and what it is sorted by where that is something else."""

    text: str
    kind: str = ""
    key: float | None = None


@dataclass(frozen=True)
class TrialRow:
    """One trial's row, and whether it is the best or the baseline."""

    cells: Sequence[Cell]
    kind: str


def trial_columns(report: Report) -> list[Column]:
    """The heads of the table."""
    first = [Column(name, name != "state") for name in ("trial", "state", "episodes to threshold", "best mean reward")]
    params = [Column(name, False) for name in report.space.params]
    return [*first, *params, Column("attempts", True), Column("wall time, s", True), Column("reason", False)]


def trial_row(report: Report, record: TrialRecord) -> TrialRow:
    """A trial: its outcome, the parameters that it used, and what became of it."""
    outcome = record.outcome
    reached, best = (outcome.episodes_to_threshold, outcome.best_mean) if outcome else (None, None)
    cells = [
        Cell(str(record.number), "number"),
        Cell(record.state.value),
        Cell("" if reached is None else str(reached), "number"),
        _number(best),
    ]
    for name in report.space.params:
        used = record.params[name]
        is_lowered = name in record.suggested and record.suggested[name] != used
        text = f"{shown(used)}*" if is_lowered else shown(used)
        is_rounded = isinstance(used, (int, float)) and not isinstance(used, bool) and str(used) != text
        cells.append(Cell(text, key=used if is_rounded else None))
    cells += [Cell(str(record.attempts), "number"), _number(record.wall_s), Cell(record.reason or "", "reason")]
    is_best = record.number == report.best_number
    return TrialRow(cells, "baseline" if record.is_baseline else "best" if is_best else "")


def _number(value: float | None) -> Cell:
    return Cell("" if value is None else f"{value:,.1f}", "number", value)


def _settings(space: SearchSpace) -> list[str]:
    """The environment's parameters that are the same in every trial."""
    return [f"{key} {value}" for key, value in space.env_config.items() if ENV_PREFIX + key not in space.params]


def facts(report: Report) -> list[tuple[str, str]]:
    """What was run, and with what."""
    sweep, summary, answer = report.sweep, report.summary, report.answer
    paths = ", ".join(f"{path} ({amount})" for path, amount in summary.paths.items())
    digest = f", SHA-256 {sweep['sha256'][:12]}" if sweep.get("sha256") else ""
    found = [
        ("space", f"{repeat.space_of(sweep)}{digest}"),
        ("environment", ", ".join([report.space.env, *_settings(report.space)])),
        ("goal", _goal(report)),
        ("search", f"{sweep['sampler']}, sampler seed {sweep['sampler_seed']}, pruner {report.space.pruner}"),
        ("engine", f"{summary.engine}{f'; its paths: {paths}' if paths else ''}"),
        ("seed of the search", str(report.space.seed)),
    ]
    if answer.race:
        found.append(("seeds of the race", _seeds(answer.race.seeds)))
    if answer.verdict and answer.verdict.seeds:
        found.append(("seeds of the test", _seeds(answer.verdict.seeds)))
    runs = [("race", answer.race.runs if answer.race else 0),
            ("test", 2 * len(answer.verdict.seeds) if answer.verdict else 0),
            ("path", answer.path.runs if answer.path else 0)]  # fmt: skip
    cost = [f"search {count(len(report.records), 'trial')}"]
    cost += [f"{part} {count(amount, 'run')}" for part, amount in runs if amount]
    found.append(("runs", ", ".join(cost)))
    found.append(("wall-clock time", ", ".join(costs(report)) or "unknown"))
    found.append(("versions", ", ".join(f"{name} {version}" for name, version in sweep["versions"].items())))
    for former in sweep.get("former_versions", []):
        found.append(("versions before", ", ".join(f"{name} {version}" for name, version in former.items())))
    return [*found, ("git", str(sweep.get("git") or "not from a checkout"))]


def _goal(report: Report) -> str:
    goal = report.goal
    limits = f"within {number(goal.max_episodes)} episodes"
    if goal.max_steps is not None:
        limits += f" and {number(goal.max_steps)} environment steps"
    if goal.threshold is None:
        return f"the best mean reward over {goal.window} episodes {limits}"
    return f"a mean reward of {goal.threshold:g} over {goal.window} episodes, {limits}"


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) < 3:
        return ", ".join(map(str, seeds))
    return f"{seeds[0]} to {seeds[-1]}, in steps of {SPACING} ({len(seeds)})"


@dataclass(frozen=True)
class Way:
    """A file to go on with, and how."""

    file: str
    command: str
    what: str


def ways(report: Report) -> list[Way]:
    """What one can do with the files that there are."""
    space = repeat.space_of(report.sweep)
    known = {
        "config.yaml": (f"python -m tuner.train {space} --config best/config.yaml", "train this configuration again"),
        "rllib.py": ("python best/rllib.py", "train it in plain RLlib, without this project"),
        "policy.pt": ('torch.jit.load("best/policy.pt")', "use the policy alone, in PyTorch"),
    }
    return [Way(f"best/{name}", *known[name]) for name in report.best_files]
