"""Inputs of the benchmark ``alignment_2x2``, by the jobs and functions of the package.

In: MovieLens-1M. Out: a work folder with the training data of both kinds of pairs, later co-clicks, and frozen embeddings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from align_ml1m import DATA, write_project

from qarm_features import ItemEncoder
from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.packing import packed
from qarm_features.alignment.training_data import TrainingData
from qarm_features.settings.sections import Encoder

__all__ = ["DATA", "PAIRS", "Contents", "build_encoder", "prepare"]

MAX_CO_CLICKS = 20_000
COMMON = {"min_support": 1, "max_pairs_per_item": 20}
PAIRS = {
    "today": COMMON,
    "corrected": {**COMMON, "popularity_power": 0.5, "reversed_pairs": True, "max_pairs_per_target": 20},
}


def build_encoder(*, lora_rank: int = 0) -> ItemEncoder:
    """Build an encoder with the default settings, but for the rank of LoRA in its backbone."""
    settings = Encoder()
    shape = {name: getattr(settings, name) for name in ("num_queries", "dim", "num_layers", "num_heads")}
    modalities = {"text": {"backbone": settings.text_backbone, "lora_rank": lora_rank}}
    return ItemEncoder(
        modalities, q_former=shape, tokens_kept=settings.tokens_kept, frozen_weight=settings.frozen_weight
    )


class Contents:
    """The frozen tokens of all items, which are the same for every row and are computed once for a work folder."""

    def __init__(self, data: TrainingData, work: Path) -> None:
        self.content = ItemContent(build_encoder(), data.items, cache_bytes=10**10)
        file, everything = work / "tokens.pt", np.arange(len(data.items))
        if not file.exists():
            torch.save(self.content._compute(everything.tolist()) | {"rejected": self.content.rejected}, file)
        rows = torch.load(file, weights_only=True)
        self.content.rejected = rows.pop("rejected")
        self.content._is_rejected[list(self.content.rejected)] = True
        self.content._keep(rows)
        self.frozen = self.content.frozen_geometry(everything)

    def of(self, encoder: ItemEncoder, data: TrainingData) -> ItemContent:
        """Return the content of the items of the training data for another encoder."""
        content = ItemContent(encoder, data.items, cache_bytes=0)
        for name in ("rejected", "_is_rejected", "_is_cached", "_tokens", "_vectors"):
            setattr(content, name, getattr(self.content, name))
        return content


def prepare(work: Path, *, period: str) -> None:
    """Write the inputs, unless the folder holds them.

    Args:
        work: Folder that is written.
        period: ``valid`` or ``test``: the co-clicks that are measured; pairs are mined from what is earlier.
    """
    if (work / "weight").exists():
        return
    from pyspark.sql import functions as F

    from qarm_features.alignment.export_pairs import write_alignment_data
    from qarm_features.evaluation.co_click_pairs import evaluation_period, future_co_clicks, shuffled
    from qarm_features.evaluation.encoders import describe_pairs
    from qarm_features.evaluation.popularity import best_popularity_weight, matched_items, popularity_slices
    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.context import JobContext
    from qarm_features.jobs.ingest_catalog import ingest_catalog
    from qarm_features.jobs.mine_item_pairs import mine_item_pairs
    from qarm_features.settings.load import load_settings
    from qarm_features.storage.tables import INTERACTIONS, ITEM_PAIRS, ITEMS

    project = work / "project"
    for place, (name, changes) in enumerate(PAIRS.items()):
        if place == 0:
            until = write_project(project, modalities=["text"], period=period, changes={"encoder": {"align": False}})
        config = (project / "qarm.yaml").read_text()
        file = project / f"{name}.yaml"
        file.write_text(config + f"\nitem_pairs: {changes}\n".replace("True", "true"))
        context = JobContext(load_settings(file), spark_log_on_stderr=False)
        warehouse = context.warehouse
        if place == 0:
            run_job(ingest_catalog, context)
        run_job(mine_item_pairs, context, until=until)
        pairs, items = warehouse.read(ITEM_PAIRS), warehouse.read(ITEMS)
        print(name, pairs.groupBy("source").count().collect(), flush=True)
        write_alignment_data(
            pairs,
            items,
            work / name,
            columns=["text"],
            max_pairs=10_000_000,
            valid_share=0.01,
            valid_item_share=0.0,
            seed=0,
        )
        if place == 0:
            log, known = warehouse.read(INTERACTIONS), pairs.persist()
            since = evaluation_period(known, log, context.settings.ranking).since
            co_clicks = future_co_clicks(log, since=since, max_pairs=MAX_CO_CLICKS, seed=0).persist()
            slices = popularity_slices(log, until=since).persist()
            described = describe_pairs(co_clicks, slices, known)
            exchanged = shuffled(co_clicks, seed=0).toPandas()
            ends = co_clicks.select("pair", "trigger_item_id", "target_item_id").toPandas()
            positives = items.select("item_id").join(slices, on="item_id", how="left")
            positives = positives.select("item_id", F.coalesce("positives", F.lit(0)).alias("positives")).persist()
            matched = matched_items(co_clicks, positives, seed=0).toPandas()
            catalog = positives.orderBy("item_id").toPandas()
        context.spark.catalog.clearCache()  # or the next pairs would be read from the cache of these
    data = TrainingData(packed(work / "today"), batch_size=2)
    assert len(data.items) == len(catalog)  # so the item indexes of alignment are the places in the catalog
    frozen = Contents(data, work).frozen.numpy()
    np.save(work / "frozen.npy", frozen)
    index = pd.Series(np.arange(len(catalog)), catalog["item_id"])
    pairs = described.merge(ends, on="pair").sort_values("pair", ignore_index=True)
    pairs["trigger"], pairs["target"] = (index[pairs[f"{end}_item_id"]].to_numpy() for end in ("trigger", "target"))
    other = pairs["pair"].map(exchanged.set_index("pair")["target_item_id"]).fillna(pairs["trigger_item_id"])
    pairs["exchanged"] = index[other].to_numpy()  # the trigger itself stands for no target
    rows = pd.Series(np.arange(len(pairs)), pairs["pair"])
    matched = pd.DataFrame({"row": rows[matched["pair"]].to_numpy(), "item": index[matched["item_id"]].to_numpy()})
    pairs.to_parquet(work / "pairs.parquet")
    matched.to_parquet(work / "matched.parquet")
    catalog.to_parquet(work / "items.parquet")
    genres = pd.read_parquet(DATA / "items.parquet", columns=["item_id", "genres"]).set_index("item_id")["genres"]
    np.save(work / "types.npy", genres.loc[catalog["item_id"]].str.get_dummies(", ").to_numpy(bool))
    vectors = pd.DataFrame({"item_id": catalog["item_id"], "embedding": list(frozen)})
    embeddings = context.spark.createDataFrame(vectors, "item_id bigint, embedding array<float>")
    weight = best_popularity_weight(log, embeddings, until=since, k=10, max_pairs=2_000, seed=0)
    (work / "weight").write_text(str(weight))
