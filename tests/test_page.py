"""The page of a sweep, opened in a real browser; and the text for a pull request."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import Opened, executable, opened, running
from tests.invented import InventedSweep, matches_of, multiply
from tuner.figures import BASELINE_COLOUR, BEST_COLOUR, THRESHOLD_COLOUR
from tuner.layout import RunDir
from tuner.page.charts import INK, OTHER_COLOUR, PAPER, RULE, WORSE_COLOUR
from tuner.page.content import gather
from tuner.page.render import report_html, report_md
from tuner.plan import read_sweep
from tuner.reporter import Reporter
from tuner.results import open_study
from tuner.summary import summarize

executable()  # without a browser nothing here is worth a skip

CASES = ("whole", "one", "failures", "unreached", "interrupted", "won", "open", "judged", "many")
WAYS = ((390, "dark"), (1440, "light"), (390, "light"), (1440, "dark"))
FIXED = {"lr_anneal_steps": "none", "gamma": "0.99", "clip_param": "0.2", "entropy_coeff": "0", "vf_loss_coeff": "0.5",
         "num_envs_per_env_runner": "8", "fcnet_activation": "tanh"}  # fmt: skip
JUDGED = """
from dataclasses import replace
from search_spaces.cartpole import space as cartpole
space = replace(cartpole, judge="tests.judged:by_low_actions")
"""
HOSTILE = "ValueError: </script><script>document.title = 'taken'</script><img src=x onerror=alert(1)> | `x` *y*"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run folders of sweeps that ended in every way there is."""
    out = tmp_path_factory.mktemp("runs")
    seconds: dict[str, float] = {}

    def sweep(name: str, space: str = "cartpole", **options: Any) -> InventedSweep:
        return InventedSweep(out, space, name=name, **{"set": FIXED, "race_seeds": 4, **options})

    made = {
        "whole": sweep("whole", trials=14)
        .search(lambda record: HOSTILE if record.number == 5 else None)
        .race(fate=lambda run: "out of memory" if run.name == "baseline-s1000010000" else None),
        "one": sweep("one", trials=1).search(),
        "failures": sweep("failures", trials=6).search(lambda record: HOSTILE),
        "unreached": sweep("unreached", trials=11, episodes=70).search().race(),
        "interrupted": sweep("interrupted", trials=5).search().race(most_runs=7),
        "won": sweep("won", trials=5, needed=lambda p: 80 if p["lr"] == 5e-4 else 160).search().race(),
        "open": sweep("open", "gym:Pendulum-v1", trials=5, episodes=80, set={}, race_seeds=0).search(),
        "many": sweep("many", trials=2000, race_seeds=0).search(
            lambda record: "non-finite loss" if record.number == 3 else None, trials=20
        ),
    }
    (out / "judged.py").write_text(JUDGED)
    made["judged"] = sweep("judged", str(out / "judged.py"), trials=14, race_seeds=6).search().race(judge=matches_of)
    multiply(made["many"].run_dir.study, 106)
    for name, one in made.items():
        start = time.process_time()
        one.write()
        seconds[name] = time.process_time() - start
    assert seconds["many"] < 10, "writing the report of 2,000 trials"
    return {name: one.run_dir.path for name, one in made.items()}


def page_of(run: Path) -> str:
    return (run / "report.html").read_text()


def words(html: str) -> str:
    """What is to be read on a page, without its scripts."""
    text = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def check(page: Opened, width: int) -> None:
    """What must hold of every page."""
    assert page.errors == []
    assert all(url.startswith("file:") for url in page.requests), page.requests
    for figure in page.figures():
        assert figure["traces"] >= 1 and figure["width"] > 100 and figure["height"] > 100, figure
        assert "WebGL" not in figure["text"] and "NaN" not in figure["text"], figure
        assert figure["width"] <= width or figure["id"] == "chart-parallel", figure
    assert page.page.evaluate("() => document.documentElement.scrollWidth") == width
    assert page.page.locator("h1").count() == 1


