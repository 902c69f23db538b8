"""Shows what each modality brings to the aligned encoder of the multimodal demo, and how items without one are handled.

In: the folder of the demo's project after ``qarm run``. Out: two tables. The same encoder embeds the same items again without
their pictures, sounds or texts, and the planted factors say what it then still finds. The demo has few hundred items, so that
all of them fit into memory.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from qarm_features import ItemEncoder
from qarm_features.embedding.encoder_versions import current_encoder, media_limits
from qarm_features.evaluation.intervals import user_interval
from qarm_features.settings.load import Settings, load_settings
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import Warehouse
from qarm_features.terminal import plain_console

FACTORS = ("picture", "sound", "text")
CONTENT = {"picture": "image_uri", "sound": "audio_uri", "text": "text"}
K = 10


def nearest(embeddings: np.ndarray) -> np.ndarray:
    """Returns the places (I, I - 1) of all other items of each item, the nearest first.

    Args:
        embeddings: (I, D) of unit length.
    """
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, 1:]


def same_factor(order: np.ndarray, values: np.ndarray, of_items: np.ndarray) -> float:
    """Returns the mean share of the K nearest items that have the value of the item, over some items.

    Args:
        order: Places from ``nearest``.
        values: (I,) value of each item.
        of_items: (I,) bool, the items over which the mean is taken.
    """
    return float((values[order[of_items, :K]] == values[of_items, None]).mean())


def later_co_clicks(log: pd.DataFrame, *, test_share: float) -> pd.DataFrame:
    """Returns pairs of a user's consecutive clicks, the later one in the last part of the log, as ``qarm`` splits it.

    Args:
        log: ``user_id``, ``item_id``, ``shown_at`` and ``clicked``.
        test_share: Share of rows of that part.

    Returns:
        ``user_id``, ``trigger`` and ``target`` (item IDs).
    """
    since = log["shown_at"].sort_values().iloc[int((1 - test_share) * len(log))]
    clicks = log[log["clicked"] == 1].sort_values("shown_at", kind="stable")
    clicks = clicks.assign(trigger=clicks.groupby("user_id")["item_id"].shift())
    later = clicks[(clicks["shown_at"] >= since) & clicks["trigger"].notna()]
    pairs = later.rename(columns={"item_id": "target"})[["user_id", "trigger", "target"]].astype({"trigger": "int64"})
    return pairs[pairs["trigger"] != pairs["target"]]


def hits(order: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Returns for each pair 1 if the target is among the K items nearest to the trigger, else 0."""
    near = order[pairs["trigger"].to_numpy(), :K]
    return (near == pairs["target"].to_numpy()[:, None]).any(axis=1).astype(float)


def embed(encoder: ItemEncoder, items: dict[str, list[Any]], *, without: str | None) -> np.ndarray:
    """Embeds all items without one modality. An item that has nothing else gets the mean direction of all others.

    Args:
        encoder: The aligned encoder.
        items: Raw columns.
        without: Factor whose modality is left out, None for none.
    """
    hidden = {column: [None] * len(values) for column, values in items.items() if column == CONTENT.get(without or "")}
    found, reasons = encoder.encode({**items, **hidden})
    embeddings = found.numpy()
    lost = np.array([reason is not None for reason in reasons])
    mean = embeddings[~lost].mean(axis=0)
    embeddings[lost] = mean / np.linalg.norm(mean)
    return embeddings


