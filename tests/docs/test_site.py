"""The documentation site builds without a warning and without network, and no link of it leads nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}
_NOT_LOADED = {"canonical", "edit", "next", "prev", "alternate"}  # links that a browser does not follow by itself


class Page(HTMLParser):
    """The names that a page can be jumped to, where it points, and what a browser loads for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.names |= {values[name] for name in ("id", "name") if name in values}
        for name in ("href", "src"):
            if name in values and not (tag == "link" and values.get("rel") in _NOT_LOADED):
                self.targets.append(values[name])
                if (tag, name) in _LOADED:
                    self.loaded.append(values[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr + done.stdout == ""
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {file: Page(file.read_text()) for file in sorted(site.rglob("*.html"))}


def test_every_link_of_the_site_leads_to_a_page_that_exists_and_to_a_place_in_it(site, pages):
    broken = []
    for file, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or file.name == "404.html":  # 404.html is served under any path
                continue
            place = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            place = place / "index.html" if place.is_dir() else place
            if not place.is_file():
                broken.append(f"{file.relative_to(site)}: {target}")
            elif parts.fragment and place in pages and unquote(parts.fragment) not in pages[place].names:
                broken.append(f"{file.relative_to(site)}: {target} (no such place in the page)")

    assert len(pages) > 40
    assert broken == []


def test_no_page_of_the_site_loads_anything_from_another_host(site, pages):
    foreign = {
        f"{file.relative_to(site)}: {target}"
        for file, page in pages.items()
        for target in page.loaded
        if urlsplit(target).netloc
    }
    styles = [file.name for file in site.rglob("*.css") if "@import" in file.read_text()]

    assert foreign == set()
    assert styles == []


def test_the_navigation_leads_to_every_page_of_the_docs(site, pages):
    listed = {(site / target).resolve() for target in pages[site / "index.html"].targets if target.endswith(".html")}

    lost = [file.relative_to(site).as_posix() for file in pages if file not in listed and file.name != "404.html"]

    assert lost == [], "Add these pages to `nav` of mkdocs.yml."
