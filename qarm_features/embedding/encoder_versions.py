"""Build, publish and find the encoder that a project uses.

In: the sections ``items`` and ``encoder`` of the settings, and the published versions. Out: an ``ItemEncoder``, or the
artifact that holds one. Settings that describe different encoders have different fingerprints, so each version belongs to
one description only.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qarm_features.encoders import ENCODERS, READS
from qarm_features.encoders.item_encoder import LIMITS, ItemEncoder, NoPretrainedBackbone
from qarm_features.encoders.recipe import described, read_recipe
from qarm_features.settings.load import Settings
from qarm_features.settings.sections import Alignment, Encoder
from qarm_features.settings.sources import ItemSource
from qarm_features.storage.artifacts import Artifact, Artifacts, fingerprint

logger = logging.getLogger(__name__)


def media_limits(encoder: Encoder, resolve: Callable[[str], str]) -> dict[str, dict[str, Any]]:
    """Return the limits of what encoders may read and decode, by modality.

    Args:
        encoder: The section ``encoder`` of the settings.
        resolve: Function that makes a media root absolute, usually ``settings.path``.

    Returns:
        For each modality the limits that its encoder takes as constructor arguments.
    """
    limits = {name: getattr(encoder, name) for name in LIMITS}
    limits["media_roots"] = [resolve(root.get_secret_value()) for root in encoder.media_roots]
    accepted = {modality: inspect.signature(build).parameters for modality, build in ENCODERS.items()}
    return {
        modality: {name: limit for name, limit in limits.items() if name in parameters}
        for modality, parameters in accepted.items()
    }


def item_encoder_config(items: ItemSource, encoder: Encoder, *, aligned: bool) -> dict[str, Any]:
    """Return the constructor arguments of the ``ItemEncoder`` that settings describe, without limits.

    Args:
        items: The section ``items`` of the settings; a modality is read if its column is set.
        encoder: The section ``encoder`` of the settings.
        aligned: True for the encoder that alignment trains, False for version 0 without a Q-Former.

    Returns:
        Keyword arguments of ``ItemEncoder``, as JSON.
    """
    rank = encoder.lora_rank if aligned else 0
    text: dict[str, Any] = {"backbone": encoder.text_backbone, "lora_rank": rank, "max_tokens": encoder.max_tokens}
    if items.text or (items.image and encoder.image_text_backbone):
        text["recipe"] = text_recipe(encoder)
    image: dict[str, Any] = {"backbone": encoder.image_backbone, "lora_rank": rank}
    if encoder.image_backbone == "patch-transformer":
        image["image_size"] = encoder.image_size
    described: dict[str, dict[str, Any]]
    if encoder.image_text_backbone:
        described = {"image_text": {**text, "backbone": encoder.image_text_backbone}}
    else:
        described = {"text": text, "image": image}
    described["audio"] = {
        "backbone": encoder.audio_backbone,
        "lora_rank": rank,
        "clip_seconds": encoder.clip_seconds,
    }
    described["precomputed"] = {"dim": items.precomputed_dim}
    names = ("num_queries", "dim", "num_layers", "num_heads")
    return {
        "modalities": {
            modality: arguments
            for modality, arguments in described.items()
            if any(getattr(items, content) for content in READS[modality])
        },
        "q_former": {name: getattr(encoder, name) for name in names} if aligned else None,
        "tokens_kept": encoder.tokens_kept if aligned else None,
        "frozen_weight": encoder.frozen_weight if aligned else 0.0,
    }


def text_recipe(encoder: Encoder) -> dict[str, Any]:
    """Return prompt, pooling and layers of the backbone that reads texts, from its files and the settings.

    Args:
        encoder: The section ``encoder`` of the settings.

    Returns:
        The recipe, as JSON; ``{}`` for the mean of all tokens without a prompt.

    Raises:
        ValueError: The recipe cannot be followed exactly, or would have to be guessed.
    """
    asked: dict[str, Any] = {"prompt": encoder.text_prompt, "pooling": encoder.text_pooling, "dim": encoder.text_dim}
    if encoder.image_text_backbone:
        return read_recipe(encoder.image_text_backbone, setting="encoder.image_text_backbone", **asked)
    return read_recipe(encoder.text_backbone, **asked)


def encoder_fingerprint(config: Mapping[str, Any]) -> str:
    """Return a short hash of what an encoder is, equal to that of release 0.1.0 where nothing is new in it.

    Args:
        config: Arguments from ``item_encoder_config``.

    Returns:
        The hash, by which versions are found.
    """
    return fingerprint(as_described(config))


def as_described(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments from ``item_encoder_config`` without recipes that change nothing."""
    modalities = {name: described(arguments) for name, arguments in config["modalities"].items()}
    return {**config, "modalities": modalities}


