"""Terminal output: an item with its neighbors, and the figures of an encoder.

In: item cards and figures. Out: renderables of the rich library.
"""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from qarm_features.ranking.data.popularity import FEW, HEAD_WORDS, TAIL_WORDS, TORSO_WORDS
from qarm_features.report.encoder_rows import control_rows
from qarm_features.report.prefix_neighbors import ItemCard
from qarm_features.storage.moments import Ties
from qarm_features.terminal import literal

_SLICES = {
    "all": "all",
    "head": f"head: {HEAD_WORDS}",
    "torso": f"torso: {TORSO_WORDS}",
    "tail": f"tail: {TAIL_WORDS}",
    "new": "new: not shown before",
    "few": f"few: 0 to {FEW} positives before",
    "few triggers": f"trigger item with 0 to {FEW} positives",
    "unseen pairs": "pairs that are not training pairs",
}


def item_table(cards: list[ItemCard], *, codebook_version: int, made_by: str = "") -> Table:
    """Make a table of items, each above its neighbors. The prefix of codes that a neighbor shares is bright.

    Args:
        cards: Items with their neighbors.
        codebook_version: Codebook version of the codes, for the title.
        made_by: What made the codes, for the title.
    """
    by = f", by {made_by}" if made_by else ""
    table = Table(title=f"semantic IDs, codebook version {codebook_version}{by}", title_justify="left", box=None)
    for name in ("item_id", "title", "semantic ID"):
        table.add_column(name)
    for card in cards:
        table.add_row(literal(card.item_id), literal(card.title, "bold"), _codes(card.rq_codes, len(card.rq_codes)))
        for neighbor in card.neighbors:
            table.add_row(
                literal(neighbor.item_id, "dim"),
                literal(f"  {neighbor.title}"),
                _codes(neighbor.rq_codes, neighbor.shared_levels),
            )
        if not card.neighbors:
            table.add_row("", Text("  no other item has the same first code", "dim"), "")
    return table


def encoder_table(figures: dict[str, Any]) -> Table:
    """Make a table of HitRate@k by encoder version and slice.

    Args:
        figures: Figures of ``qarm evaluate-encoder``.
    """
    k, frozen = figures["k"], figures["frozen"]
    title = (
        f"HitRate@{k} of co-clicks, which are two positives of one user at different moments, the later one from "
        f"{figures['since'][:16]} on ({figures['period']})"
    )
    caption = (
        f"From then on {Ties(**figures['ties']).words('positives')}. They have no order, so they are no co-clicks."
    )
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=None)
    names = [f"encoder v{v}{', frozen' if int(v) == frozen else ''}" for v in figures["hit_rate"]]
    for name in ("target items", "pairs", *names, "chance"):
        table.add_column(name, justify="left" if name == "target items" else "right")
    for name, count in figures["pairs"].items():
        rates = [rates[name] for rates in figures["hit_rate"].values()]
        shown = ["-" if rate is None else f"{rate:.4f}" for rate in rates]
        table.add_row(_SLICES[name], f"{count:,}", *shown, f"{figures['chance']:.4f}")
    table.add_section()
    for row in control_rows(figures):
        table.add_row(row.name, row.pairs, *row.shown, row.chance)
    return table


def _codes(codes: list[int], shared: int) -> Text:
    """Return codes of which the first ``shared`` ones are bright."""
    bright = " ".join(f"{code:>4}" for code in codes[:shared])
    dim = " ".join(f"{code:>4}" for code in codes[shared:])
    return Text.assemble((bright, "green"), (f" {dim}" if dim else "", "dim"))
