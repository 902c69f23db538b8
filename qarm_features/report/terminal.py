"""Terminal output: an item with its neighbors, the figures of an encoder, and the summary at the end of a run.

In: item cards and figures. Out: renderables of the rich library.
"""

from __future__ import annotations

import json
import shlex
import statistics
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from qarm_features.ranking.data.popularity import FEW, HEAD_WORDS, TAIL_WORDS, TORSO_WORDS
from qarm_features.report.encoder_rows import control_rows
from qarm_features.report.prefix_neighbors import ItemCard, item_cards
from qarm_features.storage.moments import Ties
from qarm_features.storage.warehouse import Warehouse
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


def item_table(cards: list[ItemCard], *, codebook_version: int) -> Table:
    """Make a table of items, each above its neighbors. The prefix of codes that a neighbor shares is bright.

    Args:
        cards: Items with their neighbors.
        codebook_version: Codebook version of the codes, for the title.
    """
    table = Table(title=f"semantic IDs, codebook version {codebook_version}", title_justify="left", box=None)
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


def summary(warehouse: Warehouse, *, report_folder: Path, feature_repo: Path) -> RenderableType:
    """Summarize a run: five popular items, the quality of the codes, the AUCs, and what to do next.

    Args:
        warehouse: The tables.
        report_folder: Folder of ``report.html`` and ``figures.json``.
        feature_repo: Folder of ``feature_store.yaml``.
    """
    figures = json.loads((report_folder / "figures.json").read_text())
    version = figures["codebook_version"]
    cards = item_cards(warehouse, figures["popular_items"], codebook_version=version, num_neighbors=3)
    explanation = (
        "The codes of a semantic ID go from coarse to fine. Items with the same first code are similar, and items with "
        "more codes in common are more similar. Below are five popular items of your catalog, each with the items that "
        "share the most codes with it."
    )
    next_steps = Table.grid(padding=(0, 3))
    for step, command in (
        ("Open the report", str(report_folder / "report.html")),
        ("Look at any item", f"qarm show {shlex.quote(str(cards[0].item_id)) if cards else 'ITEM_ID'}"),
        ("Look at it with Feast", f"cd {shlex.quote(str(feature_repo))} && feast feature-services list"),
        ("Start another project", "qarm init FOLDER, then name its files in FOLDER/qarm.yaml and run: qarm run"),
    ):
        next_steps.add_row(step, literal(command))
    return Group(
        "",
        Panel(explanation, title="What was made", title_align="left"),
        item_table(cards, codebook_version=version),
        "",
        _quality_table(figures),
        *(("", _ranking_table(figures["ranking"])) if figures["ranking"] else ()),
        "",
        Panel(next_steps, title="What to do next", title_align="left"),
    )


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


def _quality_table(figures: dict[str, Any]) -> Table:
    quality = figures["quality"]
    collisions = f"{quality['collision_rate']:.1%} of {quality['items']:,} items share their semantic ID with another"
    table = Table(title=f"codebook quality: {collisions}", title_justify="left", box=None)
    for name in ("level", "centroids in use", "relative error after the level"):
        table.add_column(name, justify="right")
    for level, fit in zip(quality["levels"], figures["fit"]):
        in_use = f"{level['codes_in_use']} of {level['codebook_size']}"
        table.add_row(str(level["level"]), in_use, f"{fit['relative_error']:.3f}")
    return table


def _ranking_table(ranking: list[dict[str, Any]]) -> Table:
    table = Table(title="ranking quality on the latest impressions (test split)", title_justify="left", box=None)
    for name in ("variant", "AUC", "AUC per user", "seeds"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for variant in dict.fromkeys(row["variant"] for row in ranking):
        tests = [row["metrics"]["test"] for row in ranking if row["variant"] == variant]
        table.add_row(literal(variant), _mean(tests, "auc"), _mean(tests, "user_auc"), str(len(tests)))
    return table


def _mean(tests: list[dict[str, Any]], name: str) -> str:
    """Return the mean of a metric over seeds, with the standard deviation where there are several."""
    values = [test[name] for test in tests if test[name] is not None]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"
