"""A headless Chromium, for tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ImportError:
    sync_playwright = None

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 1000  # Playwright counts in milliseconds
PATIENCE = 60 * SECONDS  # for a server's first page or a kernel's first import of torch, on a machine that is busy

NEEDED = [
    pytest.mark.skipif(sync_playwright is None, reason="Playwright is not installed: pip install playwright"),
    pytest.mark.skipif(CHROMIUM is None, reason="neither chromium, chromium-browser nor google-chrome is on the PATH"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium that calls nobody but our server."""
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *quiet.split()]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page of a new profile; leaves a screenshot of how the test ended."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield page
    page.screenshot(path=tmp_path / "end.png")
    context.close()
