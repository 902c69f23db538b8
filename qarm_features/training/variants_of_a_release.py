"""Ranking models of a release: the variants that the settings name, each trained once on the same rows.

In: ``training_rows``, and what the variants read of items: ``item_embeddings`` and ``item_nearest_items`` of the release's
encoder, the newest ``item_content``. Out: ``item_features`` v<n> and ``ranking_models`` v<n>, whose manifests name the
versions that they were made from.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qarm_features.feature_store.views.feature_views import Release
from qarm_features.ranking import ItemSources, TrainingOptions, item_vocabulary, write_item_features
from qarm_features.ranking.model.variants import named_variants
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifact, Artifacts, fingerprint
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, TRAINING_ROWS
from qarm_features.storage.warehouse import Warehouse

_SPLITS = ("train", "valid", "test")
_READ = {
    "use_frozen_vector": ("item embeddings", "qarm embed-items"),
    "use_nearest_items": ("VQ codes", "qarm find-nearest-items"),
    "use_fusion": ("content tokens", "qarm write-content-tokens"),
}


def train_variants(
    settings: Settings, warehouse: Warehouse, release: Release, *, seed: int, run: Callable[..., Any]
) -> list[Artifact]:
    """Trains the variants of ``ranking.variants`` that are not trained yet, with one seed, in one launch.

    Args:
        settings: Of the project.
        warehouse: The tables.
        release: Whose codes ``training_rows`` hold.
        seed: Of the models.
        run: Calls ``train_ranking_models`` with its arguments, in as many processes as it likes.

    Returns:
        The models, in the order of the settings.

    Raises:
        ValueError: A variant is unknown, or what it reads of items is not there yet.
    """
    models = Artifacts(settings.artifacts_path, "ranking_models")
    files = {
        f"{split}_files": warehouse.files(TRAINING_ROWS, codebook_version=release.codebook_version, split=split)
        for split in _SPLITS
    }
    options = _options(settings, seed)
    variants = []
    for name, switches in named_variants(settings.ranking.variants).items():
        switches = {"dropout": settings.ranking.dropout, **switches}
        read = [switch for switch in _READ if switches.get(switch)]
        sources = _sources(settings, warehouse, release, read, variant=name)
        inputs = fingerprint([files, str(options), switches, str(sources)])
        variants.append(_Variant(switches, read, sources, {"variant": name, "seed": seed, "inputs": inputs}))
    missing = [variant for variant in variants if models.find(**variant.made_from) is None]
    features = _item_features(settings, release, [variant.sources for variant in missing], files["train_files"])
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(number) for number in range(len(missing))]
        if missing:
            run(
                [variant.arguments(output, features) for variant, output in zip(missing, outputs)],
                **files, options=options, num_levels=release.num_levels, codebook_size=release.codebook_size,
                codebook_version=release.codebook_version,
            )  # fmt: skip
        for variant, output in zip(missing, outputs):
            models.publish(
                functools.partial(shutil.copytree, output, dirs_exist_ok=True),
                **variant.made_from,
                **variant.versions(features),
                codebook_version=release.codebook_version,
                metrics=json.loads((output / "metrics.json").read_text()),
            )
    return [models.find(**variant.made_from) for variant in variants]


class _Variant(NamedTuple):
    """A variant: its switches, those of them that read item features, from where, and what tells its model apart."""

    switches: dict[str, Any]
    read: list[str]
    sources: ItemSources
    made_from: dict[str, Any]

    def arguments(self, output: Path, features: Artifact | None) -> dict[str, Any]:
        """Returns the arguments of ``train_ranking_model`` that are its own."""
        item_features = str(features.path) if self.read else None
        return {**self.switches, "output_dir": str(output), "item_features": item_features}

    def versions(self, features: Artifact | None) -> dict[str, int]:
        """Returns the versions of what it reads of items."""
        found = {"item_features_version": features.version} if self.read else {}
        if "use_fusion" in self.read:
            found["item_content_version"] = features.manifest["item_content_version"]
        return found


def _options(settings: Settings, seed: int) -> TrainingOptions:
    of = settings.ranking
    return TrainingOptions(
        epochs=of.epochs,
        batch_size=of.batch_size,
        learning_rate=of.learning_rate,
        weight_decay=of.weight_decay,
        patience=of.patience,
        behavior_length=settings.behavior.max_length,
        seed=seed,
    )


def _sources(
    settings: Settings, warehouse: Warehouse, release: Release, read: Collection[str], *, variant: str
) -> ItemSources:
    """Returns where what is read of items comes from.

    Raises:
        ValueError: Some of it is not there yet.
    """
    encoder, found = release.encoder_version, {}
    if "use_frozen_vector" in read:
        found["embedding_files"] = tuple(_files(warehouse, ITEM_EMBEDDINGS, encoder_version=encoder))
    if "use_nearest_items" in read:
        bank = Artifacts(settings.artifacts_path, "banks").find(encoder_version=encoder)
        if bank is not None:
            found["nearest_item_files"] = tuple(_files(warehouse, ITEM_NEAREST_ITEMS, bank_version=bank.version))
    if "use_fusion" in read:
        content = Artifacts(settings.artifacts_path, "item_content").latest()
        if content is not None:
            found["content_folder"] = str(content.path)
    fields = dict(zip(_READ, ("embedding_files", "nearest_item_files", "content_folder")))
    for switch in read:
        if not found.get(fields[switch]):
            what, command = _READ[switch]
            of = "" if switch == "use_fusion" else f" of encoder version {encoder}"
            raise ValueError(
                f'ranking.variants holds "{variant}", which reads {what}{of}: there are none yet, must be some. '
                f"Run: {command}"
            )
    return ItemSources(**found)


def _item_features(
    settings: Settings, release: Release, of_variants: Sequence[ItemSources], train_files: list[str]
) -> Artifact | None:
    """Returns the item features of the training rows' items, written if need be; None where no variant reads any."""
    sources = ItemSources(**{field: value for one in of_variants for field, value in vars(one).items() if value})
    if sources == ItemSources():
        return None
    content = Artifacts(settings.artifacts_path, "item_content").latest() if sources.content_folder else None
    made_from = fingerprint([train_files, str(sources)])
    kept = Artifacts(settings.artifacts_path, "item_features")
    found = kept.find(made_from=made_from)
    if found is not None:
        return found
    vocabulary = item_vocabulary(train_files)
    return kept.publish(
        lambda folder: write_item_features(folder, vocabulary, sources),
        made_from=made_from,
        encoder_version=release.encoder_version,
        item_content_version=content and content.version,
    )


def _files(warehouse: Warehouse, table: Any, **partition: int) -> list[str]:
    return warehouse.files(table, **partition) if warehouse.exists(table) else []
