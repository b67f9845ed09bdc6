"""Debian's Chromium, driven by Playwright, for the tests of pages. Playwright's own browsers are not used.

Without Chromium or Playwright a test that asks for it is skipped, but fails where CI=true. WebGL2 is drawn by the
processor (SwiftShader), so that no GPU is needed.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--no-sandbox",  # Chromium's own sandbox refuses to run as root, as continuous integration does
    "--disable-gpu-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
PATIENCE_MS = 120_000
"""Several browsers without a GPU on a few busy cores are slow."""


@dataclass
class WatchedPage:
    """A page and what a reader of it would complain of.

    Attributes:
        page: Playwright's page.
        console_errors: errors and warnings in the console, and exceptions that nothing caught.
        requests: address of every request, data: and blob: left out.
    """

    page: "Page"
    console_errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Start recording."""
        self.page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        self.page.on(
            "console",
            lambda line: self.console_errors.append(line.text) if line.type in ("error", "warning") else None,
        )
        self.page.on("request", self._record)

    def _record(self, request: "Request") -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.requests.append(request.url)


def _unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A headless browser, one for a test file."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _unavailable("Playwright is not installed (pip install playwright)")
    executable = next((path for name in EXECUTABLES if (path := shutil.which(name))), None)
    if executable is None:
        _unavailable("no Chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def watched_page(chromium: "Browser") -> Iterator[WatchedPage]:
    """A fresh page, 1280 x 800, that knows no other test's storage."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    watched = WatchedPage(context.new_page())
    watched.watch()
    yield watched
    context.close()
