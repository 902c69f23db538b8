"""The ideas of QARM and EM3: models with and without each idea, and a world with the effect that the idea can find.

The gain of an idea is the AUC of the best model with it, minus that of the best model without it, both chosen on valid rows.
The possible gain is the AUC of all parts of the logit that are planted, minus that of the best model without the idea. In the
control world the strength is 0, and the gain must vanish.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .catalog import Strengths
from .impressions import PARTS

LEVELS, CODES, NEAREST = 3, 32, 25  # of the models; the world has 45 clusters in 9 groups


class Model(NamedTuple):
    """One model: switches of ``RankingModel`` and its item features.

    Attributes:
        name: Printed name.
        switches: Switches of ``RankingConfig``, beside the sizes that all models share.
        content: Content from which codes, nearest items and vectors are made: "true", "frozen" or "aligned".
        fusion: "trained" if the ranking loss trains the Fusion-Q-Former, "fixed" if it keeps its initial weights.
        content_by_loss_only: If True, the frozen vector is no input, and content acts only through the
            Content-ID-Contrastive loss.
        codebook_size: Number K of codes of a level.
        has_idea: False for the models without the idea.
    """

    name: str
    switches: dict[str, Any]
    content: str = "true"
    fusion: str = "trained"
    content_by_loss_only: bool = False
    codebook_size: int = CODES
    has_idea: bool = True


def without(name: str, switches: dict[str, Any], content: str = "true", **more: Any) -> Model:
    """Return a model without the idea."""
    return Model(name, switches, content, has_idea=False, **more)


class Idea(NamedTuple):
    """An idea with models without it and with it.

    Attributes:
        name: Printed name.
        strengths: Strengths of effects in its world.
        control: Strengths in the control world, in which the idea cannot gain anything.
        models: The models, at least one of either kind.
        known: Parts of the logit that a model with the idea can know, which are all that are planted.
    """

    name: str
    strengths: Strengths
    control: Strengths
    models: tuple[Model, ...]
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
        (
            without("item IDs", _ids()),
            without("frozen vector", _VECTOR, "frozen"),
            without("frozen codes", _CODES, "frozen"),
            without("frozen codes and vector", _CODES | {"use_frozen_vector": True}, "frozen"),
            Model("aligned codes", _CODES, "aligned"),
            Model("aligned codes and vector", _CODES | {"use_frozen_vector": True}, "aligned"),
        ),
        ("popularity", "coarse", "fine"),
    ),
    Idea(
        "depth of codes",
        _FINE,
        _PLAIN,
        (
            without("1 level of 32", _CODES | {"num_levels": 1}),
            without("1 level of 96", _CODES | {"num_levels": 1}, codebook_size=3 * CODES),
            without("1 level of 512", _CODES | {"num_levels": 1}, codebook_size=512),
            Model("3 levels of 32", _CODES),
        ),
        ("popularity", "coarse", "fine"),
    ),
    Idea(
        "VQ codes",
        _LOCAL,
        _PLAIN,
        (
            without("RQ codes", _CODES),
            without("RQ prefixes", _CODES | {"use_prefixes": True}),
            without("RQ codes and vector", _CODES | {"use_frozen_vector": True}),
            Model("RQ and VQ codes", _CODES | {"use_nearest_items": True}),
        ),
        ("popularity", "coarse", "local"),
    ),
    Idea(
        "match features",
        _LIKING,
        _PLAIN,
        (
            without("behaviors", _CODES),
            without("labeled history", _CODES | {"use_history": True}),
            Model("match features", _CODES | _MATCH),
        ),
        ("popularity", "coarse", "match"),
    ),
    Idea(
        "CIC, new items",
        _FINE,
        Strengths(popularity=0.8),
        (
            without("item IDs", _ids()),
            without("content as input", _VECTOR),
            Model("CIC, content by loss only", _VECTOR | _CIC, content_by_loss_only=True),
            Model("CIC, content as input too", _VECTOR | _CIC),
        ),
        ("popularity", "coarse", "fine"),
    ),
    Idea(
        "fusion end to end",
        _HIDDEN,
        _PLAIN,
        (
            without("codes", _CODES),
            without("codes and vector", _CODES | {"use_frozen_vector": True}),
            without("fixed fusion", _FUSION, fusion="fixed"),
            Model("trained fusion", _FUSION),
        ),
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
        Model("all without CIC", _BOTH | _MATCH | _EM3 | {"use_semantic_ids": True}, "aligned"),
    ),
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
    "all without CIC": "+ RQ, VQ, match",
}
