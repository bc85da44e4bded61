"""A page in a real browser: Debian's Chromium without a window, and what is asked of every page in it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"

DRAWN = """() => [...document.querySelectorAll("figure.chart")].map((figure) => {
  const plot = figure.querySelector(".plot.js-plotly-plot");
  const traces = plot ? plot.querySelectorAll("svg .scatterlayer .trace, svg .barlayer .trace").length : 0;
  const box = plot ? plot.querySelector("svg").getBoundingClientRect() : { width: 0, height: 0 };
  return { id: figure.id, traces, width: box.width, height: box.height, text: plot ? plot.textContent : "" };
})"""


def executable() -> str:
    """The browser's path.

    Raises:
        RuntimeError: there is none, and how to get one.
    """
    found = next(filter(None, map(shutil.which, NAMES)), MACOS if Path(MACOS).exists() else None)
    if found is None:
        raise RuntimeError(f"no browser: the tests of the page need one of {', '.join(NAMES)}; `make chromium`")
    return found


@contextmanager
def running() -> Iterator[Browser]:
    """A browser without a window; as root Chromium does not start in its sandbox."""
    is_root = os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"] if is_root else [])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page that is open, and what it did meanwhile."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def figures(self) -> list[dict[str, Any]]:
        """Each figure of the page: its id, how many traces it has, its size and its text."""
        figures: list[dict[str, Any]] = self.page.evaluate(DRAWN)
        return figures

    def background(self) -> str:
        """The page's colour."""
        return str(self.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))

    def column(self, index: int) -> list[str]:
        """The texts of a column of the table of trials."""
        return self.page.locator(f"#trials tbody td:nth-child({index + 1})").all_text_contents()


@contextmanager
def opened(
    browser: Browser, file: Path, *, width: int = 1440, scheme: Any = "light", scripts: bool = True
) -> Iterator[Opened]:
    """The page in a window of its own, all figures drawn."""
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, java_script_enabled=scripts
    )
    page = context.new_page()
    seen = Opened(page)
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", lambda dialog: seen.errors.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(file.as_uri())
    if scripts:
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
    yield seen
    context.close()


if __name__ == "__main__":
    try:
        print(executable())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