class TestInABrowser:
    @pytest.mark.parametrize(
        ("case", "width", "scheme"),
        [(case, *how) for case in CASES for how in (WAYS if case in ("whole", "many") else WAYS[:2])],
    )
    def test_a_page_draws_all_without_an_error_or_a_request(
        self, case: str, width: int, scheme: str, browser: Browser, sweeps: dict[str, Path]
    ) -> None:
        with opened(browser, sweeps[case] / "report.html", width=width, scheme=scheme) as page:
            check(page, width)
            assert page.background() == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}[scheme]

    def test_the_whole_answer_has_every_figure(self, browser: Browser, sweeps: dict[str, Path]) -> None:
        with opened(browser, sweeps["whole"] / "report.html") as page:
            ids = {figure["id"].removeprefix("chart-") for figure in page.figures()}
        assert ids >= {"notebook_reward", "notebook_len", "bands", "race", "path", "parallel", "importances"}
        assert {name for name in ids if name.startswith("slice-")} == {
            "slice-lr", "slice-train_batch_size", "slice-minibatch_size", "slice-num_epochs", "slice-lambda_",
            "slice-fcnet_hiddens",
        }  # fmt: skip

    def test_a_charts_buttons_cover_no_legend(self, browser: Browser, sweeps: dict[str, Path]) -> None:
        with opened(browser, sweeps["whole"] / "report.html") as page:
            plots = page.page.locator(".js-plotly-plot:has(.legend)").all()
            assert len(plots) >= 4
            for plot in plots:
                buttons, legend = (plot.locator(part).first.bounding_box() for part in (".modebar-group", ".legend"))
                assert buttons and legend
                assert buttons["y"] + buttons["height"] <= legend["y"], plot.text_content()

    @pytest.mark.parametrize("file", ["report.html", "best/curves.html"])
    def test_no_button_of_a_chart_sends_it_away(self, file: str, browser: Browser, sweeps: dict[str, Path]) -> None:
        page = browser.new_page()
        page.goto((sweeps["whole"] / file).as_uri())
        page.wait_for_selector(".modebar-btn", state="attached")
        titles = page.locator(".modebar-btn").evaluate_all("(buttons) => buttons.map((each) => each.dataset.title)")
        page.close()
        assert "Download plot as a PNG" in titles
        assert set(titles) <= {
            "Download plot as a PNG",
            "Zoom",
            "Pan",
            "Zoom in",
            "Zoom out",
            "Autoscale",
            "Reset axes",
        }

    def test_a_page_of_two_thousand_trials_is_there_in_ten_seconds(
        self, browser: Browser, sweeps: dict[str, Path]
    ) -> None:
        start = time.monotonic()
        with opened(browser, sweeps["many"] / "report.html") as page:
            assert time.monotonic() - start < 10
            assert page.page.locator("#trials tbody tr").count() == 2015
            page.page.get_by_role("button", name="lr", exact=True).click()
            assert page.column(4) == sorted(page.column(4), key=float)

    def test_light_and_dark_are_followed_while_the_page_is_open(
        self, browser: Browser, sweeps: dict[str, Path]
    ) -> None:
        light, dark = ("rgb(255, 255, 255)", "rgb(27, 31, 36)"), ("rgb(22, 25, 29)", "rgb(230, 230, 230)")
        with opened(browser, sweeps["whole"] / "report.html", scheme="light") as page:

            def has(colours: tuple[str, str]) -> None:
                expect(page.page.locator("body")).to_have_css("background-color", colours[0])
                expect(page.page.locator("#chart-race .xtick text").first).to_have_css("fill", colours[1])

            has(light)
            page.page.emulate_media(color_scheme="dark")
            has(dark)
            page.page.get_by_text("light", exact=True).click()
            has(light)
            page.page.get_by_text("auto", exact=True).click()
            has(dark)

    def test_a_printed_page_is_light_and_has_no_buttons(self, browser: Browser, sweeps: dict[str, Path]) -> None:
        with opened(browser, sweeps["whole"] / "report.html", scheme="dark") as page:
            page.page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
            page.page.emulate_media(media="print", color_scheme="dark")
            assert page.background() == "rgb(255, 255, 255)"
            assert not page.page.locator(".theme").is_visible() and not page.page.locator("nav").is_visible()
            assert all(figure["width"] <= 680 for figure in page.figures())
            page.page.emulate_media(media="screen", color_scheme="dark")
            page.page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
            assert page.page.pdf().startswith(b"%PDF")
            check(page, 1440)

    def test_without_scripts_the_sentences_and_tables_are_there(
        self, browser: Browser, sweeps: dict[str, Path]
    ) -> None:
        with opened(browser, sweeps["whole"] / "report.html", scripts=False) as page:
            assert page.page.locator(".lead").is_visible() and page.page.locator("#told").is_visible()
            assert page.page.locator("#trials tbody tr").count() == 14


