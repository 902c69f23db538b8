"""The rows of the table, the claims about them, and the options of every model.

The sizes are the same for all rows and were not searched on these data, but for the number of epochs, which valid chooses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from qarm_features.ranking import TrainingOptions
from ranking_completejourney.repeat_counts import REPEAT_COUNTS

BASE: dict[str, Any] = {
    "use_semantic_ids": False,
    "use_item_rates": True,
    "use_history_vectors": False,
    "use_linear": True,
    "inputs": {REPEAT_COUNTS: {}},
    "item_dim": 8,
    "code_dim": 4,
    "content_dim": 16,
    "hidden_dims": [32],
    "dropout": 0.1,
}
_CODES = {"use_semantic_ids": True}
_RQ = {**_CODES, "use_match": True}
_VQ = {"use_nearest_items": True}
_VECTOR = {"use_frozen_vector": True, "use_content_match": True}
_CONTENT = {"use_fusion": True}
_EM3 = {**_CONTENT, "use_content_interest": True, "use_content_match": True}
_NEW_ITEMS = {"new_items_from_content": True}
_CIC = {"content_id_weight": 0.1, **_NEW_ITEMS}
_PROJECTED_CIC = {"content_id_weight": 0.01, "content_id_dim": 16, "content_id_negatives": 16}
_ID_DROPOUT = {"id_dropout": 0.1}  # a tenth of the rows teach what to do without an item ID
_PROJECTED = ("+ EM3 with projected CIC", "+ EM3 with projected CIC of .001", "+ EM3 with projected CIC of .1")


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: Name of the row.
        aligned: True if it reads embeddings or codes of the aligned encoder.
        reads_codes: True if it depends on the codebooks.
        switches: Switches of the ranking model beside those of ``BASE``.
    """

    name: str
    aligned: bool
    reads_codes: bool
    switches: dict[str, Any]


ITEM_IDS = "item IDs"
ROWS = (
    Row(ITEM_IDS, False, False, {}),
    Row("+ frozen vector", False, False, _VECTOR),
    Row("+ unaligned RQ", False, True, _CODES),
    Row("+ aligned RQ", True, True, _CODES),
    Row("+ VQ", True, False, _VQ),
    Row("+ RQ and VQ with match", True, True, {**_RQ, **_VQ}),
    Row("+ content as input", False, False, _CONTENT),
    Row("+ EM3 without CIC", False, False, _EM3),
    Row("+ fusion and match", False, False, {**_CONTENT, "use_content_match": True}),
    Row("+ EM3 without CIC, LoRA over the identity", False, False, {**_EM3, "interest_base": "identity"}),
    Row("+ EM3 with CIC", False, False, {**_EM3, **_CIC}),
    Row("+ EM3, new items from content", False, False, {**_EM3, **_NEW_ITEMS}),  # the row above without its loss
    *(
        Row(name, False, False, {**_EM3, **_PROJECTED_CIC, "content_id_weight": weight})
        for name, weight in zip(_PROJECTED, (0.01, 0.001, 0.1), strict=True)
    ),
    Row("+ content as input, ID dropout", False, False, {**_CONTENT, **_ID_DROPOUT}),
    Row("+ EM3 without CIC, ID dropout", False, False, {**_EM3, **_ID_DROPOUT}),
    Row("+ EM3 with projected CIC, ID dropout", False, False, {**_EM3, **_PROJECTED_CIC, **_ID_DROPOUT}),
    Row("all", True, True, {**_VECTOR, **_RQ, **_VQ, **_EM3, **_CIC}),
    Row("all without CIC", True, True, {**_VECTOR, **_RQ, **_VQ, **_EM3}),
    Row("all with projected CIC", True, True, {**_VECTOR, **_RQ, **_VQ, **_EM3, **_PROJECTED_CIC}),
    Row("+ frozen vector, RQ and VQ with match", True, True, {**_VECTOR, **_RQ, **_VQ}),
)


class Claim(NamedTuple):
    """A claim: a row has a higher AUC than another one, over all rows or in one slice."""

    row: str
    against: str
    where: str = "all"

    @property
    def name(self) -> str:
        """The claim in words."""
        return f'"{self.row}" against "{self.against}", {self.where}'


