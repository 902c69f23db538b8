"""Scores of many candidates for one user, from plain tensors and without a feature store.

In: the folder of a trained model, and per request the codes that a reader read. Out: calibrated chances that the user likes
each candidate. What depends on the user alone is computed once per request, and the content of items was fused before.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from qarm_features.ranking.data.item_feature_files import FEATURES_FILE, open_item_features
from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.data.item_vocabulary import ItemVocabulary
from qarm_features.ranking.data.ranking_batch import RankingBatch
from qarm_features.ranking.model.ranking_model import RankingModel
from qarm_features.ranking.serve.request import Behavior, Candidates, Impressions, Reader
from qarm_features.ranking.train.calibration import Calibration
from qarm_features.ranking.train.model_folder import CALIBRATION_FILE, METRICS_FILE, VOCABULARY_FILE, load_fused
from qarm_features.storage.artifacts import open_version
from qarm_features.storage.copies import beside

_DAY = 86_400.0  # seconds
_FEATURES_FOLDER = "item_features"  # may be put into the folder of a model


class Scorer:
    """Scores candidates by a trained ranking model; any number of threads may use one.

    Args:
        model: Trained model, with its item features if it reads any.
        vocabulary: Vocabulary of the items that the model and its item features know.
        calibration: Map from logits to calibrated logits.
        behavior_length: T, the number of latest behaviors that the model was trained on.
        impression_length: T2, the number of latest impressions that the model was trained on; None for behavior_length.
        codebook_fingerprint: Fingerprint of the codebooks of the training; None if unknown.

    Example:
        A request whose codes a reader of the feature store reads::

            scorer = Scorer.open("artifacts/ranking_models/v0")
            reader = SemanticIDReader("feature_repo", "item_semantic_id__cb0")
            chances = score_candidates(scorer, reader, user_id=7, item_ids=[50, 181])
    """

    def __init__(
        self,
        model: RankingModel,
        vocabulary: ItemVocabulary,
        *,
        calibration: Calibration,
        behavior_length: int,
        impression_length: int | None = None,
        codebook_fingerprint: str | None = None,
    ) -> None:
        self.model, self.vocabulary = model.eval().requires_grad_(False), vocabulary
        self.calibration, self.behavior_length = calibration, behavior_length
        self.impression_length = behavior_length if impression_length is None else impression_length
        self.codebook_fingerprint = codebook_fingerprint
        self.device = model.codebook_version.device
        # The first look-up builds the hash table of the IDs, and the first request should not wait for that.
        vocabulary.index(pa.array(vocabulary.ids[:1]))

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        item_features: str | Path | None = None,
        content_folder: str | Path | None = None,
        device: str | torch.device = "cpu",
        verify: bool = True,
    ) -> "Scorer":
        """Opens the folder of a trained model.

        Args:
            folder: Folder that ``train_ranking_model`` wrote.
            item_features: Folder of ``write_item_features`` with the items of the training and all items that came since;
                None for item_features beside the model, or for the version that the manifest of the model names.
            content_folder: Folder of content tokens to fuse all items anew. None takes the content that was fused at the end
                of training; items that came since are fused from the tokens that item_features name, if these exist.
            device: Device on which to compute.
            verify: Compares every file of the model, and of the item features, with the manifest of its version before it
                is read. This reads each file once. A folder without a manifest, which no job published, is not compared.

        Raises:
            ValueError: If the model reads item features and there are none, or they belong to other trained items.
            ArtifactError: If a file differs from its manifest.
        """
        folder = Path(folder)
        if verify:
            _verify(folder)
        model = RankingModel.from_pretrained(str(folder)).to(device)
        vocabulary = ItemVocabulary.load(folder / VOCABULARY_FILE)
        config = model.config
        if model.reads_item_features:
            vocabulary, features = _open_features(folder, vocabulary, item_features, content_folder, verify)
            if config.use_fusion and content_folder is None:
                features.fused = load_fused(folder, model, vocabulary, features).to(device)
            model.set_item_features(features)
            if config.use_fusion and content_folder is not None:
                model.fuse_all()
        options = json.loads((folder / METRICS_FILE).read_text())["options"]
        calibration = Calibration.load(folder / CALIBRATION_FILE)
        lengths = {name: options.get(name) for name in ("behavior_length", "impression_length")}
        fingerprint = _manifest(folder).get("codebook_fingerprint")
        return cls(model, vocabulary, calibration=calibration, codebook_fingerprint=fingerprint, **lengths)

    def score(
        self,
        candidate_ids: Sequence[int] | Sequence[str] | np.ndarray,
        candidates: Candidates,
        behavior: Behavior,
        *,
        at: float | None = None,
        impressions: Impressions | None = None,
        **optional_fields: Tensor,
    ) -> Tensor:
        """Scores B candidates of one user.

        Args:
            candidate_ids: (B,) item IDs of the catalog's type.
            candidates: Codes of the candidates.
            behavior: Behavior sequence of the user.
            at: Time of the request in seconds since 1970; models with use_ages need it.
            impressions: Impressions of the user, for models that read them.
            optional_fields: Further fields of a ``RankingBatch``: (1, ...) of the user, or (B, ...) such as ``counters``
                (B, 4).

        Returns:
            (B,) float32 chances of a positive, in [0, 1], on the CPU.

        Raises:
            ValueError: If the codes are of another codebook version than the model's, or something that the model reads is
                missing.
        """
        for version in {read.codebook_version for read in (candidates, behavior, impressions) if read is not None}:
            self.model.check_codebook_version(version)
        own, served = self.codebook_fingerprint, candidates.codebook_fingerprint
        if own is not None and served is not None and own != served:
            raise ValueError(
                f"Codes are of codebooks with the fingerprint {served}, the model was trained on {own}: other codebooks had "
                "the same version. Train the model again. Run: qarm train-ranking-model"
            )
        batch = self.encode(candidate_ids, candidates, behavior, at=at, impressions=impressions, **optional_fields)
        return self.score_batch(batch)

    def encode(
        self,
        candidate_ids: Sequence[int] | Sequence[str] | np.ndarray,
        candidates: Candidates,
        behavior: Behavior,
        *,
        at: float | None = None,
        impressions: Impressions | None = None,
        **optional_fields: Tensor,
    ) -> RankingBatch:
        """Encodes a request as ``TrainingRows`` encodes training rows.

        Args:
            candidate_ids: (B,) item IDs of the catalog's type.
            candidates: Codes of the candidates.
            behavior: Behavior sequence of the user.
            at: Time of the request in seconds since 1970; models with use_ages need it.
            impressions: Impressions of the user, for models that read them.
            optional_fields: Further fields of a ``RankingBatch``.
        """
        kept, index = self._latest(behavior, self.behavior_length)
        age = None
        if "behavior_age" in self.model.optional_fields:
            age = self._ages(behavior, kept, at)
        if impressions is not None:
            optional_fields = self._impressions(impressions, at) | optional_fields
        batch = RankingBatch(
            item_index=torch.from_numpy(self.vocabulary.index(pa.array(candidate_ids))),
            item_codes=candidates.codes,
            behavior_index=index,
            behavior_codes=behavior.codes[:, kept],
            behavior_mask=behavior.mask[:, kept],
            label=None,
            user_group=None,
            behavior_age=age,
            **optional_fields,
        )
        return batch if self.device.type == "cpu" else batch.to(self.device)

    @torch.inference_mode()
    def score_batch(self, batch: RankingBatch) -> Tensor:
        """Scores a batch and returns chances (B,) float32 in [0, 1], on the CPU.

        Args:
            batch: Batch of B rows on the device of the model.
        """
        return torch.sigmoid(self.calibration.apply(self.model(batch))).cpu()

    def _latest(self, past: Behavior | Impressions, length: int) -> tuple[slice, Tensor]:
        """Returns the part of a sequence that the model reads, and its item indexes (1, T)."""
        count = int(past.mask.sum())
        kept = slice(max(0, count - length), count)
        ids = pa.array(past.item_ids[0, kept].tolist())
        index = self.vocabulary.index(ids) if len(ids) else np.zeros(0, np.int64)
        return kept, torch.from_numpy(index).unsqueeze(0)

    def _impressions(self, shown: Impressions, at: float | None) -> dict[str, Tensor]:
        kept, index = self._latest(shown, self.impression_length)
        fields = {
            "impression_index": index,
            "impression_codes": shown.codes[:, kept],
            "impression_label": shown.labels[:, kept],
            "impression_mask": shown.mask[:, kept],
        }
        wanted = self.model.optional_fields
        if "impression_age" in wanted:
            fields["impression_age"] = self._ages(shown, kept, at)
        return {name: field for name, field in fields.items() if name in wanted}

    def _ages(self, behavior: Behavior | Impressions, kept: slice, at: float | None) -> Tensor:
        if at is None or behavior.timestamps is None:
            missing = "at" if at is None else "timestamps"
            raise ValueError(f"{missing} is None, but the model reads ages. Give both at and timestamps.")
        seconds = at - behavior.timestamps[:, kept].double()
        return (seconds / _DAY).float()


def score_candidates(
    scorer: Scorer,
    reader: Reader,
    user_id: int | str,
    item_ids: Sequence[int] | Sequence[str],
    *,
    at: float | None = None,
    **optional_fields: Tensor,
) -> Tensor:
    """Reads one user and B candidates from a reader and scores them, with all that the model needs.

    Args:
        scorer: Scorer of the model.
        reader: Reader of the release that the model was trained on: ``SemanticIDReader(repo, "item_semantic_id__cb<N>")``.
        user_id: User ID of the click log's type.
        item_ids: B item IDs.
        at: Time of the request in seconds since 1970; models with use_ages need it.
        optional_fields: Further fields of a ``RankingBatch``; fields that are given here are not read from the reader.

    Returns:
        (B,) float32 chances of a positive, in the order of item_ids.

    Raises:
        ValueError: If ``Scorer.score`` raises one.

    Example:
        A request of one user::

            reader = SemanticIDReader("feature_repo", "item_semantic_id__cb0")
            chances = score_candidates(Scorer.open("model"), reader, user_id=7, item_ids=[50, 181])
    """
    missing = set(scorer.model.optional_fields) - {"behavior_age"} - optional_fields.keys()
    length = scorer.behavior_length
    if missing:
        read = reader.user_and_candidates(
            user_id, item_ids, max_length=length, max_impressions=scorer.impression_length
        )
    else:
        read = reader.user_and_candidates(user_id, item_ids, max_length=length)
    if "counters" in missing and read.counters is not None:
        optional_fields["counters"] = read.counters
    impressions = read.impressions if missing else None
    return scorer.score(item_ids, read.candidates, read.behavior, at=at, impressions=impressions, **optional_fields)


def _verify(folder: Path) -> None:
    version = open_version(folder)
    if version is not None:
        version.verify(besides=(_FEATURES_FOLDER,))


def _open_features(
    folder: Path,
    trained_on: ItemVocabulary,
    given: str | Path | None,
    content_folder: str | Path | None,
    verify: bool,
) -> tuple[ItemVocabulary, ItemFeatures]:
    places = [given] if given is not None else [folder / _FEATURES_FOLDER, _folder_of_manifest(folder)]
    found = next((place for place in places if place and (Path(place) / FEATURES_FILE).is_file()), None)
    if found is None:
        raise ValueError(
            f"item_features is {given}, must be a folder of write_item_features, which the model reads. "
            "Name the folder, or put it beside the model as item_features."
        )
    if verify:
        _verify(Path(found))
    vocabulary, features = open_item_features(found, content_folder=content_folder)
    if not vocabulary.ids[: vocabulary.num_known].equals(trained_on.ids):
        raise ValueError(
            f"The item features belong to {vocabulary.num_known} trained items that are not the model's {len(trained_on)}. "
            f"Write them anew with write_item_features and the model's {VOCABULARY_FILE}."
        )
    return vocabulary, features


def _folder_of_manifest(folder: Path) -> Path | None:
    """Returns the folder of item features that the manifest of a model names; None without a manifest."""
    version = _manifest(folder).get("item_features_version")
    return None if version is None else beside(folder, "item_features", version)


def _manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of a version; nothing for a folder that no job published."""
    version = open_version(folder)
    return {} if version is None else version.manifest
