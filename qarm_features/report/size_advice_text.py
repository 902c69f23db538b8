"""Advice on codebook sizes as text for people, and as values for JSON.

In: an ``Advice``. Out: lines, of which the last ones can be pasted into ``qarm.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qarm_features.evaluation.size_advice import Advice, Level
from qarm_features.evaluation.size_rules import BEND, ITEMS_PER_CODE, LARGEST_BY_ITEMS

_DIM = 16  # numbers of an embedding row in the example of a table's size
_RULES = {
    "clusters": f"the error bends here, by more than {BEND:g} bits: so many clusters are in the data",
    "pairs": "here a co-click says most about two items having the same code",
    "apart": "the levels before explain the content; this one only tells items apart",
    "items": f"no bend; one code per {ITEMS_PER_CODE} items, at most {LARGEST_BY_ITEMS}, is a convention, not a finding",
}


def yaml_lines(advice: Advice) -> list[str]:
    """Return the lines of ``qarm.yaml``."""
    sizes = [level.size for level in advice.levels]
    shown = str(sizes[0]) if len(set(sizes)) == 1 else f"[{', '.join(map(str, sizes))}]"
    return ["codebooks:", f"  num_levels: {len(sizes)}", f"  codebook_size: {shown}"]


def advice_lines(advice: Advice) -> Iterator[str]:
    """Yield the lines for people."""
    yield f"{advice.items:,} items; a sample of {advice.sample:,}, of which {advice.distinct:,} embeddings are distinct"
    yield f"{advice.pairs:,} co-clicks before the valid split"
    for number, level in enumerate(advice.levels):
        yield ""
        yield f"level {number}: {level.size} codes; {_RULES[level.rule]}"
        yield from _tried(level)
    yield ""
    yield f"error of held-out items after the last level: {advice.error:.1%} of the variance"
    yield f"bits of a semantic ID: {advice.bits:.0f}"
    yield f"items per code of level 0: {advice.items_per_bucket:,.0f}; the fullest one holds {_fullest(advice)}"
    yield (
        f"items that share their semantic ID: {advice.collisions_sample:.1%} within the sample, at most "
        f"{advice.collisions_at_most:.1%} in the catalog; {advice.collisions_duplicates:.1%} have the embedding of another "
        f"item, and {advice.collisions_even:.1%} would share theirs if IDs were drawn evenly at random"
    )
    rows = advice.table_rows
    yield (
        f"lookup tables: {rows:,} rows with one row per code, at most {advice.prefix_rows:,} with one per prefix; with "
        f"{_DIM} numbers each that is {_size(rows)} and {_size(advice.prefix_rows)}"
    )
    for caution in advice.cautions:
        yield f"CAUTION: {caution}"
    yield ""
    yield from yaml_lines(advice)


def advice_values(advice: Advice) -> dict[str, Any]:
    """Return the advice as plain values, with the lines of ``qarm.yaml`` as ``yaml``."""
    levels = [level._asdict() | {"tried": [one._asdict() for one in level.tried]} for level in advice.levels]
    return advice._asdict() | {"levels": levels, "yaml": "\n".join(yaml_lines(advice))}


def _tried(level: Level) -> Iterator[str]:
    for one in level.tried:
        mark = "->" if one.size == level.size else "  "
        evidence = "" if one.evidence is None else f", {one.evidence:.4f} bits per co-click"
        yield f"  {mark} {one.size:5} codes: error {one.error:.4f}{evidence}"


def _fullest(advice: Advice) -> str:
    return f"{advice.levels[0].largest_share:.1%} of the items"


def _size(rows: int) -> str:
    return f"{rows * _DIM * 4 / 2**20:,.2f} MiB"
