"""Chromium for tests that look at a page: Debian's, because Playwright's own cannot be fetched everywhere."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SHOTS = Path(os.environ.get("WMVLA_SCREENSHOTS") or "")  # a folder to keep what was seen; empty: nothing is kept


@dataclass
class Seen:
    """A page that is open, and all that it asked for or complained of."""

    page: object
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def network(self) -> list[str]:
        """Requests that leave the page and its file."""
        return [url for url in self.asked if not url.startswith(("file:", "blob:", "data:"))]

    def keep(self, name: str) -> None:
        if SHOTS.name: self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@pytest.fixture(scope="session")
def chromium():
    """A browser without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if not binary: pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=binary, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield browser
        browser.close()


@pytest.fixture
def look(chromium):
    """`look(address)`: a page of 1280 x 1000 pixels at this address, once what is `ready` is there."""
    open_pages = []

    def at(address: str, theme: str = "light", ready: str = ".wmi-tracks .wmi-head, .wmi-said") -> Seen:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=theme)
        seen = Seen(page)
        page.on("console", lambda m: seen.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: seen.complaints.append(str(e)))
        page.on("request", lambda r: seen.asked.append(r.url))
        page.goto(address)
        page.wait_for_selector(ready)
        open_pages.append(page)
        return seen

    yield at
    for page in open_pages: page.close()
