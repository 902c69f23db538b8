"""The rows of ``em3_ablation.py``: one part of EM3 after the other, and the Content-ID-Contrastive loss (CIC).

All rows belong to track A and differ from each other in what their names say and in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ranking_ml1m.variants import ALL_CODES, EM3

RATE = 1e-3  # of all other parts


@dataclass(frozen=True)
class Row:
    """A model of the ablation.

    Attributes:
        name: Name, which is also that of its file of results.
        switches: Fields of ``RankingConfig`` beside those of item IDs.
        options: Fields of ``TrainingOptions`` that differ from the others.
        aligned: True if the fusion starts from the Q-Former of the aligned encoder.
    """

    name: str
    switches: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    aligned: bool = False


def _slower(share: float) -> dict[str, Any]:
    parts = ("fusion", "content_match", "interest")
    return {"part_learning_rates": dict.fromkeys(parts, share * RATE), "warm_up_steps": 66}  # one pass


_FUSION = {"use_fusion": True, "content_dim": 16}
_MATCH = {**_FUSION, "use_content_match": True}
_WIDE = {**EM3, "content_dim": 128}  # the width of the aligned encoder
NO_CIC, OLD_CIC = Row("EM3", EM3), Row("EM3, CIC .1 without projections", {**EM3, "content_id_weight": 0.1})
CODES = Row("vector, RQ and VQ with match", ALL_CODES)
ALL = Row("all without CIC", {**ALL_CODES, **EM3})

PARTS = (
    Row("item IDs", {}),
    Row("fusion", _FUSION),
    Row("fusion, match", _MATCH),
    NO_CIC,
    Row("EM3, full interest", {**EM3, "interest_rank": None}),
    Row("EM3, LoRA over the identity", {**EM3, "interest_base": "identity"}),
    Row("EM3, flat queries", {**EM3, "flatten_queries": True}),
    Row("EM3, content at .3 of the rate, warm-up", EM3, _slower(0.3)),
    Row("EM3, content at .1 of the rate, warm-up", EM3, _slower(0.1)),
    Row("EM3, rates before the row", {**EM3, "item_rates": "before_row"}),
    Row("EM3 of 128", _WIDE),
    Row("EM3 of 128, aligned start", _WIDE, aligned=True),
    Row("EM3 of 128, aligned start, content at .1 of the rate, warm-up", _WIDE, _slower(0.1), aligned=True),
    Row("fusion of 128, match, aligned start", {**_MATCH, "content_dim": 128}, aligned=True),
    CODES,
    ALL,
)
CIC = (
    OLD_CIC,
    Row("EM3, CIC .1 without projections, new items from content",
        {**OLD_CIC.switches, "new_items_from_content": True}),
    *(
        Row(
            f"EM3, CIC {weight:g} projected, {negatives or 'all'} negatives, stop {stop or 'none'}",
            {
                **EM3,
                "content_id_dim": 16,
                "content_id_weight": weight,
                "content_id_negatives": negatives,
                "content_id_stop_gradient": stop,
            },
        )
        for weight, negatives, stop in product((1e-3, 1e-2, 1e-1), (16, None), (None, "content", "item_id"))
    ),
)  # fmt: skip
ROWS = {row.name: row for row in (*PARTS, *CIC)}
