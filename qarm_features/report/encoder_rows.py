"""Rows below the HitRates of encoders: their interval, and what could be taken for content but is not.

In: figures of ``qarm evaluate-encoder``. Out: rows of text, for the terminal and the report.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class EncoderRow(NamedTuple):
    """A row of the table.

    Attributes:
        name: What was measured.
        pairs: Number of pairs, or nothing.
        shown: One text for each encoder version.
        chance: The value by chance, or nothing.
    """

    name: str
    pairs: str
    shown: list[str]
    chance: str


def control_rows(figures: dict[str, Any]) -> list[EncoderRow]:
    """Return the rows below those of the slices.

    Args:
        figures: Figures of ``qarm evaluate-encoder``.
    """
    k, versions, chance = figures["k"], list(figures["hit_rate"]), _number(figures["chance"])
    ranges = [figures["interval"][version] for version in versions]
    popular, added = _number(figures["popular"]["all"]), figures["frozen_with_popularity"]
    rows = [
        EncoderRow(
            "all, 95% interval by users", "", [" to ".join(map(_number, one)) if one else "-" for one in ranges], ""
        ),
        EncoderRow("all, targets exchanged at random", "", [_number(figures["shuffled"][v]) for v in versions], chance),
        EncoderRow(f"all, the {k} most popular items for everybody", "", [popular] * len(versions), chance),
    ]
    if added is not None:
        name = f"all, frozen with {added['weight']:g} log(1 + positives) added"
        rows.append(EncoderRow(name, "", [_number(added["hit_rate"]["all"])] * len(versions), chance))
    beats = [_number(figures["beats_matched"][version]["all"], digits=3) for version in versions]
    rows.append(EncoderRow("target is nearer than an item as popular", "", beats, "0.500"))
    together = figures["bought_together"]
    if together["pairs"]:
        shown = [_number(together["hit_rate"][version]) for version in versions]
        rows.append(EncoderRow("bought together, at one moment", f"{together['pairs']:,}", shown, chance))
    return rows


def _number(value: float | None, *, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
