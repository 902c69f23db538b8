"""Chromium, and the explorer's page in it: from a server, and from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

from qarm_features.explorer.bundle import write_page
from tests.explorer.live_server import live_server
from tests.explorer.planted_store import write_planted_store
from tests.server_programs import chromium_program

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window. Its event loop ends with the file, because other tests run loops of their own."""
    path = chromium_program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def places(tmp_path_factory) -> dict[str, str]:
    """URLs of the same explorer: from a server, from a file, and as an explorer without a ranking model and with a sample."""
    chromium_program()
    folder = tmp_path_factory.mktemp("explorer")
    explorer = write_planted_store(folder / "full")
    bare = write_planted_store(folder / "bare", ranked=False, items=5000)
    write_page(explorer, folder / "one.html")
    with live_server(explorer) as url, live_server(bare) as bare_url:
        yield {"server": url, "file": (folder / "one.html").as_uri(), "bare": bare_url}
    explorer.close()
    bare.close()


@dataclass
class Visit:
    """A page of the explorer in a browser, and what happened meanwhile.

    Attributes:
        page: The page.
        url: Address of the explorer.
        troubles: Lines of the console that are errors or warnings, uncaught errors, and requests that leave this machine.
    """

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    def open(self, hash_: str = "#/") -> None:
        """Goes to a place of the explorer and waits until it is shown."""
        self.page.goto(self.url + hash_)
        self.wait_for(hash_)

    def wait_for(self, hash_: str) -> None:
        """Waits until a place is shown."""
        self.page.wait_for_function("hash => document.querySelector('main').dataset.shown === hash", arg=hash_)

    @property
    def heading(self) -> str:
        """Text of the page's heading."""
        return self.page.locator("h1").inner_text()


@pytest.fixture
def visit(browser, places):
    """Returns a function that opens a window at a place: visit("server"). Troubles of any window fail the test."""
    windows, visits = [], []

    def start(place: str, **window) -> Visit:
        windows.append(browser.new_context(**window))
        one = Visit(windows[-1].new_page(), places[place])
        own = urlsplit(one.url)
        one.page.on("console", lambda said: said.type in ("error", "warning") and one.troubles.append(said.text))
        one.page.on("pageerror", lambda error: one.troubles.append(str(error)))
        one.page.on("request", lambda asked: _is_own(asked.url, own) or one.troubles.append(asked.url))
        visits.append(one)
        return one

    yield start
    troubles = [trouble for one in visits for trouble in one.troubles]
    for window in windows:
        window.close()
    assert troubles == []


def _is_own(url: str, own) -> bool:
    asked = urlsplit(url)
    if own.scheme == "file":
        return asked.scheme in ("data", "blob") or (asked.scheme == "file" and Path(asked.path) == Path(own.path))
    return asked.scheme == "data" or asked.netloc == own.netloc
