"""item_embeddings -> codebooks v<n>."""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.encoder_versions import current_encoder
from qarm_features.quantizers import ResidualKMeans
from qarm_features.semantic_ids import save_codebooks
from qarm_features.tables import ITEM_EMBEDDINGS, ITEMS
from spark_jobs.session import Counts, JobContext, job, main


@job(
    after="embed-items",
    reads=("items", "item_embeddings", "encoders/"),
    writes=("codebooks/",),
    settings=("encoder", "codebooks", "seed"),
)
def fit_codebooks(
    context: JobContext,
    refit: Annotated[bool, typer.Option(help="Fit a new version although one exists for this encoder.")] = False,
) -> Counts:
    """Fits residual k-means over all items. Codebooks stay frozen until the encoder or their settings change, or --refit:
    new items get codes from the frozen ones, so no published semantic ID moves."""
    settings, warehouse, codebooks = context.settings, context.warehouse, context.artifacts("codebooks")
    encoder = current_encoder(context.artifacts("encoders"), settings)
    embeddings = warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == encoder.version)
    embeddings = embeddings.join(warehouse.read(ITEMS).select("item_id"), on="item_id", how="left_semi")
    rows = embeddings.count()
    made_from = {"encoder_version": encoder.version, "seed": settings.seed, **settings.codebooks.model_dump()}
    existing = codebooks.find(**made_from)
    if existing is not None and not refit:
        newer = rows - existing.manifest["rows"]
        kept = f"codebooks v{existing.version} kept, {newer} more items than at their fit; --refit fits anew"
        return Counts(rows, rows, 0, kept)
    model = ResidualKMeans(
        inputCol="embedding",
        outputCol="rq_codes",
        numLevels=settings.codebooks.num_levels,
        codebookSize=settings.codebooks.codebook_size,
        maxIter=settings.codebooks.max_iter,
        tol=settings.codebooks.tol,
        seed=settings.seed,
    ).fit(embeddings)
    artifact = codebooks.publish(
        lambda folder: save_codebooks(model, folder), **made_from, rows=rows, levels=model.training_summary
    )
    error = model.training_summary[-1]["relative_error"]
    return Counts(rows, rows, 0, f"codebooks v{artifact.version}, relative error {error:.3f} after the last level")


if __name__ == "__main__":
    main(fit_codebooks)
