"""What the screen says about guesses: a table with examples, and how well two files meet.

In: guesses and what is known about the columns. Out: a table and sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table

from qarm_features.importers.guessing.guess import Guess
from qarm_features.importers.guessing.meeting import Meeting
from qarm_features.importers.guessing.names import name_score
from qarm_features.importers.guessing.profile import Profile
from qarm_features.terminal import literal

_LONGEST_EXAMPLE = 40


def guess_table(guesses: Iterable[Guess], items: Mapping[str, Profile], log: Mapping[str, Profile]) -> Table:
    """Returns the table of all guesses, with three examples of each column.

    Args:
        guesses: The guesses.
        items: What is known about the columns of the catalog.
        log: What is known about those of the click log.
    """
    shown = Table()
    for heading in ("setting", "column", "how sure", "why", "examples"):
        shown.add_column(heading, overflow="fold")
    for guess in guesses:
        sure = "you named it" if not guess.why else f"{'sure' if guess.sure else 'not sure'} ({guess.score:.2f})"
        examples = examples_of(guess, items if guess.role.startswith("items.") else log)
        cells = (guess.role, guess.column or "-", sure, guess.why, examples)
        shown.add_row(*map(literal, cells))
    for name, one in items.items():
        if name_score("price", name):
            shown.add_row("-", literal(name), "", "a price, which qarm does not use", literal(" / ".join(one.examples)))
    return shown


def examples_of(guess: Guess, known: Mapping[str, Profile]) -> str:
    """Returns three examples of the first column of a guess.

    Args:
        guess: The guess.
        known: What is known about the columns of its file.
    """
    names = columns_named(guess.role, known, guess.column or "")
    return " / ".join(value[:_LONGEST_EXAMPLE] for name in names[:1] if name in known for value in known[name].examples)


def columns_named(role: str, known: Mapping[str, Profile], answer: str) -> list[str]:
    """Returns the columns that an answer names: one, or for text several between commas.

    Args:
        role: Role of the columns.
        known: What is known about the columns of the catalog.
        answer: The answer.
    """
    if role == "items.text" and answer not in known:
        return [name.strip() for name in answer.split(",") if name.strip()]
    return [answer]


def said(meeting: Meeting) -> str:
    """Returns a sentence about how many rows of a log have their item in the catalog.

    Args:
        meeting: The counts.
    """
    of_what = "the catalog" if meeting.whole else "the first part of the catalog, which is all that was read"
    rows = f"{meeting.found:,} of {meeting.rows:,} rows of the log that were read"
    return f"{rows} have their item in {of_what} ({meeting.share:.0%})."
