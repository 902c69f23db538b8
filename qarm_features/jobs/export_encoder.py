"""Exports the fusion of a ranking model as the next encoder version.

In: a ranking model, its content tokens and its encoder. Out: an encoder version.
"""

from __future__ import annotations

from typing import Annotated

import typer

from qarm_features.embedding.encoder_export import exported_encoder, newest_with_fusion, publish_exported
from qarm_features.embedding.encoder_versions import item_encoder_config
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.ranking import ItemContentStore


@job(
    after="write-content-tokens, train-ranking-model",
    reads=("ranking_models/", "item_content/", "encoders/"),
    writes=("encoders/",),
    settings=("encoder", "items"),
)
def export_encoder(
    context: JobContext,
    ranking_model_version: Annotated[
        int | None, typer.Option(help="Ranking model version; the newest with a fusion by default.")
    ] = None,
    encoder_version: Annotated[
        int | None,
        typer.Option(help="Encoder version below the fusion; that of the content tokens by default."),
    ] = None,
) -> Counts:
    """Publishes the Fusion-Q-Former that a ranking model trained as the next encoder version.

    Then run embed-items, fit-codebooks, assign-semantic-ids and publish-features. All items are embedded again, and an item
    keeps its semantic ID if that adds little to its error.
    """
    models, encoders = context.artifacts("ranking_models"), context.artifacts("encoders")
    if ranking_model_version is None:
        model = newest_with_fusion(models).verify()
    else:
        model = models.get(ranking_model_version).verify()
    contents = context.artifacts("item_content")
    content = contents.latest()
    if "item_content_version" in model.manifest:
        content = contents.get(model.manifest["item_content_version"])
    if content is None:
        raise ValueError(
            "There are no content tokens, which the ranking model was trained on. Run: qarm write-content-tokens"
        )
    base = content.manifest["encoder_version"] if encoder_version is None else encoder_version
    made_from = {"ranking_model_version": model.version, "base_encoder_version": base}
    made_from["frozen_weight"] = context.settings.encoder.frozen_weight
    existing = encoders.find(exported=True, **made_from)
    if existing is None:
        encoder = exported_encoder(
            model.path,
            encoders.get(base).verify().path,
            tokens_kept=ItemContentStore.open(content.path).manifest["tokens_kept"],
            frozen_weight=made_from["frozen_weight"],
        )
        settings = context.settings
        config = item_encoder_config(settings.items, settings.encoder, aligned=settings.encoder.align)
        existing = publish_exported(encoders, encoder, config, made_from)
    remark = f"encoder v{existing.version} holds the fusion of ranking model v{model.version}. Next: qarm embed-items"
    return Counts(1, 1, 0, remark)
