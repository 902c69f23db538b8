"""Export the Fusion-Q-Former that a ranking model trained as the next encoder version.

In: the folder of a ranking model with a Fusion-Q-Former, and the encoder version whose frozen backbones made its content
tokens. Out: an ``ItemEncoder`` with these backbones and the trained Fusion-Q-Former. Its embeddings are the content
embeddings of the ranking model, concatenated with the pooled output of the frozen backbones. EM3 (arXiv 2404.06078) trains
the fusion by the ranking loss, and QARM (arXiv 2411.11739) fits codebooks to item embeddings; the export connects the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qarm_features.embedding.encoder_versions import publish_encoder
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.ranking import RankingModel
from qarm_features.storage.artifacts import Artifact, Artifacts

_CONFIG = "config.json"


def newest_with_fusion(models: Artifacts) -> Artifact:
    """Return the newest ranking model that trained a Fusion-Q-Former.

    Args:
        models: All ranking model versions of the project.

    Returns:
        The version.

    Raises:
        ValueError: No ranking model has a Fusion-Q-Former.
    """
    for version in reversed(models.versions()):
        artifact = models.get(version)
        if json.loads((artifact.path / _CONFIG).read_text()).get("use_fusion"):
            return artifact
    raise ValueError(
        "No ranking model was trained with use_fusion, so there is no fusion to export. Run: qarm train-ranking-model"
    )


def exported_encoder(
    ranking_model: str | Path, base: str | Path, *, tokens_kept: int, frozen_weight: float
) -> ItemEncoder:
    """Build an encoder from the backbones of another encoder and the Fusion-Q-Former of a ranking model.

    Args:
        ranking_model: Folder of the ranking model.
        base: Folder of the encoder whose backbones made the content tokens of the ranking model.
        tokens_kept: Greatest number of tokens of a modality in these content tokens, at least 1.
        frozen_weight: Length of the pooled output of the frozen backbones, which is concatenated to the output of the
            fusion of length 1; 0 leaves it out.

    Returns:
        The encoder, in evaluation mode.

    Raises:
        ValueError: The ranking model has no fusion, or its fusion takes other tokens than those of the encoder.
    """
    model, encoder = RankingModel.from_pretrained(str(ranking_model)), ItemEncoder.from_pretrained(str(base))
    fusion = model.items.fusion
    if not model.config.use_fusion or fusion is None:
        raise ValueError(f"{ranking_model} was trained without a fusion. Train it with use_fusion=True to export it.")
    dims = {name: modality.dim for name, modality in encoder.by_modality.items()}
    model_dims = dict(model.config.token_dims or {})
    if model_dims != dims:
        raise ValueError(
            f"The ranking model fuses tokens of {model_dims}, but the encoder makes tokens of {dims}. Name the encoder "
            "version whose backbones made its tokens by --encoder-version."
        )
    exported = ItemEncoder(
        {name: encoder.config["modalities"][name] for name in dims},
        q_former={
            "num_queries": model.config.num_queries,
            "dim": model.config.content_dim,
            "num_layers": model.config.fusion_layers,
            "num_heads": model.config.num_heads,
            **({"flatten_queries": True} if model.config.flatten_queries else {}),
        },
        tokens_kept=tokens_kept,
        frozen_weight=frozen_weight,
    )
    assert exported.q_former is not None
    exported.encoders.load_state_dict(encoder.encoders.state_dict())  # includes backbones that alignment has trained
    exported.q_former.load_state_dict(fusion.q_former.state_dict())
    return exported.eval()


def publish_exported(
    encoders: Artifacts, encoder: ItemEncoder, config: Mapping[str, Any], manifest: Mapping[str, Any]
) -> Artifact:
    """Publish an exported encoder as the version that the project uses from now on.

    Args:
        encoders: All encoder versions of the project.
        encoder: Encoder from ``exported_encoder``.
        config: Arguments from ``item_encoder_config``; ``current_encoder`` finds the version by them.
        manifest: Further entries of the version's manifest.

    Returns:
        The published version.
    """
    return publish_encoder(encoders, encoder, config, {"exported": True, **manifest})
