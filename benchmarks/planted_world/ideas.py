"""The ideas of QARM and EM3: models with and without each idea, and a world with the effect that the idea can find.

The possible gain of an idea is the AUC of the parts of the logit that a model with the idea can know, minus the AUC of the
parts that a model without it can know. In the control world the strength is 0, and the gain must vanish.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .catalog import Strengths
from .impressions import PARTS

LEVELS, CODES, NEAREST = 3, 32, 25


class Model(NamedTuple):
    """One model: switches of ``RankingModel`` and its item features.

    Attributes:
        name: Printed name.
        switches: Switches of ``RankingConfig``, beside the sizes that all models share.
        content: Content from which codes, nearest items and vectors are made: "true", "frozen" or "aligned".
        fusion: "trained" if the ranking loss trains the Fusion-Q-Former, "fixed" if it keeps its initial weights.
        content_by_loss_only: If True, the frozen vector is no input, and content acts only through the
            Content-ID-Contrastive loss.
    """

    name: str
    switches: dict[str, Any]
    content: str = "true"
    fusion: str = "trained"
    content_by_loss_only: bool = False


class Idea(NamedTuple):
    """An idea with two or more models. The first model is without the idea and the last one has it.

    Attributes:
        name: Printed name.
        strengths: Strengths of effects in its world.
        control: Strengths in the control world, in which the idea cannot gain anything.
        models: The models, the one without the idea first.
        known_without: Parts of the logit that the first model can know.
        known: Parts of the logit that a model with the idea can know.
    """

    name: str
    strengths: Strengths
    control: Strengths
    models: tuple[Model, ...]
    known_without: tuple[str, ...]
    known: tuple[str, ...]

    @property
    def with_behaviors(self) -> bool:
        """True if users differ, so that models need their behavior."""
        return max(self.strengths.taste, self.strengths.match) > 0


def _ids(**switches: Any) -> dict[str, Any]:
    return {"use_semantic_ids": False, **switches}


_CODES = {"use_semantic_ids": True}
_MATCH = {"use_history": True, "use_match": True}
_VECTOR = _ids(use_frozen_vector=True)
_CIC = {"content_id_weight": 0.3, "content_id_negatives": 128, "new_items_from_content": True}
_FUSION = {"use_semantic_ids": True, "use_fusion": True}

EVERYTHING = Strengths(popularity=0.8, coarse=0.6, taste=0.7, fine=0.7, local=0.7, match=0.55, hidden=0.7, nuisance=6.0)
_PLAIN = Strengths(popularity=0.8, coarse=0.6)
_FINE = _PLAIN._replace(fine=0.8)
_LOCAL = _PLAIN._replace(local=0.8)
_LIKING = _PLAIN._replace(match=0.9)
_HIDDEN = _PLAIN._replace(hidden=0.8)

IDEAS = (
    Idea(
        "alignment",
        _FINE._replace(nuisance=6.0),
        _FINE,
        (Model("frozen codes", _CODES, "frozen"), Model("aligned codes", _CODES, "aligned")),
        ("popularity",),
        ("popularity", "coarse", "fine"),
    ),
    Idea(
        "depth of codes",
        _FINE,
        _PLAIN,
        (Model("1 level", _CODES | {"num_levels": 1}), Model("3 levels", _CODES)),
        ("popularity", "coarse"),
        ("popularity", "coarse", "fine"),
    ),
    Idea(
        "VQ codes",
        _LOCAL,
        _PLAIN,
        (
            Model("RQ codes", _CODES),
            Model("RQ prefixes", _CODES | {"use_prefixes": True}),
            Model("RQ and VQ codes", _CODES | {"use_nearest_items": True}),
        ),
        ("popularity", "coarse"),
        ("popularity", "coarse", "local"),
    ),
    Idea(
        "match features",
        _LIKING,
        _PLAIN,
        (
            Model("behaviors", _CODES),
            Model("labeled history", _CODES | {"use_history": True}),
            Model("match features", _CODES | _MATCH),
        ),
        ("popularity", "coarse"),
        ("popularity", "coarse", "match"),
    ),
    Idea(
        "CIC, new items",
        _FINE,
        Strengths(popularity=0.8),
        (Model("item IDs", _ids()), Model("item IDs with CIC", _VECTOR | _CIC, content_by_loss_only=True)),
        ("popularity",),
        ("popularity", "coarse", "fine"),
    ),
    Idea(
        "fusion end to end",
        _HIDDEN,
        _PLAIN,
        (Model("fixed fusion", _FUSION, fusion="fixed"), Model("trained fusion", _FUSION)),
        ("popularity", "coarse"),
        ("popularity", "coarse", "hidden"),
    ),
)

_BOTH = _CODES | {"use_nearest_items": True}
_EM3 = _ids(use_fusion=True, use_content_interest=True)
# The models in the order of the papers, in the world with all effects.
LADDER = Idea(
    "everything",
    EVERYTHING,
    EVERYTHING,
    (
        Model("item IDs", _ids()),
        Model("+ frozen vector", _VECTOR, "frozen"),
        Model("+ frozen RQ codes", _CODES, "frozen"),
        Model("+ aligned RQ codes", _CODES, "aligned"),
        Model("+ aligned VQ codes", _ids(use_nearest_items=True), "aligned"),
        Model("+ RQ and VQ codes", _BOTH, "aligned"),
        Model("+ RQ, VQ, match", _BOTH | _MATCH, "aligned"),
        Model("EM3 without CIC", _EM3),
        Model("EM3 with CIC", _EM3 | _CIC),
        Model("all", _BOTH | _MATCH | _EM3 | _CIC | {"use_semantic_ids": True}, "aligned"),
    ),
    (),
    PARTS,
)
COMPARED_WITH = {
    "+ frozen vector": "item IDs",
    "+ frozen RQ codes": "+ frozen vector",
    "+ aligned RQ codes": "+ frozen RQ codes",
    "+ aligned VQ codes": "+ frozen vector",
    "+ RQ and VQ codes": "+ aligned RQ codes",
    "+ RQ, VQ, match": "+ RQ and VQ codes",
    "EM3 without CIC": "item IDs",
    "EM3 with CIC": "EM3 without CIC",
    "all": "+ RQ, VQ, match",
}
