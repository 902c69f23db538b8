"""Which encoder a project uses: made from its settings, published as a version, found again.

In: the sections ``items`` and ``encoder``, and the published versions. Out: an ``ItemEncoder`` or the artifact that holds
one. Two settings that make different encoders have different fingerprints, so that no version stands for both.
"""

from __future__ import annotations

from typing import Any

from qarm_features.encoders import READS
from qarm_features.encoders.item_encoder import ItemEncoder, NoPretrainedBackbone
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifact, Artifacts, fingerprint


def media_limits(settings: Settings) -> dict[str, dict[str, Any]]:
    """Returns what the settings allow an encoder to read and decode, by modality."""
    of = settings.encoder
    shared = {"media_roots": [settings.path(r) for r in of.media_roots], "max_media_bytes": of.max_media_bytes}
    image = {**shared, "max_image_pixels": of.max_image_pixels}
    return {
        "image": image,
        "image_text": image,
        "audio": {**shared, "max_audio_seconds": of.max_audio_seconds},
    }


def item_encoder_config(settings: Settings, *, aligned: bool) -> dict[str, Any]:
    """Returns the arguments of the ``ItemEncoder`` that the sections ``items`` and ``encoder`` describe, but limits."""
    items, of = settings.items, settings.encoder
    rank = of.lora_rank if aligned else 0
    text = {"backbone": of.text_backbone, "lora_rank": rank, "max_tokens": of.max_tokens}
    image = {"backbone": of.image_backbone, "lora_rank": rank}
    if of.image_backbone == "patch-transformer":
        image["image_size"] = of.image_size
    if of.image_text_backbone:
        apart = {"image_text": {**text, "backbone": of.image_text_backbone}}
    else:
        apart = {"text": text, "image": image}
    described = {
        **apart,
        "audio": {"backbone": of.audio_backbone, "lora_rank": rank, "clip_seconds": of.clip_seconds},
        "precomputed": {"dim": items.precomputed_dim},
    }
    names = ("num_queries", "dim", "num_layers", "num_heads")
    return {
        "modalities": {m: given for m, given in described.items() if any(getattr(items, part) for part in READS[m])},
        "q_former": {name: getattr(of, name) for name in names} if aligned else None,
        "tokens_kept": of.tokens_kept if aligned else None,
        "frozen_weight": of.frozen_weight if aligned else 0.0,
    }


def item_encoder_arguments(settings: Settings, *, aligned: bool) -> dict[str, Any]:
    """Returns all arguments of the ``ItemEncoder`` that the settings describe: ``item_encoder_config`` and the limits."""
    config, limits = item_encoder_config(settings, aligned=aligned), media_limits(settings)
    modalities = {name: {**given, **limits.get(name, {})} for name, given in config["modalities"].items()}
    return {**config, "modalities": modalities}


def item_encoder_from_settings(settings: Settings, *, aligned: bool) -> ItemEncoder:
    """Makes a new encoder of the modalities whose columns are set; ``aligned`` gives it a Q-Former to be trained."""
    return ItemEncoder(**item_encoder_arguments(settings, aligned=aligned))


def publish_encoder(artifacts: Artifacts, encoder: ItemEncoder, settings: Settings, **manifest: Any) -> Artifact:
    """Publishes an encoder made from these settings as the next version; ``manifest`` holds what else to keep."""
    aligned = encoder.q_former is not None
    made_from = fingerprint(item_encoder_config(settings, aligned=aligned))
    known = {"columns": encoder.columns, "dim": encoder.dim, "config": encoder.config}
    return artifacts.publish(encoder.save_pretrained, made_from=made_from, aligned=aligned, **known, **manifest)


def current_encoder(artifacts: Artifacts, settings: Settings) -> Artifact:
    """Returns the newest version made from these settings, by alignment or exported from a ranking model.

    Publishes version 0 when there is none and none is to be aligned.

    Raises:
        ValueError: ``encoder.align`` is true and no aligned version has these settings.
    """
    if not settings.encoder.align:
        made_from = fingerprint(item_encoder_config(settings, aligned=False))
        exported = artifacts.find(made_from=made_from, exported=True)  # by a ranking model, above the same backbones
        return exported.verify() if exported else _found_or_published(artifacts, settings)
    found = _find(artifacts, settings, aligned=True)
    if found is None:
        raise ValueError(
            "No aligned encoder has the settings items: and encoder: of qarm.yaml. Run: qarm align-encoder"
        )
    return found


def unaligned_encoder(artifacts: Artifacts, settings: Settings) -> Artifact | None:
    """Returns the encoder before alignment, against which an aligned one is measured, and publishes it if need be.

    None where no modality has a pretrained backbone: there is nothing to encode with before training.
    """
    try:
        return _found_or_published(artifacts, settings)
    except NoPretrainedBackbone:
        return None


def _found_or_published(artifacts: Artifacts, settings: Settings) -> Artifact:
    found = _find(artifacts, settings, aligned=False)
    return found or publish_encoder(artifacts, item_encoder_from_settings(settings, aligned=False), settings)


def _find(artifacts: Artifacts, settings: Settings, *, aligned: bool) -> Artifact | None:
    made_from = fingerprint(item_encoder_config(settings, aligned=aligned))
    found = artifacts.find(made_from=made_from, aligned=aligned)
    return found and found.verify()
