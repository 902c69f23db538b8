"""The folder of a trained ranking model: what a serving host needs, safetensors, JSON, Parquet and npy alone.

In: a model and what was learnt beside it. Out: ::

    model.safetensors, config.json, README.md  the weights, the switches, the model card
    item_vocabulary.parquet                    the items that training saw, in the order of their indexes
    calibration.json                           what makes logits probabilities
    metrics.json                               how it was trained and measured
    fused.npy, fused_items.parquet             (I + 1, D) float32, of a model with a fusion: the content of all items of its
                                               item features, fused once, and their ids: serving needs no tokens
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
        folder: local; made if need be.
        model: with its item features, where it reads them.
        vocabulary: of the item features.
        trained_on: of the training rows.
        calibration: fitted on the valid rows.
        metrics: JSON-like.
    """
    folder = Path(folder)
    model.save_pretrained(folder)
    trained_on.save(folder / VOCABULARY_FILE)
    calibration.save(folder / CALIBRATION_FILE)
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, allow_nan=False))
    if model.config.use_fusion:
        model.fuse_all()
        np.save(folder / FUSED_FILE, model.item_features.fused.cpu().numpy())
        vocabulary.save(folder / FUSED_ITEMS_FILE)


@torch.no_grad()
def load_fused(folder: str | Path, model: RankingModel, vocabulary: ItemVocabulary, features: ItemFeatures) -> Tensor:
    """Returns the fused content of items, by item index.

    Args:
        folder: of the model.
        model: with a fusion, in eval mode.
        vocabulary: of the items.
        features: of the same items; content of those that were not fused with the model is fused now, if it is there.

    Returns:
        (I + 1, D) float32 on the CPU, zeros where an item's content is not known.

    Raises:
        ValueError: if the folder holds no fused content.
    """
    folder = Path(folder)
    if not (folder / FUSED_FILE).is_file():
        raise ValueError(f"{folder} has no {FUSED_FILE}, must hold one. Name the content tokens by content_folder.")
    rows = ItemVocabulary.load(folder / FUSED_ITEMS_FILE).index(pa.array(vocabulary.ids))
    known = torch.from_numpy(np.load(folder / FUSED_FILE, mmap_mode="r")[np.append(0, rows)])
    new = np.flatnonzero(rows == 0) + 1
    if features.content is not None:
        new = new[features.content_rows[new] >= 0]
        for chunk in np.array_split(new, -(-len(new) // _CHUNK_ITEMS)) if len(new) else ():
            known[chunk] = model.items.fusion(features.content, features.content_rows[chunk]).cpu()
    return known
