"""What stands beside each figure of the page, and in its place where there is nothing to draw."""

from __future__ import annotations

from collections import Counter

from tuner.inference import SCORE
from tuner.narrative.wording import count, listed, number
from tuner.page.content import Report
from tuner.page.findings import why_no_verdict
from tuner.page.search_charts import every_nth, points
from tuner.study import TrialState


def of_curves(report: Report) -> list[str]:
    """Which curves there are, and why no more."""
    notes = []
    if not report.baseline_rows and not report.best_rows and report.is_baseline_elsewhere:
        notes.append("There are no curves here.")
    elif not report.baseline_rows and not report.best_rows:
        both = f" and of {report.best_name}" if report.best_number else ""
        notes.append(f"No episode of the baseline{both} ended, so there are no curves.")
    elif report.best_number is None:
        notes.append("No trial completed; this is how far the baseline came.")
    elif report.best_number == 0:
        notes.append("The best trial is the baseline, so there is one curve.")
    if report.goal.threshold is None:
        what = "trials" if report.space.judge else "runs"
        notes.append(f"This sweep has no threshold: {what} are compared by their best mean reward.")
    return notes


def of_bands(report: Report) -> list[str]:
    """How the bands are to be read."""
    if not report.bands:
        reason = "no run of the race has a curve" if report.answer.race else why_no_verdict(report)
        return [f"There are no bands over seeds: {reason}."]
    notes = [
        "Line: the median of the runs; band: their quartiles. A run stops where it reaches its goal, and counts from "
        "there on with its last mean: without it the slow runs alone would make the numbers. Line and band end where "
        "fewer than half of the runs go on; the lower part shows how many do."
    ]
    if report.answer.verdict and report.best_number:
        notes.append(
            f"The seeds of the race chose {report.best_name}, which flatters its curve a little; the verdict rests on "
            "those of the test alone."
        )
    return notes


def of_race(report: Report) -> list[str]:
    """Who raced, and on what."""
    race, verdict = report.answer.race, report.answer.verdict
    if race is None:
        luck = " What one seed says of the best of many trials is luck in part." if report.best_number else ""
        return [f"There is no race to show: {why_no_verdict(report)}.{luck}"]
    text = (
        "The best of the search, the best that was drawn at random and the baseline, each trained on the same "
        f"{count(len(race.seeds), 'seed')} that the search never saw."
    )
    if verdict and verdict.seeds:
        text += (
            f" These chose the winner, by the average of them all; {len(verdict.seeds)} others, for the winner and the "
            "baseline alone, gave the verdict."
        )
    return [text, *_of_judge(report)]


def _of_judge(report: Report) -> list[str]:
    """By what the runs were compared, where it is not their training."""
    if not report.measure.is_judged:
        return []
    judge = f"A judge, {report.space.judge}, and not the training reward compares the runs: "
    if report.measure.name == SCORE:
        return [f"{judge}each run's final policy has a score, more is better."]
    return [
        f"{judge}each run's final policy took its most likely actions in matches. A win is 1 point, a draw 1/2, a loss "
        "0; the share of points is the mean over the opponents."
    ]


def of_matches(report: Report) -> str:
    """What the table of matches counts, and what its intervals cover."""
    verdict = report.answer.verdict
    where = "test" if verdict and verdict.seeds else "race"
    return (
        f"All matches on the seeds of the {where}. An interval is for the policy of another seed in new matches: "
        "matches of one policy are alike, and count as fewer where the seeds differ."
    )


def below_race(report: Report) -> list[str]:
    """What the race's table and dots mean, and which of its runs failed."""
    if report.answer.race is None:
        return []
    notes = [
        "“Better than the baseline”: the share of all pairs of runs in which the configuration's was better, ties as "
        "half."
    ]
    if report.measure.counts_episodes:
        notes.append(
            "An open dot is a run that did not reach the threshold; it counts with its whole budget of "
            f"{count(report.goal.max_episodes, 'episode')}, which is a lower bound."
        )
    return [*notes, *(f"{failure}." for failure in report.failures)]


def in_place_of_path(report: Report) -> str:
    """Why there is no path."""
    if report.best_number == 0:
        return "There is nothing to explain: the baseline was not beaten."
    if not report.summary.changed:
        return "There is nothing to explain: no trial completed that differs from the baseline."
    return (
        f"Which of the changes made the difference was not measured. This is what {report.best_name} changed, and what "
        "each parameter is for."
    )


def of_search(report: Report) -> list[str]:
    """How the pictures of the search are to be read, and what they leave out."""
    if not report.space.params:
        return ["No parameter was searched, so there is nothing to compare."]
    if not points(report):
        return ["Fewer than two trials have a score, so there is nothing to compare."]
    what = "Best mean reward: more is better."
    if report.search_measure.counts_episodes:
        what = (
            "Episodes to the threshold: fewer is better. What lies above the budget of "
            f"{number(report.goal.max_episodes)}, a dotted line, missed the threshold by as much reward."
        )
    best = f", and {report.best_name}, blue" if report.best_number else ""
    notes = [f"{what} Large dots: the baseline, grey{best}. Red: the median of a value's trials."]
    every = every_nth(report)
    if every > 1:
        notes.append(f"A dot is one of every {every} trials; the medians are of all.")
    left = Counter(record.state.value for record in report.records if record.state is not TrialState.COMPLETE)
    if left:
        states = listed([f"{amount} {state}" for state, amount in left.items()])
        notes.append(f"Not drawn, for they have no score: {states}.")
    return notes


def of_importances(report: Report) -> str:
    """What the importances are, or why there are none."""
    found = report.importances
    if found.reason:
        return f"There are none: {found.reason}."
    return (
        "How differently the best trials' values are spread from all trials' (Optuna's PED-ANOVA), over "
        f"{found.samples} bootstrap samples of the trials. It is about what was suggested, and sees nothing of "
        "parameters that matter only together. It is an estimate from one search; the path is a measurement."
    )
