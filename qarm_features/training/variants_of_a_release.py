"""The ranking models of a release: each variant that the settings name is trained once, all on the same rows.

In: ``training_rows``, and the item features that the variants read: ``item_embeddings`` and ``item_nearest_items`` of the
release's encoder, and the newest ``item_content``. Out: ``item_features`` v<n> and ``ranking_models`` v<n>. Their manifests
name the versions that they were made from.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from qarm_features.feature_store.views.feature_views import Release
from qarm_features.ranking import ItemSources, TrainingOptions, item_vocabulary, write_item_features
from qarm_features.ranking.model.parts import registered_input
from qarm_features.ranking.model.variants import named_variants
from qarm_features.settings.ranking import Ranking
from qarm_features.storage.artifacts import Artifact, Artifacts, fingerprint
from qarm_features.storage.objects import AnyPath
from qarm_features.storage.origins import OriginError, require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, TRAINING_ROWS, Table
from qarm_features.storage.warehouse import Warehouse

_SPLITS = ("train", "valid", "test")


class _ItemFeature(NamedTuple):
    """What a switch of a variant reads of items.

    Attributes:
        field: Field of ``ItemSources`` that names the files.
        noun: Name in errors.
        command: Command that writes the files.
        by_encoder: True if the files belong to one encoder version.
    """

    field: str
    noun: str
    command: str
    by_encoder: bool


_ITEM_FEATURES = {
    "use_frozen_vector": _ItemFeature("embedding_files", "item embeddings", "qarm embed-items", True),
    "use_nearest_items": _ItemFeature("nearest_item_files", "VQ codes", "qarm find-nearest-items", True),
    "use_fusion": _ItemFeature("content_folder", "content tokens", "qarm write-content-tokens", False),
}


def train_variants(
    warehouse: Warehouse,
    release: Release,
    *,
    artifacts: AnyPath,
    ranking: Ranking,
    behavior_length: int,
    seed: int,
    run: Callable[..., Any],
) -> list[Artifact]:
    """Train the variants of ``ranking.variants`` that are not trained yet, with one seed, in one launch.

    Args:
        warehouse: The tables.
        release: Release whose codes ``training_rows`` holds.
        artifacts: Folder of all artifacts of the project.
        ranking: Section ``ranking`` of the settings.
        behavior_length: Length T of behavior sequences, at least 1.
        seed: Seed of the models.
        run: Function that calls ``train_ranking_models`` with its arguments, in one or more processes.

    Returns:
        The models, in the order of the settings.

    Raises:
        ValueError: A variant or a ranking input is unknown, or item features that it reads do not exist yet.
    """
    models = Artifacts(artifacts, "ranking_models")
    files = {
        f"{split}_files": warehouse.files(TRAINING_ROWS, codebook_version=release.codebook_version, split=split)
        for split in _SPLITS
    }
    options = _options(ranking, behavior_length, seed)
    variants = []
    for name, own_switches in named_variants(ranking.variants).items():
        switches = {"dropout": ranking.dropout, **own_switches}
        for own_input in switches.get("inputs") or ():
            registered_input(own_input)  # raises here, before processes of the training would
        reading = [switch for switch in _ITEM_FEATURES if switches.get(switch)]
        sources = _sources(warehouse, artifacts, release.encoder_version, reading, variant=name)
        start = None
        if ranking.fusion_start == "aligned" and switches.get("use_fusion"):
            start = Artifacts(artifacts, "encoders").get(release.encoder_version)
        started_from = [] if start is None else [start.fingerprint]
        inputs = fingerprint([files, said(options), switches, str(sources), *started_from])
        variants.append(_Variant(switches, reading, sources, start, {"variant": name, "seed": seed, "inputs": inputs}))
    missing = [variant for variant in variants if models.find(**variant.made_from) is None]
    sources_of_missing = [variant.sources for variant in missing]
    features = _item_features(artifacts, release.encoder_version, sources_of_missing, files["train_files"])
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
                codebook_fingerprint=release.codebook_fingerprint,
                metrics=json.loads((output / "metrics.json").read_text()),
            )
    found = [models.find(**variant.made_from) for variant in variants]
    return [model for model in found if model is not None]  # each was there before or was just published


def require_rows_of(warehouse: Warehouse, release: Release) -> None:
    """Refuse training rows that were made from codes of other codebooks which had the number of the release.

    Raises:
        OriginError: The newest commit of ``training_rows`` for this codebook version names another fingerprint.
    """
    made_from = [commit.get("release", {}) for commit in warehouse.made_from(TRAINING_ROWS)]
    of_version = [one for one in made_from if one.get("codebook_version") == release.codebook_version]
    found = of_version[0].get("codebook_fingerprint") if of_version else None
    if None not in (found, release.codebook_fingerprint) and found != release.codebook_fingerprint:
        raise OriginError(
            f"training_rows holds codes of codebook version {release.codebook_version} with the fingerprint {found}, but "
            f"{release.view_name} has {release.codebook_fingerprint}. Run: qarm build-training-set"
        )


class _Variant(NamedTuple):
    """A variant of the ranking model.

    Attributes:
        switches: Arguments of ``RankingModel`` that make the variant.
        reading: Those switches that read item features.
        sources: Files of the item features that it reads.
        start: Encoder version whose Fusion-Q-Former its fusion starts from; None for a random start.
        made_from: Manifest entries that identify its model.
    """

    switches: dict[str, Any]
    reading: list[str]
    sources: ItemSources
    start: Artifact | None
    made_from: dict[str, Any]

    def arguments(self, output: Path, features: Artifact | None) -> dict[str, Any]:
        """Return the arguments of ``train_ranking_model`` that belong to this variant alone."""
        item_features = str(features.place) if self.reading and features is not None else None
        start = {} if self.start is None else {"fusion_from": str(self.start.place)}
        return {**self.switches, **start, "output_dir": str(output), "item_features": item_features}

    def versions(self, features: Artifact | None) -> dict[str, Any]:
        """Return the versions of the item features that the variant reads, and of the encoder that its fusion starts from."""
        versions: dict[str, Any] = {}
        if self.start is not None:
            versions = {
                "fusion_encoder_version": self.start.version,
                "fusion_encoder_fingerprint": self.start.fingerprint,
            }
        if not self.reading or features is None:
            return versions
        versions["item_features_version"] = features.version
        if "use_fusion" in self.reading:
            versions["item_content_version"] = features.manifest["item_content_version"]
        return versions


def _options(ranking: Ranking, behavior_length: int, seed: int) -> TrainingOptions:
    return TrainingOptions(
        epochs=ranking.epochs,
        batch_size=ranking.batch_size,
        learning_rate=ranking.learning_rate,
        weight_decay=ranking.weight_decay,
        patience=ranking.patience,
        behavior_length=behavior_length,
        seed=seed,
        part_learning_rates=ranking.part_learning_rates,
        warm_up_steps=ranking.warm_up_steps,
        max_items=ranking.max_items,
        sparse_ids=ranking.sparse_ids,
    )


def said(options: TrainingOptions) -> str:
    """Return the options as text, of which later options are a part only if they are set.

    Models that were trained before these options existed are thus found again.

    Args:
        options: Options of a training.
    """
    later = {"part_learning_rates": None, "warm_up_steps": 0, "sparse_ids": None}
    values = vars(options).items()
    said = ", ".join(f"{name}={value!r}" for name, value in values if name not in later or value != later[name])
    return f"TrainingOptions({said})"


def _sources(
    warehouse: Warehouse, artifacts: AnyPath, encoder_version: int, reading: Collection[str], *, variant: str
) -> ItemSources:
    """Return the files of the item features that a variant reads.

    Raises:
        ValueError: Some of them do not exist yet.
    """
    sources = ItemSources()
    if "use_frozen_vector" in reading:
        encoders = Artifacts(artifacts, "encoders")
        if encoder_version in encoders.versions():
            require_same_origin(warehouse, ITEM_EMBEDDINGS, encoders.get(encoder_version))
        files = _files(warehouse, ITEM_EMBEDDINGS, encoder_version=encoder_version)
        sources = replace(sources, embedding_files=tuple(files))
    if "use_nearest_items" in reading:
        bank = Artifacts(artifacts, "banks").find(encoder_version=encoder_version)
        if bank is not None:
            require_same_origin(warehouse, ITEM_NEAREST_ITEMS, bank)
            files = _files(warehouse, ITEM_NEAREST_ITEMS, bank_version=bank.version)
            sources = replace(sources, nearest_item_files=tuple(files))
    if "use_fusion" in reading:
        content = Artifacts(artifacts, "item_content").latest()
        if content is not None:
            sources = replace(sources, content_folder=str(content.place))
    for switch in reading:
        feature = _ITEM_FEATURES[switch]
        if not getattr(sources, feature.field):
            version = f" of encoder version {encoder_version}" if feature.by_encoder else ""
            raise ValueError(
                f'The variant "{variant}" of ranking.variants reads {feature.noun}{version}, which do not exist yet. '
                f"Run: {feature.command}"
            )
    return sources


def _item_features(
    artifacts: AnyPath, encoder_version: int, sources_of_variants: Sequence[ItemSources], train_files: list[str]
) -> Artifact | None:
    """Return the item features for all items of the training rows. Write them if they do not exist yet.

    Returns:
        None if no variant reads item features.
    """
    read_by_any = {field: value for one in sources_of_variants for field, value in vars(one).items() if value}
    sources = replace(ItemSources(), **read_by_any)
    if sources == ItemSources():
        return None
    content = Artifacts(artifacts, "item_content").latest() if sources.content_folder else None
    made_from = fingerprint([train_files, str(sources)])
    item_features = Artifacts(artifacts, "item_features")
    found = item_features.find(made_from=made_from)
    if found is not None:
        return found
    vocabulary = item_vocabulary(train_files)
    return item_features.publish(
        lambda folder: write_item_features(folder, vocabulary, sources),
        made_from=made_from,
        encoder_version=encoder_version,
        item_content_version=None if content is None else content.version,
    )


def _files(warehouse: Warehouse, table: Table, **partition: int) -> list[str]:
    """Return the files of a partition, none if the table does not exist."""
    return warehouse.files(table, **partition) if warehouse.exists(table) else []
