"""The rows of the table: for each row the project and the switches of the ranking model beside item IDs.

The published split has only 740 users and 33,891 training rows, so that models overfit to vectors of the history. Therefore
only numbers of the history are inputs (``use_history_vectors`` is false), and linear parts and strong weight decay do most
of the work. All sizes were chosen on the valid split, the same for all rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from qarm_features.ranking import TrainingOptions

BASE: dict[str, Any] = {
    "use_semantic_ids": False,
    "use_item_rates": True,
    "use_history_vectors": False,
    "use_linear": True,
    "item_dim": 4,
    "code_dim": 2,
    "content_dim": 8,
    "hidden_dims": [16],
    "dropout": 0.3,
}
TRACKS: dict[str, dict[str, Any]] = {"A": {}, "B": {"use_history": True, "use_counters": True}}
_CODES = {"use_semantic_ids": True}
_RQ = {**_CODES, "use_match": True}
_VQ = {"use_nearest_items": True}
_VECTOR = {"use_frozen_vector": True, "use_content_match": True}
ALL_CODES = {**_VECTOR, **_RQ, **_VQ}
EM3 = {"use_fusion": True, "use_content_interest": True, "use_content_match": True, "content_dim": 16}
_CIC = {"content_id_weight": 0.1, "new_items_from_content": True}


class Row(NamedTuple):
    """A row of the table: its name, the project that it reads and its switches."""

    name: str
    project: str
    switches: dict[str, Any]


ROWS = (
    Row("item IDs", "unaligned", {}),
    Row("+ frozen vector", "unaligned", _VECTOR),
    Row("+ unaligned RQ", "unaligned", _CODES),
    Row("+ aligned RQ", "aligned", _CODES),
    Row("+ VQ", "aligned", _VQ),
    Row("+ RQ and VQ with match", "aligned", {**_RQ, **_VQ}),
    Row("+ aligned vector, RQ and VQ with match", "aligned", ALL_CODES),
    Row("+ EM3 without CIC", "aligned", EM3),
    Row("+ EM3 with CIC", "aligned", {**EM3, **_CIC}),
    Row("all", "aligned", {**ALL_CODES, **EM3, **_CIC}),
)


def options(seed: int, threads: int) -> TrainingOptions:
    """Return the training options of every row."""
    return TrainingOptions(
        epochs=20, patience=3, batch_size=512, learning_rate=1e-3, weight_decay=2.0, seed=seed, num_threads=threads
    )
