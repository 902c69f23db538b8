"""Mines item pairs.

In: ``interactions``, ``items``. Out: ``item_pairs``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pyspark.sql import functions as F

from qarm_features.item_pairs import flag_kept_pairs, load_filter, positives
from qarm_features.item_pairs import mine_item_pairs as mine
from qarm_features.item_pairs.item_vectors import read_item_vectors
from qarm_features.jobs.cautions import items_without_vectors
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import path_state
from qarm_features.settings.load import Settings
from qarm_features.storage.moments import count_ties
from qarm_features.storage.tables import INTERACTIONS, ITEM_PAIRS, ITEMS
from qarm_features.training.time_split import SPLIT_SETTINGS, split_moments

_UNTIL = typer.Option(help="Use interactions before this ISO 8601 time in UTC; those of the train split by default.")


def _user_vectors(settings: Settings) -> dict[str, Any]:
    """Returns the state of the user's own item vectors, if the settings name some."""
    vectors = settings.item_pairs.item_vectors
    return {vectors: path_state(settings.path(vectors))} if vectors else {}


@job(
    after="ingest-catalog",
    reads=("interactions", "items"),
    writes=("item_pairs",),
    settings=("item_pairs", "seed", *SPLIT_SETTINGS),
    extra_inputs=_user_vectors,
)
def mine_item_pairs(context: JobContext, until: Annotated[str | None, _UNTIL] = None) -> Counts:
    """Mines the positive item pairs that align the encoder.

    Only interactions of the train split are used, so that evaluate-encoder and the ranking model are tested on later ones.
    Positives of one user at one moment are in the order of interactions.order_by if it is set, and else in that of a hash.
    Their share is printed.
    The rows in are the mined pairs. The rejected rows are the pairs that the pair filter drops.
    """
    settings, before = context.settings.item_pairs, _moment(until) if until else None
    if settings.filter is not None:
        load_filter(settings.filter)
    warehouse = context.warehouse
    log = warehouse.read(INTERACTIONS)
    before = before or split_moments(log, context.settings.ranking)[0]
    rows = positives(log, until=before)
    num_positives = rows.count()
    if num_positives == 0:
        raise ValueError(
            f"interactions has 0 positives before {before:%Y-%m-%d %H:%M}, must have at least 1. Set --until to a later time."
        )
    vectors, warnings = None, list[str]()
    if settings.item_vectors:
        vectors = read_item_vectors(context.spark, context.settings.path(settings.item_vectors))
        warnings = items_without_vectors(rows, vectors)
    pairs = mine(rows, settings=settings, seed=context.settings.seed, item_vectors=vectors)
    threshold = settings.filter_threshold
    pairs = flag_kept_pairs(pairs, warehouse.read(ITEMS), filter_name=settings.filter, threshold=threshold).persist()
    by_source = pairs.groupBy("source").agg(F.count("*").alias("mined"), F.count_if("kept").alias("kept"))
    counts = by_source.orderBy("source").collect()
    warehouse.overwrite(ITEM_PAIRS, pairs.where("kept"))
    mined, kept = (sum(row[name] for row in counts) for name in ("mined", "kept"))
    shares = [f"{row['source']} {row['kept']} ({1 - row['kept'] / row['mined']:.1%} dropped)" for row in counts]
    remark = f"{num_positives} positives gave {', '.join(shares) or 'no pairs'}; {count_ties(rows).words('positives')}"
    return Counts(mined, kept, mined - kept, remark, tuple(warnings))


def _moment(until: str) -> datetime:
    try:
        moment = datetime.fromisoformat(until)
    except ValueError:
        raise ValueError(f"--until is {until}, must be an ISO 8601 time, for example 2024-05-01T00:00:00.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