class TestColours:
    @pytest.fixture(params=["light", "dark"])
    def colours(self, request: pytest.FixtureRequest, sweeps: dict[str, Path]) -> dict[str, str]:
        """The page's colours by name, with the scheme under `scheme`."""
        style = re.search(r"<style>(.*?)</style>", page_of(sweeps["one"]), re.DOTALL)
        assert style is not None
        blocks = [dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in style[1].split("color-scheme:")]
        return {**blocks[1 if request.param == "light" else 2], "scheme": request.param}

    @pytest.mark.parametrize(
        ("ink", "paper"),
        [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("link", "paper"), ("none", "card"),
         *((kind, f"{kind}-paper") for kind in ("better", "worse", "none", "missing"))],
    )  # fmt: skip
    def test_words_stand_out_from_their_paper(self, ink: str, paper: str, colours: dict[str, str]) -> None:
        lighter, darker = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG's AA

    @pytest.mark.parametrize("colour", [BASELINE_COLOUR, BEST_COLOUR, OTHER_COLOUR, THRESHOLD_COLOUR, WORSE_COLOUR])
    def test_lines_stand_out_from_the_paper(self, colour: str, colours: dict[str, str]) -> None:
        lighter, darker = sorted((luminance(colour), luminance(colours["paper"])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3  # WCAG's for graphics, but for what is meant to stand back

    def test_figures_have_the_pages_colours(self, colours: dict[str, str]) -> None:
        scheme = colours["scheme"]
        assert (INK[scheme], PAPER[scheme], RULE[scheme]) == (colours["ink"], colours["paper"], colours["rule"])


def luminance(colour: str) -> float:
    """A colour's relative luminance, as WCAG defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class TestTheTableOfTrials:
    @pytest.fixture
    def page(self, browser: Browser, sweeps: dict[str, Path]) -> Iterator[Opened]:
        with opened(browser, sweeps["whole"] / "report.html") as page:
            yield page

    def test_begins_in_the_order_of_the_trials(self, page: Opened) -> None:
        assert page.column(0) == [str(number) for number in range(14)]
        assert page.page.locator("th[aria-sort]").all_text_contents() == ["trial"]

    def test_is_sorted_by_a_click_on_a_head_and_the_other_way_by_a_second_one(self, page: Opened) -> None:
        head = page.page.get_by_role("columnheader", name="episodes to threshold")
        for direction in ("ascending", "descending"):
            head.get_by_role("button").click()
            assert head.get_attribute("aria-sort") == direction
            episodes = page.column(2)
            assert episodes[-1] == "", "a failed trial has none, and stays at the end"
            reached = [int(text) for text in episodes if text]
            assert len(reached) >= 12 and reached == sorted(reached, reverse=direction == "descending")
        assert page.page.locator("th[aria-sort]").count() == 1

    def test_is_sorted_from_the_keyboard(self, page: Opened) -> None:
        button = page.page.get_by_role("button", name="state")
        button.focus()
        page.page.keyboard.press("Enter")
        assert page.column(1) == ["COMPLETE"] * 13 + ["FAILED"]
        page.page.keyboard.press("Space")
        assert page.column(1) == ["FAILED"] + ["COMPLETE"] * 13

    def test_sorts_a_rounded_number_by_what_it_is(self, page: Opened) -> None:
        page.page.get_by_role("button", name="best mean reward").click()
        keys = page.page.eval_on_selector_all(
            "#trials tbody td:nth-child(4)", "cells => cells.map((cell) => cell.dataset.key ?? null)"
        )
        known = [float(key) for key in keys if key is not None]
        assert len(known) == 13 and known == sorted(known)

    def test_shows_a_failed_trial_with_its_reason_letter_by_letter(self, page: Opened) -> None:
        assert page.column(12)[5] == HOSTILE
        assert page.page.title().startswith("whole: ")
        assert page.page.locator("img").count() == 0

    def test_marks_what_was_lowered_to_fit_the_batch(self, page: Opened, sweeps: dict[str, Path]) -> None:
        records = open_study(RunDir(sweeps["whole"]))[0].records()
        lowered = [record.suggested["minibatch_size"] != record.params["minibatch_size"] for record in records]
        assert [text.endswith("*") for text in page.column(6)] == lowered


class TestWhatItSays:
    def test_the_verdict_first_then_how_optimistic_the_search_was(self, sweeps: dict[str, Path]) -> None:
        text = words(page_of(sweeps["whole"]))
        assert re.match(r".{0,80} better Better than the baseline: trial \d+ needs \d+ episodes to a mean reward", text)
        assert re.search(r"The search&#39;s own figure for trial \d+ was \d+ episodes, with seed 10 alone: ", text)

    def test_every_change_has_its_role_and_what_was_measured(self, sweeps: dict[str, Path]) -> None:
        text = words(page_of(sweeps["whole"]))
        assert "The step size of Adam" in text and "Kingma and Ba 2015" in text
        assert re.search(r"On the path it was step 1: \d+\s% fewer \(.*?\), shown to be better\.", text)
        assert re.search(r"Its importance in the search: \d+\s% \(\d+\s% to \d+\s%\), place \d of 6\.", text)

    def test_a_judged_race_is_told_in_points_and_its_search_in_episodes(self, sweeps: dict[str, Path]) -> None:
        text = words(page_of(sweeps["judged"])).replace("\N{NO-BREAK SPACE}", " ")
        assert re.search(r"Better than the baseline: trial \d+ takes \d\d % of the points in its matches \(", text)
        assert re.search(r"On the path it was step 1: \d+ percentage points more \(\d+ to \d+\), shown to be", text)
        assert "The search&#39;s own figure" not in text, "the search has no figure of the judge's"
        assert "Episodes to the threshold: fewer is better" in text and "episodes to 475" not in text

    def test_the_matches_of_winner_and_baseline_stand_beside_each_other(
        self, sweeps: dict[str, Path], browser: Browser
    ) -> None:
        verdict = json.loads((sweeps["judged"] / "summary.json").read_text())["verdict"]
        with opened(browser, sweeps["judged"] / "report.html") as page:
            table = page.page.get_by_role("region", name="The matches").locator("tbody tr")
            rows = [[cell.strip() for cell in row.locator("td").all_text_contents()] for row in table.all()]
        text = (sweeps["judged"] / "report.md").read_text()
        assert len(rows) == 12
        for row, found in zip(rows[::2], verdict["winner_matches"], strict=True):
            assert row[:3] == [found["opponent"], found["side"], f"trial {verdict['number']}"]
            assert row[3:6] == [str(found[name]) for name in ("wins", "draws", "losses")]
            rate = found["win_rate"]
            assert row[6] == f"{100 * rate['value']:.0f}\N{NO-BREAK SPACE}%"
            assert rate["low"] < rate["value"] < rate["high"]
            assert " ".join(f"| {' | '.join(row)} |".split()) in text
        assert {row[2] for row in rows[1::2]} == {"the baseline"}

    def test_a_failed_run_of_the_race_is_named(self, sweeps: dict[str, Path]) -> None:
        assert re.search(r"1 of 8 runs of the baseline FAILED: out of memory\.", words(page_of(sweeps["whole"])))

    @pytest.mark.parametrize(
        ("case", "sentences"),
        [
            ("one", ["no verdict: no other configuration completed", "Only the baseline was tried",
                     "nothing to explain", "it takes 10 completed trials, and there is 1",
                     "Fewer than two trials have a score"]),
            ("failures", ["no verdict: the baseline FAILED", "No trial completed. The reason: ValueError:", "6 FAILED",
                          "no configuration to go on with", "this is how far the baseline came"]),
            ("unreached", ["gets a best mean reward of", "reached by 0 of 4 seeds", "did not reach the threshold"]),
            ("interrupted", ["no verdict: the race has not ended", "did best in the search", "luck in part",
                             "was not measured"]),
            ("won", ["no difference shown", "no finalist did better than the baseline on average",
                     "the baseline was not beaten", "too optimistic"]),
            ("judged", ["A judge, tests.judged:by_low_actions, and not the training reward compares the runs",
                        "All matches on the seeds of the test"]),
            ("open", ["no verdict: no race was run", "This sweep has no threshold", "It had no threshold to reach"]),
            ("many", ["A dot is one of every 4 trials", "Not drawn, for they have no score: 106 FAILED"]),
        ],
    )  # fmt: skip
    def test_what_is_missing_is_said(self, case: str, sentences: list[str], sweeps: dict[str, Path]) -> None:
        text = words(page_of(sweeps[case]))
        for sentence in sentences:
            assert sentence in text, sentence

    @pytest.mark.parametrize("case", ["one", "failures"])
    def test_there_is_no_empty_figure(self, case: str, sweeps: dict[str, Path]) -> None:
        assert re.findall(r'<figure class="chart" id="chart-(\w+)"', page_of(sweeps[case])) == [
            "notebook_reward", "notebook_len",
        ]  # fmt: skip

    def test_what_was_run_can_be_run_again(self, sweeps: dict[str, Path]) -> None:
        text = words(page_of(sweeps["whole"]))
        assert "python -m tuner.sweep cartpole --trials 14 --race-seeds 4 --set lr_anneal_steps=none" in text
        assert "--name whole" in text and "1000000000 to 1000030000, in steps of 10000 (4)" in text
        assert "seed of the search 10" in text and "fused; its paths: compiled (14)" in text
        assert "python -m tuner.train cartpole --config best/config.yaml" in text and "python best/rllib.py" in text
        assert "policy.pt" not in text, "there is no checkpoint to write it from"

    def test_nothing_says_where_it_was_made(self, sweeps: dict[str, Path]) -> None:
        for run in sweeps.values():
            assert str(run.parent) not in page_of(run) and str(run.parent) not in (run / "report.md").read_text()


class TestWriting:
    def test_it_is_the_same_each_time(self, sweeps: dict[str, Path]) -> None:
        before = page_of(sweeps["whole"]), (sweeps["whole"] / "report.md").read_text()
        assert written(sweeps["whole"]) == before

    def test_a_table_of_episodes_that_cannot_be_read_is_left_out_and_noted(
        self, sweeps: dict[str, Path], browser: Browser, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = sweeps["unreached"] / "race/baseline-s1000000000/episodes.csv"
        kept = broken.read_bytes()
        try:
            broken.write_bytes(b"\xff\xfe no table\n")
            html, _ = written(sweeps["unreached"])
        finally:
            broken.write_bytes(kept)
        assert "race/baseline-s1000000000/episodes.csv is left out: not an episode table" in html
        assert "the baseline, median of 7 runs" in html

    def test_numbers_that_json_lacks_are_gaps(self, sweeps: dict[str, Path]) -> None:
        rows = sweeps["open"] / "trials/0000/episodes.csv"
        kept = rows.read_text()
        try:
            rows.write_text(re.sub(r"^(\d+),[^,]*,(\d+),[^,]*", r"\1,nan,\2,nan", kept, flags=re.MULTILINE))
            html, _ = written(sweeps["open"])
        finally:
            rows.write_text(kept)
        assert "not finite" in html and not re.search(r"[\[:,](NaN|Infinity)\b", html[: html.index("plotly.js v")])


class TestForAPullRequest:
    def test_it_is_short_and_has_the_verdict_race_path_and_command(self, sweeps: dict[str, Path]) -> None:
        text = (sweeps["whole"] / "report.md").read_text()
        assert text.startswith("# whole: better\n\nBetter than the baseline: trial ")
        assert len(text) < 10_000 and "![" not in text
        for part in ("## Race", "| the baseline | baseline |", "## What made the difference", "tuner.sweep cartpole"):
            assert part in text, part

    def test_its_tables_have_as_many_cells_in_each_row(self, sweeps: dict[str, Path]) -> None:
        for table in re.findall(r"(?:^\|.*\n)+", (sweeps["whole"] / "report.md").read_text(), flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1

    def test_a_reason_cannot_become_markup(self, sweeps: dict[str, Path]) -> None:
        text = (sweeps["failures"] / "report.md").read_text()
        assert r"\<img src=x onerror=alert(1)\> \| \`x\` \*y\*" in text and "<img" not in text.replace(r"\<", "")

    def test_without_a_path_it_says_what_changed(self, sweeps: dict[str, Path]) -> None:
        assert "## What it changed" in (sweeps["interrupted"] / "report.md").read_text()


def written(run: Path) -> tuple[str, str]:
    """The page and the text, made again as `tuner report` makes them."""
    run_dir = RunDir.existing(run)
    study, sweep = open_study(run_dir)
    reporter = Reporter(run_dir, study, sweep["space"], sweep["engine"], sweep["race"])
    summary = summarize(study, sweep["space"], sweep["engine"], reporter.answer())
    report = gather(run_dir, study, summary, read_sweep(run_dir), reporter.folders)
    return report_html(report), report_md(report)