def modality_table(
    orders: dict[str | None, np.ndarray], truth: pd.DataFrame, pairs: pd.DataFrame
) -> tuple[Table, list[str]]:
    """Makes the table of what the encoder finds without each modality, and sentences about its differences.

    Args:
        orders: Places from ``nearest`` by the modality that was left out, None for none.
        truth: Factors of the items and what they lack.
        pairs: Pairs from ``later_co_clicks``.
    """
    title = (
        f"the aligned encoder: HitRate@{K} of {len(pairs):,} later co-clicks, and how many of an item's {K} nearest items "
        "share its factors"
    )
    table = Table(title=title, title_justify="left", box=None)
    for name in ("encoder reads", f"HitRate@{K}", "95% interval", *FACTORS):
        table.add_column(name, justify="left" if name == "encoder reads" else "right", no_wrap=True)
    users, every = pairs["user_id"].to_numpy(), hits(orders[None], pairs)
    sentences = []
    for left_out, order in orders.items():
        found = hits(order, pairs)
        shares = [same_factor(order, truth[f].to_numpy(), ~truth[f"lacks_{f}"].to_numpy()) for f in FACTORS]
        reads = "all three" if left_out is None else f"all but the {left_out}"
        table.add_row(reads, f"{found.mean():.4f}", _bounds(user_interval(found, users)), *(f"{s:.1%}" for s in shares))
        if left_out is not None:
            bounds = user_interval(every - found, users)
            sure = bounds is not None and bounds[0] > 0
            means = "more than chance" if sure else "within its interval, so that these users do not show it"
            sentences.append(
                f"Without the {left_out}, HitRate@{K} falls by {(every - found).mean():.4f} (95% {_bounds(bounds)}): "
                f"{means}. "
                f"The {left_out} factor is then shared by {shares[FACTORS.index(left_out)]:.1%} of the nearest items; chance "
                "is about 25%."
            )
    table.add_row("chance", f"{K / (len(truth) - 1):.4f}", "", *["25.0%"] * 3)
    return table, sentences


def missing_table(order: np.ndarray, truth: pd.DataFrame, coded: np.ndarray) -> Table:
    """Makes the table of items by what they lack.

    Args:
        order: Places from ``nearest`` with all modalities.
        truth: Factors of the items and what they lack.
        coded: (I,) bool, whether the item has a semantic ID.
    """
    title = "items that lack a modality are embedded by the others: share of their nearest items with the same factor"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("items", "number", "with a semantic ID", *FACTORS):
        table.add_column(name, justify="left" if name == "items" else "right")
    lacking = truth[[f"lacks_{name}" for name in FACTORS]].to_numpy()
    groups = {"lack nothing": ~lacking.any(axis=1)} | {f"lack the {n}": lacking[:, p] for p, n in enumerate(FACTORS)}
    for name, rows in groups.items():
        if rows.any():
            shares = [f"{same_factor(order, truth[factor].to_numpy(), rows):.1%}" for factor in FACTORS]
            table.add_row(name, f"{rows.sum():,}", f"{(rows & coded).sum():,}", *shares)
    return table


def show(settings: Settings) -> None:
    """Prints both tables of a project.

    Args:
        settings: Settings of the demo's project.
    """
    version = current_encoder(Artifacts(settings.artifacts_path, "encoders"), settings)
    limits = media_limits(settings.encoder, settings.path)
    encoder = ItemEncoder.from_pretrained(version.path, limits=limits)
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    items = warehouse.arrow(ITEMS).to_table(["item_id", *encoder.columns]).sort_by("item_id").to_pydict()
    catalog = Path(settings.path("catalog"))
    truth = pd.read_parquet(catalog / "factors.parquet").set_index("item_id").loc[items.pop("item_id")].reset_index()
    ranking = settings.ranking
    pairs = later_co_clicks(
        pd.read_parquet(catalog / "clicks.parquet"), test_share=ranking.valid_share + ranking.test_share
    )
    orders = {name: nearest(embed(encoder, items, without=name)) for name in (None, *FACTORS)}
    coded = set(warehouse.arrow(ITEM_SEMANTIC_IDS).to_table(["item_id"])["item_id"].to_pylist())
    table, sentences = modality_table(orders, truth, pairs)
    console = plain_console()
    console.print(
        "", table, *sentences, "", missing_table(orders[None], truth, truth["item_id"].isin(coded).to_numpy())
    )


def _bounds(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


if __name__ == "__main__":
    show(load_settings(Path(sys.argv[1]) / "qarm.yaml"))
