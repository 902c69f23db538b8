"""Answers to what a guess leaves open: which file is the catalog, and whether a column can have a role.

In: samples, profiles and an answer. Out: the catalog and the log, or what is wrong with the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qarm_features.cli.guess_table import columns_named
from qarm_features.importers.guessing.guess import log_likeness, profiles
from qarm_features.importers.guessing.profile import Profile
from qarm_features.importers.guessing.sample import Sample
from qarm_features.importers.plan import ImportFailed

Ask = Callable[[str, str | None], str]  # a question and the guess; returns the answer
NEEDED = ("items.item_id", "items.text", "interactions.user_id", "interactions.item_id", "interactions.event_timestamp")
NONE = "none"


def told_apart(
    samples: list[Sample], chosen: str | None, *, yes: bool, ask: Ask | None
) -> tuple[Sample, Sample | None]:
    """Returns the catalog and the click log.

    Args:
        samples: Samples of one or two files.
        chosen: The file that the user named as the catalog.
        yes: Whether a guess that is not sure is taken.
        ask: Function that asks; None where nobody can answer.

    Raises:
        ImportFailed: It cannot be told which file is the catalog.
    """
    likeness = [log_likeness(profiles(sample)) for sample in samples]
    names = [str(sample.path) for sample in samples]
    if chosen is not None:
        if chosen not in names:
            raise ImportFailed(f"--column catalog is {chosen}, must be one of the files: {', '.join(names)}.")
        first = names.index(chosen)
    elif len(samples) == 1:
        if likeness[0] > 0.5:
            raise ImportFailed(
                f"{names[0]} looks like a click log, with users and times, and not like a catalog. Give the catalog too: "
                f"--from CATALOG --from {names[0]}. If it is the catalog: --column catalog={names[0]}"
            )
        first = 0
    else:
        first = 0 if likeness[0] <= likeness[1] else 1
        if abs(likeness[0] - likeness[1]) < 1 and not yes:
            first = _ask_for_catalog(names, first, ask)
    return samples[first], samples[1 - first] if len(samples) == 2 else None


def _ask_for_catalog(names: list[str], first: int, ask: Ask | None) -> int:
    if ask is None:
        raise ImportFailed(
            f"Which file is the catalog cannot be told: {' or '.join(names)}. Say it with --column catalog={names[first]}"
        )
    while (answer := ask(f"Which file is the catalog, {' or '.join(names)}?", names[first])) not in names:
        pass
    return names.index(answer)


def problem_of(role: str, answer: str, known: Mapping[str, Profile]) -> str | None:
    """Returns what is wrong with an answer, or None.

    Args:
        role: Role that the answer is for.
        answer: Name of a column, names between commas for text, or ``none``.
        known: What is known about the columns of its file.
    """
    if answer == NONE and role not in NEEDED:
        return None
    missing = [name for name in columns_named(role, known, answer) if name not in known]
    if missing or not answer:
        return f"{role} is {answer}, must be a column of its file: {', '.join(known)}."
    if role == "interactions.event_timestamp" and known[answer].unit is None:
        return (
            f"{role} is {answer}, whose values, such as {', '.join(known[answer].examples)}, are no times in ISO 8601 or in "
            "seconds to nanoseconds since 1970. Convert them first."
        )
    if role == "interactions.label" and not known[answer].numbers:
        return f"{role} is {answer}, whose values, such as {', '.join(known[answer].examples)}, are no numbers."
    return None
