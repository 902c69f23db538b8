"""The code blocks of the documentation, with the reason why one is not run.

In: Markdown pages. Out: blocks in their order. A block that cannot run has a comment on the line above it::

    <!-- not run: it needs a cluster -->
    ```bash
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions"),
]
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n)?(?P<fence>`{3,})(?P<language>\w+)\n(?P<code>.*?)^(?P=fence)$",
    re.M | re.S,
)
_INLINE = re.compile(r"(?<!`)`(qarm [^`\n]+(?:\n[^`\n]+)?)`(?!`)")


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
        page: Path of its page from the root of the repository.
        line: Line of its first line of code, from 1.
        language: Language that the fence names.
        code: Text of the block.
        reason: Why it is not run; None if it is.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Returns all blocks of these languages, page by page."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start("code")) + 1
                name = str(page.relative_to(ROOT))
                found.append(Block(name, line, match["language"], match["code"], match["reason"]))
    return found


def inline_commands() -> list[tuple[str, str]]:
    """Returns the page and the text of every ``qarm`` command that stands inside a sentence or a table."""
    found = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for command in _INLINE.findall(text):
            found.append((str(page.relative_to(ROOT)), " ".join(command.split())))
    return found
