"""Fits codebooks.

In: ``item_embeddings``; ``interactions`` for the weights, and ``item_semantic_ids`` for a refit. Out: a codebook version.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.fit import fit_model, last_alike, quantizer, require_enough_items, with_popularity
from qarm_features.codebooks.refit import refit_codebooks
from qarm_features.embedding.encoder_versions import current_encoder
from qarm_features.jobs.cautions import unused_codes
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.semantic_ids.assign import level_sizes, load_codebooks, save_model
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.origins import is_of_encoder, require_embeddings, require_same_origin
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEMS

_REFIT = typer.Option(help="Fit a new version even if one exists for this encoder; most items keep their semantic ID.")
_FRESH = typer.Option(help="Fit a new version from scratch, in which no item keeps its semantic ID; implies --refit.")


@job(
    after="embed-items",
    reads=("items", "item_embeddings", "interactions", "encoders/"),
    writes=("codebooks/",),
    settings=(*ENCODER_SETTINGS, "codebooks"),
)
def fit_codebooks(
    context: JobContext,
    refit: Annotated[bool, _REFIT] = False,
    fresh: Annotated[bool, _FRESH] = False,
    encoder_version: Annotated[
        int | None, typer.Option(help="Encoder version of the embeddings; that of the settings by default.")
    ] = None,
) -> Counts:
    """Fits residual k-means over all items.

    Codebooks stay frozen until the encoder or the settings change or --refit is given: new items get codes from them, so
    that no published semantic ID changes. A refit starts from the last codebooks with the same seed, levels, sizes and
    method. An item keeps its semantic ID if that adds little to its error.
    """
    settings, codebooks = context.settings, context.artifacts("codebooks")
    encoders, wanted = context.artifacts("encoders"), settings.codebooks
    requested = None if encoder_version is None else encoders.get(encoder_version).verify()
    encoder = requested or current_encoder(encoders, settings)
    embeddings, rows = _embeddings(context, encoder)
    made_from = {"encoder_version": encoder.version, "seed": settings.seed, **wanted.model_dump()}
    existing = codebooks.find(**made_from)
    if existing is not None and is_of_encoder(existing, encoder) and not (refit or fresh):
        newer = rows - existing.manifest["rows"]
        remark = (
            f"codebooks v{existing.version} are kept, {newer:+d} items since their fit. Use --refit to fit new ones"
        )
        return Counts(rows, rows, 0, remark)
    require_enough_items(wanted, rows)
    if wanted.popularity_power is not None:
        embeddings = with_popularity(embeddings, context.warehouse.read(INTERACTIONS), wanted.popularity_power)
    estimator = quantizer(wanted, seed=settings.seed)
    last = None if fresh else last_alike(codebooks, wanted, seed=settings.seed)
    if last is not None:
        require_same_origin(context.warehouse, ITEM_SEMANTIC_IDS, last)
    old_ids = None if last is None else _semantic_ids(context, last)
    about: dict[str, Any]
    if last is None or old_ids is None:
        model, levels = fit_model(embeddings, estimator)
        save, about, remark = partial(save_model, model), {"level_sizes": model.level_sizes}, ""
    else:
        made = refit_codebooks(
            embeddings,
            old_ids,
            estimator,
            old=load_codebooks(last) if _has_encoder(last, encoder) else None,
            old_sizes=level_sizes(last.manifest),
            keep_within=settings.semantic_ids.keep_within,
        )
        levels, save = made.levels, partial(save_model, made.model, new_code=made.new_code)
        refit_of = {"of": last.version, "keep_limit": made.keep_limit, "kept": made.kept}
        about = {"level_sizes": made.model.level_sizes, "refit": refit_of}
        share, items = made.kept["semantic_ids"], made.kept["items"]
        remark = f"; {share:.1%} of {items} items keep their semantic ID of v{last.version}"
    about |= {"encoder_fingerprint": encoder.fingerprint}
    artifact = codebooks.publish(lambda folder: save(folder=folder), **made_from, rows=rows, levels=levels, **about)
    error = levels[-1]["relative_error"]
    summary = f"codebooks v{artifact.version}, relative error {error:.3f} after the last level"
    return Counts(rows, rows, 0, summary + remark, tuple(unused_codes(levels, about["level_sizes"])))


def _has_encoder(codebooks: Artifact, encoder: Artifact) -> bool:
    return bool(codebooks.manifest["encoder_version"] == encoder.version and is_of_encoder(codebooks, encoder))


def _embeddings(context: JobContext, encoder: Artifact) -> tuple[DataFrame, int]:
    """Returns the embeddings of the items in the catalog, and their number.

    Raises:
        TableError: No item has an embedding of this encoder version, or another encoder of this number made them.
    """
    require_embeddings(context.warehouse, encoder)
    every = context.warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == encoder.version)
    in_catalog = every.join(context.warehouse.read(ITEMS).select("item_id"), on="item_id", how="left_semi")
    rows = in_catalog.count()
    # Spark reads a plain scan faster than a join.
    return (every if every.count() == rows else in_catalog), rows


def _semantic_ids(context: JobContext, codebooks: Artifact) -> DataFrame | None:
    """Returns the semantic IDs under a codebook version, or None if no item has one."""
    assigned = context.warehouse.read_or_empty(ITEM_SEMANTIC_IDS)
    semantic_ids = assigned.where(F.col("codebook_version") == codebooks.version)
    return None if semantic_ids.isEmpty() else semantic_ids
