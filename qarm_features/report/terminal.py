"""What a person sees in the terminal: an item with its neighbors, and the summary at the end of a run.

In: cards and figures. Out: rich renderables.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from qarm_features.report.prefix_neighbors import ItemCard, item_cards
from qarm_features.settings.load import Settings
from qarm_features.storage.warehouse import Warehouse

_SLICES = {
    "all": "all",
    "head": "head: first 25% of impressions",
    "torso": "torso: next 50%",
    "tail": "tail: last 25%",
    "new": "new: not shown before",
    "few": "at most 5 positives before",
    "few triggers": "after an item of at most 5 positives",
    "unseen pairs": "pairs that training never saw",
}


def item_table(cards: list[ItemCard], *, codebook_version: int) -> Table:
    """Lays out items, each above its neighbors; the shared prefix of a neighbor's codes is bright."""
    table = Table(title=f"semantic IDs, codebook version {codebook_version}", title_justify="left", box=None)
    for name in ("item_id", "title", "semantic ID"):
        table.add_column(name)
    for card in cards:
        table.add_row(
            str(card.item_id), f"[bold]{escape(card.title)}[/bold]", _codes(card.rq_codes, len(card.rq_codes))
        )
        for n in card.neighbors:
            table.add_row(f"[dim]{n.item_id}[/dim]", f"  {escape(n.title)}", _codes(n.rq_codes, n.shared_levels))
        if not card.neighbors:
            table.add_row("", "  [dim]no other item shares its first code[/dim]", "")
    return table


def summary(warehouse: Warehouse, settings: Settings) -> RenderableType:
    """Says what a run made: five popular items, the quality of the codes, the AUCs, where to look and what to do next."""
    report = settings.artifacts_path / "report"
    figures = json.loads((report / "figures.json").read_text())
    version = figures["codebook_version"]
    cards = item_cards(warehouse, figures["popular_items"], codebook_version=version, num_neighbors=3)
    what = (
        "An item's semantic ID is a path from coarse to fine: items that share the first code are alike, items that share\n"
        "more codes are more alike. Below: five items of your catalog and those that share the most codes with them."
    )
    todo = (
        f"The report      {report / 'report.html'}\n"
        f"Any item        qarm show {cards[0].item_id if cards else 'ITEM_ID'}\n"
        f"Stock Feast     cd {settings.feature_repo_path} && feast feature-services list\n"
        "Your own data   qarm init my_project, then name your files in my_project/qarm.yaml and: qarm run"
    )
    return Group(
        "",
        Panel(what, title="What was made", title_align="left"),
        item_table(cards, codebook_version=version),
        "",
        _quality_table(figures),
        "",
        _ranking_table(figures["ranking"]),
        "",
        Panel(todo, title="What to do next", title_align="left"),
    )


def encoder_table(figures: dict[str, Any]) -> Table:
    """Lays out HitRate@k by encoder version and slice, as ``evaluate-encoder`` measured it."""
    k, frozen = figures["k"], figures["frozen"]
    title = f"HitRate@{k} of what users clicked next, later than {figures['since'][:16]} and than all item pairs"
    table = Table(title=title, title_justify="left", box=None)
    names = [f"encoder v{v}{', frozen' if int(v) == frozen else ''}" for v in figures["hit_rate"]]
    for name in ("target items", "co-clicks", *names, "chance"):
        table.add_column(name, justify="left" if name == "target items" else "right")
    for name, count in figures["pairs"].items():
        rates = [rates[name] for rates in figures["hit_rate"].values()]
        shown = ["-" if rate is None else f"{rate:.4f}" for rate in rates]
        table.add_row(_SLICES[name], f"{count:,}", *shown, f"{figures['chance']:.4f}")
    return table


def _codes(codes: list[int], shared: int) -> str:
    bright = " ".join(f"{code:>4}" for code in codes[:shared])
    dim = " ".join(f"{code:>4}" for code in codes[shared:])
    return f"[green]{bright}[/green]" + (f" [dim]{dim}[/dim]" if dim else "")


def _quality_table(figures: dict[str, Any]) -> Table:
    quality = figures["quality"]
    shared = f"{quality['collision_rate']:.1%} of {quality['items']:,} items share their semantic ID with another"
    table = Table(title=f"codebook quality: {shared}", title_justify="left", box=None)
    for name in ("level", "centroids in use", "relative error after it"):
        table.add_column(name, justify="right")
    for level, fit in zip(quality["levels"], figures["fit"]):
        in_use = f"{level['codes_in_use']} of {level['codebook_size']}"
        table.add_row(str(level["level"]), in_use, f"{fit['relative_error']:.3f}")
    return table


def _ranking_table(ranking: list[dict[str, Any]]) -> Table:
    table = Table(title="ranking on the latest impressions (test split)", title_justify="left", box=None)
    for name in ("model reads", "AUC", "AUC per user", "seeds"):
        table.add_column(name, justify="left" if name == "model reads" else "right")
    for variant in dict.fromkeys(row["variant"] for row in ranking):
        tests = [row["metrics"]["test"] for row in ranking if row["variant"] == variant]
        table.add_row(variant, _mean(tests, "auc"), _mean(tests, "user_auc"), str(len(tests)))
    return table


def _mean(tests: list[dict[str, Any]], name: str) -> str:
    values = [test[name] for test in tests if test[name] is not None]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"
