"""The last screen of ``qarm run``: popular items with their codes, the encoders, the codes, the AUCs, and what to do next.

In: ``figures.json`` of the report. Out: renderables of the rich library.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from qarm_features.report.prefix_neighbors import ItemCard, Neighbor
from qarm_features.report.ranking_rows import RankingRow, difference_in_words, seeds_in_words
from qarm_features.report.terminal import item_table
from qarm_features.storage.objects import AnyPath
from qarm_features.terminal import literal

_EXPLANATION = (
    "The codes of a semantic ID go from coarse to fine. Items with the same first code are similar, and items with more "
    "codes in common are more similar. Below are popular items of your catalog, each with the items that share the most "
    "codes with it."
)


def summary(*, report_folder: AnyPath, feature_repo: Path) -> RenderableType:
    """Summarize a run by the figures of its report.

    Args:
        report_folder: Folder of ``report.html`` and ``figures.json``.
        feature_repo: Folder of ``feature_store.yaml``.
    """
    figures = json.loads((report_folder / "figures.json").read_text())
    cards = _cards(figures["items"])
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
        Panel(_EXPLANATION, title="What was made", title_align="left"),
        item_table(cards, codebook_version=figures["codebook_version"], made_by=_encoder_of(figures)),
        "",
        *_frozen_codes(figures),
        *_encoders(figures),
        _quality_table(figures),
        *_ranking(figures),
        "",
        Panel(next_steps, title="What to do next", title_align="left"),
    )


def _cards(items: list[dict[str, Any]]) -> list[ItemCard]:
    return [ItemCard(**{**item, "neighbors": [Neighbor(**near) for near in item["neighbors"]]}) for item in items]


def _encoder_of(figures: dict[str, Any]) -> str:
    compared = figures["encoders"]
    if not compared or compared["frozen"] is None:
        return ""
    return "the frozen encoder" if figures["encoder_version"] == compared["frozen"] else "the aligned encoder"


def _frozen_codes(figures: dict[str, Any]) -> list[RenderableType]:
    """Return the same items by the codes of the frozen encoder, if there are such codes."""
    frozen = figures["frozen_codes"]
    if not frozen:
        return []
    table = item_table(
        _cards(frozen["items"]),
        codebook_version=frozen["codebook_version"],
        made_by="the frozen encoder, the same items",
    )
    return [table, "A code means something under its own codebook version only: compare neighbors, not numbers.", ""]


def _encoders(figures: dict[str, Any]) -> list[RenderableType]:
    """Return what alignment changed, beside what popularity alone reaches; nothing where two encoders were not measured."""
    found = figures["encoders"]
    if not found or not found.get("minus_frozen"):
        return []
    frozen, (aligned, minus), k = str(found["frozen"]), next(iter(found["minus_frozen"].items())), found["k"]
    table = Table(
        title=f"encoders on {found['pairs']['all']:,} co-clicks later than all item pairs",
        title_justify="left",
        box=None,
    )
    for name in ("measure", "frozen", "aligned", "popularity alone", "chance"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    rates, beats, shown = found["hit_rate"], found["beats_matched"], _number
    table.add_row(
        literal(f"HitRate@{k}"), *(shown(rates[v]["all"]) for v in (frozen, aligned)), shown(found["popular"]["all"]),
        shown(found["chance"]),
    )  # fmt: skip
    table.add_row("  95% by users", *(_bounds(found["interval"][v]) for v in (frozen, aligned)), "", "")
    table.add_row(
        "  targets exchanged",
        *(shown(found["shuffled"][v]) for v in (frozen, aligned)),
        "",
        shown(found["chance"]),
    )
    table.add_row(
        "nearer than as popular", *(shown(beats[v]["all"]) for v in (frozen, aligned)),
        shown(found["popular_beats_matched"]["all"]), "0.5000",
    )  # fmt: skip
    sentences = [
        _change(f"HitRate@{k}", minus["hit_rate"]),
        _change("Nearer than items as popular", minus["beats_matched"]),
        f"The {k} most popular items, the same for everybody, reach {shown(found['popular']['all'])}: a HitRate rewards "
        "popularity, which the rows below it leave out.",
    ]
    return [table, *(literal(sentence) for sentence in sentences if sentence), ""]


def _change(name: str, minus: dict[str, Any]) -> str:
    """Say by how much the aligned encoder differs from the frozen one, and whether this is more than chance."""
    if minus["difference"] is None or minus["interval"] is None:
        return ""
    low, high = minus["interval"]
    said = f"{name}, aligned minus frozen: {minus['difference']:+.4f}, 95% interval {low:+.4f} to {high:+.4f}."
    if low <= 0 <= high:
        return f"{said} The difference is within its interval: these users do not show that the two differ."
    return f"{said} The interval does not hold 0."


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


def _ranking(figures: dict[str, Any]) -> list[RenderableType]:
    rows = [RankingRow(**row) for row in figures["ranking_rows"]]
    if not rows:
        return []
    table = Table(title="ranking quality on the latest impressions (test split)", title_justify="left", box=None)
    for name in ("variant", "AUC", "95% interval by users", "AUC per user", "seeds"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for row in rows:
        spread = "" if row.deviation is None else f" ± {row.deviation:.4f}"
        table.add_row(
            literal(row.variant),
            _number(row.auc) + spread,
            _bounds(row.interval),
            _number(row.user_auc),
            str(row.seeds),
        )
    sentences = [words for row in rows if (words := difference_in_words(row))]
    return ["", table, *(literal(sentence) for sentence in (*sentences, seeds_in_words(rows)))]


def _bounds(interval: list[float] | tuple[float, float] | None) -> Text:
    return Text("-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}", no_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
