"""item_embeddings -> codebooks v<n>."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.codebooks.fit import fit_model, last_alike, quantizer, with_popularity
from qarm_features.codebooks.refit import refit_codebooks
from qarm_features.embedding.encoder_versions import current_encoder
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.semantic_ids.assign import level_sizes, load_codebooks, save_model
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEMS

_REFIT = typer.Option(help="Fit a new version although one exists for this encoder; most items keep their semantic ID.")
_FRESH = typer.Option(help="Fit from nothing: no item keeps its semantic ID but by chance. Implies --refit.")


@job(
    after="embed-items",
    reads=("items", "item_embeddings", "interactions", "encoders/"),
    writes=("codebooks/",),
    settings=("encoder", "codebooks", "seed"),
)
def fit_codebooks(
    context: JobContext, refit: Annotated[bool, _REFIT] = False, fresh: Annotated[bool, _FRESH] = False
) -> Counts:
    """Fits residual k-means over all items. Codebooks stay frozen until the encoder or their settings change, or --refit:
    new items get codes from the frozen ones, so no published semantic ID moves. A refit starts from the last codebooks of
    the same seed, levels, sizes and kind, and keeps the IDs of item_semantic_ids where that costs little."""
    settings, warehouse, codebooks = context.settings, context.warehouse, context.artifacts("codebooks")
    encoder, wanted = (
        current_encoder(context.artifacts("encoders"), settings.items, settings.encoder),
        settings.codebooks,
    )
    every = warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == encoder.version)
    embeddings = every.join(warehouse.read(ITEMS).select("item_id"), on="item_id", how="left_semi")
    rows = embeddings.count()
    embeddings = every if every.count() == rows else embeddings  # a plain scan is read faster
    made_from = {"encoder_version": encoder.version, "seed": settings.seed, **wanted.model_dump()}
    existing = codebooks.find(**made_from)
    if existing is not None and not (refit or fresh):
        newer = rows - existing.manifest["rows"]
        kept = f"codebooks v{existing.version} kept, {newer} more items than at their fit; --refit fits anew"
        return Counts(rows, rows, 0, kept)
    if wanted.popularity_power is not None:
        embeddings = with_popularity(embeddings, warehouse.read(INTERACTIONS), wanted.popularity_power)
    estimator = quantizer(wanted, seed=settings.seed)
    last = None if fresh else last_alike(codebooks, wanted, seed=settings.seed)
    old_ids = last and warehouse.read_or_empty(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == last.version)
    if old_ids is None or old_ids.isEmpty():
        model, levels = fit_model(embeddings, estimator)
        save, about = partial(save_model, model), {"level_sizes": model.level_sizes}
    else:
        old = load_codebooks(last) if last.manifest["encoder_version"] == encoder.version else None
        options = {"old_sizes": level_sizes(last.manifest), "keep_within": settings.semantic_ids.keep_within}
        made = refit_codebooks(embeddings, old_ids, estimator, old=old, **options)
        levels, save = made.levels, partial(save_model, made.model, new_code=made.new_code)
        refit_of = {"of": last.version, "keep_limit": made.keep_limit, "kept": made.kept}
        about = {"level_sizes": made.model.level_sizes, "refit": refit_of}
    artifact = codebooks.publish(lambda folder: save(folder=folder), **made_from, rows=rows, levels=levels, **about)
    remark = f"codebooks v{artifact.version}, relative error {levels[-1]['relative_error']:.3f} after the last level"
    if "refit" in about:
        remark += (
            f"; {made.kept['semantic_ids']:.1%} of {made.kept['items']} items keep their semantic ID of v{last.version}"
        )
    return Counts(rows, rows, 0, remark)
