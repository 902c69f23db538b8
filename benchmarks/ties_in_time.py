"""What ties in time do to HitRate@10: pairs of consecutive positives in the order of item IDs, and real co-clicks.

The peer is the rule that is wrong: rows of one user at one moment are put in the order of their item IDs, or in a random
order, and every positive is paired with the row before it. Our rule pairs positives of different moments. The log and the
embeddings are those of a project after ``qarm embed-items``, for example of the demo. ::

    python benchmarks/ties_in_time.py --project demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

K = 10


def consecutive(positives: DataFrame, since, order: list[Column]) -> DataFrame:
    """Pair every positive from ``since`` on with the row before it, also of the same moment."""
    in_order = Window.partitionBy("user_id").orderBy("event_timestamp", *order)
    rows = positives.withColumn("trigger_item_id", F.lag("item_id").over(in_order))
    rows = rows.where((F.col("event_timestamp") >= F.lit(since)) & (F.col("trigger_item_id") != F.col("item_id")))
    number = F.row_number().over(Window.orderBy(F.xxhash64("user_id", "item_id", "event_timestamp"))) - 1
    pairs = rows.select(
        number.cast("bigint").alias("pair"), "trigger_item_id", F.col("item_id").alias("target_item_id")
    )
    return pairs.where(F.col("pair") < 20_000)


def main() -> None:
    """Print the share of ties and one line per rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--project", type=Path, default=Path("demo"), help="folder of a qarm.yaml after qarm embed-items"
    )
    arguments = parser.parse_args()
    from qarm_features.embedding.encoder_versions import current_encoder
    from qarm_features.evaluation.co_click_pairs import bought_together, evaluation_period, future_co_clicks
    from qarm_features.evaluation.encoders import target_ranks
    from qarm_features.jobs.context import JobContext
    from qarm_features.settings.load import load_settings
    from qarm_features.storage.moments import count_ties, drawn
    from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEM_PAIRS

    context = JobContext(load_settings(arguments.project / "qarm.yaml"), spark_log_on_stderr=False)
    settings, warehouse = context.settings, context.warehouse
    encoder = current_encoder(context.artifacts("encoders"), settings)
    embeddings = warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == encoder.version)
    log = warehouse.read(INTERACTIONS)
    period = evaluation_period(warehouse.read_or_empty(ITEM_PAIRS), log, settings.ranking)
    positives, sample = log.where("label = 1"), {"since": period.since, "max_pairs": 20_000, "seed": settings.seed}
    print(f"from {period.since:%Y-%m-%d} on ({period.words}), encoder v{encoder.version}")
    print(count_ties(positives, since=period.since).words("positives"))
    rules = {
        "row before, in the order of item IDs": consecutive(positives, period.since, [F.col("item_id")]),
        "row before, in random order": consecutive(positives, period.since, drawn()),
        "co-clicks, at different moments": future_co_clicks(log, **sample),
        "bought together, at one moment": bought_together(log, **sample),
    }
    rates = {}
    for name, pairs in rules.items():
        ranks = target_ranks(pairs.persist(), pairs.select("trigger_item_id", "target_item_id").limit(0), embeddings)
        rates[name] = float((ranks.rank < K).mean()) if len(ranks.rank) else float("nan")
        print(f"{name:38} {len(ranks.rank):7,} pairs  HitRate@{K} {rates[name]:.4f}", flush=True)
    print(f"{'by chance':38} {'':7}        HitRate@{K} {K / max(embeddings.count() - 1, 1):.4f}")
    first, _, ours, _ = rates.values()
    print(f"ratio of the first line to the third: {first / ours if ours else float('nan'):.2f}")


if __name__ == "__main__":
    main()