def with_limits(config: Mapping[str, Any], limits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return constructor arguments of an ``ItemEncoder`` together with the limits of what it may read.

    Args:
        config: Arguments from ``item_encoder_config``.
        limits: Limits by modality, from ``media_limits``.

    Returns:
        Keyword arguments of ``ItemEncoder``.
    """
    modalities = {name: {**arguments, **limits.get(name, {})} for name, arguments in config["modalities"].items()}
    return {**config, "modalities": modalities}


def publish_encoder(
    artifacts: Artifacts, encoder: ItemEncoder, config: Mapping[str, Any], manifest: Mapping[str, Any] | None = None
) -> Artifact:
    """Publish an encoder as the next version.

    Args:
        artifacts: All encoder versions of the project.
        encoder: Encoder to publish.
        config: Arguments from ``item_encoder_config``; ``current_encoder`` finds the version by them.
        manifest: Further entries of the version's manifest.

    Returns:
        The published version.
    """

    def write(folder: Path) -> None:
        encoder.save_pretrained(folder)

    return publish_files(artifacts, write, config, {**encoder.description, **(manifest or {})})


def publish_files(
    artifacts: Artifacts, write: Callable[[Path], object], config: Mapping[str, Any], manifest: Mapping[str, Any]
) -> Artifact:
    """Publish an encoder that another process built and saved, so that this one need not build it.

    Args:
        artifacts: All encoder versions of the project.
        write: Function that writes what ``save_pretrained`` saved into the folder that it is given.
        config: Arguments from ``item_encoder_config``; ``current_encoder`` finds the version by them.
        manifest: Entries of the version's manifest, with those of ``ItemEncoder.description``.

    Returns:
        The published version.
    """
    return artifacts.publish(write, made_from=encoder_fingerprint(config), **manifest)


def alignment_fingerprint(config: Mapping[str, Any], alignment: Alignment, seed: int) -> str:
    """Return a hash of everything that decides what alignment trains, without what only changes its speed.

    Args:
        config: Constructor arguments of the encoder, from ``item_encoder_config``.
        alignment: The section ``alignment`` of the settings.
        seed: Seed of the training.

    Returns:
        A short hash, equal for equal arguments.
    """
    training = {"seed": seed, **alignment.options(but={"num_processes", "cache_bytes", "step_bytes"})}
    return fingerprint([as_described(config), training])


def current_encoder(artifacts: Artifacts, settings: Settings) -> Artifact:
    """Return the version that settings describe, and publish version 0 first if it is that and does not exist.

    Where no version was aligned with the present settings of alignment and the seed, this is the newest that has the others,
    and a warning says so.

    Args:
        artifacts: All encoder versions of the project.
        settings: Settings of the project.

    Returns:
        The version, with verified files.

    Raises:
        ValueError: ``encoder.align`` is true and no aligned version has these settings.
    """
    if found := described_encoder(artifacts, settings):
        return found.verify()
    config = item_encoder_config(settings.items, settings.encoder, aligned=settings.encoder.align)
    if not settings.encoder.align:
        return publish_encoder(artifacts, ItemEncoder(**config), config)
    if newest := _find(artifacts, config, aligned=True):
        logger.warning(
            "WARNING: no encoder was aligned with the present settings alignment and seed. Encoder v%d is used, which was "
            "aligned with others. For one with these run: qarm align-encoder",
            newest.version,
        )
        return newest
    raise ValueError("No aligned encoder has the settings items: and encoder: of qarm.yaml. Run: qarm align-encoder")


def described_encoder(artifacts: Artifacts, settings: Settings) -> Artifact | None:
    """Return the version that settings describe, made by alignment or exported from a ranking model; None if there is none.

    Of the aligned versions this is the newest with the settings of alignment and the seed, or the newest that was exported
    from a ranking model after it.

    Args:
        artifacts: All encoder versions of the project.
        settings: Settings of the project.

    Returns:
        The version; its files are not verified.
    """
    config = item_encoder_config(settings.items, settings.encoder, aligned=settings.encoder.align)
    if settings.encoder.align:
        return _of_alignment(artifacts, config, alignment_fingerprint(config, settings.alignment, settings.seed))
    made_from = encoder_fingerprint(config)
    exported = artifacts.find(made_from=made_from, exported=True)  # a ranking model trained its Q-Former
    return exported or artifacts.find(made_from=made_from, aligned=False)


def unaligned_encoder(artifacts: Artifacts, items: ItemSource, encoder: Encoder) -> Artifact | None:
    """Return the encoder before alignment, with which an aligned one is compared, and publish it if it is missing.

    Args:
        artifacts: All encoder versions of the project.
        items: The section ``items`` of the settings.
        encoder: The section ``encoder`` of the settings.

    Returns:
        The version; None if no modality has a pretrained backbone, so that items cannot be encoded before alignment.
    """
    try:
        return _find_or_publish(artifacts, item_encoder_config(items, encoder, aligned=False))
    except NoPretrainedBackbone:
        return None


def _find_or_publish(artifacts: Artifacts, config: Mapping[str, Any]) -> Artifact:
    found = _find(artifacts, config, aligned=False)
    return found or publish_encoder(artifacts, ItemEncoder(**config), config)


def _find(artifacts: Artifacts, config: Mapping[str, Any], *, aligned: bool) -> Artifact | None:
    found = artifacts.find(made_from=encoder_fingerprint(config), aligned=aligned)
    return found and found.verify()


def _of_alignment(artifacts: Artifacts, config: Mapping[str, Any], wanted: str) -> Artifact | None:
    """Return the newest version of an alignment, or the newest export that follows it before another alignment does."""
    exported = None
    for one in artifacts.matching(made_from=encoder_fingerprint(config), aligned=True):
        if one.manifest.get("alignment") == wanted:
            return exported or one
        if not one.manifest.get("exported"):
            exported = None  # those exported after it follow another alignment
        elif exported is None:
            exported = one
    return None
