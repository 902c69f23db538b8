"""Makes semantic IDs by the frozen encoder, to compare them with those of the aligned one.

In: ``items``, encoders. Out: ``item_embeddings`` of the frozen encoder, a codebook version, ``item_semantic_ids`` under it.
"""

from __future__ import annotations

from qarm_features.embedding.encoder_versions import current_encoder, unaligned_encoder
from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.fit_codebooks import fit_codebooks
from qarm_features.jobs.job import Counts, job


@job(
    after="align-encoder",
    reads=("items", "interactions", "encoders/"),
    writes=("item_embeddings", "rejected_rows", "codebooks/", "item_semantic_ids"),
    settings=(*ENCODER_SETTINGS, "codebooks", "semantic_ids"),
)
def code_frozen_items(context: JobContext) -> Counts:
    """Embeds all items by the frozen encoder, fits codebooks to them, and assigns semantic IDs.

    `qarm run --compare` runs it before the aligned encoder gets codebooks, so that the newest codebooks are those of the
    aligned encoder. Where these exist already, no codebooks are fitted.
    """
    settings, encoders, codebooks = context.settings, context.artifacts("encoders"), context.artifacts("codebooks")
    frozen = unaligned_encoder(encoders, settings.items, settings.encoder)
    if frozen is None:
        return Counts(0, 0, 0, "there is no frozen encoder, because every backbone is trained from scratch")
    aligned = current_encoder(encoders, settings)
    made_from = {"seed": settings.seed, **settings.codebooks.model_dump()}
    found = codebooks.find(encoder_version=frozen.version, **made_from)
    newer = codebooks.find(encoder_version=aligned.version, **made_from)
    if found is None and newer is not None and aligned.version != frozen.version:
        return Counts(
            0, 0, 0, f"no codes by the frozen encoder, because codebooks v{newer.version} of the aligned one are there"
        )
    embed_items.function(context, encoder_version=frozen.version)
    fit_codebooks.function(context, encoder_version=frozen.version)
    fitted = codebooks.find(encoder_version=frozen.version, **made_from)
    assert fitted is not None, "the line above fits them"
    return assign_semantic_ids.function(context, codebook_version=fitted.version)
