"""The fusion that a ranking model trained becomes the next encoder version: the loop is closed.

In: the folder of a ranking model with a Fusion-Q-Former, the encoder version whose frozen backbones made its content tokens.
Out: an ``ItemEncoder`` of those backbones below the trained Fusion-Q-Former: its embeddings are the content embeddings of the
ranking model, beside the frozen backbones' own output. EM3 (arXiv 2404.06078) trains the fusion by the ranking loss; QARM
(arXiv 2411.11739) cuts codes from item embeddings; here the second starts where the first ended.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qarm_features.embedding.encoder_versions import item_encoder_config
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.ranking import RankingModel
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifact, Artifacts, fingerprint

_CONFIG = "config.json"


def newest_with_fusion(models: Artifacts) -> Artifact:
    """Returns the newest ranking model that trained a Fusion-Q-Former.

    Raises:
        ValueError: There is none.
    """
    for version in reversed(models.versions()):
        artifact = models.get(version)
        if json.loads((artifact.path / _CONFIG).read_text()).get("use_fusion"):
            return artifact
    raise ValueError(
        "No ranking model was trained with use_fusion, must be one: the fusion is what is exported. "
        "Run: qarm train-ranking-model"
    )


def exported_encoder(
    ranking_model: str | Path, base: str | Path, *, tokens_kept: int, frozen_weight: float
) -> ItemEncoder:
    """Puts the Fusion-Q-Former of a ranking model above the backbones of an encoder.

    Args:
        ranking_model: Folder of the ranking model.
        base: Folder of the encoder whose backbones made the tokens that it was trained on.
        tokens_kept: Most tokens of a modality that it saw.
        frozen_weight: Length of the frozen backbones' output beside the fusion's of length 1; 0 leaves it out.

    Raises:
        ValueError: The ranking model has no fusion, or one for other tokens than the encoder's.
    """
    model, encoder = RankingModel.from_pretrained(str(ranking_model)), ItemEncoder.from_pretrained(str(base))
    if not model.config.use_fusion:
        raise ValueError(f"{ranking_model} was trained without a fusion, must have use_fusion=True to be exported.")
    dims = {name: of.dim for name, of in encoder.encoders.items()}
    if dict(model.config.token_dims) != dims:
        raise ValueError(
            f"The ranking model fuses tokens of {dict(model.config.token_dims)}, must be {dims} as of the encoder. Give the "
            "version whose backbones made its tokens by --encoder-version."
        )
    trained = model.items.fusion.q_former
    exported = ItemEncoder(
        {name: encoder.config["modalities"][name] for name in dims},
        q_former={
            "num_queries": model.config.num_queries,
            "dim": model.config.content_dim,
            "num_layers": model.config.fusion_layers,
            "num_heads": model.config.num_heads,
        },
        tokens_kept=tokens_kept,
        frozen_weight=frozen_weight,
    )
    exported.encoders.load_state_dict(encoder.encoders.state_dict())  # backbones that an alignment trained
    exported.q_former.load_state_dict(trained.state_dict())
    return exported.eval()


def publish_exported(encoders: Artifacts, encoder: ItemEncoder, settings: Settings, **manifest: Any) -> Artifact:
    """Publishes an exported encoder as what the settings use from now on; ``manifest`` holds what else to keep."""
    config = item_encoder_config(settings, aligned=settings.encoder.align)
    known = {"columns": encoder.columns, "dim": encoder.dim, "config": encoder.config}
    return encoders.publish(
        encoder.save_pretrained, made_from=fingerprint(config), aligned=True, exported=True, **known, **manifest
    )
