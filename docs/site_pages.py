"""Fits the pages to the site, so that the same Markdown reads well on the site and in a plain view of the repository.

In: the files of ``docs/`` and the pages at the root of the repository. Out: the site's list of files, its navigation, and
pages whose links and pictures fit the site. mkdocs calls the functions by their names; ``mkdocs.yml`` names this file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {  # a file at the root of the repository: its page of the site
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "LICENSE": "project/license.md",
}
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"^(```.*?^```)", re.M | re.S)
_PICTURE = re.compile(r'<img alt="([^"]*)" src="([^"]*\.svg)"[^>]*>')
_NUMBERED = re.compile(r"^# (\d+)\. (.*)$", re.M)


def on_config(config: Any) -> Any:
    """Fill the navigation's list of decisions from the titles of their pages."""
    folder = ROOT / "docs" / "decisions"
    pages = [{_title(page): f"decisions/{page.name}"} for page in sorted(folder.glob("*.md"))]
    _fill(config.nav, "Decisions", pages)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand at the root of the repository."""
    for source, target in ROOT_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source == "LICENSE":
            text = f"# License\n\n```text\n{text}```\n"
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links between ``docs/`` and the root of the repository point to pages of the site."""
    of_site = {target: source for source, target in ROOT_PAGES.items()}
    here = page.file.src_uri
    source = of_site.get(here, f"docs/{here}")  # where the page stands in the repository

    def fitted(link: re.Match[str]) -> str:
        start, target, end = link.groups()
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        in_repository = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        on_site = ROOT_PAGES.get(in_repository, in_repository.removeprefix("docs/"))
        return f"{start}{posixpath.relpath(on_site, posixpath.dirname(here) or '.')}{end}"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(fitted, part) for part in parts)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Write SVG pictures into the page, because a picture in a file of its own cannot take the colors of the theme."""

    def inline(picture: re.Match[str]) -> str:
        text, source = picture.groups()
        url = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.dest_uri), source))
        svg = (ROOT / "docs" / url).read_text(encoding="utf-8")
        svg = re.sub(
            r"<style>.*?</style>\s*", "", svg, count=1, flags=re.S
        )  # the site's own style sheet holds the colors
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
        return f'<span class="picture">{svg}</span>'

    return _PICTURE.sub(inline, html)


def _fill(entries: list[Any], name: str, pages: list[Any]) -> None:
    for entry in entries:
        if isinstance(entry, dict):
            if name in entry:
                entry[name] = pages
            for inner in entry.values():
                if isinstance(inner, list):
                    _fill(inner, name, pages)


def _title(page: Path) -> str:
    found = _NUMBERED.search(page.read_text(encoding="utf-8"))
    return f"{found[1]}. {found[2]}" if found else page.stem
