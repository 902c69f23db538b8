"""Proposes levels and codebook sizes for the catalog.

In: ``item_embeddings``, ``interactions``. Out: advice on the terminal or as JSON, and the lines of ``qarm.yaml`` to paste.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.embedding.encoder_versions import current_encoder
from qarm_features.evaluation.size_advice import advise
from qarm_features.evaluation.size_sample import size_sample
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.report.size_advice_text import advice_lines, advice_values
from qarm_features.storage.origins import require_embeddings
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEMS
from qarm_features.terminal import one_line
from qarm_features.training.time_split import SPLIT_SETTINGS, split_moments


@job(
    after="embed-items",
    reads=("items", "item_embeddings", "interactions", "encoders/"),
    writes=(),
    settings=(*ENCODER_SETTINGS, *SPLIT_SETTINGS),
)
def advise_codes(
    context: JobContext,
    max_items: Annotated[int, typer.Option(help="Highest number of items in the sample.", min=80)] = 10_000,
    max_pairs: Annotated[int, typer.Option(help="Highest number of co-clicks, sampled by seed.", min=0)] = 5_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on one line.")] = False,
) -> Counts:
    """Proposes levels and codebook sizes from a sample of embeddings and from co-clicks, and says what they rest on.

    Each size has the rule that chose it: a bend of the error, which is a number of clusters; the size at which a co-click
    says most; or a convention where the data says nothing. Co-clicks of the valid and test split are not read. Nothing is
    written.
    """
    settings, warehouse = context.settings, context.warehouse
    encoder = current_encoder(context.artifacts("encoders"), settings)
    require_embeddings(warehouse, encoder)
    embeddings = warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == encoder.version)
    embeddings = embeddings.join(warehouse.read(ITEMS).select("item_id"), on="item_id", how="left_semi")
    log = warehouse.read_or_empty(INTERACTIONS)
    until = None if log.isEmpty() or not max_pairs else split_moments(log, settings.ranking)[0]
    limits = {"max_items": max_items, "max_pairs": max_pairs, "seed": settings.seed}
    sample = size_sample(embeddings, log, until=until, **limits)
    advice = advise(sample.embeddings, items=sample.items, pairs=sample.pairs, seed=settings.seed)
    if as_json:
        typer.echo(json.dumps(advice_values(advice)))
    else:
        for line in advice_lines(advice):
            typer.echo(one_line(line))
    sizes = " x ".join(str(level.size) for level in advice.levels)
    return Counts(sample.items, len(sample.embeddings), sample.items - len(sample.embeddings), f"advice: {sizes}")
