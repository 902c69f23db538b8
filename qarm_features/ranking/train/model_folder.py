"""The folder of a trained ranking model, which holds all that a serving host needs, without a pickle.

In: a model, its vocabulary and its calibration. Out: ::

    model.safetensors, config.json, README.md  the weights, the switches, the model card
    item_vocabulary.parquet                    the items that training saw, in the order of their indexes
    calibration.json                           the map from logits to calibrated logits
    metrics.json                               the options of the training and its metrics
    fused.npy, fused_items.parquet             (I + 1, D) float32 content of all items, fused once, and their IDs, so that
                                               serving needs no tokens; only of a model with use_fusion
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.data.item_vocabulary import ItemVocabulary
from qarm_features.ranking.model.ranking_model import RankingModel
from qarm_features.ranking.train.calibration import Calibration

VOCABULARY_FILE = "item_vocabulary.parquet"
CALIBRATION_FILE = "calibration.json"
METRICS_FILE = "metrics.json"
FUSED_FILE, FUSED_ITEMS_FILE = "fused.npy", "fused_items.parquet"
_CHUNK_ITEMS = 1024


def save_model_folder(
    folder: str | Path,
    model: RankingModel,
    *,
    vocabulary: ItemVocabulary,
    trained_on: ItemVocabulary,
    calibration: Calibration,
    metrics: dict[str, Any],
) -> None:
    """Writes the folder of a trained model.

    Args:
        folder: Local folder; it is created if it does not exist.
        model: Trained model, with its item features if it reads any.
        vocabulary: Vocabulary of the item features.
        trained_on: Vocabulary of the training rows.
        calibration: Calibration that was fitted on the valid rows.
        metrics: Content of metrics.json.
    """
    folder = Path(folder)
    model.save_pretrained(folder)
    trained_on.save(folder / VOCABULARY_FILE)
    calibration.save(folder / CALIBRATION_FILE)
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, allow_nan=False))
    if model.config.use_fusion:
        model.fuse_all()
        assert model.item_features is not None and model.item_features.fused is not None
        np.save(folder / FUSED_FILE, model.item_features.fused.cpu().numpy())
        vocabulary.save(folder / FUSED_ITEMS_FILE)


@torch.no_grad()
def load_fused(folder: str | Path, model: RankingModel, vocabulary: ItemVocabulary, features: ItemFeatures) -> Tensor:
    """Returns the fused content of items, by item index.

    Args:
        folder: Folder of the model.
        model: Model with a fusion, in eval mode.
        vocabulary: Vocabulary of the items.
        features: Features of the same items. Items that were not fused with the model are fused now if their tokens are
            there.

    Returns:
        (I + 1, D) float32 on the CPU, zeros for items without content.

    Raises:
        ValueError: If the folder holds no fused content.
    """
    folder = Path(folder)
    if not (folder / FUSED_FILE).is_file():
        raise ValueError(f"{folder} has no {FUSED_FILE}. Name the folder of the content tokens by content_folder.")
    rows = ItemVocabulary.load(folder / FUSED_ITEMS_FILE).index(pa.array(vocabulary.ids))
    known = torch.from_numpy(np.load(folder / FUSED_FILE, mmap_mode="r")[np.append(0, rows)])
    new = np.flatnonzero(rows == 0) + 1
    fusion = model.items.fusion
    if fusion is not None and features.content is not None:
        content, content_rows = features.content_and_rows()
        new = new[content_rows[new] >= 0]
        for chunk in np.array_split(new, -(-len(new) // _CHUNK_ITEMS)) if len(new) else ():
            known[chunk] = fusion(content, content_rows[chunk]).cpu()
    return known