CLAIMS = (
    *(Claim(row.name, ITEM_IDS) for row in ROWS[1:]),
    Claim("+ aligned RQ", "+ unaligned RQ"),
    Claim("+ RQ and VQ with match", "+ frozen vector"),
    Claim("+ EM3 without CIC", "+ content as input"),
    *(Claim("+ EM3 without CIC", "+ fusion and match", where) for where in ("all", "new products")),
    *(
        Claim("+ EM3 without CIC, LoRA over the identity", "+ EM3 without CIC", where)
        for where in ("all", "new products")
    ),
    Claim("+ EM3 with CIC", "+ EM3 without CIC"),
    Claim("+ EM3 with CIC", "+ EM3, new items from content"),
    *(Claim(name, "+ EM3 without CIC") for name in _PROJECTED),
    Claim("+ EM3 with projected CIC, ID dropout", "+ EM3 without CIC, ID dropout"),
    Claim("+ RQ and VQ with match", ITEM_IDS, "new products"),
    Claim("+ EM3 with CIC", ITEM_IDS, "new products"),
    Claim("+ RQ and VQ with match", ITEM_IDS, "never bought"),
    Claim("+ EM3 with CIC", ITEM_IDS, "never bought"),
    *(
        Claim(row, against, where)
        for where in ("new products", "at most 5 rows")
        for row, against in (
            ("+ EM3 with CIC", "+ content as input"),
            ("+ EM3 with CIC", "+ EM3 without CIC"),
            *((name, "+ EM3 without CIC") for name in _PROJECTED),
            ("+ EM3 without CIC, ID dropout", "+ EM3 without CIC"),
            ("+ EM3 with projected CIC, ID dropout", "+ EM3 without CIC, ID dropout"),
            ("+ EM3 with projected CIC, ID dropout", "+ content as input, ID dropout"),
            ("+ aligned RQ", "+ unaligned RQ"),
        )
    ),
    Claim("all", "+ RQ and VQ with match"),
    Claim("all", "+ EM3 with CIC"),
    *(
        Claim(row, against, where)
        for where in ("all", "new products")
        for row in ("all without CIC", "all with projected CIC")
        for against in ("+ RQ and VQ with match", "+ EM3 without CIC")
    ),
    Claim("all with projected CIC", "all without CIC"),
    Claim("all without CIC", "+ frozen vector, RQ and VQ with match"),
    Claim("+ frozen vector, RQ and VQ with match", "+ RQ and VQ with match"),
)


def options(seed: int, threads: int, epochs: int) -> TrainingOptions:
    """Return the training options of every row."""
    return TrainingOptions(
        epochs=epochs, patience=2, batch_size=2048, learning_rate=2e-3, weight_decay=0.1, seed=seed,
        num_threads=threads, use_gpu=False,
    )  # fmt: skip


class Run(NamedTuple):
    """One model: a row under one encoder, one codebook and one seed. A part that a row does not depend on is None."""

    row: Row
    encoder: int | None
    codebook: int | None
    seed: int

    @property
    def name(self) -> str:
        """The run in words."""
        parts = {"encoder": self.encoder, "codebook": self.codebook, "seed": self.seed}
        return ", ".join([self.row.name, *(f"{part} {number}" for part, number in parts.items() if number is not None)])


def runs_of(row: Row, *, encoders: int, codebooks: int, seeds: int) -> list[Run]:
    """Return the runs of a row. A row without an aligned encoder, or without codes, has fewer of them."""
    return [
        Run(row, encoder, codebook, seed)
        for encoder in (range(encoders) if row.aligned else [None])
        for codebook in (range(codebooks) if row.reads_codes else [None])
        for seed in range(seeds)
    ]


def independent_runs_of(row: Row, number: int) -> list[Run]:
    """Return runs of a row of which each has an encoder, a codebook and a seed of its own.

    They are as many independent results as there are runs, where all combinations share encoders and codebooks.
    """
    return [Run(row, i if row.aligned else None, i if row.reads_codes else None, i) for i in range(number)]
