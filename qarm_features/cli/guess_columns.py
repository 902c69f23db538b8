"""``qarm init --from``: the columns of a catalog and of a click log are guessed, shown, and asked for.

In: one or two files. Out: the settings of both sources, each with what it was guessed from. No guess is silent, and a guess
that is not sure is a question.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console

from qarm_features.cli.guess_answers import NEEDED, NONE, Ask, problem_of, told_apart
from qarm_features.cli.guess_table import columns_named, examples_of, guess_table, said
from qarm_features.cli.import_files import codebook_setting, columns_of
from qarm_features.importers.guessing.guess import Guess, guess_items, guess_log, profiles
from qarm_features.importers.guessing.meeting import meet, overlaps
from qarm_features.importers.guessing.profile import Profile
from qarm_features.importers.guessing.sample import read_sample
from qarm_features.importers.numbers import positive_from
from qarm_features.importers.plan import ImportFailed, Setting
from qarm_features.terminal import literal

_LOWEST_MEETING = 0.5  # as max_unknown_item_share


def guessed_settings(
    folder: Path, files: list[Path], given: list[str], *, yes: bool, console: Console
) -> dict[str, Setting]:
    """Returns the settings that ``qarm init --from`` writes. Questions are asked on a terminal only.

    Args:
        folder: Folder of the project.
        files: The catalog, or the catalog and the click log.
        given: Answers, as ``--column`` gives them.
        yes: Whether guesses that are not sure are taken.
        console: Where the guesses are shown.

    Raises:
        ImportFailed: A guess cannot be made, or the folder has settings already.
    """
    if not files:
        raise ImportFailed("--column and --yes are for guesses, and --from is not given. Name the files with --from.")
    if (folder / "qarm.yaml").exists():
        raise ImportFailed(
            f"{folder / 'qarm.yaml'} exists, and is not changed. Give another folder, or move the file away."
        )
    ask = _prompt if sys.stdin.isatty() and sys.stdout.isatty() else None
    settings = Guessing(files, given, yes=yes, ask=ask, console=console).settings(folder)
    if len(files) == 1:
        console.print("The click log is not known: set interactions in qarm.yaml, or give it by a second --from.")
    return settings


def _prompt(question: str, guess: str | None) -> str:
    answer: str = typer.prompt(question, default=guess)
    return answer.strip()


class Guessing:
    """The guesses for one or two files, and the questions about them.

    Args:
        files: One file or folder, the catalog; or two, the catalog and the click log in any order.
        given: Answers by role, as ``--column`` gives them.
        yes: Whether guesses that are not sure are taken.
        ask: Function that asks a question; None where nobody can answer.
        console: Where the guesses are shown.

    Raises:
        ImportFailed: A file cannot be read, or a question has no answer.
    """

    def __init__(self, files: list[Path], given: list[str], *, yes: bool, ask: Ask | None, console: Console) -> None:
        if len(files) > 2:
            raise ImportFailed(f"--from is given {len(files)} times, must be the catalog and the click log.")
        self._given, self._yes, self._ask, self._console = columns_of(given), yes, ask, console
        self._open: list[str] = []
        samples = [read_sample(file) for file in files]
        self.catalog, self.log = told_apart(samples, self._given.pop("catalog", None), yes=yes, ask=ask)
        self._items = profiles(self.catalog)
        self._log = profiles(self.log) if self.log else {}
        met: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {})
        if self.log:
            met = overlaps(self.catalog, self._items, self.log, self._log)
        guesses = guess_items(self._items, met[0]) + (guess_log(self._log, met[1]) if self.log else [])
        self._require_known_roles({guess.role for guess in guesses})
        self.guesses = {guess.role: self._answered(guess) for guess in guesses}
        self.guesses["items.text"] = self._with_named_title(self.guesses["items.text"])

    def settings(self, project: Path) -> dict[str, Setting]:
        """Returns the settings of both sources, after all questions.

        Args:
            project: Folder of the project, from which paths inside it start.

        Raises:
            ImportFailed: A question has no answer, or the IDs of both files do not meet.
        """
        self._show()
        for role, guess in self.guesses.items():
            self.guesses[role] = self._decided(guess)
        lowest = self._positive_from()
        self._require_answers()
        found: dict[str, Setting] = {}
        for section, sample in (("items", self.catalog), ("interactions", self.log)):
            if sample is not None:
                found[f"{section}.path"] = Setting(_place(sample.path, project), "Given by --from.")
                found |= {f"{section}.{name}": setting for name, setting in sample.settings.items()}
        for role, guess in self.guesses.items():
            column = guess.column
            found[role] = Setting(
                columns_named(role, self._items, column or "") if role == "items.text" else column, self._comment(guess)
            )
        found["items.item_id_type"] = self._id_type("items.item_id", "interactions.item_id")
        found["codebooks.codebook_size"] = codebook_setting(self.catalog.total, exact=self.catalog.whole)
        if self.log is not None:
            found["interactions.user_id_type"] = self._id_type("interactions.user_id")
            unit = self._log[str(found["interactions.event_timestamp"].value)].unit
            found["interactions.timestamp_unit"] = Setting(unit, f"Guessed from {self.log.rows:,} rows.")
            if lowest is not None:
                found["interactions.positive_from"] = lowest
            self._require_meeting(found)
        return found

    def _require_known_roles(self, roles: set[str]) -> None:
        short = {role.split(".")[1] for role in roles} | ({"positive_from"} if "interactions.label" in roles else set())
        for name in self._given:
            if name not in roles | short:
                raise ImportFailed(
                    f"--column is {name}={self._given[name]}, must name one of {', '.join(sorted(roles | short))}."
                )

    def _profiles(self, role: str) -> Mapping[str, Profile]:
        return self._items if role.startswith("items.") else self._log

    def _answered(self, guess: Guess) -> Guess:
        """Returns a guess, or what the user gave in its place."""
        short = guess.role.split(".")[1]
        answer = self._given.get(guess.role)
        if answer is None and short in self._given:
            answer = self._given[short]
            elsewhere = {"items": self._log, "interactions": self._items}[guess.role.split(".")[0]]
            if short == "item_id" and answer not in self._profiles(guess.role) and answer in elsewhere:
                return guess  # the other file has this column
        if answer is None:
            return guess
        if (problem := problem_of(guess.role, answer, self._profiles(guess.role))) is not None:
            raise ImportFailed(f"--column {problem}")
        return replace(guess, column=None if answer == NONE else answer, sure=True, why="", score=1.0)

    def _with_named_title(self, text: Guess) -> Guess:
        """Returns the guessed text columns behind a title that the user named: most catalogs say most in the title."""
        title = self.guesses["items.title"].column
        columns = [column for column in (text.column or "").split(",") if column]
        if title is None or title in columns or {"items.text", "text"} & set(self._given):
            return text
        return replace(text, column=",".join([title, *columns]))

    def _decided(self, guess: Guess) -> Guess:
        """Returns a guess that is sure, taken by --yes, or answered."""
        if guess.sure:
            return guess
        needed = guess.role in NEEDED
        if self._yes and (guess.column is not None or not needed):
            return guess
        if self._ask is None or (needed and not self._profiles(guess.role)):
            best = guess.column or ("NAME" if needed else NONE)
            flag = f"--column {shlex.quote(f'{guess.role}={best}')}"
            self._open.append(f"{guess.role} is not clear: {guess.why or 'no name or value tells it'}. {flag}")
            return guess
        question = f"{guess.role} is not clear: {guess.why or 'no name or value tells it'}. Which column is it"
        question += "?" if needed else f" ({NONE} for no column)?"
        while True:
            answer = self._ask(question, guess.column if needed else guess.column or NONE)
            if (problem := problem_of(guess.role, answer, self._profiles(guess.role))) is None:
                return replace(guess, column=None if answer == NONE else answer, sure=True, why="", score=1.0)
            self._console.print(literal(problem), soft_wrap=True)

    def _positive_from(self) -> Setting | None:
        """Returns the lowest positive label."""
        guess = self.guesses.get("interactions.label")
        if guess is None or guess.column is None:
            return None
        given = self._given.get("positive_from")
        labels = self._log[guess.column].numbers
        if given is None:
            lowest = positive_from(labels)
            if lowest is not None:
                return Setting(lowest, f"Guessed: the labels go from {min(labels):g} to {max(labels):g}.")
            question = f"The labels go from {min(labels):g} to {max(labels):g}. The lowest positive one is"
            if self._ask is None:
                self._open.append(f"interactions.positive_from: {question} not known. --column positive_from=NUMBER")
                return None
            given = self._ask(f"{question}?", None)
        try:
            return Setting(float(given), "You named it.")
        except ValueError:
            raise ImportFailed(f"positive_from is {given}, must be a number.") from None

    def _require_answers(self) -> None:
        if self._open:
            lines = "\n".join(f"- {line}" for line in self._open)
            raise ImportFailed(
                f"Some columns cannot be told. Answer by flags, or take the guesses with --yes:\n{lines}"
            )

    def _id_type(self, *roles: str) -> Setting:
        """Returns the type of an ID: integer if all values are whole numbers that keep their digits, else string."""
        columns = [(role, str(self.guesses[role].column)) for role in roles if role in self.guesses]
        samples = {"items": self.catalog, "interactions": self.log}
        for role, column in columns:
            sample = samples[role.split(".")[0]]
            assert sample is not None
            if sample.typed.get(column) == "text" or not self._profiles(role)[column].is_whole:
                return Setting("string", f"Guessed: {column} holds text, or numbers with leading zeros.")
        return Setting("integer", "Guessed: all values of the sample are whole numbers without leading zeros.")

    def _require_meeting(self, found: Mapping[str, Setting]) -> None:
        """Shows how many rows of the log have their item in the catalog, and refuses files that hardly meet."""
        assert self.log is not None
        item, of_log = str(found["items.item_id"].value), str(found["interactions.item_id"].value)
        is_integer = found["items.item_id_type"].value == "integer"
        meeting = meet(self.catalog, item, self.log, of_log, is_integer=is_integer)
        line = said(meeting)
        self._console.print(literal(line), soft_wrap=True)
        if meeting.share >= _LOWEST_MEETING or not meeting.whole or self._yes:
            return
        text = (
            f"{line} The log has {', '.join(meeting.missing)}, and the catalog {', '.join(meeting.present)}. Are {of_log} "
            f"and {item} the same IDs?"
        )
        if self._ask is not None and self._ask(f"{text} Go on (yes or no)?", "no").lower() in ("y", "yes"):
            return
        raise ImportFailed(
            f"{text} Name other columns with --column items.item_id=NAME and --column interactions.item_id=NAME, or take "
            "these with --yes."
        )

    def _comment(self, guess: Guess) -> str:
        if not guess.why:
            return "You named it."
        # The file of settings is shared and kept; it must not hold who the users are.
        examples = "" if guess.role == "interactions.user_id" else examples_of(guess, self._profiles(guess.role))
        return (
            f"Guessed{'' if guess.sure else ' with doubt'}: {guess.why}.{f' Examples: {examples}.' if examples else ''}"
        )

    def _show(self) -> None:
        for name, sample in (("catalog", self.catalog), ("click log", self.log)):
            if sample is not None:
                self._console.print(literal(f"{name}: {sample.path}, {sample.rows:,} rows read"), soft_wrap=True)
        self._console.print(guess_table(self.guesses.values(), self._items, self._log))


def _place(path: Path, project: Path) -> str:
    """Returns the path from the folder of the project if it is inside, else the whole path."""
    path, project = path.resolve(), project.resolve()
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)
