"""Which column of a catalog and of a click log has which role, how sure that is, and why.

In: samples of one or two files. Out: a guess for each role. A guess is sure if the name and the values of a column agree and
no other column comes near; all other guesses of needed roles are questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qarm_features.importers.guessing.names import EXACT, GENERIC, is_generic, name_score
from qarm_features.importers.guessing.profile import Profile, profile
from qarm_features.importers.guessing.sample import Sample

_SURE, _AHEAD = EXACT, 0.15
_MAX_LABELS = 101
_MANY_WORDS = 5.0
_LONGEST_ID = 64


@dataclass(frozen=True)
class Guess:
    """A guess for a role.

    Attributes:
        role: For example ``items.item_id``.
        column: Name of the column; None for no column.
        score: How well it fits, from 0 to about 1.
        sure: Whether it can be taken without a question.
        why: What speaks for it.
        others: Other columns that could have the role, the best first.
    """

    role: str
    column: str | None
    score: float
    sure: bool
    why: str
    others: tuple[str, ...] = ()


Scores = Callable[[Profile], tuple[float, str]]


def profiles(sample: Sample) -> dict[str, Profile]:
    """Returns what is known about each column of a sample.

    Args:
        sample: The sample.
    """
    return {name: profile(sample, name) for name in sample.columns}


def log_likeness(columns: Mapping[str, Profile]) -> float:
    """Returns how much a file looks like a click log, above 0, or like a catalog, below 0.

    Args:
        columns: What is known about its columns.
    """
    has_time = any(
        one.unit and (name_score("event_timestamp", one.name) or one.unit == "timestamp") for one in columns.values()
    )
    has_user = any(name_score("user_id", one.name) == EXACT for one in columns.values())
    has_title = any(name_score("title", one.name) == EXACT and one.is_text for one in columns.values())
    has_text = any(name_score("text", one.name) and one.is_text for one in columns.values())
    has_unique_id = any(one.unique > 0.99 and (name_score("item_id", one.name) == EXACT) for one in columns.values())
    return has_time + 1.5 * has_user - has_title - 0.5 * has_text - has_unique_id


def guess_items(columns: Mapping[str, Profile], met: Mapping[str, float]) -> list[Guess]:
    """Returns the guesses for a catalog.

    Args:
        columns: What is known about its columns.
        met: Highest share of the rows of a column of the click log whose value stands in a column of the catalog, by the
            name of the latter.
    """

    def item_id(one: Profile) -> tuple[float, str]:
        if not _can_be_id(one, "item_id") or one.is_image:
            return 0.0, ""
        score, why = _id_name_score("item_id", one.name), []
        if is_generic(one.name):
            score = GENERIC
        if score:
            why.append(f"the name {one.name}")
        if one.unique > 0.98 and one.filled > 0.95:
            score += 0.3
            why.append("almost no value comes twice")
        elif one.unique < 0.9:
            score -= 0.3
        share = met.get(one.name, 0.0)
        if share >= 0.5:
            score += 0.2
            why.append(f"{share:.0%} of the log's values are there")
        return score, ", ".join(why)

    def title(one: Profile) -> tuple[float, str]:
        score = name_score("title", one.name) if one.is_text and not one.is_nested else 0.0
        return (score + 0.3 * (one.unique > 0.3), f"the name {one.name}") if score else (0.0, "")

    found = [_best("items.item_id", columns, item_id)]
    key = found[0].column
    found.append(_optional(_best("items.title", columns, title, without={key})))
    found.append(_text(columns, key, found[1].column))
    image = next((one for one in columns.values() if one.is_image), None)
    none = Guess("items.image", None, 1.0, True, "no column holds names of pictures")
    if image is not None:
        kind = "URLs of pictures, which qarm does not download" if image.is_url else "names of pictures"
        none = Guess(
            "items.image", None, 1.0, True, f"the column {image.name} holds {kind}; to use it, see encoder.media_roots"
        )
    found.append(none)
    return found


def guess_log(columns: Mapping[str, Profile], met: Mapping[str, float]) -> list[Guess]:
    """Returns the guesses for a click log.

    Args:
        columns: What is known about its columns.
        met: Highest share of the rows of a column whose value stands in a column of the catalog, by the name of the former.
    """
    times = [one for one in columns.values() if one.unit and not _is_id_like_time(one)]

    def event_timestamp(one: Profile) -> tuple[float, str]:
        if one not in times:
            return 0.0, ""
        named = name_score("event_timestamp", one.name)
        why = ([f"the name {one.name}"] if named else []) + [f"almost all values are times in {one.unit}"]
        alone = len(times) == 1 and one.unit == "timestamp"
        return named + 0.35 + 0.3 * alone, ", ".join(why + ["the only such column"] * alone)

    def an_id(role: str) -> Scores:
        other = "user_id" if role == "item_id" else "item_id"

        def score(one: Profile) -> tuple[float, str]:
            if not _can_be_id(one, role):
                return 0.0, ""
            named = _id_name_score(role, one.name)
            if named < EXACT and (
                name_score(other, one.name) or any(name_score(r, one.name) for r in ("label", "price"))
            ):
                return 0.0, ""
            if is_generic(one.name):
                return 0.1, f"the name {one.name}"  # mostly the ID of the row
            why = [f"the name {one.name}"] if named else []
            result = named
            if one.unique < 0.98:
                result += 0.1
                why.append("values come again")
            share = met.get(one.name, 0.0)
            if role == "item_id" and share >= 0.5:
                result += 0.2
                why.append(f"{share:.0%} of its rows are in the catalog")
            return result, ", ".join(why)

        return score

    item = _best("interactions.item_id", columns, an_id("item_id"))
    user = _best("interactions.user_id", columns, an_id("user_id"), without={item.column})
    time = _best("interactions.event_timestamp", columns, event_timestamp)
    if time.column is None and (other := [one.name for one in columns.values() if one.is_other_time]):
        why = f"the values of {', '.join(other)} look like times, and must be ISO 8601, such as 2024-01-31 10:15:00"
        time = Guess(time.role, None, 0.0, False, why)
    return [user, item, time, _label(columns, {item.column, user.column, time.column})]


def _best(role: str, columns: Mapping[str, Profile], scores: Scores, without: set[str | None] = frozenset()) -> Guess:  # type: ignore[assignment]
    rated = [(*scores(one), one.name) for one in columns.values() if one.name not in without]
    rated = sorted((entry for entry in rated if entry[0] > 0), key=lambda entry: -entry[0])
    if not rated:
        return Guess(role, None, 0.0, False, "no column looks like one")
    score, why, column = rated[0]
    second = rated[1][0] if len(rated) > 1 else 0.0
    sure = score >= _SURE and score - second >= _AHEAD - 1e-9
    if score >= _SURE and not sure:
        why += f"; but {rated[1][2]} fits as well"
    return Guess(role, column, score, sure, why, tuple(name for _, _, name in rated[1:4]))


def _id_name_score(role: str, name: str) -> float:
    """Returns how well a name fits an ID; product_name is the name of a title, though it has the word product."""
    is_other = EXACT in (name_score("title", name), name_score("text", name))
    score = name_score(role, name)
    return 0.0 if is_other and score < EXACT else score


def _can_be_id(one: Profile, role: str) -> bool:
    """Returns whether the values of a column can be IDs."""
    is_time = one.unit is not None and not (_is_id_like_time(one) and name_score(role, one.name) == EXACT)
    return not (one.is_nested or is_time or one.is_url or one.mean_length > _LONGEST_ID or not one.distinct)


def _is_id_like_time(one: Profile) -> bool:
    """Returns whether numbers that could be times are IDs by their name: an EAN of Germany is a millisecond of 2097."""
    return bool(one.numbers) and EXACT in (name_score("item_id", one.name), name_score("user_id", one.name))


def _optional(guess: Guess) -> Guess:
    """Returns a guess for a role that may stay empty: a doubtful column is taken, because it does no harm."""
    if guess.column is None:
        return Guess(guess.role, None, 1.0, True, guess.why)
    return Guess(guess.role, guess.column, guess.score, True, guess.why, guess.others)


def _text(columns: Mapping[str, Profile], key: str | None, title: str | None) -> Guess:
    """Returns the guess of the text columns, joined by commas."""
    named = [
        one.name
        for one in columns.values()
        if one.is_text
        and one.name not in (key, title)
        and (name_score("text", one.name) or one.mean_words >= _MANY_WORDS)
    ]
    chosen = [title] * (title is not None) + named
    if chosen:
        return Guess("items.text", ",".join(filter(None, chosen)), 0.9, True, "the title, and columns of words")
    others = tuple(one.name for one in columns.values() if one.is_text and one.name != key)
    why = "no name says so; these columns hold words" if others else "no column holds words"
    return Guess("items.text", ",".join(others) or None, 0.3, False, why)


def _label(columns: Mapping[str, Profile], taken: set[str | None]) -> Guess:
    """Returns the guess of the label. Negatives must not become positives because their column has a strange name."""
    role = "interactions.label"
    free = [one for one in columns.values() if one.name not in taken]

    def fits(one: Profile) -> bool:
        return bool(one.numbers) and one.distinct <= _MAX_LABELS and not one.unit

    named = sorted(
        (one for one in free if fits(one) and name_score("label", one.name)),
        key=lambda one: -name_score("label", one.name),
    )
    if named:
        best = named[0]
        scores = [name_score("label", one.name) for one in named]
        sure = scores[0] == EXACT and scores.count(EXACT) == 1
        why = f"the name {best.name}, and numbers" + (
            "" if sure else f"; candidates: {', '.join(one.name for one in named)}"
        )
        return Guess(role, best.name, scores[0] + 0.3, sure, why, tuple(one.name for one in named[1:4]))
    binary = [
        one for one in free if one.numbers and one.distinct == 2 and set(one.numbers) in ({0.0, 1.0}, {-1.0, 1.0})
    ]
    if binary:
        why = f"{binary[0].name} has two values, which may be a label; without one, every row counts as positive"
        return Guess(role, binary[0].name, 0.3, False, why, tuple(one.name for one in binary[1:4]))
    events = [one for one in free if one.is_text and name_score("event", one.name) and one.distinct > 1]
    if events:
        why = (
            f"{events[0].name} holds words ({', '.join(events[0].examples)}), and a label must be a number; without a label, "
            "every row counts as positive"
        )
        return Guess(role, None, 0.3, False, why)
    return Guess(role, None, 1.0, True, "no column looks like one, so every row counts as positive")
